"""Random small networks through the bridge: the module and what is written of it answer as onnxruntime does, trained or not."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_compress.graph.bridge import check_parity, to_onnx, to_torch, what
from edge_compress.graph.bridge.parity import run_onnx, run_torch
from tests.property.networks import network

SEEDS = st.integers(0, 2**31 - 1)
OPSETS = st.sampled_from((14, 17, 18, 21))


@settings(max_examples=25, deadline=None)
@given(SEEDS, OPSETS, st.sampled_from(("N", 1, 4)))
def test_both_ways_answer_as_the_model_does(seed, opset, batch):
    model, samples = network(seed, opset, batch=batch)
    feeds = {"x": samples if batch == "N" else samples[:batch]}
    assert what(model) == []
    imported = to_torch(model)
    check_parity(model, imported, feeds)
    assert imported.free_batch
    assert imported.module(torch.from_numpy(samples[:3])) is not None
    written = to_onnx(imported, model)
    onnx.checker.check_model(written, full_check=True)
    assert written.SerializeToString() == to_onnx(to_torch(model), model).SerializeToString()
    assert list(written.graph.input) == list(model.graph.input)
    assert list(written.graph.output) == list(model.graph.output)


@settings(max_examples=15, deadline=None)
@given(SEEDS, OPSETS)
def test_a_step_of_training_is_written(seed, opset):
    model, samples = network(seed, opset)
    module = to_torch(model).module.train()
    made = module(torch.from_numpy(samples))
    loss = (made[0] if isinstance(made, tuple) else made).square().mean()
    loss.backward()
    assert any(weight.grad is not None and bool(weight.grad.abs().sum() > 0) for weight in module.parameters())
    torch.optim.SGD(module.parameters(), lr=1e-3).step()
    feeds = {"x": samples[:5]}
    for want, got in zip(run_torch(module, model, feeds), run_onnx(to_onnx(module, model), feeds), strict=True):
        assert np.abs(want - got).max() <= 1e-4 * max(1.0, np.abs(want).max())
