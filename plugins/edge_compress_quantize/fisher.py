"""How much the answers suffer from noise on the weights of each channel: the mean of squared gradients over calibration samples.

Noise d on a weight adds h d² / 2 to the divergence of scores from what they were (to the squared error of other outputs over
their variance), h being its diagonal entry of the Fisher information. Directions are drawn so that their mean square is the exact
curvature of the outputs, which needs no labels and is not zero where the model is sure of itself.

Source: Fisher information as the Hessian of a model's own answers: Martens 2014 (arXiv:1412.1193), section 9; for bit widths:
Choi et al. 2017 (arXiv:1612.01543). Leaves what follows from it to ``rates``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from edge_compress.graph.bridge.answers import Answer, read_answers
from edge_compress.graph.bridge.training import outputs_of
from edge_compress.plugin import Context

Array = np.ndarray[Any, Any]

K = TypeVar("K")

_BATCH = 4


def harm(
    module: nn.Module,
    weights: Mapping[K, nn.Parameter],
    inputs: Sequence[str],
    context: Context,
    *,
    samples: int,
    progress: Callable[[float, str], None],
) -> dict[K, Array]:
    """The mean squared gradient of each channel of some ``weights`` by any key, whose first axis is the channels'; float64.

    ``inputs``: names of the module's inputs in order. Raises ValueError where no output holds floats.
    """
    random = torch.Generator().manual_seed(context.seed)
    sums = {key: torch.zeros_like(parameter, dtype=torch.float64) for key, parameter in weights.items()}
    done = 0
    for batch in context.calibration(_BATCH, samples):
        made = outputs_of(module, [torch.from_numpy(np.array(batch.inputs[name])) for name in inputs])
        answers = read_answers([item.detach() for item in made])
        module.zero_grad()
        torch.stack([_probe(answer, made[answer.index], random) for answer in answers]).sum().backward()
        for key, parameter in weights.items():
            if parameter.grad is not None:
                sums[key] += parameter.grad.double().square()
        done += len(batch)
        progress(min(1.0, done / samples), f"sensitivity of weights: {done} samples")
    module.zero_grad()
    return {key: np.asarray((total / max(1, done)).flatten(1).mean(1).numpy()) for key, total in sums.items()}


def _probe(answer: Answer, output: Tensor, random: torch.Generator) -> Tensor:
    """A scalar whose gradient has the curvature of the answer as its mean square."""
    noise = torch.randn(output.shape, generator=random)
    if answer.kind == "values":
        return (output * noise).sum() / answer.spread**0.5 / max(1, output[0].numel()) ** 0.5
    scores = answer.logits(output)
    likely: Tensor = scores.detach().softmax(-1)
    drawn = noise * likely.sqrt()
    total: Tensor = (scores * (drawn - likely * drawn.sum(-1, keepdim=True))).sum()
    return total
