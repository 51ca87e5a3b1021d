"""What ``training`` promises beside the model it trains: schedules, answers, variety, and an end when the time ends."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from onnx import helper

from edge_compress.graph.bridge import to_torch
from edge_compress.graph.bridge.answers import agreement, difference, label_loss, read_answers
from edge_compress.graph.bridge.augment import find_variety, image_axes, mixed
from edge_compress.graph.bridge.maps import map_loss
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.graph.bridge.training import Course, fine_tune, rate
from edge_compress.plugin import Limits
from tests.unit.graph.bridge.small_models import floats, model_of
from tests.unit.plugins.array_context import ArrayContext


def scorer(*, softmax=False):
    """Scores of four classes from eight numbers."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="hidden"),
        helper.make_node("Relu", ["h"], ["r"], name="bend"),
        helper.make_node("Gemm", ["r", "v"], ["s" if softmax else "y"], name="score"),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["s"], ["y"], name="soften"))
    constants = {"w": floats(8, 16), "b": floats(16), "v": floats(16, 4, seed=2)}
    return model_of(nodes, {"x": floats(3, 8)}, ["y"], constants)


def pool(*, mirrored):
    """Two scores of an image: of its left and right half, or of the whole."""
    weights = np.zeros((2, 3, 1, 16), np.float32)
    weights[0, :, :, :8], weights[1, :, :, 8:] = (1, 1) if not mirrored else (1, -1)
    if mirrored:
        weights[0], weights[1] = 1, -1
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="halves"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["y"], name="flat"),
    ]
    return model_of(nodes, {"x": floats(3, 3, 16, 16)}, ["y"], {"w": weights})


def lender(path, model, count=256, **changes):
    context = ArrayContext({"x": floats(count, 8, seed=5)}, scratch=path, teacher=model)
    context.limits = Limits(seconds=changes.get("seconds", 600), memory_bytes=1 << 30, threads=1)
    return context


def hurt(model):
    """The model as a module whose weights were disturbed."""
    module = to_torch(model).module
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for item in module.parameters():
            item.add_(0.5 * torch.randn(item.shape, generator=generator))
    return module


@pytest.mark.parametrize("softmax", [False, True])
def test_a_disturbed_student_comes_back(tmp_path, softmax):
    model = scorer(softmax=softmax)
    student = hurt(model)
    trained = fine_tune(student, model, lender(tmp_path, model), Course(epochs=20, batch=32, lr=0.01))
    assert trained.complete
    assert trained.steps == 20 * 8
    assert trained.agreement > trained.before + 0.1
    assert not student.training


def test_equal_seeds_give_equal_weights_and_nothing_else_is_touched(tmp_path):
    model, course = scorer(), Course(epochs=1, batch=32, mix=0.4)
    students = [hurt(model) for _ in range(3)]
    contexts = [lender(tmp_path, model) for _ in students]
    contexts[2].seed = 9
    for student, context in zip(students, contexts, strict=True):
        fine_tune(student, model, context, course)
    first, second, other = (torch.cat([item.flatten() for item in student.parameters()]) for student in students)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_best_is_kept_when_training_makes_it_worse(tmp_path):
    model = scorer()
    student = to_torch(model).module
    before = copy.deepcopy(student.state_dict())
    fine_tune(student, model, lender(tmp_path, model), Course(epochs=1, batch=32, lr=0.5))
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


def test_training_ends_with_the_time_and_says_so(tmp_path):
    model = scorer()
    context = lender(tmp_path, model, seconds=1e-6)
    trained = fine_tune(hurt(model), model, context, Course(epochs=5, batch=32))
    assert not trained.complete
    assert trained.steps == 21  # the first ten batches are slower than the rest and say nothing
    assert context.logged == ["diagnosis: training ended after 21 of 40 batches: the step's time ended"]


def test_divergence_is_an_error_that_names_the_rate(tmp_path):
    model = scorer()
    student = hurt(model)
    with torch.no_grad():
        next(student.parameters()).fill_(float("inf"))
    with pytest.raises(ValueError, match="diverged"):
        fine_tune(student, model, lender(tmp_path, model), Course(epochs=1, lr=0.01))


def test_the_rate_rises_then_falls():
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] < 0.02


def test_what_outputs_say_is_read_from_the_answers():
    scores, chances, maps = torch.tensor(floats(6, 4)), torch.tensor(floats(6, 4)).softmax(-1), torch.tensor(floats(6, 2, 3))
    assert [item.kind for item in read_answers([scores, chances, maps])] == ["scores", "probabilities", "values"]
    with pytest.raises(ValueError, match="no float output"):
        read_answers([torch.zeros(3, dtype=torch.int64)])


def test_scores_and_their_probabilities_are_equally_far_apart():
    ours, theirs = torch.tensor(floats(32, 5)), torch.tensor(floats(32, 5, seed=1))
    plain = difference(read_answers([theirs]), [ours], [theirs], 3.0)
    soft = difference(read_answers([theirs.softmax(-1)]), [ours.softmax(-1)], [theirs.softmax(-1)], 3.0)
    assert float(plain) == pytest.approx(float(soft), rel=1e-3)
    assert float(difference(read_answers([theirs]), [theirs], [theirs], 3.0)) == pytest.approx(0.0, abs=1e-6)
    assert agreement(read_answers([theirs]), [theirs], [theirs]) == 1.0


def test_labels_need_scores():
    with pytest.raises(ValueError, match="label_weight"):
        label_loss(
            read_answers([torch.tensor(floats(4, 2, 3))]), [torch.tensor(floats(4, 2, 3))], torch.zeros(4, dtype=torch.int64)
        )


def test_images_are_known_by_their_shape():
    assert image_axes((8, 3, 32, 32)) == (2, 3)
    assert image_axes((8, 32, 32, 3)) == (1, 2)
    assert image_axes((8, 1, 49, 10)) is None
    assert image_axes((8, 64, 32, 32)) is None


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_teacher_says_whether_mirror_images_are_the_same(mirrored):
    model = pool(mirrored=mirrored)
    images = floats(64, 3, 16, 16, seed=7)
    images[:32, :, :, :8] += 1
    images[32:, :, :, 8:] += 1
    teacher = Teacher(model)
    answers = read_answers(teacher.answer([torch.from_numpy(images)])[0])
    batches = [[part] for part in torch.from_numpy(images).split(24)]
    assert find_variety(teacher, answers, batches).mirror is mirrored


def test_mixtures_lie_between_samples():
    x = torch.tensor(floats(16, 4))
    made = mixed([x], 0.5, np.random.default_rng(0))[0]
    assert made.shape == x.shape
    assert not torch.equal(made, x)
    assert bool((made <= x.max(0).values + 1e-6).all() & (made >= x.min(0).values - 1e-6).all())


def test_maps_of_unlike_widths_are_compared_by_where_their_energy_is():
    wide = torch.tensor(floats(2, 8, 4, 4))
    narrow = wide[:, ::2] * 3
    far = map_loss({"a": narrow}, {"a": wide})
    assert float(map_loss({"a": wide * 2}, {"a": wide[:, [0, 1, 2, 3, 4, 5, 6]]})) < float(far)
    assert float(map_loss({"a": wide}, {"a": wide})) == 0.0
