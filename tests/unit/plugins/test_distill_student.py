"""distil.student on tiny teachers: it learns, keeps the interface, repeats itself, and says why it does not apply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_distill.student import DistilStudent, StudentParams

from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import Batch, DeviceProfileSpec, InvalidData, InvalidSpec, Limits, ModelFacts
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.teachers import CLASSES, images, teacher

PROFILE = DeviceProfileSpec()
QUICK: dict[str, Any] = {"width": 0.25, "epochs": 5, "batch": 32, "least_samples": 2}


class Lesson(ArrayContext):
    """Samples in file order for calibration, shuffled by seed and epoch for training, with labels where they are given."""

    def __init__(self, model: onnx.ModelProto, samples: Any, scratch: Path, labels: Any = None) -> None:
        fixed = model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
        super().__init__({"image": samples}, scratch=scratch, teacher=model, fixed_batch=fixed)
        self.samples, self.labels = samples, labels
        self.limits = Limits(seconds=600, memory_bytes=1 << 32, threads=1)

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.samples))
        step = 1 if self._fixed else batch_size
        for start in range(0, len(order), step):
            chosen = order[start : start + step]
            yield Batch({"image": self.samples[chosen]}, None if self.labels is None else self.labels[chosen])


def taught(model: onnx.ModelProto, samples: Any, scratch: Path, **params: Any) -> tuple[onnx.ModelProto, Lesson]:
    context = Lesson(model, samples, scratch)
    made = DistilStudent().apply(model, StudentParams(**{**QUICK, **params}), context)
    onnx.checker.check_model(made, full_check=True)
    return made, context


def explained(model: onnx.ModelProto, made: onnx.ModelProto, samples: Any) -> float:
    """Share of the variance of the teacher's answers that the student's have, 1 at best."""
    want, got = (run_onnx(item, {"image": samples})[0] for item in (model, made))
    return 1 - float(((want - got) ** 2).mean() / want.var(0).mean())


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_it_learns_what_the_teacher_answers_in_either_layout_and_any_range(tmp_path: Path, layout: str) -> None:
    model, samples = teacher(layout=layout, size=8), images(192, layout=layout, size=8, scale=255.0)
    made, context = taught(model, samples, tmp_path)
    assert list(made.graph.input) == list(model.graph.input)
    assert list(made.graph.output) == list(model.graph.output)
    assert {node.op_type for node in made.graph.node} <= {"Transpose", "Conv", "Relu", "GlobalAveragePool", "Flatten", "Gemm"}
    want, got = (run_onnx(item, {"image": samples})[0] for item in (model, made))
    assert float((want.argmax(1) == got.argmax(1)).mean()) > 0.8
    assert "rep_vgg of width 0.25" in context.logged[-1]
    assert context.fractions == sorted(context.fractions)


@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid"])
def test_bounded_answers_stay_bounded(tmp_path: Path, ending: str) -> None:
    model, samples = teacher(ending=ending, size=8), images(128, size=8)
    made, _ = taught(model, samples, tmp_path, epochs=2)
    got = run_onnx(made, {"image": samples})[0]
    assert made.graph.node[-1].op_type == ending
    assert (got >= 0).all()
    assert (got <= 1).all()
    if ending == "Softmax":
        assert got.sum(1) == pytest.approx(1, abs=1e-5)


def test_values_of_any_size_are_learnt(tmp_path: Path) -> None:
    model, samples = teacher(ending="Tanh", size=8), images(128, size=8)
    model.graph.node[-1].CopyFrom(onnx.helper.make_node("Mul", ["scores", "thousand"], ["answer"]))
    model.graph.node.append(onnx.helper.make_node("ReduceSum", ["answer", "last"], ["length"], keepdims=1))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1000, np.float32), "thousand"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "last"))
    model.graph.output[0].name = "length"
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    made, _ = taught(model, samples, tmp_path, epochs=10)
    assert made.graph.node[-1].op_type == "Gemm"
    assert explained(model, made, samples) > 0.5


def test_a_fixed_batch_of_one_is_taught_in_batches_and_kept(tmp_path: Path) -> None:
    model, samples = teacher(batch=1, size=8), images(64, size=8)
    made, _ = taught(model, samples, tmp_path, epochs=3)
    assert list(made.graph.input) == list(model.graph.input)
    assert run_onnx(made, {"image": samples[:1]})[0].shape == (1, CLASSES)
    free, _ = taught(teacher(size=8), samples, tmp_path, epochs=3)
    alone, together = run_onnx(made, {"image": samples[:1]})[0], run_onnx(free, {"image": samples[:1]})[0]
    assert alone == pytest.approx(together, abs=1e-3 * float(np.abs(together).max()))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    model, samples = teacher(size=8), images(64, size=8)
    first, again = (taught(model, samples, tmp_path, epochs=1)[0].SerializeToString(deterministic=True) for _ in range(2))
    context = Lesson(model, samples, tmp_path)
    context.seed = 1
    other = DistilStudent().apply(model, StudentParams(**{**QUICK, "epochs": 1}), context)
    assert first == again
    assert first != other.SerializeToString(deterministic=True)


@pytest.mark.parametrize("matching", ["hints", "attention"])
def test_inner_maps_change_what_is_learnt_and_leave_no_trace(tmp_path: Path, matching: str) -> None:
    model, samples = teacher(), images(64)
    plain, _ = taught(model, samples, tmp_path, epochs=1)
    matched, _ = taught(model, samples, tmp_path, epochs=1, matching=matching)
    assert plain.SerializeToString() != matched.SerializeToString()
    assert [node.op_type for node in plain.graph.node] == [node.op_type for node in matched.graph.node]
    assert [item.dims for item in plain.graph.initializer] == [item.dims for item in matched.graph.initializer]


def test_labels_count_where_they_are_asked_for(tmp_path: Path) -> None:
    model, samples = teacher(size=8), images(128, size=8)
    wrong = Lesson(model, samples, tmp_path, np.full(128, 2))
    made = DistilStudent().apply(model, StudentParams(**{**QUICK, "label_weight": 1.0}), wrong)
    assert float((run_onnx(made, {"image": samples})[0].argmax(1) == 2).mean()) > 0.6


def test_too_few_samples_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"64 samples', expected at least 500 .*prune the model instead"):
        taught(teacher(), images(64), tmp_path, least_samples=500)


def test_too_little_time_is_refused(tmp_path: Path) -> None:
    model = teacher()
    context = Lesson(model, images(64), tmp_path)
    context.limits = Limits(seconds=0.01, memory_bytes=1 << 32, threads=1)
    with pytest.raises(ValueError, match=r"a fresh network would see .* give the step more time"):
        DistilStudent().apply(model, StudentParams(**{**QUICK, "epochs": None}), context)


def test_an_unknown_architecture_or_width_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"architecture: read 'mobilenet', expected one of .*mobilenet_v2"):
        DistilStudent().bind(StudentParams(architecture="mobilenet"), PROFILE)
    with pytest.raises(InvalidSpec, match=r"width: read 9\.0, expected 0\.05 to 4"):
        DistilStudent().bind(StudentParams(width=9.0), PROFILE)
    assert DistilStudent().bind(StudentParams(), PROFILE).revision == "1"


def facts(model: onnx.ModelProto) -> ModelFacts:
    return facts_of_model(model, "0" * 64, len(model.SerializeToString()))


def test_a_model_without_a_smaller_student_is_left_alone() -> None:
    support = DistilStudent().supports(facts(teacher()), PROFILE)
    assert not support.ok
    assert "no student does half" in support.reason


def scaled(size: int, times: int) -> ModelFacts:
    """Facts of a model that does ``times`` as much as the tiny teacher, at images of ``size``."""
    model = facts(teacher(size=size))
    layers = tuple(type(item)(item.name, item.op, times * item.macs, 4000, 1000, item.activation_bytes) for item in model.layers)
    return type(model)(**{**vars(model), "layers": layers, "parameters": 10**7, "bytes": 4 * 10**7})


@pytest.mark.parametrize(
    ("model", "kinds"),
    [(scaled(32, 100), ["rep_vgg", "rep_vgg"]), (scaled(224, 300), ["rep_vgg", "rep_vgg", "mobilenet_v2", "shufflenet_v2"])],
    ids=["small images", "large images"],
)
def test_proposals_are_smaller_and_of_kinds_that_do_more_than_wait(model: ModelFacts, kinds: list[str]) -> None:
    strategy = DistilStudent()
    proposed = strategy.propose(model, PROFILE)
    assert strategy.supports(model, PROFILE).ok
    assert [item.architecture for item in proposed] == kinds
    assert proposed[0].width > proposed[1].width
    for params in proposed:
        expected = strategy.expect(model, params)
        assert 0 < expected.latency <= 0.52
        assert 0 < expected.bytes <= 0.77
