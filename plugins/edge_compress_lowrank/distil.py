"""lowrank.distil: splits more than a model bears, and trains the thin layers on the answers of the original.

As ``lowrank.svd`` (which names the sources of each way to split) followed by distillation (Hinton et al. 2015, arXiv:1503.02531)
with BatchNorm put behind every convolution for the time of the training. Does not apply where ``lowrank.svd`` does not, nor to
models that have no trainable form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_compress.graph.bridge import to_onnx, to_torch, unknown
from edge_compress.plugin import (
    Batch,
    Beginning,
    Context,
    DeviceProfileSpec,
    Ensures,
    Expectation,
    Limits,
    ModelFacts,
    Requires,
    Strategy,
    Support,
    param,
)
from edge_compress_lowrank.svd import LowRankSvd, SvdParams

if TYPE_CHECKING:
    import onnx

    from edge_compress.graph.bridge.importer import Imported
    from edge_compress.graph.bridge.training import Trained

_SPLITTING = 0.15
"""share of the step that splitting is in its progress"""
_FOR_TRAINING = 0.95
"""share of its time that training is planned with"""
_LOOKED_AT, _AT_ONCE = 256, 32
"""calibration samples that statistics are taken from, and how many of them go through the model together"""


@dataclass(frozen=True)
class DistilParams:
    """How much goes, and how what is left is trained."""

    ratio: float = param(
        "share of the model's multiplications or weights to save", default=0.4, minimum=0.01, maximum=0.95, dial="down"
    )
    target: str = param("what ratio is a share of", default="macs", choices=("macs", "weights"))
    samples: int = param("calibration samples that splitting looks at", default=256, unit="samples", minimum=1, maximum=100_000)
    round_to: int = param("ranks are multiples of this, as kernels like them", default=8, unit="channels", minimum=1, maximum=64)
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, that stay whole", default=())
    epochs: float | None = param(
        "passes over the training samples; absent: as many as the step's time allows",
        default=None, minimum=0.01, maximum=1000.0, unit="epochs",
    )  # fmt: skip
    batch: int = param("samples that a training step sees", default=64, minimum=1, maximum=4096, unit="samples")
    lr: float = param("highest learning rate", default=1e-3, minimum=1e-7, maximum=1.0)
    temperature: float = param("softness of the original's answers", default=4.0, minimum=0.1, maximum=100.0)
    label_weight: float = param("share of the loss that follows the labels", default=0.0, minimum=0.0, maximum=1.0)

    @property
    def split(self) -> SvdParams:
        """What ``lowrank.svd`` is asked for."""
        return SvdParams(ratio=self.ratio, target=self.target, samples=self.samples, round_to=self.round_to, exclude=self.exclude)


class LowRankDistil(Strategy[DistilParams]):
    """Low-rank factorisation at a harder ratio, then distillation from the original."""

    name = "lowrank.distil"
    version = "1"
    stage = "structure"
    Params = DistilParams
    requires = Requires(training=True, calibration=True, float_model=True)
    ensures = Ensures()
    libraries = ("onnx", "onnxruntime", "numpy", "torch")

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes where layers can be split and every operator has a torch form."""
        split = LowRankSvd().supports(model, profile)
        if not split.ok:
            return split
        missing = unknown(model.ops)
        return Support.no(f"no trainable form for {', '.join(missing)}") if missing else Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[DistilParams]:
        """Twice what is proposed without training."""
        return [DistilParams()]

    def expect(self, model: ModelFacts, params: DistilParams) -> Expectation:
        """As without training: it changes no shape."""
        return LowRankSvd().expect(model, params.split)

    def begins_with(self, params: DistilParams) -> Beginning:
        """lowrank.svd with the same ratio: ResNet-8 lost seven times as much with it."""
        return Beginning(LowRankSvd(), params.split, repairs=4.0)

    def apply(self, model: onnx.ModelProto, params: DistilParams, context: Context) -> onnx.ModelProto:
        """Split, train, write. Raises Unsupported where the bridge cannot take the model, ValueError where nothing pays."""
        from edge_compress_lowrank.factorise import factorise

        thin = factorise(model, params.split, _Beginning(context))
        imported = to_torch(thin)
        trained = _trained(imported, thin, params, context)
        context.log(f"agreement with the original {trained.before:.1%} -> {trained.agreement:.1%} in {trained.steps} batches")
        return to_onnx(imported, thin)


def _trained(imported: Imported, thin: onnx.ModelProto, params: DistilParams, context: Context) -> Trained:
    from edge_compress.graph.bridge.norms import fold, unfold
    from edge_compress.graph.bridge.pace import batch_within
    from edge_compress.graph.bridge.teacher import Teacher
    from edge_compress.graph.bridge.training import Course, fine_tune, held_out

    original = context.teacher()
    teacher = Teacher(original)
    seen = [teacher.tensors(item.inputs) for item in held_out(context, _AT_ONCE, _LOOKED_AT)]
    unfold(imported.module, seen)
    batch = batch_within(context.limits.memory_bytes, params.batch, imported.module, [item[:4] for item in seen[0]])
    epochs = _affordable(original, thin, batch, context) if params.epochs is None else params.epochs
    course = Course(epochs, batch, params.lr, temperature=params.temperature, label_weight=params.label_weight, recalibrate=True)
    trained = fine_tune(imported.module, original, context, course, span=(_SPLITTING, 1.0))
    fold(imported.module)
    return trained


def _affordable(original: onnx.ModelProto, thin: onnx.ModelProto, batch: int, context: Context) -> float:
    from edge_compress.graph.bridge.pace import epochs_within
    from edge_compress.graph.facts import facts_of_model

    teacher, student = (float(facts_of_model(item, "", 0).macs) for item in (original, thin))
    samples = sum(len(item) for item in context.training(batch, 0))
    return epochs_within(context.limits, samples, student_macs=student, teacher_macs=teacher, share=_FOR_TRAINING)


class _Beginning:
    """The context for the first part of the step: everything as it is, progress up to where training goes on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.seed: int = context.seed
        self.scratch: Path = context.scratch
        self.limits: Limits = context.limits

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        """As the context."""
        return self._context.calibration(batch_size, limit)

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        """As the context."""
        return self._context.training(batch_size, epoch)

    def teacher(self) -> onnx.ModelProto:
        """As the context."""
        return self._context.teacher()

    def seconds_left(self) -> float:
        """As the context."""
        return self._context.seconds_left()

    def progress(self, fraction: float, message: str = "") -> None:
        """A share of the step."""
        self._context.progress(_SPLITTING * fraction, message)

    def log(self, message: str) -> None:
        """As the context."""
        self._context.log(message)

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        """As the context."""
        return self._context.cached(key, make)
