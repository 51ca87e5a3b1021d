"""Real archives of torch.export.save, and the same with something changed in them, for the tests that lift or refuse them."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

BATCH = torch.export.Dim("batch", max=512)


class Convolutions(nn.Module):
    """Convolution, BatchNorm, an in-place ReLU6, an extra input, a buffer that is not in the state, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True), nn.Dropout()
        )
        self.head = nn.Linear(8, 5)
        self.register_buffer("gain", torch.linspace(0.5, 1.5, 8), persistent=False)

    def forward(self, image: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = self.body(image).mean((2, 3)) * self.gain + shift
        return self.head(pooled), pooled.view(image.shape[0] * 2, -1).softmax(-1)


class Transformer(nn.Module):
    """Embedded tokens with learned places, one encoder layer, the mean of the steps; any batch and length."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Parameter(torch.linspace(-1, 1, 32 * 16).reshape(1, 32, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(16, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.words(tokens) + self.places[:, : tokens.shape[1]]).mean(1))


class Gated(nn.Module):
    """A part without gradients, and one weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            gate = torch.sigmoid(self.first(x))
        return self.second(x) * gate


def save(
    path: Path,
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    free: Mapping[str, Mapping[int, Any]] | None = None,
    *,
    core: bool = False,
) -> Path:
    """As a user saves a model; ``core``: in torch's core operators."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        program = torch.export.export(module, inputs, dynamic_shapes=free)
        torch.export.save(program.run_decompositions() if core else program, path)
    return path


def save_linear(path: Path) -> Path:
    """The smallest model: one linear layer, any batch."""
    return save(path, nn.Linear(4, 3).eval(), (torch.ones(2, 4),), {"input": {0: BATCH}})


def changed(source: Path, target: Path, members: Mapping[str, bytes | None], extra: Mapping[str, bytes] | None = None) -> Path:
    """The archive with members (by the end of their path) replaced, or dropped for None, and ``extra`` ones added as named."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            ending = next((key for key in members if info.filename.endswith(key)), None)
            data = old.read(info) if ending is None else members[ending]
            if data is not None:
                new.writestr(info.filename, data)
        for name, data in (extra or {}).items():
            new.writestr(name, data)
    return target


def rewritten(source: Path, target: Path, change: Callable[[Any], None], member: str = "models/model.json") -> Path:
    """The archive with the JSON of one member changed."""
    with zipfile.ZipFile(source) as old:
        plain = json.loads(old.read(next(name for name in old.namelist() if name.endswith(member))))
    change(plain)
    return changed(source, target, {member: json.dumps(plain).encode()})


def bomb(mark: Path) -> bytes:
    """A pickle that makes the file ``mark`` when it is opened."""
    return pickle.dumps(_Bomb(mark))


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)
