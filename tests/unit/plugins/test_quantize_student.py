"""The imitation in torch answers exactly what the written model does, before and after training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from edge_compress_quantize.conversion import assembled, written
from edge_compress_quantize.fake import Gridded
from edge_compress_quantize.grid import Grid
from edge_compress_quantize.mixed import Choice
from edge_compress_quantize.progress import Progress
from edge_compress_quantize.static import StaticParams
from edge_compress_quantize.student import AsServed, Student
from onnx import helper
from torch import nn

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.parity import run_onnx
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.test_quantize_static import model_of, samples, weights

node = helper.make_node
Array = np.ndarray[Any, Any]


def residual() -> onnx.ModelProto:
    """Uneven pads, a shortcut, pooling, both kinds of bounds, a Gemm that is stored the other way round."""
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], kernel_shape=[3, 3], pads=[0, 0, 1, 1], strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2),
        node("Add", ["c2", "r1"], ["a"]),
        node("Clip", ["a", "low", "high"], ["k"]),
        node("GlobalAveragePool", ["k"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]
    constants = {
        "w1": weights(8, 3, 3, 3), "b1": weights(8, 1, seed=1)[:, 0], "w2": weights(8, 4, 3, 3, seed=2),
        "b2": weights(8, 1, seed=3)[:, 0], "w3": weights(8, 5, seed=4), "b3": weights(5, 1, seed=5)[:, 0],
        "low": np.float32(0).reshape(()), "high": np.float32(1.5).reshape(()),
    }  # fmt: skip
    return model_of(nodes, constants)


def products() -> onnx.ModelProto:
    """A matrix product whose bias is a node of its own, a float reader beside the integer ones, a BatchNorm nothing folds."""
    nodes = [
        node("BatchNormalization", ["x", "scale", "shift", "mean", "variance"], ["n"]),
        node("Flatten", ["n"], ["f"]),
        node("MatMul", ["f", "w1"], ["m"]),
        node("Add", ["m", "b1"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Gemm", ["t", "w2"], ["g"], transB=1),
        node("Exp", ["t"], ["e"]),
        node("ReduceMean", ["e"], ["s"], axes=[1], keepdims=1),
        node("Mul", ["g", "s"], ["y"]),
    ]
    constants = {"w1": weights(192, 12), "b1": weights(12, 1)[:, 0], "w2": weights(6, 12, seed=3),
                 "scale": np.full(3, 1.5, np.float32), "shift": np.full(3, 0.1, np.float32),
                 "mean": np.full(3, 0.2, np.float32), "variance": np.full(3, 2.0, np.float32)}  # fmt: skip
    return model_of(nodes, constants)


def imitated(
    model: onnx.ModelProto, folder: Path, learn_steps: bool = False, **params: Any
) -> tuple[Student, Callable[[], Array]]:
    """The student, and what the assembly writes answers."""
    context = ArrayContext({"x": samples()}, scratch=folder)
    assembly = assembled(model, StaticParams(**params), context, Progress(context))
    student = Student(assembly, learn_steps=learn_steps)

    def answers() -> Array:
        return run_onnx(written(assembly, model, Choice(), rest="float"), {"x": samples()})[0]

    return student, answers


def answered(student: Student) -> Array:
    with torch.no_grad():
        return student.module.eval()(torch.from_numpy(samples())).numpy()


def same(got: Array, want: Array) -> float:
    """Share of values that are alike but for float rounding: where that decides a tie, one is a step off."""
    apart = np.abs(got - want) / np.abs(want).max()
    assert apart.max() < 0.05
    return float((apart < 1e-5).mean())


SETTINGS: list[dict[str, Any]] = [
    {"bits": 8, "reduce_range": True},
    {"bits": 3},
    {"rate": 2.5},
    {"bits": 4, "scheme": "affine", "per_channel": False},
    {"bits": 8, "activation": "s8", "activation_scheme": "symmetric"},
]


@pytest.mark.parametrize("params", SETTINGS, ids=lambda item: "-".join(f"{key}={value}" for key, value in item.items()))
@pytest.mark.parametrize("make", [residual, products])
def test_it_answers_as_what_is_written(make: Callable[[], onnx.ModelProto], params: dict[str, Any], tmp_path: Path) -> None:
    student, answers = imitated(make(), tmp_path, **params)
    assert same(answered(student), answers()) > 0.8


@pytest.mark.parametrize("learn_steps", [False, True])
@pytest.mark.parametrize("make", [residual, products])
def test_what_it_learnt_is_what_is_written(make: Callable[[], onnx.ModelProto], learn_steps: bool, tmp_path: Path) -> None:
    student, answers = imitated(make(), tmp_path, learn_steps, rate=2.5)
    before, start = answers(), answered(student)
    optimizer = torch.optim.Adam([item for item in student.module.parameters() if item.requires_grad], lr=0.2)
    wanted = torch.from_numpy(start[::-1].copy())
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.mse_loss(student.module.train()(torch.from_numpy(samples())), wanted).backward()
        optimizer.step()
    student.hand_over()
    after = answers()
    assert same(answered(student), after) > 0.8
    assert np.abs(after - before).mean() > 0.01 * np.abs(before).max()


def test_weights_that_two_layers_read_stay_as_they_are(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w"], ["a"], kernel_shape=[1, 1]),
        node("Relu", ["a"], ["r"]),
        node("Conv", ["r", "w"], ["b"], kernel_shape=[1, 1]),
        node("Conv", ["b", "v"], ["y"], kernel_shape=[1, 1]),
    ]
    student, answers = imitated(model_of(nodes, {"w": weights(3, 3, 1, 1), "v": weights(4, 3, 1, 1)}), tmp_path, bits=4)
    assert [layer.weight[0] for layer, _ in student.integer_weights()] == ["v"]
    assert same(answered(student), answers()) > 0.8


def test_statistics_do_not_follow_the_batches(tmp_path: Path) -> None:
    student, _ = imitated(products(), tmp_path, bits=8)
    norms = [item for item in student.module.modules() if isinstance(item, AsServed)]
    assert norms
    before = answered(student)
    student.module.train()(3 + torch.from_numpy(samples()))
    assert not norms[0].layer.training
    assert np.array_equal(before, answered(student))


def test_a_model_the_bridge_cannot_take_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]), node("Hardmax", ["c"], ["y"])]
    with pytest.raises(Unsupported, match="Hardmax"):
        imitated(model_of(nodes, {"w": weights(4, 3, 1, 1)}), tmp_path, bits=8)


def test_grids_do_what_torchs_own_do_and_pass_the_same_gradients() -> None:
    random = torch.Generator().manual_seed(0)
    x = (torch.randn(4, 3, 9, 9, generator=random) * 3).contiguous(memory_format=torch.channels_last)
    grid = Grid(np.float32(0.031), np.uint8(117), 0, 255, None)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    made, wanted = Gridded(grid)(ours), torch.fake_quantize_per_tensor_affine(theirs, 0.031, 117, 0, 255)
    assert torch.allclose(made, wanted, atol=1e-6)
    for value in (made, wanted):
        (value * value.detach()).sum().backward()
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-6)
    assert not ours.grad.all(), "some lie beyond the grid"
