"""quantize.dynamic: int8 weights, and activations measured for each inference as it runs. Needs no calibration data.

For models that mostly multiply matrices (transformers, LSTMs), whose activations have no fixed range. Source: onnxruntime,
"Quantize ONNX models", dynamic quantisation. Does not apply to convolutional networks: measuring each activation costs more than
integer convolution saves (use quantize.static).
"""

from __future__ import annotations

import dataclasses
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
from edge_compress_quantize.share import weight_share

if TYPE_CHECKING:
    import onnx

_OPS = ("MatMul", "Gemm", "LSTM")
_LEAST_SHARE = 0.2


@dataclass(frozen=True)
class DynamicParams:
    """How weights become integers; activations are affine uint8."""

    bits: int = param(
        "size of a weight; below 8 it is stored in 8 with a smaller range", default=8, unit="bits", minimum=2, maximum=8
    )
    per_channel: bool = param("one weight scale for each output channel; false: one for each tensor", default=True)
    reduce_range: bool | None = param("weights within 7 bits; absent: where the profile has no int8 dot product", default=None)
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, that stay float", default=())


class QuantizeDynamic(Strategy[DynamicParams]):
    """Dynamic int8 for matrix products and LSTMs."""

    name = "quantize.dynamic"
    version = "1"
    stage = "precision"
    Params = DynamicParams
    requires = Requires(precision=("int8",), float_model=True)
    ensures = Ensures(golden_tolerance=0.05)

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes where a fair share of the weights is multiplied by MatMul, Gemm or LSTM."""
        if model.quantized:
            return Support.no("the model is quantised already")
        if not any(op in model.ops for op in _OPS):
            return Support.no(f"the model has no {', '.join(_OPS)}")
        if model.weight_dtypes and "float32" not in model.weight_dtypes:
            return Support.no("the model has no float32 weights")
        if model.layers and weight_share(model, _OPS) < _LEAST_SHARE:
            return Support.no(f"{', '.join(_OPS)} hold less than {_LEAST_SHARE:.0%} of the model; use quantize.static")
        return Support.yes()

    def bind(self, params: DynamicParams, profile: DeviceProfileSpec) -> DynamicParams:
        """Reduced range where 16-bit sums would saturate."""
        if params.reduce_range is not None:
            return params
        return dataclasses.replace(params, reduce_range=not profile.int8_dot_product)

    def expect(self, model: ModelFacts, params: DynamicParams) -> Expectation:
        """A quarter of the weights of matrix products."""
        share = weight_share(model, _OPS)
        return Expectation(bytes=1 - 0.74 * share, download=1 - 0.75 * share, latency=1 - 0.25 * share, memory=1 - 0.6 * share)

    def apply(self, model: onnx.ModelProto, params: DynamicParams, context: Context) -> onnx.ModelProto:
        """Fold, then rewrite. Raises ValueError when no node can be, or an excluded name is unknown."""
        from edge_compress_quantize.canonical import canonical, restore_interface
        from edge_compress_quantize.grid import GridSettings
        from edge_compress_quantize.onthefly import rewrite
        from edge_compress_quantize.wiring import Wiring, known_names

        exclude = known_names(model, params.exclude)
        folded = canonical(model, context.scratch)
        settings = GridSettings(params.bits, per_channel=params.per_channel, reduced=bool(params.reduce_range))
        count = rewrite(folded, Wiring(folded.graph), settings, exclude)
        if not count:
            raise ValueError("no MatMul, Gemm or LSTM of the model has constant float32 weights")
        context.log(f"{count} nodes multiply integers")
        restore_interface(folded, model)
        return folded
