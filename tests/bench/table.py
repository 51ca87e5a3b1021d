"""The bench's rows, what they say of us against the peers, and how both are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

TOLERATED = 1.0
"""points of top-1 that a file may lose to count"""
SMALL, FAST = 0.5, 0.8
"""of the best peer's: the goals with int8"""
TIMES_SMALLER, TIMES_FASTER = 3.0, 1.5
"""of float: the goals without int8"""
NOISE = 1.03
"""of latencies: closer ones are the same"""


@dataclass(frozen=True)
class Row:
    """One file. ``drop`` and ``margin`` in points of top-1, ``latency`` as a ratio to float; ``why`` says what went wrong."""

    model: str
    method: str
    ours: bool = False
    disk: int = 0
    download: int = 0
    zstd19: int = 0
    top1: float = 0.0
    drop: float = 0.0
    margin: float = 0.0
    latency: float = 0.0
    milliseconds: float = 0.0
    seconds: float = 0.0
    why: str = ""
    recipe: str = ""
    failed: tuple[str, ...] = ()
    """candidates that broke on the way"""

    @property
    def counts(self) -> bool:
        """It exists and loses no more than is tolerated."""
        return not self.why and self.drop <= TOLERATED


HEAD = ("model", "method", "bytes", "download", "zstd -19", "top-1", "drop", "±", "latency", "ms", "s")
_FORMAT = "{:19} {:22}{:>11}{:>11}{:>11}{:>7}{:>7}{:>6}{:>9}{:>8}{:>7}"


def lines(rows: Iterable[Row]) -> list[str]:
    """One aligned line a row, and its recipe."""
    return [_FORMAT.format(*HEAD), *(_line(row) for row in rows)]


def _line(row: Row) -> str:
    if row.why:
        return f"{row.model:19} {row.method:22} {row.why}"
    figures = (f"{row.disk:,}", f"{row.download:,}", f"{row.zstd19:,}", f"{row.top1:.2f}", f"{row.drop:.2f}", f"{row.margin:.2f}")
    times = (f"{row.latency:.2f}", f"{row.milliseconds:.2f}", f"{row.seconds:.0f}")
    return _FORMAT.format(row.model, row.method, *figures, *times) + (f"  {row.recipe}" if row.recipe else "")


def verdicts(rows: Sequence[Row]) -> list[str]:
    """What the rows of one model say: our files against the best peer's, and against float where int8 is not allowed."""
    original = next(row for row in rows if row.method == "float")
    rivals = [row for row in rows if row.counts and not row.ours and row is not original]
    said = []
    for row in rows:
        if row.ours and not row.why:
            said.append(f"  {row.method:22}" + (_against(row, rivals) if "int8" in row.method else _against_float(row, original)))
    mine = [row for row in rows if row.counts and row.ours and "int8" in row.method]
    return [*said, f"  {'best of ours':22}{_best(mine, rivals)}"] if len(mine) > 1 and rivals else said


def _best(mine: Sequence[Row], rivals: Sequence[Row]) -> str:
    """Our smallest and our fastest file against the peers' smallest and fastest."""
    size = min(mine, key=_zstd19).zstd19 / min(rivals, key=_zstd19).zstd19
    time = min(mine, key=_latency).latency / min(rivals, key=_latency).latency
    return f"download {size:.2f}{_reached(size <= SMALL)}, latency {time:.2f}{_reached(time <= FAST)}"


def _against(row: Row, rivals: Sequence[Row]) -> str:
    if not rivals:
        return f"no peer keeps within {TOLERATED:g} point" + _lost(row)
    smallest, fastest = min(rivals, key=_zstd19), min(rivals, key=_latency)
    size, time = row.zstd19 / smallest.zstd19, row.latency / fastest.latency
    return (
        f"download {size:.2f} of the best peer's ({smallest.method}){_reached(size <= SMALL)}, "
        f"latency {time:.2f} ({fastest.method}){_reached(time <= FAST)}{_lost(row)}"
    )


def _against_float(row: Row, original: Row) -> str:
    smaller, faster = original.zstd19 / row.zstd19, 1 / row.latency
    return (
        f"{smaller:.2f} times smaller than float{_reached(smaller >= TIMES_SMALLER)}, "
        f"{faster:.2f} times faster{_reached(faster >= TIMES_FASTER)}{_lost(row)}"
    )


def _zstd19(row: Row) -> int:
    return row.zstd19


def _latency(row: Row) -> float:
    return row.latency


def _reached(yes: bool) -> str:
    return " *" if yes else ""


def _lost(row: Row) -> str:
    return "" if row.counts else f"; but it loses {row.drop:.2f} ± {row.margin:.2f} points"


def failures(rows: Iterable[Row]) -> list[str]:
    """Each failure among our candidates once: a run may look fine and be crippled."""
    return [f"  failed on the way: {line}" for line in dict.fromkeys(line for row in rows for line in row.failed)]


def worse(rows: Sequence[Row], method: str) -> list[str]:
    """Where our file ``method`` is worse than the best peer in drop (beyond the noise of both), in download or in latency.

    Peers that lose more than is tolerated are no rivals.
    """
    ours = next((row for row in rows if row.method == method and row.ours), None)
    rivals = [row for row in rows if not row.ours and row.method != "float" and row.counts]
    if ours is None or not rivals:
        return []
    if ours.why:
        return [f"{ours.model}: {method}: {ours.why}"]
    found = []
    surest = min(rivals, key=lambda row: row.drop)
    smallest, fastest = min(rivals, key=_zstd19), min(rivals, key=_latency)
    if ours.drop > surest.drop + ours.margin + surest.margin:
        found.append(f"drop {ours.drop:.2f} against {surest.drop:.2f} of {surest.method}")
    if ours.zstd19 > smallest.zstd19:
        found.append(f"{ours.zstd19:,} bytes against {smallest.zstd19:,} of {smallest.method}")
    if ours.latency > NOISE * fastest.latency:
        found.append(f"latency {ours.latency:.2f} against {fastest.latency:.2f} of {fastest.method}")
    return [f"{ours.model}: {method}: {what}" for what in found]
