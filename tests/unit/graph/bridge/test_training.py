"""Imported models learn: losses fall, BatchNorm follows the batch in train mode, and what is written answers as trained."""

from __future__ import annotations

import copy
import time

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from edge_compress.graph.bridge import to_onnx, to_torch
from edge_compress.graph.bridge.parity import run_onnx, run_torch
from tests.unit.graph.bridge.small_models import floats, model_of, single


@pytest.fixture
def cifar(shared_data):
    with np.load(shared_data / "cifar10_10k.npz") as data:
        images, labels = data["x_train"][:512], data["y_train"][:512]
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    scaled = ((images / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))


@pytest.mark.shared_data
def test_resnet20_recovers_and_is_written_as_trained(shared_data, cifar):
    """Its weights are disturbed first: the original has nothing left to learn on these images."""
    model = onnx.load(shared_data / "resnet20_cifar10.onnx")
    module = to_torch(model).module
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.3 * weight.abs().mean() * torch.randn(weight.shape, generator=draw))
    images, labels = cifar
    optimizer = torch.optim.SGD(module.parameters(), lr=0.002, momentum=0.9)
    losses = []
    module.train()
    for _ in range(2):
        for start in range(0, 512, 64):
            loss = nn.functional.cross_entropy(module(images[start : start + 64]), labels[start : start + 64])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    feeds = {"input": images[:16].numpy()}
    trained, written = run_torch(module, model, feeds)[0], run_onnx(to_onnx(module, model), feeds)[0]
    assert np.abs(trained - written).max() < 1e-4 * np.abs(trained).max()
    assert np.abs(written - run_onnx(model, feeds)[0]).max() > 0.1


def test_batch_norm_follows_the_batch_in_train_mode_only():
    scale = {"s": floats(4), "b": floats(4, seed=1), "m": floats(4, seed=2), "v": np.abs(floats(4, seed=3)) + 1}
    model = single("BatchNormalization", {"x": floats(2, 4, 5, 5)}, scale)
    module = to_torch(model).module
    batch = torch.from_numpy(floats(8, 4, 5, 5, seed=4)) * 3 + 7
    layer = next(item for item in module.modules() if isinstance(item, nn.BatchNorm2d))
    before = layer.running_mean.clone()
    module(batch)
    assert torch.equal(layer.running_mean, before)
    made = module.train()(batch)
    assert torch.allclose(made.mean((0, 2, 3)), torch.from_numpy(scale["b"]), atol=1e-4)
    assert not torch.equal(layer.running_mean, before)
    feeds = {"x": batch.numpy()}
    assert np.allclose(run_torch(module, model, feeds)[0], run_onnx(to_onnx(module, model), feeds)[0], atol=1e-4)
    assert module.training


def test_dropout_drops_in_train_mode_only():
    module = to_torch(single("Dropout", {"x": floats(2, 50)}, {"r": np.float32(0.5)})).module
    ones = torch.ones(4, 50)
    assert torch.equal(module(ones), ones)
    torch.manual_seed(0)
    assert bool((module.train()(ones) == 0).any())


def tower():
    """(N, 3, 16, 16) -> two convolutions -> [-1, 192] -> Gemm."""
    weights = {"w1": floats(8, 3, 3, 3), "b1": floats(8), "w2": floats(12, 8, 3, 3), "b2": floats(12)}
    weights |= {"shape": np.array([-1, 192]), "w3": floats(5, 192)}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first", strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "w2", "b2"], ["c"], name="second", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "shape"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="head", transB=1),
    ]
    feeds = {"x": floats(3, 3, 16, 16, seed=5)}
    return model_of(nodes, feeds, ["y"], weights), feeds


def test_reshape_follows_pruned_channels():
    model, feeds = tower()
    module = copy.deepcopy(to_torch(model).module)
    first, second, head = module.first, module.second, module.head
    first.weight, first.bias, first.out_channels = nn.Parameter(first.weight[:4]), nn.Parameter(first.bias[:4]), 4
    second.weight, second.bias = nn.Parameter(second.weight[:6, :4]), nn.Parameter(second.bias[:6])
    second.in_channels, second.out_channels = 4, 6
    head.weight, head.in_features = nn.Parameter(head.weight[:, :96]), 96
    written = to_onnx(module, model)
    onnx.checker.check_model(written, full_check=True)
    want, got = run_torch(module, model, feeds)[0], run_onnx(written, feeds)[0]
    assert got.shape == (3, 5)
    assert np.allclose(want, got, rtol=1e-4, atol=1e-4)


def test_a_layer_replaced_by_several_is_written():
    model, feeds = tower()
    module = to_torch(model).module
    thin = nn.Conv2d(8, 3, (3, 1), stride=(2, 1), padding=(1, 0), bias=False)
    module.second = nn.Sequential(thin, nn.Conv2d(3, 12, (1, 3), stride=(1, 2), padding=(0, 1)), nn.BatchNorm2d(12), nn.SiLU())
    module.first = nn.Sequential(module.first, nn.Identity())
    want, got = run_torch(module, model, feeds)[0], run_onnx(to_onnx(module, model), feeds)[0]
    assert np.allclose(want, got, rtol=1e-4, atol=1e-4)


def test_a_strangers_module_is_written_by_torchs_exporter():
    model, feeds = tower()
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
    )
    written = to_onnx(student, model)
    assert written.SerializeToString() == to_onnx(student, model).SerializeToString()
    assert [item.name for item in written.graph.output] == ["y"]
    assert np.allclose(run_torch(student, model, feeds)[0], run_onnx(written, feeds)[0], rtol=1e-4, atol=1e-5)
    assert student.training


def test_the_module_is_as_fast_as_one_written_by_hand():
    model, _ = tower()
    imported = to_torch(model).module
    hand = nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.Flatten(), nn.Linear(192, 5)
    ).eval()
    batch = torch.from_numpy(floats(64, 3, 16, 16))
    with torch.no_grad():
        ratios = [_seconds(imported, batch) / _seconds(hand, batch) for _ in range(15)]
    assert np.median(ratios) < 1.3


def _seconds(module, batch):
    start = time.perf_counter()
    for _ in range(5):
        module(batch)
    return time.perf_counter() - start
