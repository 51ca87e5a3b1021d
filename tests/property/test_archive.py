"""Programs with anything in them: what is read is sound or refused in one line, and nothing of it is ever run."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_compress.errors import InvalidModel, TooLarge
from edge_compress.graph.archive import Archive, read_archive
from edge_compress.graph.program import Program, read_program
from tests.unit.graph.archives import save_linear

MARK = Path(tempfile.gettempdir()) / "edge-compress-no-such-mark"
NASTY = st.sampled_from(
    [
        None, True, -1, 2**70, 1e308, "", "x", "s0", f"open({str(MARK)!r}, 'w')", "Symbol('s0')+1", "torch.ops.aten.relu.default",
        "../x", "a\n", "\x00", "é", [], {}, [[]], {"as_int": "1"}, {"as_tensor": {"name": "input"}}, {"as_none": True},
        float("nan"),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return read_archive(save_linear(tmp_path_factory.mktemp("pt2") / "linear.pt2"), 10**6)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_program_with_something_else_in_it_is_read_or_refused(archive: Archive, data: st.DataObject) -> None:
    plain = copy.deepcopy(dict(archive.program))
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(_places(plain)))
        holder[key] = data.draw(NASTY)
    program, said = _read(lambda: read_program(plain))
    assert "\n" not in said
    if program is not None:
        assert all(isinstance(step.target, str) and step.target.isascii() for step in program.steps)
        assert {item.value for item in program.outputs} <= _made(program)
    assert not MARK.exists()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_file_with_other_bytes_in_it_is_read_or_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = save_once(Path(folder) / "damaged.pt2")
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        _, said = _read(lambda: read_program(read_archive(path, 10**6).program))
        assert "\n" not in said


def _read(reader: Callable[[], Program]) -> tuple[Program | None, str]:
    """The program, or what is said against it; any other error is a failure of the test."""
    try:
        return reader(), ""
    except (InvalidModel, TooLarge) as error:
        return None, str(error)


_SAVED: list[bytes] = []


def save_once(path: Path) -> Path:
    """A sound archive; torch writes it the first time only."""
    if not _SAVED:
        _SAVED.append(save_linear(path).read_bytes())
    path.write_bytes(_SAVED[0])
    return path


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found = []
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        found.append((value, key))
        if isinstance(inner, (dict, list)):
            found += _places(inner)
    return found


def _made(program: Any) -> set[str]:
    names = {item.name for item in program.inputs} | set(program.stored)
    for step in program.steps:
        for result in step.results:
            names |= {result} if isinstance(result, str) else set(result or ())
    return names
