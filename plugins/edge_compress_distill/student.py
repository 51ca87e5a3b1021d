"""distil.student: a compact network from nothing takes the model's place, taught by the model's own answers.

Sources: Hinton et al. 2015 (arXiv:1503.02531) for soft targets, Beyer et al. 2021 (arXiv:2106.05237) for patience, ``matching``
for inner maps; the architectures name their own. Labels are not needed and may be used. Does not apply to models with several
inputs or outputs, to anything but images (or maps like spectrograms) and one row of answers, and to models so small that no
student is smaller. A fresh network knows nothing of the data that the model once saw and that is not here any more: with few
samples or little time, pruning loses less (decision 0004 has figures).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edge_compress.plugin import (
    Architecture,
    Context,
    DeviceProfileSpec,
    Ensures,
    Expectation,
    InvalidSpec,
    ModelFacts,
    Requires,
    Strategy,
    Support,
    architectures,
    param,
)
from edge_compress_distill.sizes import PROPOSED_FIRST, expected, width_for, work_of
from edge_compress_distill.task import Interface, read_interface

if TYPE_CHECKING:
    import onnx

    from edge_compress.graph.bridge.training import Course

_SHARES = (0.5, 0.25)
"""of the model's work, that proposed students of the first architecture do; others are proposed with the first share"""
_MORE_WEIGHTS = 1.5
"""a student may have this much larger a share of the model's weights than of its work"""


@dataclass(frozen=True)
class StudentParams:
    """Which network, and how it is taught."""

    architecture: str = param(
        "kind of network: rep_vgg, mobilenet_v2, shufflenet_v2, or one of another plugin", default=PROPOSED_FIRST
    )
    revision: str = param("version of the architecture; filled in", default="")
    width: float = param("multiplies the channels of the network as published", default=0.5, minimum=0.01, maximum=16.0)
    epochs: float | None = param(
        "passes over the training samples; absent: as many as the step's time allows",
        default=None, minimum=0.0, maximum=10_000.0, unit="epochs",
    )  # fmt: skip
    batch: int = param("samples that a training step sees", default=64, minimum=2, maximum=4096, unit="samples")
    lr: float = param("highest learning rate", default=4e-3, minimum=1e-7, maximum=1.0)
    optimizer: str = param("what takes the steps", default="adamw", choices=("adamw", "sgd"))
    weight_decay: float = param("pull of the weights towards zero", default=1e-2, minimum=0.0, maximum=1.0)
    warmup: float = param("share of the steps in which the rate rises", default=0.1, minimum=0.0, maximum=0.9)
    temperature: float = param("softness of the teacher's answers", default=4.0, minimum=0.1, maximum=100.0)
    label_weight: float = param("share of the loss that follows the labels", default=0.0, minimum=0.0, maximum=1.0)
    mix: float = param("strength of mixtures of samples (0: none), for long training", default=0.0, minimum=0.0, maximum=10.0)
    matching: str = param(
        "what inner maps of equal size should have in common: nothing, their values through a 1 x 1 convolution (hints), or the "
        "places of their energy (attention)", default="none", choices=("none", "hints", "attention"),
    )  # fmt: skip
    matching_weight: float = param("how much those count", default=1.0, minimum=0.0, maximum=1e4)
    least_samples: int = param(
        "fewest training samples that a fresh network is tried with", default=500, minimum=2, maximum=10**9, unit="samples"
    )


class DistilStudent(Strategy[StudentParams]):
    """A compact student, trained from nothing by distillation from the user's model."""

    name = "distil.student"
    version = "1"
    stage = "structure"
    Params = StudentParams
    requires = Requires(training=True, calibration=True, float_model=True)
    ensures = Ensures()
    patience = 2
    libraries = ("onnx", "onnxruntime", "numpy", "torch")

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes for one image in and one row of numbers out, where some student is smaller."""
        if model.quantized:
            return Support.no("the model is quantised already: distil from the float original")
        interface = read_interface(model.inputs, model.outputs)
        if isinstance(interface, str):
            return Support.no(interface)
        if not self._fitting(model, interface):
            return Support.no(
                f"no student does half of the model's {model.macs / 1e6:.2g} million multiply-accumulates with three quarters of "
                f"its {model.parameters:,} weights"
            )
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[StudentParams]:
        """Half and a quarter of the model's work as the runtime feels it, then one of each other kind."""
        interface = read_interface(model.inputs, model.outputs)
        return [] if isinstance(interface, str) else self._fitting(model, interface)

    def bind(self, params: StudentParams, profile: DeviceProfileSpec) -> StudentParams:
        """With the architecture's version, which decides the bytes. Raises InvalidSpec for a name or a width nobody has."""
        known = _architecture(params.architecture)
        low, high = known.widths
        if not low <= params.width <= high:
            raise InvalidSpec.at(f"{self.name}.params.width", params.width, f"{low:g} to {high:g} for {known.name}")
        return replace(params, revision=known.version)

    def expect(self, model: ModelFacts, params: StudentParams) -> Expectation:
        """The student's own cost beside the model's."""
        interface = read_interface(model.inputs, model.outputs)
        if isinstance(interface, str):
            return Expectation()
        return expected(model, _architecture(params.architecture).cost(interface.task, params.width))

    def apply(self, model: onnx.ModelProto, params: StudentParams, context: Context) -> onnx.ModelProto:
        """The trained student under the model's interface.

        Raises InvalidSpec for an unknown architecture, InvalidData for too few samples, Unsupported where a fixed batch cannot be
        taken off, ValueError where the interface does not fit, time is too short, or training diverges.
        """
        from edge_compress.graph.facts import facts_of_model
        from edge_compress_distill.classroom import Classroom
        from edge_compress_distill.lessons import Wish, teach

        architecture, original = _architecture(params.architecture), context.teacher()
        facts = facts_of_model(original, "", 0)
        interface = read_interface(facts.inputs, facts.outputs)
        if isinstance(interface, str):
            raise ValueError(f"does not apply, because {interface}")
        wish = Wish(architecture, params.width, params.matching, params.least_samples)
        room = Classroom(context, original, float(facts.macs))
        return teach(model, interface, wish, _course(params), context, room)

    def _fitting(self, model: ModelFacts, interface: Interface) -> list[StudentParams]:
        kinds = sorted(architectures().values(), key=lambda item: (item.name != PROPOSED_FIRST, item.name))
        found = []
        for kind in kinds:
            for share in _SHARES if kind.name == PROPOSED_FIRST else _SHARES[:1]:
                weights = _MORE_WEIGHTS * share * model.parameters
                width = width_for(kind, interface.task, share * work_of(model), weights)
                if width is not None and kind.supports(model, interface.task).ok:
                    found.append(StudentParams(architecture=kind.name, width=width))
        return list(dict.fromkeys(found))


def _architecture(name: str) -> Architecture:
    known = architectures()
    if name not in known:
        raise InvalidSpec.at("distil.student.params.architecture", name, f"one of {', '.join(sorted(known))}")
    return known[name]


def _course(params: StudentParams) -> Course:
    from edge_compress.graph.bridge.training import Course

    names = ("batch", "lr", "optimizer", "weight_decay", "warmup", "temperature", "label_weight", "mix")
    same: dict[str, Any] = {name: getattr(params, name) for name in names}
    epochs = -1.0 if params.epochs is None else params.epochs
    return Course(epochs=epochs, feature_weight=params.matching_weight, recalibrate=True, **same)
