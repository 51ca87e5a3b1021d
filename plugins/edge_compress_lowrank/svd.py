"""lowrank.svd: splits layers into thinner ones in a row, where that has fewer multiplications and fewer weights.

Gemm, MatMul and 1 x 1 convolutions by truncated SVD; larger kernels by spatial SVD, Tucker-2 or channels first, whichever needs
fewest multiplications for the energy it keeps (sources in ``ways``). With ``whiten`` what counts is the error of each layer's
outputs on calibration data, and a ratio is shared out by what splitting each layer does to the model's outputs; without it, the
error of the weights. An ``energy`` is kept by each layer alike, the last one too. No fine-tuning follows here:
``distil`` has that. Does not apply to depthwise and grouped convolutions, to weights that several nodes share, to models without
float32 weights, nor where layers are so small that two of them cost more than one.
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

SPLIT_OPS = ("Conv", "Gemm", "MatMul")
_STEP = 8


@dataclass(frozen=True)
class SvdParams:
    """How much goes, and how that is measured. ``energy`` outranks ``ratio``."""

    ratio: float = param(
        "share of the model's multiplications or weights to save", default=0.1, minimum=0.01, maximum=0.95, dial="down"
    )
    target: str = param("what ratio is a share of", default="macs", choices=("macs", "weights"))
    energy: float | None = param(
        "instead: share of each layer's output energy to keep, whatever that saves", default=None, minimum=0.5, maximum=0.99999
    )
    whiten: bool = param("errors are those of outputs on calibration data; false: those of weights", default=True)
    samples: int = param("calibration samples looked at", default=256, unit="samples", minimum=1, maximum=100_000)
    round_to: int = param(
        "ranks are multiples of this, as kernels like them", default=_STEP, unit="channels", minimum=1, maximum=64
    )
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, that stay whole", default=())


class LowRankSvd(Strategy[SvdParams]):
    """Low-rank factorisation of weights."""

    name = "lowrank.svd"
    version = "1"
    stage = "structure"
    Params = SvdParams
    requires = Requires(calibration=True, float_model=True)
    ensures = Ensures()

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes where a layer is large enough: r (m + n) weights are fewer than m n only if m n is over (2 r)^2."""
        if model.quantized:
            return Support.no("the model is quantised already: factor it first")
        if model.weight_dtypes and "float32" not in model.weight_dtypes:
            return Support.no("the model has no float32 weights")
        layers = [layer for layer in model.layers if layer.op in SPLIT_OPS and layer.weight_count]
        if not layers:
            return Support.no(f"the model has no {', '.join(SPLIT_OPS)} with weights")
        largest = max(layer.weight_count for layer in layers)
        if largest <= 4 * _STEP**2:
            return Support.no(f"its largest layer has {largest} weights, too few for factors of rank {_STEP} to have fewer")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[SvdParams]:
        """As much as trained networks were seen to bear without fine-tuning, then less, then more; weights where bytes count."""
        proposed = [SvdParams(ratio=0.2), SvdParams(ratio=0.1), SvdParams(ratio=0.3)]
        if profile.storage is not None or profile.link.metered or profile.link.bandwidth is not None:
            proposed.append(SvdParams(ratio=0.2, target="weights"))
        return proposed

    def expect(self, model: ModelFacts, params: SvdParams) -> Expectation:
        """What the ratio says; for an energy a rough guess of what it saves on trained networks."""
        share = _share(model)
        saved = params.ratio if params.energy is None else min(0.5, 3 * (1 - params.energy))
        weights = share * saved * (1.0 if params.target == "weights" else 0.6)
        macs = saved * (0.4 if params.target == "weights" else 1.0)
        return Expectation(bytes=1 - weights, download=1 - weights, latency=1 - 0.7 * macs)

    def apply(self, model: onnx.ModelProto, params: SvdParams, context: Context) -> onnx.ModelProto:
        """The model with factors in place of layers.

        Raises ValueError when no layer can be split with profit, an excluded name is unknown, or data is not finite.
        """
        from edge_compress_lowrank.factorise import factorise

        return factorise(model, params, context)


def _share(model: ModelFacts) -> float:
    weights = sum(layer.weight_bytes for layer in model.layers if layer.op in SPLIT_OPS)
    return min(1.0, weights / model.bytes) if model.bytes else 0.0
