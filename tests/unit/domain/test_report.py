"""The report's figures of the original."""

from __future__ import annotations

from dataclasses import replace

from edge_compress.domain.artifact import Facts, Limits, Measurement, Outcome, Quality
from edge_compress.domain.report import report_entry
from edge_compress.domain.schema import decode, encode


def outcome(profile: str, baseline: Measurement) -> Outcome:
    return Outcome("vision", profile, "INFEASIBLE", "runtime", "it cannot", None, (), baseline)


def test_the_original_is_told_by_a_profile_that_measured_it() -> None:
    quality = Quality("top1", 0.9, 0.9, 0.0, 100, (0.85, 0.95))
    entry = report_entry([outcome("odd", Measurement("0" * 64, 10)), outcome("cam", Measurement("0" * 64, 10, quality=quality))])
    assert entry["float"]["quality"]["value"] == 0.9
    assert list(entry["profiles"]) == ["odd", "cam"]


def test_limits_and_facts_are_told_and_unknown_ones_are_null() -> None:
    told = replace(
        outcome("cam", Measurement()), limits=Limits(storage=1024, latency_p95=0.2), facts=Facts(macs=7, weight_bytes=40)
    )
    entry = report_entry([outcome("odd", Measurement()), told])
    assert entry["profiles"]["cam"]["limits"] == {
        "storage_bytes": 1024,
        "memory_bytes": None,
        "latency_p95_ms": 200.0,
        "max_drop": None,
    }
    known = {key: entry["float"][key] for key in ("macs", "parameters", "weight_bytes", "peak_activation_bytes")}
    assert known == {"macs": 7, "parameters": None, "weight_bytes": 40, "peak_activation_bytes": None}
    assert decode(Outcome, encode(told), "outcome") == told
