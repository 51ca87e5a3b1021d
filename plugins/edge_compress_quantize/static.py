"""quantize.static: weights and activations in 8-bit integers, with activation ranges measured beforehand.

q = round((r - rmin) / (rmax - rmin) * (2^b - 1)); sources: Jacob et al. 2018 for the arithmetic (see ``grid``), Krishnamoorthi
2018 (arXiv:1806.08342) for per-channel weights; ``ranges``, ``equalize``, ``rounding``, ``adaround``, ``rates``, ``refine`` and
``mixed`` name theirs. Does not apply to models without Conv, Gemm or MatMul, nor to models that are quantised already. The heavy
libraries are imported when it runs: the server lists strategies without loading them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
from edge_compress_quantize.share import INTEGER_OPS, weight_share

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class StaticParams:
    """How weights and activations become integers."""

    bits: int = param(
        "size of a weight; below 8 it is stored in 8 with a smaller range, which compresses",
        default=8,
        unit="bits",
        minimum=2,
        maximum=8,
    )
    rate: float | None = param(
        "instead of bits: what a weight may take on the wire, on the mean over the layers; steps are coarse where noise does "
        "little harm to the answers, which are asked by gradients",
        default=None, unit="bits", minimum=1.0, maximum=8.0, dial="up",
    )  # fmt: skip
    scheme: str = param("weights around zero, or over their whole range", default="symmetric", choices=("symmetric", "affine"))
    activation_scheme: str = param("the same for activations", default="affine", choices=("symmetric", "affine"))
    per_channel: bool = param("one weight scale for each output channel; false: one for each tensor", default=True)
    reduce_range: bool | None = param("weights within 7 bits; absent: where the profile has no int8 dot product", default=None)
    calibration: str = param(
        "how an activation's range is chosen", default="minmax", choices=("minmax", "percentile", "mse", "entropy")
    )
    percentile: float = param(
        "share of values kept at each end, for calibration: percentile", default=99.99, unit="%", minimum=90.0, maximum=100.0
    )
    samples: int = param("calibration samples looked at", default=256, unit="samples", minimum=1, maximum=100_000)
    equalize: bool | None = param(
        "scale channels between neighbouring layers to equal largest weights; absent: where a tensor has one weight scale",
        default=None,
    )
    smooth: float = param(
        "how much of the outliers after a normalisation moves into the weights of the matrix products that read it; 0: nothing",
        default=0.5,
        minimum=0.0,
        maximum=1.0,
    )
    rounding: str = param(
        "weights to the nearest integers, or to those whose errors make up for each other: found weight by weight (compensated) "
        "or by gradients on going up or down (adaround); auto: compensated below 8 bits",
        default="auto",
        choices=("auto", "nearest", "compensated", "adaround"),
    )
    correct_bias: bool | None = param(
        "take what integers add to a channel's mean off its bias; absent: below 8 bits, and with one scale for each tensor",
        default=None,
    )
    mixed: bool = param(
        "find the layers that must be kept higher (8-bit weights, then float) for outputs to reach `goal`", default=False
    )
    goal: float = param(
        "mixed: signal over quantisation noise of the outputs, measured on calibration samples",
        default=15.0,
        unit="dB",
        minimum=0.0,
        maximum=100.0,
    )
    agreement: float = param(
        "mixed: share of samples whose highest output is still the float model's, which makes up for at most 6 dB of `goal`",
        default=0.95,
        minimum=0.5,
        maximum=1.0,
    )
    cost: str = param(
        "mixed: what keeping a layer higher costs, weights or multiply-accumulates", default="bytes", choices=("bytes", "macs")
    )
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, that stay float", default=())
    rest: str = param(
        "weights that no integer kernel takes (embeddings, recurrent layers): stored in 8 bits, or float",
        default="int8",
        choices=("int8", "float"),
    )
    activation: str = param(
        "type activations are stored in; s8 for runtimes that want it: onnxruntime on x86 leaves part of it in float",
        default="u8",
        choices=("u8", "s8"),
    )
    scales_of: str = param(
        "sha256 of an earlier artifact whose scales are kept where they fit, so that the update to this one is small",
        default="",
        artifact=True,
    )
    hold: float = param(
        "scales_of: a weight keeps its earlier integer until another is nearer by so much",
        default=0.25,
        unit="steps",
        minimum=0.0,
        maximum=1.0,
    )


class QuantizeStatic(Strategy[StaticParams]):
    """Post-training static quantisation to QDQ int8."""

    name = "quantize.static"
    version = "3"
    stage = "precision"
    Params = StaticParams
    requires = Requires(calibration=True, precision=("int8",), float_model=True)
    ensures = Ensures(golden_tolerance=0.05)
    libraries = ("onnx", "onnxruntime", "numpy", "torch")

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes for float32 models with something that integers can multiply."""
        if model.quantized:
            return Support.no("the model is quantised already")
        if not any(op in model.ops for op in INTEGER_OPS):
            return Support.no(f"the model has no {' or '.join(INTEGER_OPS)} to run in integers")
        if model.weight_dtypes and "float32" not in model.weight_dtypes:
            return Support.no("the model has no float32 weights")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[StaticParams]:
        """Measured ranges as they are; outliers cut off; what repairs a collapse; few bits for half the download, spent where
        noise does harm, or wider where it matters; and where those lose too much, 6 bits, which still travel lighter than
        anybody's 7 or 8."""
        few = [StaticParams(rate=2.8), StaticParams(rate=3.4), StaticParams(bits=3, mixed=True, goal=17.0, agreement=0.97)]
        plain = [StaticParams(), StaticParams(calibration="mse"), StaticParams(mixed=True, goal=12.0)]
        return [*plain, *few, StaticParams(bits=6)]

    def bind(self, params: StaticParams, profile: DeviceProfileSpec) -> StaticParams:
        """Reduced range where 16-bit sums would saturate."""
        if params.reduce_range is not None:
            return params
        return dataclasses.replace(params, reduce_range=not profile.int8_dot_product)

    def expect(self, model: ModelFacts, params: StaticParams) -> Expectation:
        """A quarter of the weights; speed as measured on small convolutional networks on x86."""
        share = weight_share(model, INTEGER_OPS)
        # Some weights of a mixed model keep 8 bits, and some layers stay float.
        bits = params.rate or params.bits + (2.0 if params.mixed and params.bits < 8 else 0.0)
        entropy = min(bits, 7 if params.reduce_range else 8) / 32
        faster = 0.33 if params.mixed else 0.35
        return Expectation(
            bytes=1 - 0.74 * share, download=1 - share * (1 - entropy), latency=1 - faster * share, memory=1 - 0.6 * share
        )

    def apply(self, model: onnx.ModelProto, params: StaticParams, context: Context) -> onnx.ModelProto:
        """Fold, place, calibrate, insert.

        Raises ValueError when nothing can be quantised, calibration is not finite, or an excluded name is unknown.
        """
        from edge_compress_quantize.conversion import convert

        return convert(model, params, context)
