from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_compress.agent.framing import Array
from edge_compress.agent.vectors import difference, read, to_array, to_numpy
from edge_compress.errors import InvalidData


def test_golden_vectors_are_read_by_input_and_output(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **{"in/x": np.zeros((3, 2)), "in/mask": np.ones((3, 1)), "out/y": np.arange(3.0)})
    golden = read(str(tmp_path / "golden.npz"))
    assert golden.samples == 3
    assert set(golden.inputs(0, 1)) == {"x", "mask"}
    assert golden.inputs(1, 2)["x"].shape == (2, 2)
    assert golden.outputs(2, 1)["y"].tolist() == [2.0]


@pytest.mark.parametrize("arrays", [{}, {"in/x": np.zeros(3)}, {"in/x": np.zeros(0), "out/y": np.zeros(0)}])
def test_golden_vectors_with_nothing_to_compare_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "golden.npz", **arrays)
    with pytest.raises(InvalidData):
        read(str(tmp_path / "golden.npz"))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "golden.npz", **{"in/x": np.array([{}], dtype=object), "out/y": np.zeros(1)})
    with pytest.raises(ValueError, match="allow_pickle"):
        read(str(tmp_path / "golden.npz"))


def test_an_element_passes_within_atol_plus_rtol_times_what_is_wanted() -> None:
    want = np.array([[1.0, -100.0]])
    assert difference({"y": want + np.array([[0.01, 1.0]])}, {"y": want}, 0.01, 0.001, 0) == ""
    said = difference({"y": want + np.array([[0.0, 1.1]])}, {"y": want}, 0.01, 0.001, 4)
    assert said == "y, sample 4: got -98.9, expected -100"


def test_the_sample_that_is_worst_is_named() -> None:
    want = np.zeros((3, 2))
    got = want.copy()
    got[1, 0], got[2, 1] = 0.5, 2.0
    assert "sample 12" in difference({"y": got}, {"y": want}, 0.0, 0.1, 10)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_never_passes(bad: float) -> None:
    assert "sample 0" in difference({"y": np.array([[bad]])}, {"y": np.array([[1.0]])}, 1.0, 1.0, 0)


def test_a_missing_output_and_another_shape_are_told() -> None:
    want = {"y": np.zeros((1, 2))}
    assert "no output 'y'" in difference({"z": np.zeros((1, 2))}, want, 0, 0, 0)
    assert "shape (1, 3), expected (1, 2)" in difference({"y": np.zeros((1, 3))}, want, 0, 0, 0)


@pytest.mark.parametrize("value", [np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::2], np.float32([[1.5]]), np.array([True])])
def test_arrays_travel_unchanged(value: np.ndarray) -> None:
    back = to_numpy(to_array("x", value))
    assert back.dtype == value.dtype
    assert np.array_equal(back, value)


def test_bytes_that_do_not_fit_their_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        to_numpy(Array("x", "<f4", (3,), bytes(8)))
