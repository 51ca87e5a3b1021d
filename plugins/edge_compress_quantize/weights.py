"""quantize.weights: small weights on disk and on the wire, float arithmetic. For storage limits on devices without integers.

For matrices that onnxruntime multiplies without making them floats again see quantize.blocks.

Symmetric, per output channel (Krishnamoorthi 2018, arXiv:1806.08342, section 3.1.1). Does not apply to models whose weights are
not float32 or lie in tensors too small to be worth it. Where weights become floats again is a choice between speed and memory
(see ``storage``).
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class WeightsParams:
    """How weights are stored."""

    bits: int = param("size of a stored weight; 4 or less takes half a byte", default=8, unit="bits", minimum=2, maximum=8)
    expand: str = param(
        "when weights become floats: at load (as fast and large in memory as the original) or at each run (slower, smaller)",
        default="load",
        choices=("load", "run"),
    )
    smallest: int = param("tensors with fewer values stay float", default=256, unit="values", minimum=1)
    narrow_from: int = param(
        "tensors with fewer values are stored in 8 bits whatever `bits` says", default=4096, unit="values", minimum=1
    )
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, whose weights stay float", default=())


class QuantizeWeights(Strategy[WeightsParams]):
    """Weight-only quantisation."""

    name = "quantize.weights"
    version = "1"
    stage = "precision"
    Params = WeightsParams
    requires = Requires(float_model=True)
    ensures = Ensures(golden_tolerance=1e-3)

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes for models with float32 weights."""
        if model.quantized:
            return Support.no("the model is quantised already")
        if model.weight_dtypes and not model.weight_dtypes.get("float32"):
            return Support.no("the model has no float32 weights")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[WeightsParams]:
        """8 bits first; half of that where storage is short; small in memory where that is limited."""
        proposed = [WeightsParams()]
        if profile.memory is not None:
            proposed.append(WeightsParams(expand="run"))
        if profile.storage is not None or profile.link.metered:
            proposed.append(WeightsParams(bits=4))
        return proposed

    def expect(self, model: ModelFacts, params: WeightsParams) -> Expectation:
        """A quarter or an eighth of the weights; expanding at each run costs packed kernels."""
        share = min(1.0, model.weight_dtypes.get("float32", model.weight_bytes) / model.bytes) if model.bytes else 0.0
        stored = 0.5 if params.bits <= 4 else 1.0
        at_run = params.expand == "run"
        return Expectation(
            bytes=1 - share * (1 - stored * 0.27),
            download=1 - share * (1 - params.bits / 32),
            latency=1.5 if at_run else 1.0,
            memory=1 - 0.4 * share if at_run else 1.0,
        )

    def apply(self, model: onnx.ModelProto, params: WeightsParams, context: Context) -> onnx.ModelProto:
        """Fold, then store. Raises ValueError when there is nothing to store, or an excluded name is unknown."""
        from edge_compress_quantize.canonical import canonical, restore_interface
        from edge_compress_quantize.storage import StorageSettings, store
        from edge_compress_quantize.wiring import Wiring, known_names

        exclude = known_names(model, params.exclude)
        folded = canonical(model, context.scratch)
        settings = StorageSettings(params.bits, params.expand == "run", params.smallest, params.narrow_from)
        stored = store(folded.graph, Wiring(folded.graph), settings, exclude)
        if not stored:
            raise ValueError(f"no float32 weight tensor has {params.smallest} values or more")
        context.log(f"{stored:,} weights are stored in at most 8 bits")
        restore_interface(folded, model)
        return folded
