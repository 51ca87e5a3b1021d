"""The onnxruntime target: packs a model into the smallest plain ONNX file and runs it under an agent's settings."""

from __future__ import annotations

from collections.abc import Sequence

from edge_compress.plugin import Target, hookimpl
from edge_compress_onnxruntime.target import OnnxRuntime


@hookimpl
def edge_compress_register_targets() -> Sequence[Target]:
    """The one target of this plugin."""
    return [OnnxRuntime()]
