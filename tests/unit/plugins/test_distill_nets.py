"""The architectures: at every width and size they build, cost what they say, and run in onnxruntime as they do in torch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from edge_compress_distill import mobilenet, repvgg, shufflenet
from edge_compress_distill.blocks import rounded, strides
from edge_compress_distill.graphs import deployed, traced

from edge_compress.graph.bridge import to_onnx
from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import Architecture, ImageTask
from tests.unit.plugins.teachers import teacher

KINDS = (repvgg.RepVgg(), mobilenet.MobileNetV2(), shufflenet.ShuffleNetV2())


def written(kind: Architecture, width: float, *, size: int = 8, channels: int = 3, opset: int = 17) -> onnx.ModelProto:
    task = ImageTask(channels, size, size, 5)
    like = teacher(size=size, channels=channels, opset=opset)
    network = kind.build(task, width, seed=0)
    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 2.0)
        graph = traced(network.eval())
        model = to_onnx(deployed(graph), like)
        samples = torch.randn(3, channels, size, size, generator=torch.Generator().manual_seed(0))
        want = graph(samples).numpy()
    onnx.checker.check_model(model, full_check=True)
    got = run_onnx(model, {"image": samples.numpy()})[0]
    assert got == pytest.approx(want, abs=1e-3 * float(np.abs(want).max()))
    return model


@pytest.mark.parametrize("kind", KINDS, ids=lambda item: item.name)
@pytest.mark.parametrize("width", [0.05, 0.35, 1.0])
def test_any_width_builds_and_answers_the_same_once_merged(kind: Architecture, width: float) -> None:
    model = written(kind, width)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("kind", KINDS, ids=lambda item: item.name)
@pytest.mark.parametrize(("size", "channels", "opset"), [(4, 1, 9), (13, 4, 11), (32, 3, 21)])
def test_any_size_and_opset(kind: Architecture, size: int, channels: int, opset: int) -> None:
    model = written(kind, 0.25, size=size, channels=channels, opset=opset)
    assert model.opset_import[0].version == opset


@pytest.mark.parametrize("kind", KINDS, ids=lambda item: item.name)
def test_costs_are_what_the_written_network_has(kind: Architecture) -> None:
    model = written(kind, 0.5, size=16)
    facts, cost = facts_of_model(model, "", 0), kind.cost(ImageTask(3, 16, 16, 5), 0.5)
    assert cost.macs == pytest.approx(facts.macs, rel=1e-6)
    assert cost.weights == pytest.approx(facts.parameters, rel=0.01)
    assert cost.work >= cost.macs


@pytest.mark.parametrize("kind", KINDS, ids=lambda item: item.name)
def test_costs_grow_with_the_width(kind: Architecture) -> None:
    task = ImageTask(3, 32, 32, 10)
    costs = [kind.cost(task, width).macs for width in (0.1, 0.25, 0.5, 1.0, 2.0)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda item: item.name)
def test_the_seed_decides_the_weights_and_nothing_outside_changes(kind: Architecture) -> None:
    task = ImageTask(1, 8, 8, 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (kind.build(task, 0.1, seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_published_mobilenet_has_the_published_cost() -> None:
    cost = mobilenet.MobileNetV2().cost(ImageTask(3, 224, 224, 1000), 1.0)
    assert cost.macs == pytest.approx(300e6, rel=0.02)
    assert cost.weights == pytest.approx(3.4e6, rel=0.03)


def test_the_published_shufflenet_has_about_the_published_cost() -> None:
    cost = shufflenet.ShuffleNetV2().cost(ImageTask(3, 224, 224, 1000), 1.0)
    assert cost.macs == pytest.approx(146e6, rel=0.2)
    assert cost.weights == pytest.approx(2.3e6, rel=0.1)


def test_small_inputs_keep_their_places() -> None:
    assert [stride for stride in strides(ImageTask(3, 32, 32, 10), 5, 4) if stride != (1, 1)] == [(2, 2)] * 3
    assert strides(ImageTask(1, 49, 10, 12), 5, 4) == [(1, 1), (1, 1), (2, 1), (2, 1), (2, 2)]
    assert strides(ImageTask(3, 224, 224, 10), 5, 4) == [(2, 2)] * 5
    assert strides(ImageTask(3, 4, 4, 10), 5, 4) == [(1, 1)] * 5


def test_channels_are_multiples_of_eight_and_never_much_fewer() -> None:
    assert [rounded(value) for value in (1, 8, 11, 12, 20, 21, 32)] == [8, 8, 16, 16, 24, 24, 32]
