"""prune.magnitude: sets the weights nearest to zero to zero. Shapes stay, so only the download shrinks (zeros compress).

Sources: Han et al. 2015 (arXiv:1506.02626) for magnitude, Lee et al. 2021 (arXiv:2010.07611, LAMP) for one ratio for all
layers, Mishra et al. 2021 (arXiv:2104.08378) for N:M. No fine-tuning follows: see ``prune.unstructured``. Does not make a model
faster, nor smaller on the device; does not apply to models without float weights in convolutions or matrix products.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_compress.plugin import (
    Context,
    DeviceProfileSpec,
    Ensures,
    Expectation,
    InvalidSpec,
    ModelFacts,
    Requires,
    Strategy,
    Support,
    param,
)

if TYPE_CHECKING:
    import onnx

PRUNED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PATTERN = re.compile(r"^([1-9][0-9]?):([1-9][0-9]?)$")
_FLOAT_SHARE = 0.92
"""what general compression leaves of float32 weights that are not zero"""


@dataclass(frozen=True)
class MagnitudeParams:
    """How many weights go, or which. ``pattern`` outranks ``threshold``, which outranks ``ratio``."""

    ratio: float = param("share of the weights that become zero", default=0.5, minimum=0.0, maximum=0.99, dial="down")
    threshold: float | None = param("instead: every weight of a smaller magnitude becomes zero", default=None, minimum=0.0)
    scope: str = param("ratio within each layer, or for all layers together (LAMP)", default="layer", choices=("layer", "global"))
    pattern: str = param(
        "instead: keep the N largest of each M weights that follow each other along the input, written N:M", default=""
    )
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, whose weights stay", default=())

    def __post_init__(self) -> None:
        if self.pattern:
            kept, group = self.kept_of_group()
            if kept > group:
                raise InvalidSpec.at("pattern", self.pattern, "N at most M, like 2:4")

    def kept_of_group(self) -> tuple[int, int]:
        """N and M of the pattern. Raises InvalidSpec where it is not one."""
        match = _PATTERN.match(self.pattern)
        if match is None:
            raise InvalidSpec.at("pattern", self.pattern, "N:M, two whole numbers from 1 to 99, like 2:4")
        return int(match[1]), int(match[2])


class PruneMagnitude(Strategy[MagnitudeParams]):
    """Unstructured and N:M pruning by magnitude."""

    name = "prune.magnitude"
    version = "2"
    stage = "sparsity"
    Params = MagnitudeParams
    requires = Requires(float_model=True)
    ensures = Ensures()

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes where there are float weights to set to zero."""
        if model.quantized:
            return Support.no("the model is quantised already: prune first")
        if not any(op in model.ops for op in PRUNED_OPS):
            return Support.no(f"the model has no {', '.join(PRUNED_OPS)}")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[MagnitudeParams]:
        """Only where the download counts: nothing else gets better."""
        if not profile.link.metered and profile.link.bandwidth is None:
            return []
        return [MagnitudeParams(ratio=0.3, scope="global"), MagnitudeParams(ratio=0.5, scope="global")]

    def expect(self, model: ModelFacts, params: MagnitudeParams) -> Expectation:
        """Fewer bytes on the wire: the weights that stay, and where they are."""
        share = _reached(model)
        zeros = _zero_share(params)
        places = _entropy(zeros) / 32
        return Expectation(download=min(1.0, 1 - share + share * ((1 - zeros) + places / _FLOAT_SHARE)))

    def apply(self, model: onnx.ModelProto, params: MagnitudeParams, context: Context) -> onnx.ModelProto:
        """Set weights to zero in place. Raises ValueError when there are none to prune."""
        from edge_compress_prune.sparsify import sparsify

        count, zeros = sparsify(model, params)
        if not count:
            raise ValueError(f"the model has no float32 weights in {', '.join(PRUNED_OPS)}")
        context.log(f"{zeros:,} of {count:,} weights are zero ({zeros / count:.1%})")
        return model


def _reached(model: ModelFacts) -> float:
    weights = sum(layer.weight_bytes for layer in model.layers if layer.op in PRUNED_OPS)
    return min(1.0, weights / model.bytes) if model.bytes else 0.0


def _zero_share(params: MagnitudeParams) -> float:
    """A threshold says nothing before the weights are seen: taken as nothing."""
    if params.pattern:
        kept, group = params.kept_of_group()
        return 1 - kept / group
    return 0.0 if params.threshold is not None else params.ratio


def _entropy(share: float) -> float:
    """Bits a yes or no takes that is yes for ``share`` of the cases."""
    if share in (0.0, 1.0):
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)
