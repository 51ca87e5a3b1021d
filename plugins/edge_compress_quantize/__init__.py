"""First-party plugin: quantisation after training. Uses only the public plugin API.

quantize.static   weights and activations in int8, ranges measured beforehand
quantize.qat      the same, trained with the original as teacher
quantize.dynamic  weights in int8, activations measured while running
quantize.float16  half precision
quantize.weights  weights stored in 8 or 4 bits, float arithmetic
quantize.blocks   matrices of 4 or 8 bits that the runtime multiplies as they are (``products``)

How a static quantisation flows through the modules (``conversion`` joins them): ``canonical`` folds the model, ``equalize``
scales its channels, ``placement`` decides by ``rules`` which nodes run on integers, ``calibrate`` streams data and ``ranges``
remembers, ``grid`` does the arithmetic, ``kernels`` holds the weights' integers, ``spending`` spends bits where ``fisher`` and
``rates`` say, ``keeping`` stays near to what ``earlier`` reads of an artifact, ``moments``, ``rounding`` and ``adaround`` better
integers, ``refine`` corrects biases, ``mixed`` finds what must be kept higher and ``diagnose`` says why, ``assembly`` tries
choices, ``qdq`` writes the graph. Training: ``student`` imitates an assembly in torch with the parts of ``fake``, ``tune``
trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Strategy, hookimpl
from edge_compress_quantize.blocks import QuantizeBlocks
from edge_compress_quantize.dynamic import QuantizeDynamic
from edge_compress_quantize.float16 import QuantizeFloat16
from edge_compress_quantize.qat import QuantizeQat
from edge_compress_quantize.static import QuantizeStatic
from edge_compress_quantize.weights import QuantizeWeights


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """The strategies above."""
    cheap: list[Strategy[Any]] = [QuantizeStatic(), QuantizeDynamic(), QuantizeFloat16(), QuantizeWeights(), QuantizeBlocks()]
    return [*cheap, QuantizeQat()]
