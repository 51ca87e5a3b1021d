from __future__ import annotations

from pathlib import Path

import pytest

from edge_compress.agent.meters import Estimate, Rapl, choose


def package(root: Path, number: int, energy: int, limit: int = 1000) -> Path:
    """A zone as /sys/class/powercap shows it, with a sub-zone that must not be counted twice."""
    for name in (f"intel-rapl:{number}", f"intel-rapl:{number}:0"):
        (root / name).mkdir(parents=True)
        (root / name / "energy_uj").write_text(f"{energy}\n")
        (root / name / "max_energy_range_uj").write_text(f"{limit}\n")
    return root / f"intel-rapl:{number}" / "energy_uj"


def test_rapl_sums_packages_and_survives_a_wrap(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 900), package(tmp_path, 1, 100)
    meter = Rapl(tmp_path)
    first.write_text("950")
    second.write_text("300")
    assert meter.spent(123.0) == pytest.approx(250e-6)
    first.write_text("10")
    assert meter.spent(0.0) == pytest.approx(60e-6)
    assert meter.spent(0.0) == 0.0


def test_an_estimate_is_processor_time_times_watts() -> None:
    meter = Estimate(2.0)
    assert meter.spent(0.25) == 0.5
    assert meter.spent(-1.0) == 0.0


def test_the_best_meter_that_works_is_chosen(tmp_path: Path) -> None:
    assert choose(2.0, [lambda: Rapl(tmp_path)]).source == "estimate"
    assert choose(None, [lambda: Rapl(tmp_path)]) is None
    assert choose(0.0, [lambda: Rapl(tmp_path)]) is None
    package(tmp_path, 0, 1)
    assert choose(2.0, [lambda: Rapl(tmp_path)]).source == "rapl"
