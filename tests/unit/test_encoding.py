"""Packing for the link: what comes back, and how near it comes to what the bytes hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_compress.encoding import CHUNK_BYTES, pack, packed_bytes, unpack


def few_bits(count: int) -> bytes:
    """Weights in about three bits, as quantisation leaves them."""
    return np.random.default_rng(0).normal(0, 2, count).round().astype(np.int8).tobytes()


def held(data: bytes) -> float:
    """Bytes of an ideal coder with one table."""
    share = np.unique(np.frombuffer(data, np.uint8), return_counts=True)[1] / len(data)
    return float(-(share * np.log2(share)).sum() * len(data) / 8)


@pytest.mark.parametrize("data", [b"", b"a", bytes(CHUNK_BYTES), few_bits(CHUNK_BYTES), few_bits(1000)], ids=len)
def test_what_is_packed_comes_back(data: bytes) -> None:
    packed, smaller = pack(data)
    assert (unpack(packed) if smaller else packed) == data
    assert len(packed) <= len(data)


def test_weights_in_few_bits_take_what_they_hold() -> None:
    data = few_bits(CHUNK_BYTES)
    assert len(pack(data)[0]) < 1.03 * held(data)  # zstd at level 12 takes 1.15 times as much


def test_what_does_not_shrink_is_sent_as_it_is() -> None:
    data = np.random.default_rng(0).bytes(CHUNK_BYTES)
    assert pack(data) == (data, False)


def test_a_file_counts_as_its_chunks(tmp_path: Path) -> None:
    data = few_bits(CHUNK_BYTES + 5000)
    (tmp_path / "file").write_bytes(data)
    assert packed_bytes(tmp_path / "file") == sum(len(pack(part)[0]) for part in (data[:CHUNK_BYTES], data[CHUNK_BYTES:]))


def test_what_unpacks_to_too_much_is_refused() -> None:
    with pytest.raises(ValueError, match="more than 100 bytes"):
        unpack(pack(bytes(200))[0], limit=100)
    with pytest.raises(ValueError, match="not a zstd frame"):
        unpack(b"nothing of the kind")
