"""First-party plugin: low-rank factorisation. Uses only the public plugin API.

lowrank.svd      a layer becomes two or three thinner ones in a row: fewer multiplications and fewer weights
lowrank.distil   the same at a harder ratio, with the thin layers trained by the original

How it flows through the modules: ``factorise`` leads; ``layers`` finds what can be split (``window``: how a convolution moves),
``moments`` streams calibration data through the model (``session``: how it is run), ``ways`` has the linear algebra of each way
to split a layer and ``factors`` completes a split, ``probe`` measures what a split does to the model's outputs, ``ranks`` decides
which way and how thin, ``rewrite`` writes the graph. ``distil`` puts training behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Strategy, hookimpl
from edge_compress_lowrank.distil import LowRankDistil
from edge_compress_lowrank.svd import LowRankSvd


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """The strategies above."""
    return [LowRankSvd(), LowRankDistil()]
