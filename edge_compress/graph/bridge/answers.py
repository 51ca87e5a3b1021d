"""What a model's outputs say, and how far one model's answers are from another's: the losses of distillation.

Scores and probabilities are compared as distributions (Hinton et al. 2015, arXiv:1503.02531), other floats by squared error.
Where the answers come from is left to ``teacher`` and ``training``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST = 1e-8
"""probabilities below this count as this"""


@dataclass(frozen=True)
class Answer:
    """One output of a model, read once from the teacher's answers."""

    index: int
    kind: str
    """scores (the last axis holds one number a class), probabilities, or values"""
    spread: float = 1.0
    """variance of the teacher's values, the unit of squared errors"""

    def difference(self, ours: Tensor, theirs: Tensor, temperature: float = 1.0) -> Tensor:
        """A scalar, 0 where equal: T² KL(theirs || ours) softened by the temperature T, or the squared error of values."""
        if self.kind == "values":
            return F.mse_loss(ours, theirs) / self.spread
        soft, wanted = self.logits(ours) / temperature, self.logits(theirs) / temperature
        pairs = F.kl_div(soft.log_softmax(-1), wanted.log_softmax(-1), reduction="none", log_target=True).sum(-1)
        return pairs.mean() * temperature**2

    def logits(self, output: Tensor) -> Tensor:
        """The output as unnormalised log-probabilities; only of scores and probabilities."""
        return output.clamp_min(_SMALLEST).log() if self.kind == "probabilities" else output

    def same(self, ours: Tensor, theirs: Tensor) -> float:
        """Share of decisions that are equal, or the share of variance explained where there are none to make. At most 1."""
        if self.kind == "values":
            return 1.0 - float(self.difference(ours, theirs))
        return float((ours.argmax(-1) == theirs.argmax(-1)).float().mean())


def read_answers(outputs: Sequence[Tensor]) -> tuple[Answer, ...]:
    """What the teacher's outputs on some samples say. Raises ValueError where none holds floats."""
    found = tuple(_answer(index, item.float()) for index, item in enumerate(outputs) if item.is_floating_point())
    if not found:
        raise ValueError("the model has no float output that another could be trained to give")
    return found


def _answer(index: int, output: Tensor) -> Answer:
    if output.dim() >= 2 and output.shape[-1] >= 2 and _are_probabilities(output):
        return Answer(index, "probabilities")
    if output.dim() == 2 and output.shape[-1] >= 2 and not _are_bounded(output):
        return Answer(index, "scores")
    return Answer(index, "values", max(float(output.var(correction=0)), 1e-12))


def _are_probabilities(output: Tensor) -> bool:
    return bool((output >= 0).all()) and bool(((output.sum(-1) - 1).abs() < 1e-3).all())


def _are_bounded(output: Tensor) -> bool:
    """Whether all lie between -1 and 1: sigmoids, or an embedding of one length, where each number counts as it is."""
    return float(output.abs().max()) <= 1.0


def difference(answers: Sequence[Answer], ours: Sequence[Tensor], theirs: Sequence[Tensor], temperature: float = 1.0) -> Tensor:
    """The mean over the outputs of ``Answer.difference``."""
    parts = [item.difference(ours[item.index], theirs[item.index], temperature) for item in answers]
    return torch.stack(parts).mean()


def agreement(answers: Sequence[Answer], ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """The mean over the outputs of ``Answer.same``."""
    return sum(item.same(ours[item.index], theirs[item.index]) for item in answers) / len(answers)


def label_loss(answers: Sequence[Answer], ours: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Cross entropy of the first output that has a score for each class. Raises ValueError where none has."""
    for item in answers:
        if item.kind != "values" and ours[item.index].dim() == 2:
            return F.cross_entropy(item.logits(ours[item.index]), labels)
    raise ValueError("label_weight: no output has a score for each class; expected label_weight 0")
