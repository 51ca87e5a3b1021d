"""One student from nothing to ONNX: built for the teacher's interface, trained on its answers, merged, held to what it learnt.

A fresh network needs long training with many views of each sample, all answered by the teacher ("patient and consistent": Beyer
et al. 2021, arXiv:2106.05237); that and the losses are ``bridge.training``'s. What is built is left to the architectures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import onnx
import torch
from torch import Tensor, fx, nn

from edge_compress.graph.bridge import to_onnx
from edge_compress.graph.bridge.answers import Answer, read_answers
from edge_compress.graph.bridge.pace import batch_within, macs_within
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.graph.bridge.training import Course, Trained, fine_tune
from edge_compress.plugin import Architecture, Context, Cost, InvalidData
from edge_compress_distill.classroom import Classroom
from edge_compress_distill.graphs import ChannelsFirst, Scale, Spread, deployed, traced
from edge_compress_distill.matching import match, students_maps, teachers_maps, unmatch
from edge_compress_distill.task import Interface

_FOR_TRAINING = 0.8
"""share of the step's time that training is planned with"""
_BACKWARD_TOO = 3.0
"""a forward and a backward pass, in forward passes"""
_MOST_EPOCHS = 300.0
_LEAST_SEEN = 20_000
"""samples that a fresh network must see at the very least, each time it sees one counted (decision 0004)"""
_PARITY = 1e-3
"""how far what is written may be from what was trained, as a share of the largest answer: sums in another order"""


@dataclass(frozen=True)
class Wish:
    """What is asked of one student."""

    architecture: Architecture
    width: float
    matching: str
    least_samples: int


def teach(
    model: onnx.ModelProto, interface: Interface, wish: Wish, course: Course, context: Context, room: Classroom
) -> onnx.ModelProto:
    """The trained student as ONNX. ``course.epochs`` below 0: as many as the step's time allows.

    Raises InvalidData where there is too little to learn from, ValueError where time is too short or training diverges.
    """
    samples = room.samples(course.batch)
    _refuse_few(samples, wish.least_samples)
    cost = wish.architecture.cost(interface.task, wish.width)
    epochs = course.epochs if course.epochs >= 0 else affordable(context, samples, cost, room.macs)
    student = _enrol(interface, wish, room, context.seed)
    features = _features(student, wish.matching, room, context.seed)
    batch = batch_within(context.limits.memory_bytes, course.batch, student, [room.look[:4]])
    trained = fine_tune(student, room.teacher, room, replace(course, epochs=epochs, batch=batch, features=features))
    unmatch(student)
    context.log(_account(wish, cost, trained, epochs, samples))
    made = to_onnx(deployed(student), model)
    _hold(student, made, room)
    return made


def affordable(context: Context, samples: int, cost: Cost, teacher_macs: float) -> float:
    """Passes over the samples that the step's time pays for (see ``bridge.pace``); hundredths.

    Raises ValueError where that is next to nothing.
    """
    one = _BACKWARD_TOO * math.sqrt(cost.work * cost.macs) + teacher_macs / 2
    seen = macs_within(context.limits, _FOR_TRAINING) / one
    if seen < _LEAST_SEEN:
        raise ValueError(
            f"in {context.limits.seconds:.0f} s a fresh network would see {seen:.0f} samples, expected at least {_LEAST_SEEN}; "
            "give the step more time (--budget), or say epochs"
        )
    return round(min(_MOST_EPOCHS, max(0.01, seen / samples)), 2)


def _refuse_few(samples: int, least: int) -> None:
    if samples < least:
        expected = f"at least {least} for a network that begins from nothing"
        do = "give more (labels are not needed), or prune the model instead"
        raise InvalidData.at("spec.data.training", f"{samples} samples", expected, do)


def _enrol(interface: Interface, wish: Wish, room: Classroom, seed: int) -> fx.GraphModule:
    """The fresh student under the user's interface."""
    inputs, (answer,) = room.look, read_answers(room.answers)
    first: list[nn.Module] = [ChannelsFirst()] if interface.channels_last else []
    network = wish.architecture.build(interface.task, wish.width, seed)
    parts = [*first, Scale(_factors(inputs, interface.channels_last)), network, *_ending(answer, room.answers[0], room.last)]
    return traced(nn.Sequential(*parts))


def _factors(inputs: Tensor, channels_last: bool) -> Tensor:
    """What brings each channel to a deviation of 1."""
    spread = inputs.double().std((0, 1, 2) if channels_last else (0, 2, 3), correction=0)
    return torch.where(spread > 0, 1 / spread.clamp_min(1e-12), torch.ones_like(spread)).float()


def _ending(answer: Answer, wanted: Tensor, last: str) -> list[nn.Module]:
    """What follows the scores so that the answers are of the teacher's kind."""
    if answer.kind == "probabilities":
        return [nn.Softmax(-1)]
    if answer.kind == "scores":
        return []
    if last in _LAST:
        return [_LAST[last]()]
    return [Spread(wanted.mean(0), wanted.std(0, correction=0).clamp_min(1e-6 * float(wanted.std()) + 1e-12))]


_LAST: dict[str, type[nn.Module]] = {"Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh}
"""what a model may end in that bounds its values, and the student then too"""


def _features(student: fx.GraphModule, kind: str, room: Classroom, seed: int) -> tuple[str, ...]:
    if kind == "none":
        return ()
    inputs = [room.look[:1]]
    return match(student, kind, teachers_maps(room.teacher, inputs), students_maps(student, inputs), seed)


def _account(wish: Wish, cost: Cost, trained: Trained, epochs: float, samples: int) -> str:
    size = f"{cost.macs / 1e6:.1f} million multiply-accumulates, {cost.weights:,.0f} weights"
    taught = f"{trained.steps} batches, {epochs:g} passes over {samples} samples"
    return f"{wish.architecture.name} of width {wish.width:g} ({size}): {trained.agreement:.1%} agreement after {taught}"


def _hold(student: fx.GraphModule, made: onnx.ModelProto, room: Classroom) -> None:
    """Raises ValueError where what is written does not answer as what was trained."""
    inputs = room.look[: room.fixed or 16]
    with torch.no_grad():
        want = student.eval()(inputs)
    (got,), _ = Teacher(made).answer([inputs])
    error, size = float((got - want).abs().max()), float(want.abs().max())
    if not error <= _PARITY * size + 1e-6:
        raise ValueError(f"what is written of the student differs by {error / max(size, 1e-30):.2g} of its largest answer")
