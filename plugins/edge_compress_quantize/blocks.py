"""quantize.blocks: matrices in 4 or 8 bits that the runtime multiplies as they are, small on disk, on the wire and in memory.

For models that mostly multiply large matrices: transformers and multilayer perceptrons. Each weight is cut into blocks with a
scale of their own (onnxruntime, com.microsoft.MatMulNBits; the idea of block-wise scales: Dettmers et al. 2022, arXiv:2110.02861,
section 2.1). Weights that are not matrices of products are stored in 8 bits and expanded at load.

Measured on one thread with VNNI, matrices of 768 x 768, latency as a ratio to float: 4 bits with int8 activations 0.3 to 0.8,
with float activations 0.9 for one row and 1.0 to 1.3 for 16 or more; 8 bits with int8 activations 0.4 to 0.8, with float ones
2.7 to 13, so that 8 bits are for integers only. A transformer of width 256 over 64 tokens (1.3 million weights): 0.20 of the
bytes at 0.76 of the time with 4 bits, 0.26 and 0.76 with 8; quantize.static has 0.26 of the bytes, and 0.1 of the time where the
processor has VNNI, so that blocks are for size and memory first.

Does not apply to convolutions, to products of two activations, or to other runtimes.
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
    InvalidSpec,
    LayerFacts,
    ModelFacts,
    Requires,
    Strategy,
    Support,
    param,
)
from edge_compress_quantize.share import weight_share

if TYPE_CHECKING:
    import onnx

_OPS = ("MatMul", "Gemm")
_LEAST_SHARE = 0.2
_SMALLEST = 4096
_RUNTIME = "onnxruntime"


@dataclass(frozen=True)
class BlocksParams:
    """How matrices are stored and multiplied."""

    bits: int = param("size of a stored weight: 4 or 8", default=4, unit="bits", minimum=4, maximum=8)
    block: int = param(
        "weights of a column that share a scale at most, a power of two; larger is smaller, faster and coarser",
        default=32,
        unit="values",
        minimum=16,
        maximum=1024,
    )
    integers: bool | None = param(
        "multiply in int8, activations rounded block by block; absent: where the profile runs int8", default=None
    )
    smallest: int = param("matrices with fewer values are stored like other weights", default=_SMALLEST, unit="values", minimum=1)
    least_decibels: float = param(
        "matrices whose signal-to-noise ratio in 4 bits is lower get 8 bits; 0: none do", default=0.0, unit="dB", minimum=0.0
    )
    rest: str = param(
        "other weights: stored in 8 bits and expanded at load, or kept as they are", default="int8", choices=("int8", "float")
    )
    exclude: tuple[str, ...] = param("names of nodes, or of tensors they make, whose weights stay float", default=())

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise InvalidSpec.at("bits", self.bits, "4 or 8")
        if self.block & (self.block - 1):
            raise InvalidSpec.at("block", self.block, "a power of two")


class QuantizeBlocks(Strategy[BlocksParams]):
    """Weight-only quantisation of matrix products."""

    name = "quantize.blocks"
    version = "1"
    stage = "precision"
    Params = BlocksParams
    requires = Requires(float_model=True)
    ensures = Ensures(golden_tolerance=0.05)

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Yes on onnxruntime, where a fair share of the weights is multiplied by MatMul or Gemm."""
        if profile.runtime != _RUNTIME:
            return Support.no(f"only {_RUNTIME} multiplies weights in blocks, and the profile's runtime is {profile.runtime}")
        if model.quantized:
            return Support.no("the model is quantised already")
        if model.weight_dtypes and not model.weight_dtypes.get("float32"):
            return Support.no("the model has no float32 weights")
        if not any(op in model.ops for op in _OPS):
            return Support.no(f"the model has no {' or '.join(_OPS)}")
        if model.layers and weight_share(model, _OPS) < _LEAST_SHARE:
            return Support.no(f"{' and '.join(_OPS)} hold less than {_LEAST_SHARE:.0%} of the model")
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[BlocksParams]:
        """4 bits in fine blocks; the same with 8 bits for the matrices that lose most; what is fastest; 8 bits for integers.
        Nothing where every matrix is smaller than those that are cut into blocks."""
        if model.layers and not any(_is_large(layer) for layer in model.layers):
            return []
        fine = [BlocksParams(), BlocksParams(least_decibels=19.0)]
        if "int8" not in profile.precisions:
            return fine[:1]
        return [*fine, BlocksParams(block=128), BlocksParams(bits=8, block=128)]

    def bind(self, params: BlocksParams, profile: DeviceProfileSpec) -> BlocksParams:
        """Integers where the profile runs them."""
        if params.integers is not None:
            return params
        return dataclasses.replace(params, integers="int8" in profile.precisions)

    def expect(self, model: ModelFacts, params: BlocksParams) -> Expectation:
        """Bits and scales instead of floats for matrices, a quarter for the rest; time by the module's figures."""
        share = weight_share(model, _OPS)
        stored = params.bits / 32 + 1 / params.block
        rest = (1 - share) * (0.3 if params.rest == "int8" else 1.0)
        faster = 0.3 if params.integers else -0.15
        slower = 4.0 * share if params.bits == 8 and not params.integers else 0.0
        return Expectation(
            bytes=min(1.0, share * stored + rest),
            download=min(1.0, share * stored + rest),
            latency=1 - faster * share + slower,
            memory=1 - 0.6 * share * (1 - stored),
        )

    def apply(self, model: onnx.ModelProto, params: BlocksParams, context: Context) -> onnx.ModelProto:
        """Fold, then rewrite. Raises ValueError when no product can be, or an excluded name is unknown."""
        from edge_compress_quantize.canonical import canonical, restore_interface
        from edge_compress_quantize.products import Blocks, rewrite
        from edge_compress_quantize.storage import StorageSettings, store
        from edge_compress_quantize.wiring import Wiring, known_names

        exclude = known_names(model, params.exclude)
        folded = canonical(model, context.scratch)
        blocks = Blocks(params.bits, params.block, bool(params.integers), params.smallest, params.least_decibels)
        bits = rewrite(folded, Wiring(folded.graph), blocks, exclude)
        if not bits:
            raise ValueError(f"no MatMul or Gemm of the model has a constant float32 matrix of {params.smallest} values or more")
        if params.rest == "int8":
            made = {name for node in folded.graph.node if node.op_type == "MatMulNBits" for name in node.output}
            store(folded.graph, Wiring(folded.graph), StorageSettings(), frozenset(exclude | made))
        for name in (name for name, chosen in bits.items() if chosen != params.bits):
            context.log(f"diagnosis: {name}: {params.bits} bits are too coarse for its weights; it has {bits[name]}")
        context.log(f"{len(bits)} products are by weights in blocks of {params.block}")
        restore_interface(folded, model)
        return folded


def _is_large(layer: LayerFacts) -> bool:
    return layer.op in _OPS and layer.weight_count >= _SMALLEST
