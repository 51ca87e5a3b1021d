"""Declared data: what a model is given, what is refused, and that memory stays bounded."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_compress.domain.model import TensorFacts
from edge_compress.domain.spec import Preprocess
from edge_compress.errors import InvalidData
from edge_compress.graph.samples import WINDOW_BYTES, Samples

IMAGE = TensorFacts("input", "float32", ("N", 3, 4, 5))
AS_STORED = Preprocess()
CLASSES = [TensorFacts("y", "float32", ("N", 10))]


def _saved(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path / "data.npz", **arrays)
    return path / "data.npz"


def _open(path: Path, *inputs: TensorFacts, how: Preprocess = AS_STORED, role: str = "calibration") -> Samples:
    return Samples.open(path, inputs or (IMAGE,), how, role=role)


def _images(count: int = 7) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 4, 5), np.uint8)


def test_batches_come_in_order_preprocessed_with_labels(tmp_path: Path) -> None:
    images = _images()
    samples = _open(_saved(tmp_path, x=images, y=np.arange(7)), how=Preprocess(mean=(127.0,), std=(128.0,)))
    batches = list(samples.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    got = np.concatenate([batch.inputs["input"] for batch in batches])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, (images.astype(np.float32) - 127) / 128, rtol=1e-6)
    assert np.concatenate([batch.labels for batch in batches if batch.labels is not None]).tolist() == list(range(7))


def test_limit_and_skip_take_a_part(tmp_path: Path) -> None:
    samples = _open(_saved(tmp_path, x=_images(), y=np.arange(7)))
    taken = [label for batch in samples.batches(2, limit=3, skip=2) for label in batch.labels.tolist()]  # type: ignore[union-attr]
    assert taken == [2, 3, 4]


def test_the_array_may_have_the_inputs_name(tmp_path: Path) -> None:
    assert len(_open(_saved(tmp_path, input=_images()))) == 7


def test_several_inputs_are_read_side_by_side(tmp_path: Path) -> None:
    inputs = (TensorFacts("a", "float32", ("N", 2)), TensorFacts("b", "int64", ("N", "T")))
    samples = _open(_saved(tmp_path, a=np.ones((5, 2)), b=np.arange(20, dtype=np.int32).reshape(5, 4)), *inputs)
    last = list(samples.batches(2))[-1]
    assert last.inputs["a"].dtype == np.float32
    assert last.inputs["b"].tolist() == [[16, 17, 18, 19]]
    assert last.inputs["b"].dtype == np.int64


def test_a_fixed_batch_gives_whole_batches_only(tmp_path: Path) -> None:
    samples = _open(_saved(tmp_path, x=_images(7)), TensorFacts("input", "float32", (2, 3, 4, 5)))
    assert [len(batch) for batch in samples.batches(32)] == [2, 2, 2]
    assert [len(batch) for batch in samples.batches(32, limit=1)] == [2]
    assert [len(batch) for batch in samples.shuffled(32, seed=0, epoch=0)] == [2, 2, 2]


def test_a_pass_shuffles_all_samples_by_seed_and_epoch(tmp_path: Path) -> None:
    samples = _open(_saved(tmp_path, x=np.zeros((200, 2), np.float32), y=np.arange(200)), TensorFacts("i", "float32", ("N", 2)))

    def order(seed: int, epoch: int) -> list[int]:
        return [label for batch in samples.shuffled(16, seed, epoch) for label in batch.labels.tolist()]  # type: ignore[union-attr]

    assert sorted(order(0, 0)) == list(range(200))
    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(0, 0)), tuple(order(0, 1)), tuple(order(1, 0)), tuple(range(200))}) == 4


def test_a_file_larger_than_the_window_is_shuffled_within_it(tmp_path: Path) -> None:
    size = WINDOW_BYTES // 100
    data = np.repeat(np.arange(300, dtype=np.uint8), 1)[:, None] * np.ones((1, size), np.uint8)
    samples = _open(_saved(tmp_path, x=data, y=np.arange(300)), TensorFacts("i", "uint8", ("N", size)))
    seen = []
    for batch in samples.shuffled(10, seed=3, epoch=0):
        assert (batch.inputs["i"][:, 0] == batch.labels % 256).all()  # type: ignore[operator]
        seen += batch.labels.tolist()  # type: ignore[union-attr]
    assert sorted(seen) == list(range(300))
    assert seen != list(range(300))
    assert max(seen[:10]) < 100


def test_facts_count_samples_and_classes(tmp_path: Path) -> None:
    facts = _open(_saved(tmp_path, x=_images(), y=np.array([0, 3, 9, 1, 1, 2, 0]))).facts(True, CLASSES)
    assert (facts.samples, facts.labelled, facts.classes) == (7, True, 10)
    facts = _open(_saved(tmp_path, x=_images())).facts()
    assert (facts.samples, facts.labelled, facts.classes) == (7, False, 0)


def test_float_targets_are_kept_as_they_are(tmp_path: Path) -> None:
    samples = _open(_saved(tmp_path, x=_images(), y=np.linspace(0, 1, 7)))
    assert samples.facts().classes == 0
    assert next(samples.batches(7)).labels is not None


def test_labels_of_one_column_become_flat(tmp_path: Path) -> None:
    batch = next(_open(_saved(tmp_path, x=_images(), y=np.arange(7)[:, None])).batches(7))
    assert batch.labels is not None
    assert batch.labels.shape == (7,)


def _wrong(path: Path, *, inputs: tuple[TensorFacts, ...] = (IMAGE,), labels: bool = False, how: Preprocess = AS_STORED) -> str:
    with pytest.raises(InvalidData) as caught:
        Samples.open(path, inputs, how, role="evaluation").facts(labels, CLASSES)
    assert caught.value.message.startswith("spec.data.evaluation: ")
    assert caught.value.violations[0].field == "spec.data.evaluation"
    return caught.value.message


def _with(images: np.ndarray[Any, Any], value: float) -> np.ndarray[Any, Any]:
    changed = images.astype(np.float32)
    changed[5, 0, 0, 0] = value
    return changed


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"images": _images()}, "read arrays images, expected one called 'input' or 'x'"),
        ({"x": _images()[:, :2]}, "array 'x': read samples of shape (2, 4, 5), expected (3, 4, 5)"),
        ({"x": _images()[0]}, "array 'x': read samples of shape (4, 5), expected (3, 4, 5)"),
        ({"x": _images().astype("U3")}, "array 'x': read dtype <U3, expected numbers"),
        ({"x": _images().astype(np.complex64)}, "array 'x': read dtype complex64, expected numbers"),
        ({"x": np.array([{"a": 1}] * 7, dtype=object)}, "array 'x': holds Python objects (a pickle)"),
        ({"x": np.zeros(7, [("a", "f4"), ("b", "f4")])}, "array 'x': read dtype"),
        ({"x": np.float32(3)}, "array 'x': is a single number"),
        ({"x": _images()[:0]}, "array 'x': is empty"),
        ({"x": np.asfortranarray(_images())}, "array 'x': is in Fortran order"),
        ({"x": _with(_images(), np.nan)}, "array 'x': sample 5 holds NaN or infinity"),
        ({"x": _with(_images(), np.inf)}, "array 'x': sample 5 holds NaN or infinity"),
        ({"x": np.full((7, 3, 4, 5), 1e300)}, "array 'x': sample 0 holds NaN or infinity"),
        ({"x": _images(), "y": np.arange(6)}, "read x: 7, y: 6 samples, expected as many in every array"),
        ({"x": _images(), "y": np.array([0, 1, 2, 10, 4, 5, 6])}, "array 'y': sample 3 has label 10, expected 0 to 9"),
        ({"x": _images(), "y": np.array([0, 1, 2, 3, 4, -1, 6])}, "array 'y': sample 5 has label -1, expected 0 to 9"),
        ({"x": _images(), "y": _with(_images(), np.nan)}, "array 'y': samples from 0 on hold NaN"),
    ],
)
def test_data_that_does_not_fit_is_refused_by_name(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    assert said in _wrong(_saved(tmp_path, **arrays))


def test_labels_are_asked_for_only_where_the_metric_needs_them(tmp_path: Path) -> None:
    assert "array 'y': is missing, and the quality metric needs labels" in _wrong(_saved(tmp_path, x=_images()), labels=True)
    path = _saved(tmp_path, x=_images(), y=np.zeros(7, np.float32))
    assert "array 'y': read dtype float32, expected whole numbers" in _wrong(path, labels=True)


def test_values_that_do_not_fit_the_inputs_type_are_refused(tmp_path: Path) -> None:
    tokens = TensorFacts("ids", "int32", ("N", "T"))
    path = _saved(tmp_path, x=np.array([[1, 2**40]]))
    assert "read values from 1 to 1099511627776" in _wrong(path, inputs=(tokens,))
    assert "read dtype float32, expected one that becomes" in _wrong(
        _saved(tmp_path, x=np.ones((1, 2), np.float32)), inputs=(tokens,)
    )


def test_a_fixed_batch_needs_as_many_samples(tmp_path: Path) -> None:
    fixed = TensorFacts("input", "float32", (8, 3, 4, 5))
    assert "read 7 samples, expected at least 8" in _wrong(_saved(tmp_path, x=_images()), inputs=(fixed,))


def test_per_channel_numbers_must_match_the_channels(tmp_path: Path) -> None:
    path = _saved(tmp_path, x=_images())
    assert "preprocess.mean has 2 numbers" in _wrong(path, how=Preprocess(mean=(1.0, 2.0)))


@pytest.mark.parametrize("data", [b"", b"not a zip at all", b"PK\x03\x04" + b"\0" * 60])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(data)
    assert "data.npz is not a readable .npz file" in _wrong(path)


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w"):
        pass
    assert "holds no arrays" in _wrong(tmp_path / "data.npz")


def _npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode("latin1")
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3, 4, 5), }",
            "its header says 240000000000000 bytes",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 0), }", "expected samples of at least one element"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3), }", "expected samples of at least one element"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (1, 3), }", "holds Python objects"),
        ("{'descr': __import__('os').abort(), }", "is not a readable .npy array"),
        ("[" * 5000, "is not a readable .npy array"),
    ],
)
def test_headers_that_lie_are_refused_before_any_data_is_read(tmp_path: Path, header: str, said: str) -> None:
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("x.npy", _npy(header, b"\0" * 16))
    assert said in _wrong(tmp_path / "data.npz")


def test_other_arrays_in_the_file_are_left_alone(tmp_path: Path) -> None:
    path = _saved(tmp_path, x=_images(), names=np.array([object()] * 3, dtype=object), classes=np.array(["a", "b"]))
    assert _open(path).facts().samples == 7


def test_damage_anywhere_is_found_by_the_full_check(tmp_path: Path) -> None:
    path = _saved(tmp_path, x=np.random.default_rng(0).integers(0, 256, (500, 3, 4, 5), np.uint8))
    sound = path.read_bytes()
    for place in range(150, len(sound) - 200, len(sound) // 40):
        data = bytearray(sound)
        data[place] ^= 0xFF
        path.write_bytes(bytes(data))
        assert "array 'x': is" in _wrong(path)
    path.write_bytes(sound[: len(sound) // 2])
    assert "is not a readable .npz file" in _wrong(path)


def test_damage_in_an_uncompressed_archive_is_found_too(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=_images(500))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert "array 'x': is damaged (Bad CRC-32" in _wrong(path)


_LARGE = """
import resource, sys
from pathlib import Path
import numpy as np
from edge_compress.domain.model import TensorFacts
from edge_compress.domain.spec import Preprocess
from edge_compress.graph.samples import Samples

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

before = peak()
samples = Samples.open(Path(sys.argv[1]), [TensorFacts("input", "float32", ("N", 3, 256, 256))], Preprocess(mean=(0.5,)))
assert samples.facts().samples == 2000
assert sum(len(batch) for batch in samples.batches(32, limit=100)) == 100
stream = samples.shuffled(32, 0, 0)
assert sum(len(next(stream)) for _ in range(10)) == 320
print(peak() - before)
"""


def test_an_array_larger_than_memory_allows_is_streamed(tmp_path: Path) -> None:
    """1.57 GB uncompressed, checked in full and shuffled, in a process that may grow by 200 MB."""
    path = tmp_path / "large.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as out,
    ):
        out.write(_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2000, 3, 256, 256), }"))
        chunk = bytes(3 * 256 * 256 * 4 * 10)
        for _ in range(200):
            out.write(chunk)
    done = subprocess.run([sys.executable, "-c", _LARGE, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200e6
