"""What the bench says of its rows."""

from __future__ import annotations

from tests.bench.table import Row, failures, lines, verdicts, worse


def row(method: str, *, zstd19: int, latency: float, drop: float = 0.0, ours: bool = False, why: str = "") -> Row:
    return Row("m", method, ours, zstd19=zstd19, latency=latency, drop=drop, margin=0.2, why=why)


FLOAT = row("float", zstd19=1000, latency=1.0)
GOOD = row("good", zstd19=300, latency=0.8, drop=0.1)
SPOILT = row("spoilt", zstd19=100, latency=0.1, drop=3.0)


def test_peers_that_lose_too_much_are_no_rivals() -> None:
    said = verdicts([FLOAT, GOOD, SPOILT, row("int8-small", zstd19=150, latency=0.8, ours=True)])
    assert said == ["  int8-small            download 0.50 of the best peer's (good) *, latency 1.00 (good)"]


def test_size_and_time_are_held_against_the_best_of_each() -> None:
    small = row("small", zstd19=200, latency=0.9)
    [said] = verdicts([FLOAT, GOOD, small, row("int8-fast", zstd19=200, latency=0.6, ours=True)])
    assert "download 1.00 of the best peer's (small)," in said
    assert "latency 0.75 (good) *" in said


def test_files_without_int8_are_held_against_float() -> None:
    [said] = verdicts([FLOAT, GOOD, row("fp32-fast", zstd19=250, latency=0.5, drop=1.5, ours=True)])
    assert "4.00 times smaller than float *, 2.00 times faster *" in said
    assert "loses 1.50 ± 0.20 points" in said


def test_the_best_of_ours_is_named_where_there_are_several() -> None:
    small = row("int8-small", zstd19=150, latency=0.9, ours=True)
    fast = row("int8-fast", zstd19=250, latency=0.6, ours=True)
    spoilt = row("int8-fast, 15m", zstd19=50, latency=0.1, drop=2.0, ours=True)
    assert verdicts([FLOAT, GOOD, small, fast, spoilt])[-1] == "  best of ours          download 0.50 *, latency 0.75 *"


def test_no_rival_is_said_so() -> None:
    [said] = verdicts([FLOAT, SPOILT, row("int8-small", zstd19=150, latency=0.8, ours=True)])
    assert "no peer keeps within 1 point" in said


def test_worse_names_each_figure_and_lets_noise_be() -> None:
    def behind(**figures: float) -> list[str]:
        mine = row("int8-fast", ours=True, **{"zstd19": 300, "latency": 0.8, **figures})  # type: ignore[arg-type]
        return worse([FLOAT, GOOD, mine], "int8-fast")

    assert behind() == []
    assert behind(drop=0.45) == []
    assert behind(latency=0.82) == []
    assert behind(drop=0.6) == ["m: int8-fast: drop 0.60 against 0.10 of good"]
    assert behind(zstd19=301) == ["m: int8-fast: 301 bytes against 300 of good"]
    assert behind(latency=0.9) == ["m: int8-fast: latency 0.90 against 0.80 of good"]


def test_a_failure_is_worse_and_keeps_its_line() -> None:
    failed = row("int8-fast", zstd19=0, latency=0.0, ours=True, why="exit code 1")
    assert worse([FLOAT, GOOD, failed], "int8-fast") == ["m: int8-fast: exit code 1"]
    assert lines([failed])[1].endswith("exit code 1")
    assert verdicts([FLOAT, GOOD, failed]) == []


def test_each_failure_is_told_once() -> None:
    broken = Row("m", "int8-small", ours=True, failed=("prune: a", "prune: b"))
    assert failures([FLOAT, broken, broken]) == ["  failed on the way: prune: a", "  failed on the way: prune: b"]
