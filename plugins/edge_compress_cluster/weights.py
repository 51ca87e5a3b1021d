"""cluster.weights: the weights of each layer share a few values, found by k-means. Only the download shrinks.

Source: Han et al. 2016, Deep Compression (arXiv:1510.00149), section 3, without the table lookup at run time: values stay float32
in place, so the file keeps its size and the model its speed, and what makes the download small is that compression meets the same
four bytes again and again. Does not apply to models without float32 weights. Weights that are zero stay zero, so pruning may go
before.
"""

from __future__ import annotations

import math
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

_FLOAT_BITS = 29.5
"""bits that general compression leaves of a float32 weight"""


@dataclass(frozen=True)
class ClusterParams:
    """How few values, and where."""

    clusters: int = param("distinct values in each weight tensor", default=64, unit="values", minimum=16, maximum=256, dial="up")
    smallest: int = param("tensors with fewer values stay as they are", default=1024, unit="values", minimum=1)
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, whose weights stay", default=())


class ClusterWeights(Strategy[ClusterParams]):
    """Weight sharing by k-means, for the link."""

    name = "cluster.weights"
    version = "1"
    stage = "sparsity"
    Params = ClusterParams
    requires = Requires(float_model=True)
    ensures = Ensures()

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes for models with float32 weights."""
        if model.quantized:
            return Support.no("the model is quantised already, into fewer values than clusters would leave")
        if not model.weight_dtypes.get("float32"):
            return Support.no("the model has no float32 weights")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[ClusterParams]:
        """Only where the download counts: nothing else gets better."""
        if not profile.link.metered and profile.link.bandwidth is None:
            return []
        return [ClusterParams(clusters=64), ClusterParams(clusters=32), ClusterParams(clusters=128)]

    def expect(self, model: ModelFacts, params: ClusterParams) -> Expectation:
        """A smaller download, as measured on normally distributed weights; size on disk, memory and latency stay."""
        share = min(1.0, model.weight_dtypes.get("float32", 0) / model.bytes) if model.bytes else 0.0
        bits = 1.25 * math.log2(params.clusters) - 0.1
        return Expectation(bytes=1.0, download=1 - share * (1 - bits / _FLOAT_BITS), latency=1.0, memory=1.0)

    def apply(self, model: onnx.ModelProto, params: ClusterParams, context: Context) -> onnx.ModelProto:
        """Replace weights in place. Raises ValueError when there are none, or an excluded name is unknown."""
        from edge_compress_cluster.share import share

        done = share(model, params)
        if not done.tensors:
            raise ValueError(f"no float32 weight tensor has {params.smallest} values or more")
        context.log(
            f"{done.weights:,} weights in {done.tensors} tensors take at most {params.clusters} values each; "
            f"error {done.error:.3%} of their energy"
        )
        return model
