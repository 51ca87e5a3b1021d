"""What an update costs on the link: ``make bench-updates``, or ``python -m tests.bench.updates [--only MODEL]``.

For the zoo's audio network, trained here, and the shared models where they are there: one layer changed, fine-tuned floats,
integers calibrated anew, integers of the fine-tuned model; the latter two also with the scales of the version before kept. Beside
what we send: zstd -19 of the new file, and zstd --patch-from the old one (level 19, a window that holds both).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_compress.encoding import packed_bytes
from tests.bench import judge, zoo
from tests.bench.cases import SHARED, Case, shared
from tests.bench.versions import Pair, judged, pairs

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PRECISIONS: Mapping[str, Mapping[str, Any]] = {"int8": {}, "int8 at 2.8 bits": {"rate": 2.8}}
_HEAD = ("", "bytes", "zstd -19", "in full", "update", "patch-from", "update", "patch", "top-1")
_FORMAT = "{:46}{:>11}{:>11}{:>11}{:>11}{:>11}{:>8}{:>8}{:>8}"


@dataclass(frozen=True)
class Update:
    """Bytes of a new version: as a file, under zstd -19, as we send it in full and as an update, and by zstd --patch-from."""

    what: str
    file: int
    zstd19: int
    full: int
    update: int
    patch: int
    top1: float


def measured(pair: Pair, case: Case, folder: Path) -> Update:
    """What one update costs."""
    old, new = folder / "old.onnx", folder / "new.onnx"
    old.write_bytes(pair.old)
    new.write_bytes(pair.new)
    samples = judged(case)
    top1 = 100 * float(judge.right(new, case.preprocess(samples.samples), samples.labels).mean())
    size = judge.sizes(new)
    what = f"{pair.what}{', near to the old' if pair.kept else ''}"
    return Update(what, size.disk, size.zstd19, size.download, packed_bytes(new, old), patched(pair.new, pair.old), top1)


def patched(new: bytes, old: bytes) -> int:
    """Bytes of ``zstd -19 --long --patch-from``."""
    options = {
        zstd.CompressionParameter.compression_level: 19,
        zstd.CompressionParameter.window_log: min(30, (len(new) + len(old)).bit_length()),
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    return len(zstd.compress(new, options=options, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix))


def lines(updates: Iterable[Update]) -> Iterator[str]:
    """One aligned line each; the last but one columns are shares of zstd -19."""
    yield _FORMAT.format(*_HEAD)
    for one in updates:
        sizes = (f"{value:,}" for value in (one.file, one.zstd19, one.full, one.update, one.patch))
        shares = (f"{value / one.zstd19:.3f}" for value in (one.update, one.patch))
        yield _FORMAT.format(one.what, *sizes, *shares, f"{one.top1:.2f}")


def cases(only: str) -> Iterator[Case]:
    """The network that is trained here, then the shared ones."""
    yield from zoo.cases("audio") if only in "audio" else ()
    if SHARED.is_dir():
        yield from (case for case in shared() if only in case.name)
    else:
        print(f"{SHARED} is not there: no shared models")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What an update costs on the link.")
    parser.add_argument("--only", default="", help="models whose name contains this")
    arguments = parser.parse_args()
    for case in cases(arguments.only):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            found = [measured(pair, case, folder) for pair in pairs(case, folder, PRECISIONS)]
        print("\n".join(["", case.name, *lines(found)]), flush=True)


if __name__ == "__main__":
    main()
