"""The series of the server: their names, their shape in both text formats, and silence where nothing is known."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from edge_compress import __version__
from edge_compress.metrics import LABELS, PREFIX, SERIES, STEP_BOUNDS, Metrics, Sources
from edge_compress.metrics_http import MetricsServer
from edge_compress.store.interface import UsageTotals

ALWAYS_ON = {
    "inference_duration_seconds": ("histogram", LABELS),
    "inferences_total": ("counter", (*LABELS, "outcome")),
    "energy_joules_total": ("counter", (*LABELS, "source", "scope")),
    "devices": ("gauge", ("state",)),
    "transfer_bytes_total": ("counter", ("kind",)),
    "rollout_devices": ("gauge", ("rollout", "step", "state")),
    "jobs": ("gauge", ("state",)),
    "job_duration_seconds": ("histogram", ("strategy", "outcome")),
    "prediction_error_ratio": ("gauge", ("quantity",)),
}
"""The contract's list; dashboards and alerts of users depend on it."""


def filled() -> Metrics:
    metrics = Metrics()
    totals = UsageTotals({"ok": 6, "error": 1}, (0.01, 0.1), (1, 2, 3), 0.9, {"rapl/package": 1.5, "estimate/process": 0.5})
    metrics.sources = Sources(
        usage=lambda: [(("cam", "vision", "v1", ""), totals)],
        devices=lambda: {"Committed": 2, "Disconnected": 1},
        jobs=lambda: {"Queued": 1},
        rollouts=lambda: {("vision-1", "1", "Committed"): 2},
        rollout_states=lambda: {"vision-1": "Progressing"},
        predictions=lambda: {"latency": 0.2},
    )
    metrics.sent("full", 1000)
    metrics.sent("full", 24)
    metrics.step("quantize.static", "ok", 0.3)
    metrics.step("quantize.static", "ok", 9999.0)
    metrics.dropped("invalid")
    metrics.wrong_differences(2)
    return metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_contracts_series_are_there_under_their_names() -> None:
    assert {name: SERIES[name][:2] for name in ALWAYS_ON} == ALWAYS_ON
    assert set(SERIES) - set(ALWAYS_ON) == {"rollout_state", "reports_dropped_total", "wrong_differences_total", "build_info"}


def test_the_readme_lists_every_series_with_its_labels() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    _, _, table = readme.partition(f"| series, prefix `{PREFIX}` |")
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", table, re.MULTILINE)
    assert {name: tuple(labels.split(", ")) for name, labels in rows} == {name: labels for name, (_, labels, _) in SERIES.items()}


def test_every_series_is_given_once_with_its_type_and_help() -> None:
    families = list(text_string_to_metric_families(generate_latest(filled().registry).decode()))
    names = [family.name + ("_total" if family.type == "counter" else "") for family in families]
    assert sorted(names) == sorted(PREFIX + name for name in SERIES)
    for family, name in zip(families, names, strict=True):
        kind, labels, text = SERIES[name.removeprefix(PREFIX)]
        assert (family.type, family.documentation) == (kind, text)
        assert all(set(sample.labels) - {"le"} == set(labels) for sample in family.samples)


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    assert samples(Metrics()) == {("build_info", (("version", __version__),)): 1.0}


def test_values_are_those_of_the_sources() -> None:
    found = samples(filled())
    labels = (("cohort", ""), ("model", "vision"), ("profile", "cam"), ("version", "v1"))

    def at(name: str, **more: str) -> float:
        return found[name, tuple(sorted((*labels, *more.items())))]

    assert [at("inference_duration_seconds_bucket", le=le) for le in ("0.01", "0.1", "+Inf")] == [1, 3, 6]
    assert (at("inference_duration_seconds_sum"), at("inference_duration_seconds_count")) == (0.9, 6)
    assert (at("inferences_total", outcome="ok"), at("inferences_total", outcome="error")) == (6, 1)
    assert at("energy_joules_total", source="rapl", scope="package") == 1.5
    assert found["transfer_bytes_total", (("kind", "full"),)] == 1024
    assert found["devices", (("state", "Committed"),)] == 2
    assert found["rollout_devices", (("rollout", "vision-1"), ("state", "Committed"), ("step", "1"))] == 2
    assert found["rollout_state", (("rollout", "vision-1"), ("state", "Progressing"))] == 1
    assert found["reports_dropped_total", (("reason", "invalid"),)] == 1
    assert found["prediction_error_ratio", (("quantity", "latency"),)] == 0.2


def test_a_step_longer_than_the_last_bound_is_counted() -> None:
    found = samples(filled())
    labels = (("outcome", "ok"), ("strategy", "quantize.static"))
    last = (*labels, ("le", str(STEP_BOUNDS[-1])))
    assert found["job_duration_seconds_count", labels] == 2
    assert found["job_duration_seconds_bucket", tuple(sorted(last))] == 1


def test_counting_is_safe_from_many_threads() -> None:
    metrics = Metrics()
    threads = [threading.Thread(target=lambda: [metrics.sent("full", 1) for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert samples(metrics)["transfer_bytes_total", (("kind", "full"),)] == 20_000


@pytest.fixture
def served():
    server = MetricsServer(filled(), "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}/metrics"
    server.close()


def fetch(url: str, accept: str) -> tuple[str, str]:
    request = urllib.request.Request(url, headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_openmetrics_is_negotiated(served: str) -> None:
    kind, text = fetch(served, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name for family in openmetrics.text_string_to_metric_families(text)}
    assert f"{PREFIX}inference_duration_seconds" in families
    kind, text = fetch(served, "text/plain")
    assert kind.startswith("text/plain")
    assert f"# TYPE {PREFIX}inferences_total counter" in text


@pytest.mark.prometheus
def test_promtool_finds_nothing_to_say(served: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Debian's prometheus package, which has promtool, is not installed")
    _, text = fetch(served, "text/plain")
    found = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_an_ipv6_loopback_works_too() -> None:
    try:
        server = MetricsServer(filled(), "::1", 0)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    try:
        assert "build_info" in fetch(f"http://[::1]:{server.port}/metrics", "text/plain")[1]
    finally:
        server.close()
