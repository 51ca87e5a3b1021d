"""quantize.qat: integers that are trained, with the original as teacher, and written as exact QuantizeLinear pairs.

Starts from what quantize.static finds (ranges, steps, compensated integers, corrected biases), imitates it in torch
(``student``), and trains weights and biases through the rounding (``fake``). What is written answers as the imitation did, to
rounding. Needs no labels: the original's answers are enough, and calibration samples stand in for training data.

Sources: Jacob et al. 2018 (arXiv:1712.05877), section 3, for training with imitated integers; Esser et al. 2020
(arXiv:1902.08153) for learned steps; Hinton et al. 2015 (arXiv:1503.02531) for the loss; ``rates`` names its own. Does not apply
to models that are quantised already or that the bridge cannot take. Decision 0006 tells what it reaches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_compress.graph.bridge import unknown
from edge_compress.plugin import (
    Beginning,
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
from edge_compress_quantize.share import INTEGER_OPS, weight_share
from edge_compress_quantize.static import QuantizeStatic, StaticParams

if TYPE_CHECKING:
    import onnx

    from edge_compress_quantize.tune import Training


@dataclass(frozen=True)
class QatParams:
    """Which integers, and how they are trained."""

    bits: int = param(
        "size of a weight; below 8 it is stored in 8 with a smaller range", default=8, unit="bits", minimum=2, maximum=8
    )
    rate: float | None = param(
        "instead of bits: what a weight may take on the wire, on the mean over the layers",
        default=None, unit="bits", minimum=1.0, maximum=8.0, dial="up",
    )  # fmt: skip
    scheme: str = param("weights around zero, or over their whole range", default="symmetric", choices=("symmetric", "affine"))
    per_channel: bool = param("one weight scale for each output channel; false: one for each tensor", default=True)
    reduce_range: bool | None = param("weights within 7 bits; absent: where the profile has no int8 dot product", default=None)
    calibration: str = param(
        "how an activation's range is chosen", default="minmax", choices=("minmax", "percentile", "mse", "entropy")
    )
    samples: int = param("calibration samples looked at", default=256, unit="samples", minimum=1, maximum=100_000)
    epochs: float | None = param(
        "passes over the training samples; absent: as many as the step's time allows, by a nominal speed",
        default=None, minimum=0.0, maximum=1000.0, unit="epochs",
    )  # fmt: skip
    batch: int = param("samples that a training step sees", default=64, minimum=1, maximum=4096, unit="samples")
    lr: float = param("highest learning rate: how far a weight may move in one step", default=0.004,
        minimum=1e-6, maximum=1.0, unit="integers")  # fmt: skip
    learn_steps: bool = param("train the distance of two integers as well; packs worse, since every channel gets its own",
        default=False)  # fmt: skip
    temperature: float = param("softness of the teacher's answers", default=2.0, minimum=0.1, maximum=100.0)
    label_weight: float = param("share of the loss that follows the labels", default=0.0, minimum=0.0, maximum=1.0)
    mix: float = param("strength of mixtures of samples (0: none)", default=0.0, minimum=0.0, maximum=10.0)
    features: tuple[str, ...] = param("names of inner tensors that training keeps like the original's", default=())
    feature_weight: float = param("how much those count", default=1.0, minimum=0.0)
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, that stay float", default=())


class QuantizeQat(Strategy[QatParams]):
    """Quantisation-aware fine-tuning to QDQ int8."""

    name = "quantize.qat"
    version = "1"
    stage = "precision"
    Params = QatParams
    requires = Requires(calibration=True, training=True, precision=("int8",), float_model=True)
    ensures = Ensures(golden_tolerance=0.05)
    libraries = ("onnx", "onnxruntime", "numpy", "torch")

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """As quantize.static, where every operator has a torch form."""
        said = QuantizeStatic().supports(model, profile)
        if said.ok and (missing := unknown(model.ops)):
            return Support.no(f"no trainable form for {', '.join(missing)}")
        return said

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[QatParams]:
        """Half of what 8 bits take on the wire first, a little more where that is too little, then plain 8 bits repaired."""
        return [QatParams(rate=2.4), QatParams(rate=2.8), QatParams()]

    def bind(self, params: QatParams, profile: DeviceProfileSpec) -> QatParams:
        """Reduced range where 16-bit sums would saturate."""
        if params.reduce_range is not None:
            return params
        return dataclasses.replace(params, reduce_range=not profile.int8_dot_product)

    def expect(self, model: ModelFacts, params: QatParams) -> Expectation:
        """As quantize.static with the same integers."""
        share = weight_share(model, INTEGER_OPS)
        packed = params.rate or min(params.bits, 7 if params.reduce_range else 8)
        return Expectation(
            bytes=1 - 0.74 * share, download=1 - share * (1 - packed / 32), latency=1 - 0.35 * share, memory=1 - 0.6 * share
        )

    def begins_with(self, params: QatParams) -> Beginning:
        """quantize.static with the same integers: ResNet-8 lost three times as much with them."""
        return Beginning(QuantizeStatic(), start_of(params), repairs=1.6)

    def apply(self, model: onnx.ModelProto, params: QatParams, context: Context) -> onnx.ModelProto:
        """Start, train, write. Raises Unsupported where the bridge cannot take the model, ValueError where training diverges or
        nothing can be quantised."""
        from edge_compress_quantize.conversion import assembled, written
        from edge_compress_quantize.mixed import Choice
        from edge_compress_quantize.progress import Progress
        from edge_compress_quantize.tune import tune

        assembly = assembled(model, start_of(params), context, Progress(context, _STARTED))
        tune(assembly, _training(params), context, span=(_STARTED, _TRAINED))
        return written(assembly, model, Choice(), rest="int8")


_STARTED, _TRAINED = 0.45, 0.97
"""share of the progress before training, and when it ends"""


def start_of(params: QatParams) -> StaticParams:
    """The settings of quantize.static that training starts from."""
    shared = ("bits", "rate", "scheme", "per_channel", "reduce_range", "calibration", "samples", "exclude")
    return StaticParams(**{name: getattr(params, name) for name in shared})


def _training(params: QatParams) -> Training:
    from edge_compress_quantize.tune import Training

    names = [item.name for item in dataclasses.fields(Training)]
    return Training(**{name: getattr(params, name) for name in names})
