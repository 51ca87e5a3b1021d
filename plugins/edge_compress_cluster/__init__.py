"""First-party plugin: weight clustering. Uses only the public plugin API.

cluster.weights   each layer's weights take few distinct values: a smaller download, the same file size and speed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Strategy, hookimpl
from edge_compress_cluster.weights import ClusterWeights


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """The strategies above."""
    return [ClusterWeights()]
