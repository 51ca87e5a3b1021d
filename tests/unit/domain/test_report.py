"""The report's figures of the original."""

from __future__ import annotations

from edge_compress.domain.artifact import Measurement, Outcome, Quality
from edge_compress.domain.report import report_entry


def outcome(profile: str, baseline: Measurement) -> Outcome:
    return Outcome("vision", profile, "INFEASIBLE", "runtime", "it cannot", None, (), baseline)


def test_the_original_is_told_by_a_profile_that_measured_it() -> None:
    quality = Quality("top1", 0.9, 0.9, 0.0, 100, (0.85, 0.95))
    entry = report_entry([outcome("odd", Measurement("0" * 64, 10)), outcome("cam", Measurement("0" * 64, 10, quality=quality))])
    assert entry["float"]["quality"]["value"] == 0.9
    assert list(entry["profiles"]) == ["odd", "cam"]
