"""How fast the store is, beside plain ``sqlite3``: ``python tests/bench/store.py [FOLDER]`` (FOLDER decides which disk).

Every figure is the median of three runs. ``sqlite3`` is one connection without threads, checks, an event log or answers.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_compress.store.blobs import FolderBlobs
from edge_compress.store.connections import connect
from edge_compress.store.interface import UsageKey, UsageTotals
from edge_compress.store.sqlite import SqliteStore

ROUNDS = 3
SPEC = {"runtime": "onnxruntime", "memory": "64Mi", "precisions": ["fp32", "int8"], "threads": 1, "rate": "5/s"}
TOTALS = UsageTotals({"ok": 100, "error": 1}, (0.001, 0.01, 0.1, 1.0), (1, 50, 40, 9, 1), 12.5, {"rapl/package": 40.0})


def main(where: Path) -> None:
    print(f"SQLite {sqlite3.sqlite_version}, {where}")
    for synchronous in ("FULL", "NORMAL"):
        print(f"\nsynchronous={synchronous}")
        report("plain sqlite3, one commit a row", median(where, synchronous, plain_commits), "rows/s")
        report("plain sqlite3, executemany", median(where, synchronous, plain_executemany), "rows/s")
        for threads in (1, 16, 64):
            rate = median(where, synchronous, lambda store, threads=threads: applies(store, threads))
            report(f"apply, {threads} thread{'s' * (threads > 1)}", rate, "applies/s")
        report("apply that changes nothing", median(where, synchronous, unchanged), "applies/s")
        report("put_usage, 100 rows a call", median(where, synchronous, usage), "rows/s")
        report("get", median(where, synchronous, gets), "reads/s")
        report("listener hears a change, median", median(where, synchronous, lambda store: heard(store)[0]), "us")
        report("listener hears a change, p99", median(where, synchronous, lambda store: heard(store)[1]), "us")


def median(where: Path, synchronous: str, measure: Callable[[SqliteStore], float]) -> float:
    figures = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            store = SqliteStore(Path(folder) / "state.db", FolderBlobs(Path(folder) / "blobs"), synchronous=synchronous)
            figures.append(measure(store))
            store.close()
    return statistics.median(figures)


def plain(store: SqliteStore) -> sqlite3.Connection:
    """A bare connection on the same disk, as durable as the store's."""
    path = store.blobs.path(store.blobs.put_bytes(b"")).parents[2] / "plain.db"
    level = store._writer._connection.execute("PRAGMA synchronous").fetchone()[0]
    connection = connect(path, synchronous=str(level))
    connection.execute("CREATE TABLE usage (device TEXT PRIMARY KEY, inferences INTEGER, totals TEXT)")
    return connection


def plain_commits(store: SqliteStore) -> float:
    connection, count = plain(store), 1_000
    begun = time.perf_counter()
    for number in range(count):
        connection.execute("INSERT INTO usage VALUES (?, ?, ?)", (f"d{number}", number, "x" * 150))
    seconds = time.perf_counter() - begun
    connection.close()
    return count / seconds


def plain_executemany(store: SqliteStore) -> float:
    connection, count = plain(store), 50_000
    rows = [(f"d{number}", number, "x" * 150) for number in range(count)]
    begun = time.perf_counter()
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO usage VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    seconds = time.perf_counter() - begun
    connection.close()
    return count / seconds


def applies(store: SqliteStore, threads: int) -> float:
    count = 1_000 if threads == 1 else 4_000
    begun = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda number: store.apply("Device", f"d{number}", labels={"site": "a"}, spec=SPEC), range(count)))
    return count / (time.perf_counter() - begun)


def unchanged(store: SqliteStore) -> float:
    count = 3_000
    store.apply("Device", "d", labels={}, spec=SPEC)
    begun = time.perf_counter()
    for _ in range(count):
        store.apply("Device", "d", labels={}, spec=SPEC)
    return count / (time.perf_counter() - begun)


def usage(store: SqliteStore) -> float:
    count = 20_000
    rows = [(UsageKey(f"d{number}", "boot", "cam", "vision", "0123456789ab"), TOTALS) for number in range(count)]
    begun = time.perf_counter()
    for start in range(0, count, 100):
        store.put_usage(rows[start : start + 100])
    return count / (time.perf_counter() - begun)


def gets(store: SqliteStore) -> float:
    count = 5_000
    store.apply("Device", "d", labels={}, spec=SPEC)
    begun = time.perf_counter()
    for _ in range(count):
        store.get("Device", "d")
    return count / (time.perf_counter() - begun)


def heard(store: SqliteStore) -> tuple[float, float]:
    """Microseconds from the call of ``apply`` to the listener's: median and 99th percentile."""
    begun, delays = [0.0], []
    store.subscribe(lambda event: delays.append((time.perf_counter() - begun[0]) * 1e6))
    for number in range(1_000):
        begun[0] = time.perf_counter()
        store.apply("Device", "d", labels={}, spec={"number": number})
    return statistics.median(delays), statistics.quantiles(delays, n=100)[98]


def report(what: str, figure: float, unit: str) -> None:
    print(f"  {what:<36}{figure:>12,.0f} {unit}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.gettempdir()))
