"""Strategy ``graph.optimize``: the same function in fewer nodes and bytes. How the graph is folded is left to ``fold``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from edge_compress.plugin import Context, DeviceProfileSpec, Ensures, Expectation, ModelFacts, Strategy, Support, param

if TYPE_CHECKING:
    import onnx

_REMOVABLE = ("Constant", "Identity", "Dropout", "BatchNormalization", "ConstantOfShape", "Shape", "Concat", "Cast")
_NODE_BYTES = 64
"""what a node costs in the file besides its weights, roughly"""


@dataclass(frozen=True)
class OptimizeParams:
    """Settings of ``graph.optimize``."""

    compared_samples: int = param("samples on which outputs before and after are compared", default=4, unit="samples", minimum=1)


class GraphOptimize(Strategy[OptimizeParams]):
    """Folds constants, fuses batch normalisation and padding into convolutions, drops identities, dropout and dead nodes;
    writes shortcuts that pick pixels and pad channels as convolutions, and means over all pixels as pooling."""

    name: ClassVar[str] = "graph.optimize"
    version: ClassVar[str] = "2"
    stage: ClassVar[str] = "graph"
    Params = OptimizeParams
    ensures: ClassVar[Ensures] = Ensures(lossless=True, golden_tolerance=1e-4)

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Float models in 32 bits: the folding runtime would turn other precisions into these."""
        if model.quantized:
            return Support.no("the model is quantised already, and folding would undo that")
        if {"float16", "bfloat16"} & set(model.weight_dtypes):
            return Support.no("the model has half-precision weights, which folding would widen")
        return Support.yes()

    def expect(self, model: ModelFacts, params: OptimizeParams) -> Expectation:
        """A little smaller by the nodes that usually go."""
        gone = sum(model.ops.get(op, 0) for op in _REMOVABLE) * _NODE_BYTES
        return Expectation(bytes=max(0.5, 1 - gone / max(1, model.bytes)))

    def apply(self, model: onnx.ModelProto, params: OptimizeParams, context: Context) -> onnx.ModelProto:
        """The folded model. Raises ValueError when its outputs differ from the model's on real samples or seeded noise."""
        from edge_compress.graph.tidy import tidied
        from edge_compress_graph.averages import pooled
        from edge_compress_graph.compare import refuse_difference
        from edge_compress_graph.fold import fold
        from edge_compress_graph.shortcuts import convolved

        context.progress(0.1, "folding")
        folded = tidied(pooled(convolved(fold(model, context.scratch))))
        context.log(f"{len(model.graph.node)} nodes became {len(folded.graph.node)}")
        context.progress(0.6, "comparing outputs")
        refuse_difference(model, folded, context, params.compared_samples)
        return folded
