"""The operators that have a torch form, by name, for those who ask without loading torch. A test holds the list to the rules."""

from __future__ import annotations

from collections.abc import Iterable

_NAMES = """
Abs Add And ArgMax ArgMin Atan AveragePool BatchNormalization Cast CastLike Ceil Celu Clip Concat Constant
ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Dropout Einsum Elu Equal Erf Exp Expand Flatten
Floor GRU Gather GatherElements Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual
GroupNormalization HardSigmoid HardSwish Hardmax Identity InstanceNormalization IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul Max MaxPool Mean Min Mish Mod Mul Neg Not Or
PRelu Pad Pow RMSNormalization RNN Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round Selu Shape Sigmoid Sign Sin
Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tanh ThresholdedRelu Tile
Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS: frozenset[str] = frozenset(_NAMES.split())
"""every one has a rule; whether a certain node is taken also depends on its attributes (``what`` tells)"""


def unknown(operators: Iterable[str]) -> tuple[str, ...]:
    """Those of these operators that have no torch form at all, sorted: a quick no for ``Strategy.supports``."""
    return tuple(sorted(set(operators) - OPERATORS))
