"""edge-compress: compresses a trained model for each class of edge devices, delivers it, and measures what it costs there.

``Client`` is loaded on first use so that the agent and ``--help`` stay light.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_compress.client import Client

# Some builds of onnxruntime report use to their maker. Devices and servers must not call anybody we did not name.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Client":
        from edge_compress.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
