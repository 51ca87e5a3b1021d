"""Archives nobody vouches for: what is refused, in one line, before anything of it is unpacked or run."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_compress.errors import InvalidInput, TooLarge
from edge_compress.graph.archive import is_archive, read_archive
from edge_compress.graph.program import read_program
from tests.unit.graph.archives import bomb, changed, rewritten, save_linear

LIMIT = 10**6


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_linear(tmp_path_factory.mktemp("pt2") / "linear.pt2")


def test_a_sound_archive_is_read_as_it_was_written(linear: Path) -> None:
    assert is_archive(linear)
    archive = read_archive(linear, LIMIT)
    assert {name: (item.shape, len(item.data)) for name, item in archive.tensors.items()} == {
        "weight": ((3, 4), 48),
        "bias": ((3,), 12),
    }
    program = read_program(archive.program)
    assert [(item.name, item.sizes[1:]) for item in program.inputs] == [("input", (4,))]
    assert program.free[str(program.inputs[0].sizes[0])].most == 512
    assert [step.target for step in program.steps] == ["torch.ops.aten.linear.default"]


def test_an_onnx_file_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"\x08\x08")
    assert not is_archive(tmp_path / "model.pt2")


def test_pickles_are_never_opened(linear: Path, tmp_path: Path) -> None:
    """The sample inputs always are a pickle; every other member may be one by what the archive says of it."""
    mark = tmp_path / "mark"
    loud = changed(linear, tmp_path / "loud.pt2", {"sample_inputs/model.pt": bomb(mark)})
    assert read_program(read_archive(loud, LIMIT).program).steps
    loud = changed(linear, tmp_path / "old.pt2", {}, {"linear/data/weights/model.pt": bomb(mark)})
    _refused(loud, "pickle, which is never opened")

    def pickled(config: Any) -> None:
        config["config"]["weight"]["use_pickle"] = True

    marked = rewritten(linear, tmp_path / "weights.pt2", pickled, "weights_config.json")
    _refused(changed(marked, tmp_path / "w.pt2", {"weights/weight_0": bomb(mark)}), "'weight' is stored as a pickle")
    constant = {"config": {"helper": {"path_name": "custom_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}}}
    hidden = changed(
        linear,
        tmp_path / "c.pt2",
        {"constants_config.json": json.dumps(constant).encode()},
        {"linear/data/constants/custom_obj_0": bomb(mark)},
    )
    _refused(hidden, "'helper' is stored as a pickle")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"path_name": "../../etc/passwd"}, "plain file name"),
        ({"path_name": "weight_7"}, "not there"),
        ({"tensor_meta": None}, "layout or element type"),
        ({"sizes": [{"as_int": 3}, {"as_int": 40}]}, "read 48 bytes, expected"),
        ({"sizes": [{"as_int": 2**39}, {"as_int": 2**39}], "strides": [{"as_int": 0}, {"as_int": 0}]}, "more bytes than a model"),
        ({"sizes": [{"as_expr": {"expr_str": "__import__('os').abort()"}}, {"as_int": 4}]}, "whole numbers"),
        ({"strides": [{"as_int": -4}, {"as_int": 1}]}, "whole numbers"),
        ({"storage_offset": {"as_int": 1}}, "read 48 bytes, expected 52"),
        ({"dtype": 9}, "layout or element type"),
        ({"dtype": [7]}, "layout or element type"),
    ],
)
def test_what_a_tensor_says_of_itself_is_held_against_its_bytes(linear: Path, tmp_path: Path, config: Any, said: str) -> None:
    def change(plain: Any) -> None:
        entry = plain["config"]["weight"]
        for key, value in config.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value

    _refused(rewritten(linear, tmp_path / "bad.pt2", change, "weights_config.json"), said)


@pytest.mark.parametrize(
    ("member", "data", "said"),
    [
        ("models/model.json", b"{", "is not JSON"),
        ("models/model.json", b"[" * 100_000, "is not JSON"),
        ("models/model.json", b"[]", "expected an object"),
        ("models/model.json", b'{"a": ' + b"9" * 10_000 + b"}", "is not JSON"),
        ("models/model.json", None, "read a zip with 0 exported programs"),
        ("byteorder", b"big", "big-endian"),
    ],
)
def test_odd_members_are_named(linear: Path, tmp_path: Path, member: str, data: bytes | None, said: str) -> None:
    _refused(changed(linear, tmp_path / "odd.pt2", {member: data}), said)


@pytest.mark.parametrize("name", ["../evil", "linear/../../evil", "/evil/x", "linear\\..\\evil"])
def test_paths_that_leave_the_archive_are_refused(linear: Path, tmp_path: Path, name: str) -> None:
    _refused(changed(linear, tmp_path / "path.pt2", {}, {name: b"x"}), "expected one inside it")


def test_two_members_of_one_name_are_refused(linear: Path, tmp_path: Path) -> None:
    _refused(changed(linear, tmp_path / "two.pt2", {}, {"other/models/model.json": b"{}"}), "twice")


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_does(linear: Path, tmp_path: Path) -> None:
    large = changed(linear, tmp_path / "bomb.pt2", {}, {"linear/extra/zeros": bytes(50 * LIMIT)})
    assert large.stat().st_size < LIMIT
    with pytest.raises(TooLarge, match="unpacks to"):
        read_archive(large, LIMIT)


def test_a_lie_about_the_size_of_a_member_is_no_way_round_it(linear: Path, tmp_path: Path) -> None:
    """The central directory says 10 bytes for what unpacks to millions."""
    large = changed(linear, tmp_path / "lie.pt2", {"byteorder": b"little" + bytes(5 * LIMIT)})
    with zipfile.ZipFile(large) as archive:
        info = next(item for item in archive.infolist() if item.filename.endswith("byteorder"))
    data = large.read_bytes().replace(info.file_size.to_bytes(4, "little"), (6).to_bytes(4, "little"))
    large.write_bytes(data)
    _refused(large, "damaged")


def test_half_an_archive_is_refused(linear: Path, tmp_path: Path) -> None:
    data = linear.read_bytes()
    for length in (4, 100, len(data) // 2, len(data) - 500, len(data) - 10):
        (tmp_path / "half.pt2").write_bytes(data[:length])
        _refused(tmp_path / "half.pt2", "damaged")
    middle = len(data) // 8
    (tmp_path / "noise.pt2").write_bytes(
        data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 40]) + data[middle + 40 :]
    )
    _refused(tmp_path / "noise.pt2", "")


def _refused(path: Path, said: str, read: Callable[[Path], Any] | None = None) -> None:
    with pytest.raises((InvalidInput, TooLarge)) as caught:
        read_program(read_archive(path, LIMIT).program)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
