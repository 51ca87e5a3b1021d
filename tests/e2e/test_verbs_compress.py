"""``compress``: fleet file to artifacts with no server; the JSON that scripts read, resuming, and stopping early."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.tiny import FLEET, said

Wait = Callable[..., Any]
PAIRS = """\
---
kind: DeviceProfile
metadata: {name: pin}
spec: {storage: 100, precisions: [fp32]}
---
kind: Deployment
metadata: {name: pin}
spec: {model: digits, recipe: tidy, selector: {profiles: [pin]}}
"""
PROFILE_KEYS = {
    "verdict",
    "binding_constraint",
    "gap",
    "artifact",
    "sha256",
    "bytes",
    "download_bytes",
    "quality",
    "latency_ms",
    "peak_memory_bytes",
    "energy_mj",
    "recipe",
    "candidates",
    "diagnosis",
    "seconds",
}


def compress(fleet: Path, out: Path, *flags: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The JSON that one run prints, and its stderr."""
    command = [sys.executable, "-m", "edge_compress", "compress", "-f", str(fleet), "--out", str(out), "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == code, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report, done.stderr


def steps(out: Path) -> dict[str, float]:
    """Everything finished, by key, with when it was stored."""
    if not (out / ".cache" / "state.db").exists():
        return {}
    with sqlite3.connect(f"file:{out / '.cache' / 'state.db'}?mode=ro", uri=True) as db:
        try:
            return dict(db.execute("SELECT key, created_at FROM steps"))
        except sqlite3.OperationalError:  # made a moment ago, its tables not yet
            return {}


@pytest.fixture(scope="module")
def pairs(tiny_files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """A fleet of one profile that can be served and one that cannot, its results, and their report."""
    folder = tmp_path_factory.mktemp("pairs")
    for path in tiny_files.iterdir():
        (folder / path.name).symlink_to(path)
    fleet, out = folder / "pairs.yaml", folder / "out"
    fleet.write_text(FLEET + PAIRS)
    return fleet, out, compress(fleet, out, code=3)[0]


def test_the_json_has_the_contracts_keys(pairs: tuple[Path, Path, dict[str, Any]]) -> None:
    _, _, report = pairs
    assert report.keys() == {"models"}
    entry = report["models"]["digits"]
    assert {"bytes", "quality", "latency_ms", "peak_memory_bytes", "energy_mj"} <= entry["float"].keys()
    assert set(entry["profiles"]) == {"cam", "pin"}
    for profile in entry["profiles"].values():
        assert profile.keys() >= PROFILE_KEYS
        assert {"metric", "float", "value", "drop", "samples", "confidence95"} <= profile["quality"].keys()
        assert {"p50", "p95", "source"} <= profile["latency_ms"].keys()
        assert profile["energy_mj"].keys() == {"value", "source"}
        assert profile["candidates"]
        assert all(step.keys() == {"strategy", "params"} for step in profile["recipe"])


def test_what_the_json_says_is_so(pairs: tuple[Path, Path, dict[str, Any]], tiny_files: Path) -> None:
    _, out, report = pairs
    entry = report["models"]["digits"]
    cam = entry["profiles"]["cam"]
    assert (cam["verdict"], cam["binding_constraint"]) == ("FEASIBLE", None)
    assert entry["float"]["bytes"] == (tiny_files / "digits.onnx").stat().st_size
    assert cam["artifact"] == "digits/cam/model.onnx"
    data = (out / cam["artifact"]).read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (cam["sha256"], cam["bytes"])
    quality = cam["quality"]
    assert (quality["metric"], quality["samples"]) == ("top1", 597)
    assert 0.8 < quality["value"] <= 1, "fractions, not per cent"
    assert math.isclose(quality["drop"], quality["float"] - quality["value"], abs_tol=2e-6)
    low, high = quality["confidence95"]
    assert 0 < low < quality["value"] < high < 1
    assert 0 < cam["latency_ms"]["p50"] <= cam["latency_ms"]["p95"] < 1000
    assert cam["latency_ms"]["source"] == "measured-here"
    assert (cam["energy_mj"]["source"], cam["energy_mj"]["value"] > 0) == ("estimate", True)
    assert [step["strategy"] for step in cam["recipe"]] == ["graph.optimize"]


def test_a_pair_that_cannot_be_met_says_why_and_keeps_the_nearest_artifact(pairs: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, report = pairs
    pin = report["models"]["digits"]["profiles"]["pin"]
    assert (pin["verdict"], pin["binding_constraint"]) == ("INFEASIBLE", "storage")
    assert "100" in pin["gap"]
    assert hashlib.sha256((out / pin["artifact"]).read_bytes()).hexdigest() == pin["sha256"]
    assert pin["energy_mj"]["value"] is None, "no watts are declared for it"


def test_reports_lie_beside_the_artifacts(pairs: tuple[Path, Path, dict[str, Any]]) -> None:
    _, out, report = pairs
    for name, profile in report["models"]["digits"]["profiles"].items():
        assert json.loads((out / "digits" / name / "report.json").read_text()) == profile
    page = (out / "report.html").read_text()
    assert "<script src" not in page, "it stands alone"
    assert "pin" in page


def test_a_second_run_does_nothing_and_says_the_same(pairs: tuple[Path, Path, dict[str, Any]]) -> None:
    fleet, out, report = pairs
    before = steps(out)
    began = time.monotonic()
    again, stderr = compress(fleet, out, code=3)
    took = time.monotonic() - began
    assert again == report
    assert steps(out) == before
    assert took < 10
    assert {line.rpartition("% ")[2] for line in stderr.splitlines()} == {"already known"}


def test_in_words_it_is_a_table(pairs: tuple[Path, Path, dict[str, Any]], stand: Any) -> None:
    fleet, out, _ = pairs
    done = stand.cli("compress", "-f", str(fleet), "--out", str(out), code=3)
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["MODEL", "PROFILE", "VERDICT"]
    assert lines[1].split()[:3] == ["digits", "cam", "FEASIBLE"]
    assert lines[-1].startswith("digits for pin: bound by storage: ")
    assert str(out / "report.html") in said(done.stderr)[-1]


def test_without_deployments_every_model_goes_to_every_profile_and_a_budget_keeps_the_best_so_far(tiny: Path) -> None:
    documents = tiny.read_text().split("---\n")
    tiny.write_text("---\n".join(documents[:2]))
    out = tiny.parent / "out"
    report, _ = compress(tiny, out, "--budget", "1ms")
    cam = report["models"]["digits"]["profiles"]["cam"]
    assert (cam["verdict"], cam["latency_ms"]["source"]) == ("FEASIBLE", "measured-here")
    skipped = [item for item in cam["candidates"] if item["state"] == "skipped"]
    assert skipped
    assert all("budget" in item["why"] for item in skipped)
    assert (out / cam["artifact"]).is_file()


def test_killed_in_the_middle_it_goes_on_from_what_it_has(tiny: Path, wait_for: Wait) -> None:
    tiny.write_text(tiny.read_text().replace("recipe: tidy", "recipe: auto"))
    out = tiny.parent / "out"
    command = [sys.executable, "-m", "edge_compress", "compress", "-f", str(tiny), "--out", str(out)]
    with (tiny.parent / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for("three strategy steps are finished", lambda: sum(key.startswith("step/") for key in steps(out)) >= 3, 120)
        children = [int(line) for line in _children_of(process.pid)]
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = steps(out)
    assert not [key for key in before if key.startswith("outcome/")], "it was in the middle"
    assert not list(out.glob("digits/*/model.*"))
    wait_for("its child processes end with it", lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 10)
    report, _ = compress(tiny, out)
    after = steps(out)
    assert {key: after[key] for key in before} == before, "what was finished was not done again"
    assert len(after) > len(before)
    assert report["models"]["digits"]["profiles"]["cam"]["verdict"] == "FEASIBLE"


def _children_of(pid: int) -> list[str]:
    return subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
