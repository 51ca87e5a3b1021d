"""How much of a model an operator-wise technique reaches, from the facts alone."""

from __future__ import annotations

from collections.abc import Collection

from edge_compress.plugin import ModelFacts

INTEGER_OPS = ("Conv", "Gemm", "MatMul")
"""operators that the runtime multiplies in integers"""


def weight_share(model: ModelFacts, ops: Collection[str]) -> float:
    """Share of the file that is weights of ``ops``, 0 to 1."""
    reached = sum(layer.weight_bytes for layer in model.layers if layer.op in ops)
    return min(1.0, reached / model.bytes) if model.bytes else 0.0
