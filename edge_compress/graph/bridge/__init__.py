"""ONNX to trainable torch and back. Public to plugins: what is listed here, and nothing else of the package.

``to_torch`` gives a ``torch.fx.GraphModule`` of ordinary layers (``nn.Conv2d``, ``nn.Linear``, …) with real parameters and a
free batch; train it, prune it, put other layers in its place; ``to_onnx`` writes it back under the original's interface.
``what`` says why a model cannot be taken, and ``unknown`` says it from a list of operators without loading torch.

torch takes seconds to load, so this module imports it only when one of these is called. Changing models is left to plugins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edge_compress.errors import Unsupported
from edge_compress.graph.bridge.operators import OPERATORS, unknown

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import nn

    from edge_compress.graph.bridge.importer import Imported
    from edge_compress.graph.bridge.parity import Parity

__all__ = ["OPERATORS", "Unsupported", "check_parity", "to_onnx", "to_torch", "unknown", "what"]


def to_torch(model: onnx.ModelProto) -> Imported:
    """The model as a trainable module, in eval mode. ``model`` is left as it is.

    Raises Unsupported with every operator that has no torch form and the reason, all at once.
    """
    from edge_compress.graph.bridge.importer import import_model

    return import_model(model)


def what(model: onnx.ModelProto) -> list[tuple[str, str, str]]:
    """What keeps ``to_torch`` from taking the model: (operator, node, why) for each; empty when nothing does."""
    from edge_compress.graph.bridge.importer import refusals

    return refusals(model)


def to_onnx(module: Imported | nn.Module, like: onnx.ModelProto) -> onnx.ModelProto:
    """The module as ONNX with the inputs, outputs, types and free axes of ``like``; the same module gives the same bytes.

    A module that came from ``to_torch``, changed or not, keeps the original's operators and opset. Any other goes through
    torch's own exporter, at opset 18 or later. Raises Unsupported when neither can write it.
    """
    from edge_compress.graph.bridge.export import export

    return export(module, like)


def check_parity(
    model: onnx.ModelProto,
    module: Imported | nn.Module,
    feeds: Mapping[str, np.ndarray[Any, Any]],
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> Parity:
    """Hold the module, and what ``to_onnx`` writes of it, to the answers of onnxruntime for ``model`` on ``feeds``.

    An element passes when ``|got - want| <= atol * max|want| + rtol * |want|``. Raises Unsupported that names the first
    output that fails and by how much; returns the largest differences otherwise.
    """
    from edge_compress.graph.bridge.parity import hold

    return hold(model, module, feeds, rtol=rtol, atol=atol)
