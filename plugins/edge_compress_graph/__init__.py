"""Strategies that rewrite a graph without changing what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Strategy, hookimpl
from edge_compress_graph.optimize import GraphOptimize


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """All strategies of this plugin."""
    return [GraphOptimize()]
