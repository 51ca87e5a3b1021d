"""quantize.float16: weights and arithmetic in IEEE half precision, inputs and outputs as they were.

Source: Micikevicius et al. 2018 (arXiv:1710.03740), which numbers overflow and vanish. Does not apply where the profile does
not run fp16 well (a processor without half kernels converts back and forth and is slower), nor to models without float32
weights.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    import onnx

_HEADROOM = 4.0
"""an activation that came within this factor of the largest half may pass it on other data"""


@dataclass(frozen=True)
class Float16Params:
    """What runs in half precision."""

    samples: int = param(
        "calibration samples used to find activations that would overflow; 0: not looked for",
        default=32,
        unit="samples",
        minimum=0,
        maximum=10_000,
    )
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, that stay float32", default=())


class QuantizeFloat16(Strategy[Float16Params]):
    """Half precision throughout."""

    name = "quantize.float16"
    version = "1"
    stage = "precision"
    Params = Float16Params
    requires = Requires(calibration=True, precision=("fp16",), float_model=True)
    ensures = Ensures(golden_tolerance=1e-2)

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes for models with float32 weights."""
        if model.quantized:
            return Support.no("the model is quantised already")
        if model.weight_dtypes and not model.weight_dtypes.get("float32"):
            return Support.no("the model has no float32 weights")
        return Support.yes()

    def expect(self, model: ModelFacts, params: Float16Params) -> Expectation:
        """Half the weights, a little less on the wire; speed depends on the processor alone."""
        share = min(1.0, model.weight_dtypes.get("float32", model.weight_bytes) / model.bytes) if model.bytes else 0.0
        return Expectation(bytes=1 - 0.5 * share, download=1 - 0.47 * share, latency=1.0, memory=1 - 0.45 * share)

    def apply(self, model: onnx.ModelProto, params: Float16Params, context: Context) -> onnx.ModelProto:
        """Fold, find what overflows, convert. Raises ValueError when no node can, or an excluded name is unknown."""
        from edge_compress_quantize import canonical, half
        from edge_compress_quantize.wiring import Wiring, known_names

        exclude = known_names(model, params.exclude)
        folded = canonical.canonical(model, context.scratch)
        wiring = Wiring(folded.graph)
        types = half.float_types(folded)
        nodes = half.half_nodes(wiring, types, exclude)
        overflowing = _overflowing(folded, sorted(nodes), params, context)
        if overflowing:
            context.log(f"{len(overflowing)} nodes stay float32, because their results come near {half.LARGEST:.0f}")
        nodes = half.half_nodes(wiring, types, exclude | overflowing)
        if not nodes:
            raise ValueError("no node of the model can run in float16")
        half.convert(folded.graph, wiring, nodes, types)
        canonical.restore_interface(folded, model)
        return folded


def _overflowing(model: onnx.ModelProto, tensors: list[str], params: Float16Params, context: Context) -> set[str]:
    """Tensors that came near the largest half on calibration data; none where ``samples`` is 0."""
    from edge_compress_quantize.calibrate import observe
    from edge_compress_quantize.half import LARGEST
    from edge_compress_quantize.progress import Progress

    if not params.samples:
        return set()
    said = Progress(context).phase(0.95)
    seen = observe(model, tensors, context, samples=params.samples, histogram=False, progress=said)
    return {name for name, item in seen.items() if max(-item.low, item.high) > LARGEST / _HEADROOM}
