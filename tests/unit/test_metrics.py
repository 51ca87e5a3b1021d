"""The series of the server: their names, their shape in both text formats, and silence where nothing is known."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from edge_compress import __version__
from edge_compress.device_metrics import DeviceFigures, DeviceMetrics, DeviceTotal
from edge_compress.exposition import page
from edge_compress.metrics import DEVICE_SERIES, LABELS, PREFIX, SERIES, STEP_BOUNDS, Metrics, Sources
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


def text_of(metrics: Metrics | DeviceMetrics, *, openmetrics: bool = False) -> str:
    return b"".join(page(metrics.families(), openmetrics=openmetrics)).decode()


def samples(metrics: Metrics | DeviceMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = text_of(metrics)
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
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]*) \|", table, re.MULTILINE)
    documented = {name: tuple(filter(None, labels.strip().split(", "))) for name, labels in rows}
    assert documented == {name: labels for name, (_, labels, _) in (SERIES | DEVICE_SERIES).items()}


def test_every_series_is_given_once_with_its_type_and_help() -> None:
    families = list(text_string_to_metric_families(text_of(filled())))
    names = [family.name + ("_total" if family.type == "counter" else "") for family in families]
    assert sorted(names) == sorted(PREFIX + name for name in SERIES)
    for family, name in zip(families, names, strict=True):
        kind, labels, text = SERIES[name.removeprefix(PREFIX)]
        assert (family.type, family.documentation) == (kind, text)
        assert all(set(sample.labels) - {"le"} == set(labels) for sample in family.samples)


class Parsed(Collector):
    """What a parser made of a page."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families


def test_pages_are_byte_for_byte_what_prometheus_client_writes() -> None:
    metrics = filled()
    metrics.sent("delta", 12_345_678_901)
    odd = UsageTotals({"ok": 10**7}, (1e-05, 0.25), (0, 10**7, 3), 1234567.891, {'estimate/a\\b"c\nd': 1e-9})
    metrics.sources.usage = lambda: [(('a"b', "c\\d", "e\nf", ""), odd)]
    for parse, write, openmetric in (
        (text_string_to_metric_families, generate_latest, False),
        (openmetrics.text_string_to_metric_families, openmetrics_exposition.generate_latest, True),
    ):
        text = text_of(metrics, openmetrics=openmetric)
        registry = CollectorRegistry()
        registry.register(Parsed(parse(text)))
        assert write(registry).decode() == text


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


def device(name: str = "cam-1", **changes: object) -> DeviceFigures:
    total = DeviceTotal({"ok": 7, "error": 1}, 1_500_000, {"rapl/package": 2_250_000})
    return DeviceFigures(name, "cam", "vision", "v1", "Committed", True, 1e9, 0.25, total)._replace(**changes)


def shown(*devices: DeviceFigures, most: int = 100) -> DeviceMetrics:
    metrics = DeviceMetrics(most)
    for one in devices:
        metrics.show(one)
    return metrics


def test_a_device_shows_what_it_counted_and_where_it_stands() -> None:
    labels = {"device": "cam-1", "profile": "cam", "model": "vision", "version": "v1"}
    found = samples(shown(device()))

    def at(name: str, **more: str) -> float:
        return found[f"device_{name}", tuple(sorted({**labels, **more}.items()))]

    assert (at("inferences_total", outcome="ok"), at("inferences_total", outcome="error")) == (7, 1)
    assert at("energy_joules_total", source="rapl", scope="package") == 2.25
    assert (at("inference_duration_seconds_total"), at("inference_p95_seconds")) == (1.5, 0.25)
    assert (at("connected", state="Committed"), at("last_seen_timestamp_seconds")) == (1, 1e9)
    assert found["device_series_dropped_total", ()] == 0
    assert len(found) == device().series + 1


def test_device_families_have_their_types_and_labels_in_both_formats() -> None:
    metrics = shown(device())
    for parse, openmetric in ((text_string_to_metric_families, False), (openmetrics.text_string_to_metric_families, True)):
        families = {family.name: family for family in parse(text_of(metrics, openmetrics=openmetric))}
        assert len(families) == len(DEVICE_SERIES)
        for name, (kind, labels, text) in DEVICE_SERIES.items():
            family = families[(PREFIX + name).removesuffix("_total")]
            assert (family.type, family.documentation) == (kind, text)
            assert all(set(sample.labels) == set(labels) for sample in family.samples)


def test_a_device_of_which_little_is_known_has_few_lines() -> None:
    found = samples(shown(device(), device(p95_seconds=None, total=None, model="", version="", state="Idle")))
    assert {name for name, _ in found} == {
        "device_connected",
        "device_last_seen_timestamp_seconds",
        "device_series_dropped_total",
    }
    assert len(found) == 3


def test_a_forgotten_device_leaves_nothing() -> None:
    metrics = shown(device(), device("cam-2"))
    metrics.forget("cam-1")
    metrics.forget("stranger")
    assert {dict(labels).get("device") for _, labels in samples(metrics)} == {"cam-2", None}


def test_what_is_beyond_the_bound_is_left_out_whole_and_counted() -> None:
    metrics = shown(*(device(f"cam-{index}") for index in range(4)), most=2 * device().series + 1)
    for scrape in (1, 2):
        found = samples(metrics)
        assert {dict(labels).get("device") for _, labels in found} == {"cam-0", "cam-1", None}
        assert found["device_series_dropped_total", ()] == scrape * 2 * device().series
    metrics.forget("cam-0")
    assert "cam-2" in text_of(metrics)


def test_single_devices_are_served_only_where_somebody_asked_for_it(served: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        fetch(served + "/devices", "")
    with refused.value as answer:
        assert "--device-metrics" in answer.read().decode()
    server = MetricsServer(filled(), "127.0.0.1", 0, shown(device()))
    try:
        kind, text = fetch(f"http://127.0.0.1:{server.port}/metrics/devices", "application/openmetrics-text")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")
        assert 'device="cam-1"' in text
    finally:
        server.close()


def test_other_addresses_and_methods_are_refused_in_words(served: str) -> None:
    for path, method, status in (("/nothing", "GET", 404), ("/metrics", "POST", 405)):
        request = urllib.request.Request(served.removesuffix("/metrics") + path, method=method)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        with refused.value as answer:
            assert answer.code == status


def test_the_page_of_the_fleet_is_packed_for_who_takes_that(served: str) -> None:
    request = urllib.request.Request(served, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.read()).decode() == fetch(served, "")[1]


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
