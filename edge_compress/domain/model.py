"""Facts about a model, as the planner and the strategies need them. ``graph`` computes them; nothing here reads a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge_compress.domain.schema import decode, encode

_INTEGER_OPS = ("QuantizeLinear", "QLinearConv", "MatMulInteger", "ConvInteger", "MatMulNBits", "DynamicQuantizeMatMul", "QGemm")
"""operators that only quantised models have"""


@dataclass(frozen=True)
class TensorFacts:
    """One input or output of a model. ``shape`` has a number per axis, or a name (or "") where the axis is free."""

    name: str
    dtype: str
    """numpy name: float32, uint8, int64 …"""
    shape: tuple[Any, ...] = field(default=(), metadata={"free": True})


@dataclass(frozen=True)
class LayerFacts:
    """One node that does arithmetic or holds weights, for one sample."""

    name: str
    op: str
    macs: int = 0
    """multiply-accumulates"""
    weight_bytes: int = 0
    weight_count: int = 0
    activation_bytes: int = 0
    """bytes of its output"""


@dataclass(frozen=True)
class ModelFacts:
    """What a model is and costs, for a batch of one where the batch is free."""

    sha256: str
    bytes: int
    opset: int
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    ops: Mapping[str, int] = field(default_factory=dict, metadata={"free": True})
    """how many nodes of each operator, those in subgraphs included"""
    layers: tuple[LayerFacts, ...] = ()
    parameters: int = 0
    weight_bytes: int = 0
    weight_dtypes: Mapping[str, int] = field(default_factory=dict, metadata={"free": True})
    """bytes of weights per numpy dtype"""
    peak_activation_bytes: int = 0
    """largest sum of live activations over the graph's own order; 0 when shapes are unknown"""
    batch_free: bool = False
    """the first axis of every input is free, so that samples may be run several at a time"""
    control_flow: bool = False
    custom_domains: tuple[str, ...] = ()

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def quantized(self) -> bool:
        """Whether the graph already does integer arithmetic."""
        return any(op in self.ops for op in _INTEGER_OPS)

    def to_json(self) -> dict[str, Any]:
        """Plain form; ``from_json`` reads it back."""
        plain: dict[str, Any] = encode(self)
        return plain

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> ModelFacts:
        """The facts behind ``to_json``'s plain form."""
        return decode(ModelFacts, value, "facts")


@dataclass(frozen=True)
class DataFacts:
    """What a data file holds, once it was checked against the model."""

    samples: int
    labelled: bool
    classes: int = 0
    """highest integer label + 1; 0 when unlabelled or not integer"""
