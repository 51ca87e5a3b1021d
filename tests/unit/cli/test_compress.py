"""``compress``: one shot, real steps, pure JSON on stdout, exit code 3 for a goal that cannot be met."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edge_compress.cli.compress import infeasible, report_table
from tests.unit.cli.conftest import Command
from tests.unit.cli.digits_fleet import write_whole_fleet


def test_compress_writes_artifacts_and_reports(command: Command, tmp_path: Path) -> None:
    fleet, out = write_whole_fleet(tmp_path), tmp_path / "out"
    shown = command(["compress", "-f", fleet, "--out", str(out), "--json"])
    assert shown.code == 3, shown.err
    entry = json.loads(shown.out)["models"]["digits"]["profiles"]["tiny"]
    assert (entry["verdict"], entry["binding_constraint"]) == ("INFEASIBLE", "storage")
    assert hashlib.sha256((out / entry["artifact"]).read_bytes()).hexdigest() == entry["sha256"]
    assert "digits" in (out / "report.html").read_text()
    assert any(line.startswith("digits/tiny: 100%") for line in shown.err.splitlines())
    again = command(["compress", "-f", fleet, "--out", str(out)])
    assert again.code == 3
    assert again.out.splitlines()[0].split()[:3] == ["MODEL", "PROFILE", "VERDICT"]
    assert "digits for tiny: bound by storage: " in again.out
    assert str(out / "report.html") in again.err


def test_compress_refuses_bad_data_in_one_line(command: Command, tmp_path: Path) -> None:
    fleet = write_whole_fleet(tmp_path)
    (tmp_path / "val.npz").write_bytes(b"no archive")
    shown = command(["compress", "-f", fleet, "--out", str(tmp_path / "out"), "--json"])
    assert (shown.code, shown.out) == (1, "")
    last = shown.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "evaluation" in last


def test_the_table_is_honest_about_what_is_not_known() -> None:
    entry: dict[str, Any] = {"verdict": "FEASIBLE", "bytes": 2048, "energy_mj": {"value": None, "source": None}, "recipe": []}
    report = {"models": {"m": {"profiles": {"p": entry}}}}
    assert not infeasible(report)
    assert report_table(report, wide=True) == report_table(report), "nothing is known of its layers"
    entry["layers"] = [
        {"name": "stem", "bytes": 30, "time_ms": 1.0},
        {"name": "head", "bytes": 10, "time_ms": 3.0, "sensitivity": 0.5},
    ]
    said = "stem holds 75 % of the original's weights. head takes 75 % of the original's time. Most sensitive: head, 50 % error."
    assert report_table(report, wide=True)[-1] == f"m for p: layers: {said}"
    assert len(report_table(report)) == 2
    assert report_table(report)[1].split() == ["m", "p", "FEASIBLE", "2", "KiB", *"–––––", "–", "as", "it", "is"]
