"""First-party plugin: pruning. Uses only the public plugin API.

prune.magnitude     small weights become zero: a smaller download, the same shapes
prune.unstructured  the same with training: by magnitude, activation or gradient, at once or by a schedule
prune.structured    whole channels go, and the rest is trained by the original: smaller and faster
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.plugin import Strategy, hookimpl
from edge_compress_prune.magnitude import PruneMagnitude
from edge_compress_prune.structured import PruneStructured
from edge_compress_prune.unstructured import PruneUnstructured


@hookimpl
def edge_compress_register_strategies() -> Sequence[Strategy[Any]]:
    """The strategies above."""
    return [PruneMagnitude(), PruneUnstructured(), PruneStructured()]
