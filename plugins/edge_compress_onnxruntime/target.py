"""Target ``onnxruntime``: what a profile's ``runtime: onnxruntime`` means. Packing the file is left to ``pack``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_compress.plugin import Context, DeviceProfileSpec, Runner, Target

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime

DOT_PRODUCT = "int8_dot_product"


class OnnxRuntime(Target):
    """One ``model.onnx``, run on the processor by onnxruntime."""

    name: ClassVar[str] = "onnxruntime"
    version: ClassVar[str] = "4"
    file_name: ClassVar[str] = "model.onnx"
    libraries: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def variant(self, profile: DeviceProfileSpec) -> str:
        """Processors that multiply integers well get more to multiply and less to look up, see ``folding``."""
        return DOT_PRODUCT if profile.int8_dot_product else ""

    def convert(self, model: onnx.ModelProto, context: Context, variant: str = "") -> bytes:
        """The packed file. Raises InvalidModel when the graph has a cycle."""
        from edge_compress.graph.tidy import tidied
        from edge_compress_onnxruntime.folding import fold_pixels
        from edge_compress_onnxruntime.lanes import fill_lanes
        from edge_compress_onnxruntime.pack import pack

        tidy = tidied(model)
        return pack(fill_lanes(fold_pixels(tidy) if variant == DOT_PRODUCT else tidy))

    def warm(self) -> None:
        """Import onnxruntime and make it build its environment and thread state, with the smallest model there is."""
        import onnx
        import onnxruntime
        from onnx import helper

        tensor = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", tensor[:1], tensor[1:])
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
        onnxruntime.InferenceSession(model.SerializeToString(), session_options(1), providers=["CPUExecutionProvider"])

    def open(self, path: Path, threads: int) -> Runner:
        """Load the file. Raises onnxruntime's own errors when it cannot."""
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
        return _Session(session)

    def layer_seconds(
        self, path: Path, threads: int, feeds: Sequence[Mapping[str, np.ndarray[Any, Any]]], seconds: float
    ) -> Mapping[str, float]:
        """By onnxruntime's profiler, under the same settings."""
        from edge_compress_onnxruntime.profile import layer_seconds

        return layer_seconds(path, threads, feeds, seconds)


class _Session:
    """A loaded session."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Sequence[np.ndarray[Any, Any]]:
        """Outputs in the model's order."""
        outputs: Sequence[np.ndarray[Any, Any]] = self._session.run(None, dict(inputs))
        return outputs


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """The agent's settings: what is measured here must be what runs there.

    Waiting threads sleep instead of spinning, because a device pays for spinning in energy and other work shares its cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
