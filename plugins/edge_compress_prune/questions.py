"""What the original is asked before a cut: samples that importances and repairs are fitted to, and others that judge a cut.

What was fitted to a few samples answers those well and others badly: judged by its own samples, an EfficientNet-Lite0 that lost
24 points had kept 98% of its answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from edge_compress.graph.bridge.answers import Answer, read_answers
from edge_compress.graph.bridge.pace import samples_within
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.plugin import Context

_AT_ONCE = 32
_FITTED, _JUDGED = 384, 256
"""samples, or as many as there are and may be kept in memory: three fifths fit, the others judge"""


@dataclass(frozen=True)
class Questions:
    """Batches as the original takes them, and its answers. Where there are two batches or more, ``judge`` has none of ``fit``."""

    fit: tuple[tuple[Tensor, ...], ...]
    judge: tuple[tuple[Tensor, ...], ...]
    told: tuple[tuple[Tensor, ...], ...]
    """to ``fit``"""
    told_judges: tuple[tuple[Tensor, ...], ...]

    @staticmethod
    def ask(context: Context) -> Questions:
        """Draw training samples and ask the original."""
        teacher = Teacher(context.teacher(), threads=max(1, context.limits.threads))
        drawn = list(_drawn(context, teacher))
        fitted = max(1, min(len(drawn) - 1, round(len(drawn) * _FITTED / (_FITTED + _JUDGED))))
        told = [tuple(teacher.answer(batch)[0]) for batch in drawn]
        fit, judge = drawn[:fitted], drawn[fitted:] or drawn
        return Questions(tuple(fit), tuple(judge), tuple(told[:fitted]), tuple(told[fitted:] or told))

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        """What the outputs say."""
        return read_answers(joined([*self.told, *self.told_judges]))


def joined(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Outputs of batches, one after the other -> each output of all samples."""
    return [torch.cat(parts) for parts in zip(*rows, strict=True)]


def _drawn(context: Context, teacher: Teacher) -> Iterator[tuple[Tensor, ...]]:
    wanted, held = 0, 0
    for batch in context.training(_AT_ONCE, 0):
        wanted = wanted or samples_within(batch.inputs, _FITTED + _JUDGED)
        yield tuple(teacher.tensors(batch.inputs))
        held += len(batch)
        if held >= wanted:
            return
