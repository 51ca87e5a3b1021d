from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from torch import nn

from edge_compress.graph.bridge import to_onnx, to_torch
from edge_compress.graph.bridge.norms import Normed, fold, unfold
from edge_compress.graph.bridge.parity import run_onnx
from tests.unit.graph.bridge.small_models import floats, model_of


def network():
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], name="bend"),
        helper.make_node("Conv", ["r", "v"], ["c"], name="second", group=2),
        helper.make_node("GlobalAveragePool", ["c"], ["y"], name="pool"),
    ]
    constants = {"w": 20 * floats(6, 3, 3, 3), "b": floats(6), "v": floats(4, 3, 1, 1, seed=2)}
    return model_of(nodes, {"x": floats(5, 3, 8, 8)}, ["y"], constants)


def test_unfolded_answers_as_before_and_folded_is_written_as_before():
    model, feeds = network(), {"x": floats(5, 3, 8, 8, seed=3)}
    imported, x = to_torch(model), torch.from_numpy(feeds["x"])
    with torch.no_grad():
        before = imported.module(x)
        assert unfold(imported.module, [[x]]) == 2
        assert torch.allclose(imported.module(x), before, atol=1e-4 * float(before.abs().max()))
    assert sum(isinstance(item, nn.BatchNorm2d) for item in imported.module.modules()) == 2
    fold(imported.module)
    written = to_onnx(imported, model)
    assert [node.op_type for node in written.graph.node] == [node.op_type for node in model.graph.node]
    want = run_onnx(model, feeds)[0]
    np.testing.assert_allclose(run_onnx(written, feeds)[0], want, atol=1e-4 * np.abs(want).max())


def test_statistics_are_those_of_the_data():
    imported, x = to_torch(network()), torch.from_numpy(floats(64, 3, 8, 8, seed=4))
    unfold(imported.module, [[x]])
    layer = imported.module.first
    assert isinstance(layer, Normed)
    with torch.no_grad():
        made = layer[0](x).transpose(0, 1).flatten(1)
    assert torch.allclose(layer[1].running_mean, made.mean(1), atol=1e-3)
    assert torch.allclose(layer[1].running_var, made.var(1, correction=0), rtol=1e-3)


@pytest.mark.parametrize("trained", [False, True])
def test_folding_keeps_what_training_did(trained):
    model, x = network(), torch.from_numpy(floats(16, 3, 8, 8, seed=5))
    imported = to_torch(model)
    unfold(imported.module, [[x]])
    if trained:
        imported.module.train()
        optimizer = torch.optim.SGD(imported.module.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            imported.module(x).square().mean().backward()
            optimizer.step()
        imported.module.eval()
    with torch.no_grad():
        want = imported.module(x).numpy()
    fold(imported.module)
    got = run_onnx(to_onnx(imported, model), {"x": x.numpy()})[0]
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())
