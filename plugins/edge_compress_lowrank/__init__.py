"""First-party plugin: low-rank factorisation. Uses only the public plugin API.

lowrank.svd   a layer becomes two or three thinner ones in a row: fewer multiplications and fewer weights

How it flows through the modules: ``layers`` finds what can be factored, ``moments`` streams calibration data through the model,
``factors`` does the linear algebra of each way to split a layer, ``ranks`` decides which way and how thin, ``rewrite`` writes
the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Strategy, hookimpl
from edge_compress_lowrank.svd import LowRankSvd


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """The strategies above."""
    return [LowRankSvd()]
