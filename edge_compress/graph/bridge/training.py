"""Trains one model to answer as another: the fine-tuning that follows pruning, factorising or quantising. Public to plugins.

Soft targets with a temperature and, where wanted, hard labels (Hinton et al. 2015, arXiv:1503.02531) and inner maps; AdamW or SGD
under a cosine schedule with a warm-up. The same module, data, course and seed on one thread give the same weights.
What is trained, and what is done with it after, is left to the caller.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edge_compress.graph.batch import Batch
from edge_compress.graph.bridge.answers import agreement, difference, label_loss, read_answers
from edge_compress.graph.bridge.augment import find_variety, mixed
from edge_compress.graph.bridge.maps import Taps, map_loss
from edge_compress.graph.bridge.pace import bfloat16_here, samples_within
from edge_compress.graph.bridge.teacher import Teacher

_HELD_OUT = 512
_FOR_WRITING = 0.05
"""share of the step's time that is left for what comes after the last training"""
_LOOK = 10
"""batches between looks at the clock"""
_LONGEST = 5.0
"""length that gradients are cut down to"""
_FEW = 8
"""samples of a batch under which its statistics mean nothing"""
_EPOCHS_APART = 1000
"""between the numbers of the epochs of one round and the next, so that each has shuffles of its own"""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Limit(Protocol):
    """What ``Lender.limits`` tells: seconds and threads that may be used."""

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the whole step."""

    @property
    def threads(self) -> int:
        """Threads to compute with."""


class Lender(Protocol):
    """The part of a strategy's context that training needs."""

    seed: int

    @property
    def limits(self) -> Limit:
        """What may be used."""

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        """Samples in file order."""

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        """One shuffled pass."""

    def seconds_left(self) -> float:
        """Wall-clock seconds until the step must end."""

    def progress(self, fraction: float, message: str = "") -> None:
        """May raise to stop."""

    def log(self, message: str) -> None:
        """A line for the record."""


@dataclass(frozen=True)
class Course:
    """How to train."""

    epochs: float = 4.0
    """passes over the training samples; parts of one are allowed"""
    batch: int = 64
    lr: float = 2e-3
    """highest learning rate"""
    optimizer: str = "adamw"
    """adamw or sgd (momentum 0.9, Nesterov)"""
    weight_decay: float = 1e-4
    """on weights with more than one axis"""
    warmup: float = 0.05
    """share of the steps in which the rate rises to its highest"""
    temperature: float = 4.0
    label_weight: float = 0.0
    """share of the loss that is cross entropy with the labels"""
    mix: float = 0.0
    """strength of mixtures of samples, which the teacher answers too; 0: none"""
    features: tuple[str, ...] = ()
    """names of inner tensors whose maps should be alike"""
    feature_weight: float = 1.0
    recalibrate: bool = False
    """gather the statistics of BatchNorm layers again at the end"""
    bfloat16: bool | None = None
    """multiply in bfloat16 while training (weights stay float32); absent: where the processor does it itself"""


@dataclass(frozen=True)
class Trained:
    """How it went. ``agreement``: share of the teacher's decisions on calibration samples that the student shares, 0 to 1."""

    agreement: float
    before: float
    steps: int
    complete: bool
    """False: the step's time was too short for all, and there were fewer batches"""


def fine_tune(
    student: nn.Module,
    teacher: onnx.ModelProto,
    context: Lender,
    course: Course,
    *,
    span: tuple[float, float] = (0.0, 1.0),
    round_: int = 0,
) -> Trained:
    """Train ``student`` in place and leave it in eval mode with the weights that came nearest to the teacher.

    It takes the teacher's inputs in order and gives its outputs. ``span``: the part of the step's progress this is, which says as
    well how much of the time that is left it may take. ``round_``: number of the round, where there are several with other
    draws each. Raises ValueError when training diverges.
    """
    torch.set_num_threads(max(1, context.limits.threads))
    torch.manual_seed(context.seed)
    session = _Session(student, Teacher(teacher, maps=course.features), context, course, span, round_)
    return session.run()


@dataclass
class _Best:
    """The weights that came nearest."""

    distance: float = math.inf
    agreement: float = 0.0
    weights: dict[str, Any] = field(default_factory=dict)


class _Session:
    """One call of ``fine_tune``."""

    def __init__(
        self, student: nn.Module, teacher: Teacher, context: Lender, course: Course, span: tuple[float, float], round_: int
    ) -> None:
        self._student, self._teacher, self._context, self._course = student, teacher, context, course
        self._span, self._round = span, round_
        self._held = [teacher.tensors(item.inputs) for item in _judges(context, min(64, course.batch), _HELD_OUT)]
        self._wanted = [teacher.answer(item)[0] for item in self._held]
        self._answers = read_answers([torch.cat(parts) for parts in zip(*self._wanted, strict=True)])
        self._variety = find_variety(teacher, self._answers, self._held)
        self._gathered = max(1, course.batch // _FEW) if len(self._held[0][0]) < _FEW else 1
        """batches whose gradients make one step: several where the model fixes a small batch"""
        self._taps = Taps(student, course.features)
        self._best = _Best()
        self._asked = self._total = self._done = 0
        self._quick = bfloat16_here() if course.bfloat16 is None else course.bfloat16
        self._started = self._warm = time.monotonic()
        left = context.seconds_left() - _FOR_WRITING * context.limits.seconds
        self._allowed = max(0.0, left) * (span[1] - span[0]) / max(1e-9, 1 - span[0])
        """seconds for this part of the step"""

    def run(self) -> Trained:
        """Train, keeping the best."""
        self._student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # what torch's kernels are fastest with
        before = self._judge()[1]
        per_epoch = sum(1 for _ in self._context.training(self._course.batch, 0))
        self._total = self._asked = max(1, round(self._course.epochs * per_epoch))
        self._steps(per_epoch)
        if self._done < self._asked:
            self._context.log(f"diagnosis: training ended after {self._done} of {self._asked} batches: the step's time ended")
        self._student.load_state_dict(self._best.weights)
        if self._course.recalibrate:
            self._recalibrate()
        self._student.eval()
        return Trained(self._best.agreement, before, self._done, self._done == self._asked)

    def _steps(self, per_epoch: int) -> None:
        optimizer = _optimizer(self._student, self._course)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: rate(self._done, self._total, self._course.warmup))
        for epoch in range(-(-self._asked // per_epoch)):
            self._train_mode()
            random = np.random.default_rng([self._context.seed, self._round, epoch])
            for batch in self._context.training(self._course.batch, epoch + _EPOCHS_APART * self._round):
                loss = self._learn(batch, random)
                self._done += 1
                if self._done % self._gathered == 0 or self._done == self._total:
                    _step(optimizer)
                    schedule.step()
                self._tell(loss)
                self._keep_to_time()
                if self._done >= self._total:
                    break
            self._judge()
            if self._done >= self._total:
                break

    def _keep_to_time(self) -> None:
        """Where the batches left would take longer than there is, fewer are left, so that the rate still falls to its end.

        The first batches are slower than the rest and do not count; what a slow while took away comes back when it was only that.
        """
        now = time.monotonic()
        if self._done == _LOOK:
            self._warm = now
        if self._done % _LOOK or self._done <= _LOOK:
            return
        each = (now - self._warm) / (self._done - _LOOK)
        fits = int((self._allowed - (now - self._started)) / max(each, 1e-9))
        self._total = min(self._asked, self._done + max(1, fits))

    def _train_mode(self) -> None:
        """Batches too small to have statistics leave those of BatchNorm layers as they are."""
        self._student.train()
        for item in self._student.modules() if self._gathered > 1 else ():
            if isinstance(item, _NORMS):
                item.eval()

    def _learn(self, batch: Batch, random: np.random.Generator) -> float:
        inputs = [self._variety.vary(item, random) for item in self._teacher.tensors(batch.inputs)]
        if self._course.mix:
            inputs = mixed(inputs, self._course.mix, random)
        loss = self._loss(inputs, batch.labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(f"training diverged: the loss is {value}; expected a smaller lr than {self._course.lr}")
        (loss / self._gathered).backward()
        return value

    def _loss(self, inputs: Sequence[Tensor], labels: Any) -> Tensor:
        theirs, their_maps = self._teacher.answer(inputs)
        with torch.autocast("cpu", torch.bfloat16, enabled=self._quick):
            ours = [item.float() if item.is_floating_point() else item for item in outputs_of(self._student, inputs)]
        share = self._course.label_weight
        loss = difference(self._answers, ours, theirs, self._course.temperature)
        if share and labels is not None:
            loss = (1 - share) * loss + share * label_loss(self._answers, ours, torch.from_numpy(np.array(labels, np.int64)))
        if their_maps:
            loss = loss + self._course.feature_weight * map_loss(self._taps.seen, their_maps)
        return loss

    def _judge(self) -> tuple[float, float]:
        """(distance, agreement) to the teacher on the held-out samples; remembers the nearest."""
        self._student.eval()
        with torch.no_grad():
            made = [outputs_of(self._student, item) for item in self._held]
        ours, theirs = ([torch.cat(parts) for parts in zip(*rows, strict=True)] for rows in (made, self._wanted))
        distance, alike = float(difference(self._answers, ours, theirs)), agreement(self._answers, ours, theirs)
        if distance < self._best.distance or not self._best.weights:
            self._best = _Best(distance, alike, copy.deepcopy(self._student.state_dict()))
        return distance, alike

    def _recalibrate(self) -> None:
        """Statistics as plain means over one pass (at most 64 batches) of the samples as they are."""
        norms = [item for item in self._student.modules() if isinstance(item, _NORMS)]
        kept = [item.momentum for item in norms]
        for item in norms:
            item.reset_running_stats()
            item.momentum = None
        self._student.train()
        with torch.no_grad():
            for _, batch in zip(range(64 if norms else 0), self._context.training(self._course.batch, 0), strict=False):
                outputs_of(self._student, self._teacher.tensors(batch.inputs))
        for item, momentum in zip(norms, kept, strict=True):
            item.momentum = momentum

    def _tell(self, loss: float) -> None:
        low, high = self._span
        message = f"batch {self._done} of {self._total}, loss {loss:.3f}, agreement {self._best.agreement:.1%}"
        self._context.progress(low + (high - low) * self._done / self._total, message)


def held_out(context: Lender, batch: int, wanted: int) -> Iterator[Batch]:
    """The first calibration samples, as many of the ``wanted`` as may be kept in memory at once."""
    first = next(iter(context.calibration(1, 1)), None)
    if first is not None:
        yield from context.calibration(batch, samples_within(first.inputs, wanted))


def _judges(context: Lender, batch: int, wanted: int) -> Iterator[Batch]:
    """Some training samples, as many of the ``wanted`` as may be kept in memory at once. Calibration samples are no judges:
    what is trained may have been fitted to them before."""
    held, fits = 0, wanted
    for item in context.training(batch, 0):
        fits = min(fits, samples_within(item.inputs, wanted))
        yield item
        held += len(item)
        if held >= fits:
            return


def rate(step: int, total: int, warmup: float) -> float:
    """Share of the highest learning rate: a straight rise over ``warmup`` of the steps, then half a cosine down to 1%."""
    rise = max(1.0, warmup * total)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1.0, total - rise))))


def outputs_of(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The module's outputs as a list, also where there is one."""
    made = module(*inputs)
    return list(made) if isinstance(made, (tuple, list)) else [made]


def _step(optimizer: torch.optim.Optimizer) -> None:
    nn.utils.clip_grad_norm_([item for group in optimizer.param_groups for item in group["params"]], _LONGEST)
    optimizer.step()
    optimizer.zero_grad()


def _optimizer(student: nn.Module, course: Course) -> torch.optim.Optimizer:
    trained = [item for item in student.parameters() if item.requires_grad and item.is_floating_point()]
    groups: list[dict[str, Any]] = [
        {"params": [item for item in trained if item.dim() > 1], "weight_decay": course.weight_decay},
        {"params": [item for item in trained if item.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [item for item in groups if item["params"]]
    if not groups:
        raise ValueError("the model has no float weights to train")
    if course.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=course.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=course.lr)
