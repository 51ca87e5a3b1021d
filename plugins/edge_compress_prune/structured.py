"""prune.structured: takes whole channels and neurons out, with everything that depends on them, and trains what is left.

Sources: Fang et al. 2023 (arXiv:2301.12900) for the groups, Li et al. 2017, Liu et al. 2017 and Molchanov et al. 2019 for what a
channel is worth (see ``structured_importance``), Zhu and Gupta 2017 (arXiv:1710.01878) for the schedule, Hinton et al. 2015
(arXiv:1503.02531) for the training. Does not apply to quantised models, to models that the bridge cannot take, and where every
channel is read by something that mixes them (a group that fails a trial cut stays whole and the record says why).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_compress.graph.bridge import to_onnx, to_torch, unknown
from edge_compress.plugin import (
    Context,
    DeviceProfileSpec,
    Ensures,
    Expectation,
    ModelFacts,
    Requires,
    Strategy,
    Support,
    param,
)
from edge_compress_prune.schedule import Schedule

if TYPE_CHECKING:
    import onnx

    from edge_compress.graph.bridge.training import Course
    from edge_compress_prune.structured_cut import Wish

_FEWEST_SUMS = 4
"""additions in a model under which it has no residual block to spare"""
_ONE_BLOCK = 0.12
"""share of the blocks that is one of them, or two of a deep model's"""
_OUTPUTS_AT_ONCE = 16
"""outputs that convolutions of onnxruntime make at a time on x86, in integers and, with AVX-512, in floats: in integers 8 take
longer than 16 (38 and 23 us, 3x3 over 16). One number for all profiles, so that they share the training."""
_LANES = 8
_USUALLY_LEFT = 0.8
"""of the arithmetic, with the shares of answers that are proposed to stay"""
_OTHER_NAMES = {"magnitude": "l2", "gradient": "taylor"}
CUT_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class StructuredParams:
    """How much goes, which, and how the rest is trained. ``macs`` outranks ``weights``, then ``keep``, then ``ratio``."""

    ratio: float = param("share of the channels that go, over all layers together", default=0.4, minimum=0.0, maximum=0.95)
    macs: float | None = param("instead: share of the multiply-accumulates that stays", default=None, minimum=0.02, maximum=1.0)
    weights: float | None = param("instead: share of the weights that stays", default=None, minimum=0.02, maximum=1.0)
    keep: float | None = param(
        "instead: as much arithmetic goes as leaves this share of the answers as they were, before any training",
        default=None, minimum=0.0, maximum=1.0, dial="up",
    )  # fmt: skip
    blocks: float = param(
        "share of the residual blocks that go whole before (at least one, those first that the answers miss least); the other "
        "shares are of what they leave",
        default=0.0, minimum=0.0, maximum=0.9,
    )  # fmt: skip
    importance: str = param(
        "what a channel is worth: norms of its weights (l1, l2; magnitude is l2), scales of BatchNorm, the effect of losing it "
        "on the answers (taylor; gradient is the same), or its mean magnitude (activation); then scaled by how much the model "
        "minds when its layer is thinned",
        default="taylor",
        choices=("magnitude", "l1", "l2", "bn_scale", "taylor", "gradient", "activation"),
    )
    most: float = param("largest share of one layer's channels that goes", default=0.65, minimum=0.0, maximum=0.95)
    round_to: int | None = param(
        "channels left in a layer are a multiple of this; layers under twice as many: any number, or all of them where this is "
        "over 8. Absent: 16 where arithmetic counts, since onnxruntime's kernels on x86 make 16 outputs at a time; else 8",
        default=None, minimum=1, maximum=64, unit="channels",
    )  # fmt: skip
    schedule: Schedule = param("when channels go, and how long the rest is trained", default=Schedule())
    batch: int = param("samples that a training step sees", default=64, minimum=1, maximum=4096, unit="samples")
    lr: float = param("highest learning rate", default=2e-3, minimum=1e-7, maximum=1.0)
    optimizer: str = param("what takes the steps", default="adamw", choices=("adamw", "sgd"))
    temperature: float = param("softness of the teacher's answers", default=4.0, minimum=0.1, maximum=100.0)
    label_weight: float = param("share of the loss that follows the labels", default=0.0, minimum=0.0, maximum=1.0)
    mix: float = param("strength of mixtures of samples (0: none)", default=0.0, minimum=0.0, maximum=10.0)
    features: tuple[str, ...] = param(
        "names of inner tensors that training keeps like the original's; the single name `stages`: the last of each resolution",
        default=("stages",),
    )  # fmt: skip
    feature_weight: float = param("how much those count", default=1.0, minimum=0.0)
    exclude: tuple[str, ...] = param("names of groups that stay whole, as the record tells them", default=())

    @property
    def wish(self) -> tuple[str, float]:
        """(macs, weights or channels; the share of them that stays)."""
        if self.macs is not None:
            return "macs", self.macs
        if self.weights is not None:
            return "weights", self.weights
        return ("macs", _USUALLY_LEFT) if self.keep is not None else ("channels", 1 - self.ratio)


class PruneStructured(Strategy[StructuredParams]):
    """Structured pruning with distillation from the original."""

    name = "prune.structured"
    version = "1"
    stage = "structure"
    Params = StructuredParams
    requires = Requires(training=True, calibration=True, float_model=True)
    ensures = Ensures()
    libraries = ("onnx", "onnxruntime", "numpy", "torch", "torch-pruning")

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes where there are layers with channels and every operator has a torch form."""
        if model.quantized:
            return Support.no("the model is quantised already: prune first")
        if not any(layer.op in CUT_OPS and layer.weight_count for layer in model.layers):
            return Support.no(f"no {', '.join(CUT_OPS)} of the model has weights")
        if missing := unknown(model.ops):
            return Support.no(f"no trainable form for {', '.join(missing)}")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[StructuredParams]:
        """A cut that short training makes up for, of depth as well where there are residual blocks, a milder and a deep one.

        What each reached, and why none goes without training, is in decision 0003.
        """
        mild, milder, deep = StructuredParams(keep=0.85), StructuredParams(keep=0.92), StructuredParams(weights=0.5)
        if model.ops.get("Add", 0) < _FEWEST_SUMS:
            return [mild, milder, deep]
        return [replace(mild, blocks=_ONE_BLOCK), replace(milder, blocks=_ONE_BLOCK), deep]

    def trains(self, params: StructuredParams) -> bool:
        """Unless it only cuts."""
        return params.schedule.epochs != 0

    def bind(self, params: StructuredParams, profile: DeviceProfileSpec) -> StructuredParams:
        """With the multiple of channels that the runtime's kernels like."""
        if params.round_to is not None:
            return params
        return replace(params, round_to=_OUTPUTS_AT_ONCE if params.wish[0] == "macs" else _LANES)

    def expect(self, model: ModelFacts, params: StructuredParams) -> Expectation:
        """Where both sides of a layer are cut alike, its weights and arithmetic fall by the square of the channels' share."""
        measure, left = params.wish
        share = (left**2 if measure == "channels" else left) * (1 - params.blocks)
        reached = min(1.0, model.weight_bytes / model.bytes) if model.bytes else 0.0
        size = 1 - reached * (1 - share)
        return Expectation(bytes=size, download=size, latency=0.15 + 0.85 * share, memory=0.3 + 0.7 * share**0.5)

    def apply(self, model: onnx.ModelProto, params: StructuredParams, context: Context) -> onnx.ModelProto:
        """Cut, train, write. Raises Unsupported where the bridge cannot take the model, ValueError where nothing can be cut."""
        from edge_compress_prune.structured_cut import thin

        shallow = _shallower(model, params.blocks, context) if params.blocks else model
        imported = to_torch(shallow)
        trained = thin(imported, _wish(params), _course(params), context)
        if trained is not None:
            context.log(f"agreement with the original {trained.before:.1%} -> {trained.agreement:.1%} in {trained.steps} batches")
        return to_onnx(imported, shallow)


def _shallower(model: onnx.ModelProto, share: float, context: Context) -> onnx.ModelProto:
    from edge_compress_prune.questions import Questions
    from edge_compress_prune.structured_blocks import drop_blocks

    asked = Questions.ask(context)
    shallow, lines = drop_blocks(model, share, asked.fit, asked.told, asked.answers, max(1, context.limits.threads))
    for line in lines:
        context.log(line)
    return shallow


def _wish(params: StructuredParams) -> Wish:
    from edge_compress_prune.structured_cut import Wish

    measure, left = params.wish
    return Wish(
        measure,
        left,
        _OTHER_NAMES.get(params.importance, params.importance),
        params.schedule,
        params.most,
        params.round_to or _LANES,
        params.exclude,
        params.keep if params.macs is None and params.weights is None else None,
        may_stay_whole=params.blocks > 0,
    )


def _course(params: StructuredParams) -> Course:
    from edge_compress.graph.bridge.training import Course

    epochs = params.schedule.epochs
    names = ("batch", "lr", "optimizer", "temperature", "label_weight", "mix", "features", "feature_weight")
    return Course(epochs=-1.0 if epochs is None else epochs, **{name: getattr(params, name) for name in names})
