"""The harm of noise on weights: held to the exact Fisher information of models small enough to know it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from edge_compress_quantize.fisher import harm
from torch import nn

from tests.unit.plugins.array_context import ArrayContext


class Scores(nn.Module):
    """Four classes, one of which is never likely."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 4)
        with torch.no_grad():
            self.layer.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -30.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)


def test_scores_have_their_exact_curvature_on_the_mean(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, data = Scores(), samples(1200)
    context = ArrayContext({"x": data}, scratch=tmp_path)
    found = harm(module, {"w": module.layer.weight}, ["x"], context, samples=1200, progress=context.progress)["w"]
    with torch.no_grad():
        likely = module(torch.from_numpy(data)).softmax(-1).numpy()
    exact = (likely * (1 - likely) * np.square(data).mean(axis=1, keepdims=True)).mean(axis=0)
    assert found[:3] == pytest.approx(exact[:3], rel=0.25)
    assert found[3] < 1e-6
    assert context.fractions[-1] == 1


def test_values_are_measured_against_their_variance(tmp_path: Path) -> None:
    """A model of ten times the values is no more easily harmed."""
    torch.manual_seed(0)
    context = ArrayContext({"x": samples(400)}, scratch=tmp_path)
    small = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 2))
    large = nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Linear(3, 2))
    with torch.no_grad():
        large[1].weight.copy_(10 * small[1].weight)
        large[1].bias.copy_(10 * small[1].bias)
    found = [
        harm(model, {"w": model[1].weight}, ["x"], context, samples=400, progress=context.progress)["w"]
        for model in (small, large)
    ]
    assert (found[0] / found[1]).mean() == pytest.approx(100, rel=0.1)
