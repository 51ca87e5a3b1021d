"""The bridge on the team's real models: same answers both ways, quickly, and trainable on real images."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest

from edge_compress.graph.bridge import check_parity, to_onnx, to_torch

pytestmark = pytest.mark.shared_data

NAMES = ("resnet8_cifar10", "resnet20_cifar10", "efficientnet_lite0")


def feeds(model, rows=3):
    item = model.graph.input[0]
    shape = [dim.dim_value or rows for dim in item.type.tensor_type.shape.dim]
    return {item.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


@pytest.mark.parametrize("name", NAMES)
def test_both_ways_give_the_same_answers(shared_data, name):
    model = onnx.load(shared_data / f"{name}.onnx")
    imported = to_torch(model)
    parity = check_parity(model, imported, feeds(model))
    assert parity.imported < 1e-5
    assert parity.exported == 0
    assert imported.free_batch


@pytest.mark.parametrize("name", NAMES)
def test_written_models_keep_the_interface_and_their_bytes(shared_data, name):
    model = onnx.load(shared_data / f"{name}.onnx")
    written = to_onnx(to_torch(model), model)
    assert list(written.graph.input) == list(model.graph.input)
    assert list(written.graph.output) == list(model.graph.output)
    assert written.SerializeToString() == to_onnx(to_torch(model), model).SerializeToString()
    onnx.checker.check_model(written, full_check=True)


def test_importing_is_quick(shared_data):
    model = onnx.load(shared_data / "resnet20_cifar10.onnx")
    to_torch(model)
    start = time.process_time()
    to_torch(model)
    assert time.process_time() - start < 1
