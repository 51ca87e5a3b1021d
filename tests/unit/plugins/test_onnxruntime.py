"""The onnxruntime target: what packing takes away, that it is the same every time, and how a model is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress.graph.check import parse_checked
from edge_compress.plugin import Context, Target
from edge_compress.plugin.registry import Registry

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def target() -> Target:
    return Registry.load(only=["onnxruntime"], strict=True).target("onnxruntime")


@pytest.fixture
def wordy_model() -> onnx.ModelProto:
    """Two dense layers with all that exporters leave behind."""
    draw = np.random.default_rng(0)
    first, second = draw.standard_normal((6, 5)).astype(np.float32), draw.standard_normal((5, 4)).astype(np.float32)
    nodes = [
        helper.make_node(
            "Constant", [], ["/net/constant_1/output"], name="/net/constant_1", value=numpy_helper.from_array(np.float32(2))
        ),
        helper.make_node("Constant", [], ["/net/constant_2/output"], name="/net/constant_2", value_float=2.0),
        helper.make_node(
            "MatMul", ["image", "net.first.weight"], ["/net/first/output"], name="/net/first", doc_string="File model.py, line 12"
        ),
        helper.make_node("Mul", ["/net/first/output", "/net/constant_1/output"], ["/net/mul_1/output"], name="/net/mul_1"),
        helper.make_node("Mul", ["/net/mul_1/output", "/net/constant_2/output"], ["/net/mul_2/output"], name="/net/mul_2"),
        helper.make_node("MatMul", ["/net/mul_2/output", "net.second.weight"], ["scores"], name="/net/second"),
        helper.make_node("Relu", ["/net/mul_2/output"], ["/net/unused/output"], name="/net/unused"),
    ]
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [
            numpy_helper.from_array(first, "net.first.weight"),
            numpy_helper.from_array(second, "net.second.weight"),
            numpy_helper.from_array(np.zeros(1000, np.float32), "net.unused"),
        ],
        doc_string="a long story",
        value_info=[helper.make_tensor_value_info("/net/first/output", TensorProto.FLOAT, ["batch", 5])],
    )
    opsets = [helper.make_opsetid("ai.onnx.ml", 2), helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="somebody", doc_string="more")
    helper.set_model_props(model, {"path": "/home/somebody/model.py"})
    return model


def _run(target: Target, path: Path, data: bytes, x: Array) -> Array:
    path.write_bytes(data)
    return np.asarray(target.open(path, threads=1).run({"image": x})[0])


def test_the_packed_file_computes_the_same(
    target: Target, wordy_model: onnx.ModelProto, context: Context, tmp_path: Path
) -> None:
    x = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)
    data = target.convert(wordy_model, context)
    want = _run(target, tmp_path / "a.onnx", wordy_model.SerializeToString(), x)
    np.testing.assert_array_equal(_run(target, tmp_path / "b.onnx", data, x), want)


def test_only_what_the_runtime_reads_is_left(target: Target, wordy_model: onnx.ModelProto, context: Context) -> None:
    data = target.convert(wordy_model, context)
    for word in (b"/net", b"somebody", b"story", b"model.py", b"ai.onnx.ml", b"main_graph"):
        assert word not in data
    packed = parse_checked(data)
    assert [item.name for item in packed.graph.initializer] == ["a", "b", "c"]  # the two equal constants are one
    assert [item.name for item in (*packed.graph.input, *packed.graph.output)] == ["image", "scores"]
    assert packed.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert len(packed.graph.node) == 4


def test_packing_is_idempotent_and_blind_to_names(target: Target, wordy_model: onnx.ModelProto, context: Context) -> None:
    data = target.convert(wordy_model, context)
    assert target.convert(parse_checked(data), context) == data
    renamed = onnx.ModelProto.FromString(wordy_model.SerializeToString().replace(b"net.first", b"net.other"))
    assert target.convert(renamed, context) == data


def test_the_bytes_are_the_same_in_every_process(
    target: Target, wordy_model: onnx.ModelProto, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(wordy_model.SerializeToString())
    code = (
        "import sys, onnx, hashlib; from edge_compress_onnxruntime.pack import pack; "
        "print(hashlib.sha256(pack(onnx.load(sys.argv[1]))).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.onnx")]
    digests = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(digests) == 1


def test_an_output_may_not_be_shadowed_by_a_short_name(target: Target, context: Context) -> None:
    """Inputs and outputs called a and b keep their names; internal tensors get others."""
    nodes = [helper.make_node("Relu", ["b"], ["inner"]), helper.make_node("Neg", ["inner"], ["a"])]
    values = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "ab"}
    graph = helper.make_graph(nodes, "g", [values["b"]], [values["a"]])
    packed = parse_checked(
        target.convert(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), context)
    )
    assert packed.graph.node[0].output[0] == "c"


def test_subgraphs_keep_reading_the_right_outer_tensors(target: Target, context: Context, tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"out_{op}", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, ["scaled", "net.weight"], [f"out_{op}"])], op, [], [out])

    nodes = [
        helper.make_node("ReduceSum", ["image"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("Mul", ["image", "same.weight"], ["scaled"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub")),
    ]
    weight = np.array([1, 2], np.float32)
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weight, "same.weight"),
            numpy_helper.from_array(weight, "net.weight"),
            numpy_helper.from_array(np.float32(0), "zero"),
        ],
    )
    data = target.convert(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), context)
    assert _run(target, tmp_path / "m.onnx", data, np.array([[3, 4]], np.float32)).tolist() == [[4, 10]]
    assert _run(target, tmp_path / "m.onnx", data, np.array([[-3, 1]], np.float32)).tolist() == [[-4, 0]]


def test_old_files_are_lifted_to_a_version_runtimes_load(target: Target, wordy_model: onnx.ModelProto, context: Context) -> None:
    wordy_model.ir_version = 3
    for item in wordy_model.graph.initializer:
        wordy_model.graph.input.append(helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)))
    packed = parse_checked(target.convert(wordy_model, context))
    assert packed.ir_version == 8
    assert [item.name for item in packed.graph.input] == ["image"]


def test_sessions_run_as_an_agent_runs_them(target: Target, wordy_model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(wordy_model.SerializeToString())
    options: Any = target.open(path, threads=2)._session.get_session_options()  # type: ignore[attr-defined]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_loading_the_plugin_imports_no_runtime() -> None:
    code = (
        "import sys; from edge_compress.plugin.registry import Registry; "
        "Registry.load(only=['onnxruntime', 'graph', 'metrics'], strict=True); "
        "sys.exit(bool({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_warming_leaves_a_usable_runtime(target: Target) -> None:
    target.warm()
    assert "onnxruntime" in sys.modules


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["resnet8_cifar10", "resnet20_cifar10", "efficientnet_lite0"])
def test_real_models_pack_smaller_and_answer_the_same(
    target: Target, context: Context, shared_data: Path, tmp_path: Path, name: str
) -> None:
    source = shared_data / f"{name}.onnx"
    model = onnx.load(source)
    data = target.convert(model, context)
    assert len(data) < source.stat().st_size
    (tmp_path / "packed.onnx").write_bytes(data)
    entry = model.graph.input[0]
    shape = [axis.dim_value or 2 for axis in entry.type.tensor_type.shape.dim]
    feed = {entry.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    want, got = target.open(source, 1).run(feed), target.open(tmp_path / "packed.onnx", 1).run(feed)
    np.testing.assert_array_equal(got[0], want[0])
