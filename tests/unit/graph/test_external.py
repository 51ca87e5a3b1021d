"""Models in several files: packed into one when all lie in one folder, refused when a path leads out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_compress.errors import InvalidModel
from edge_compress.graph.check import parse_checked
from edge_compress.graph.external import _Folder, inline_external_data


@pytest.fixture
def split_model(conv_model: onnx.ModelProto, tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    copy = onnx.ModelProto.FromString(conv_model.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (path.parent / "weights.bin").exists()
    return path


def _relocate(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())


def test_the_packed_model_is_whole_and_equal(split_model: Path, conv_model: onnx.ModelProto) -> None:
    packed = parse_checked(inline_external_data(split_model))
    for got, want in zip(packed.graph.initializer, conv_model.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(got), numpy_helper.to_array(want))
    assert packed.graph.node == conv_model.graph.node


def test_a_tensor_in_a_constant_node_is_packed_too(tmp_path: Path, conv_model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.arange(3, dtype=np.float32), "k")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="k.bin")
    tensor.external_data.add(key="offset", value="4")
    conv_model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["k"], value=tensor))
    (tmp_path / "k.bin").write_bytes(b"skip" + np.arange(3, dtype=np.float32).tobytes())
    path = tmp_path / "model.onnx"
    path.write_bytes(conv_model.SerializeToString())
    packed = parse_checked(inline_external_data(path))
    assert numpy_helper.to_array(packed.graph.node[0].attribute[0].t).tolist() == [0, 1, 2]


def test_a_model_in_one_file_keeps_its_bytes(conv_model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(conv_model.SerializeToString())
    assert inline_external_data(path) == path.read_bytes()


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../secret.bin", "sub/../../secret.bin", "C:\\secret.bin", "..\\secret.bin", "", "a\0b"]
)
def test_a_location_outside_the_folder_is_refused(split_model: Path, location: str) -> None:
    (split_model.parent.parent / "secret.bin").write_bytes(b"s" * 4096)
    _relocate(split_model, location)
    with pytest.raises(InvalidModel, match=r"tensor 'w': read external data at .*, expected a file inside the model's folder"):
        inline_external_data(split_model)


def test_a_link_that_leads_outside_is_refused(split_model: Path) -> None:
    secret = split_model.parent.parent / "secret.bin"
    secret.write_bytes(b"s" * 4096)
    (split_model.parent / "innocent.bin").symlink_to(secret)
    _relocate(split_model, "innocent.bin")
    with pytest.raises(InvalidModel, match=r"innocent\.bin"):
        inline_external_data(split_model)


def test_a_missing_file_is_named(split_model: Path) -> None:
    (split_model.parent / "weights.bin").unlink()
    with pytest.raises(InvalidModel, match=r"external data 'weights\.bin' does not exist"):
        inline_external_data(split_model)


def test_a_file_shorter_than_the_tensor_is_refused(split_model: Path) -> None:
    (split_model.parent / "weights.bin").write_bytes(b"short")
    with pytest.raises(InvalidModel, match=r"weights\.bin holds 5 bytes, expected \d+"):
        inline_external_data(split_model)


@pytest.mark.parametrize("entry", ["offset", "length"])
@pytest.mark.parametrize("value", ["-8", "many"])
def test_a_senseless_offset_or_length_is_refused(split_model: Path, entry: str, value: str) -> None:
    model = onnx.load(split_model, load_external_data=False)
    tensor = model.graph.initializer[0]
    kept = [item for item in tensor.external_data if item.key != entry]
    tensor.ClearField("external_data")
    tensor.external_data.extend(kept)
    tensor.external_data.add(key=entry, value=value)
    split_model.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match="tensor 'w'"):
        inline_external_data(split_model)


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\x3a\x7f", b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match="not an ONNX model"):
        inline_external_data(path)


def test_packing_needs_no_onnx() -> None:
    code = "import sys, edge_compress.graph.external; sys.exit(bool({'onnx', 'numpy', 'torch', 'pluggy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_larger_than_one_file_can_be_is_refused_before_it_is_read(split_model: Path) -> None:
    os.truncate(split_model.parent / "weights.bin", 2**31)  # sparse: nothing is really written
    model = onnx.load(split_model, load_external_data=False)
    tensor = next(item for item in model.graph.initializer if item.external_data)
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value="weights.bin")
    split_model.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModel, match=f"tensor {tensor.name!r}: with it the model takes more than 2147483647 bytes"):
        inline_external_data(split_model)
    os.truncate(split_model, 2**31)
    with pytest.raises(InvalidModel, match=r"^model\.onnx: with it the model takes more than"):
        inline_external_data(split_model)


def test_tensors_that_share_bytes_count_each_for_itself(split_model: Path) -> None:
    (split_model.parent / "shared.bin").write_bytes(bytes(1000))
    folder = _Folder(split_model.parent, left=1500)
    assert len(folder.read("first", {"location": "shared.bin"})) == 1000
    with pytest.raises(InvalidModel, match="tensor 'second': with it the model takes more"):
        folder.read("second", {"location": "shared.bin"})
