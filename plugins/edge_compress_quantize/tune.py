"""Trains the integers of an assembly with the original as teacher, in a step's time. Leaves imitating to ``student``."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edge_compress.graph.bridge.pace import epochs_within
from edge_compress.graph.bridge.training import Course, fine_tune
from edge_compress.graph.macs import node_macs
from edge_compress.graph.shapes import tensor_types
from edge_compress.plugin import Context
from edge_compress_quantize.assembly import Assembly
from edge_compress_quantize.reference import Reference
from edge_compress_quantize.student import Student

_SLOWER = 1.3
"""times the nominal cost of a layer: imitating integers, and layers of few products a value"""
_SHARE = 0.9
"""of the step's time: calibration and rounding come before"""
_JUDGED = 64
"""samples that are told about"""


@dataclass(frozen=True)
class Training:
    """How integers are trained; as ``Course`` has it, but for ``learn_steps``."""

    epochs: float | None
    batch: int
    lr: float
    temperature: float
    label_weight: float
    mix: float
    features: tuple[str, ...]
    feature_weight: float
    learn_steps: bool


def tune(assembly: Assembly, training: Training, context: Context, span: tuple[float, float]) -> None:
    """Train, and leave what was learnt in ``assembly``. Raises Unsupported where the bridge cannot take the model."""
    student = Student(assembly, learn_steps=training.learn_steps)
    truth = Reference(context.teacher(), context, samples=_JUDGED, among=_JUDGED)
    before = truth.distance(assembly.build())
    trained = fine_tune(student.module, context.teacher(), context, _course(assembly, training, context), span=span)
    student.hand_over()
    after = truth.distance(assembly.build())
    context.log(f"diagnosis: training took the integers from {before} to {after} in {trained.steps} batches")
    context.log(f"agreement with the original {trained.before:.1%} -> {trained.agreement:.1%}")


def _course(assembly: Assembly, training: Training, context: Context) -> Course:
    epochs = training.epochs
    if epochs is None:
        samples, macs = sum(len(item) for item in context.training(training.batch)), _macs(assembly)
        epochs = epochs_within(context.limits, samples, student_macs=_SLOWER * macs, teacher_macs=macs, share=_SHARE)
    settings = asdict(training) | {"epochs": epochs, "weight_decay": 0.0, "bfloat16": False}
    del settings["learn_steps"]
    return Course(**settings)


def _macs(assembly: Assembly) -> float:
    """Multiply-accumulates of one sample."""
    types = tensor_types(assembly.model)

    def shape_of(name: str) -> tuple[int, ...] | None:
        return types[name].shape if name in types else None

    return float(sum(node_macs(layer.node, shape_of) for layer in assembly.layers))
