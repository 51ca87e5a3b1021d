"""Documented queries, recording rules and dashboards against a real Prometheus, which scrapes a real server whose crowd went from
one version to another."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from tests.integration.prometheus import Prometheus, skip_unless_installed
from tests.integration.real_fleet import Crowd, Fleet, until

pytestmark = pytest.mark.prometheus
DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
RECORDED = [rule["record"] for group in RULES["groups"] for rule in group["rules"]]
EXAMPLES = re.findall(r"^```promql\n(.*?)^```$", (DEPLOY / "README.md").read_text(), re.S | re.M)
PANELS = [
    panel
    for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    if panel["type"] != "row"
]
VARIABLES = {"$__rate_interval": "1m", "$profile": ".*", "$model": ".*"}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It knows two versions on 20 devices; the newest takes 1.5 times as long as the other, and as much energy."""
    skip_unless_installed()
    folder = tmp_path_factory.mktemp("watching")
    fleet = Fleet(folder)
    with ExitStack() as stack:
        stack.callback(fleet.stop)
        fleet.declare()
        made = Prometheus(folder, fleet.server.metrics, (hasty(folder), DEPLOY / "prometheus" / "alerts.yml"))
        stack.callback(made.stop)
        crowd = Crowd(fleet, "--agents", "20", "--energy", "2mJ", "--slower", "1.5", "--report", "1s", "--install", "0s")
        stack.callback(crowd.stop)
        fleet.apply("quantize.float16", "{}")
        until(lambda: made.query("job_profile_model_version:edge_compress_inference_duration_seconds:p95_rate5m"))
        fleet.apply("quantize.weights", "{steps: [50%, 100%]}")
        until(lambda: fleet.rollout("digits-2")["state"] == "Completed")
        yield made


def hasty(folder: Path) -> Path:
    """The rules, evaluated each second."""
    groups = [{key: value for key, value in group.items() if key != "interval"} for group in RULES["groups"]]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    return folder / "rules.yml"


def answered(prometheus: Prometheus, expression: str) -> list[float]:
    """The values of an expression, once it has some and all are numbers."""
    deadline = time.monotonic() + 60
    while True:
        values = [float(series["value"][1]) for series in prometheus.query(expression)]
        if values and all(map(math.isfinite, values)):
            return values
        assert time.monotonic() < deadline, (expression, values)
        time.sleep(0.3)


@pytest.mark.parametrize("expression", EXAMPLES)
def test_documented_queries_are_answered(prometheus: Prometheus, expression: str) -> None:
    assert min(answered(prometheus, expression)) >= 0


@pytest.mark.parametrize("name", RECORDED)
def test_recording_rules_yield_data(prometheus: Prometheus, name: str) -> None:
    assert answered(prometheus, name)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_have_data(prometheus: Prometheus, panel: dict) -> None:
    for target in panel["targets"]:
        expression = target["expr"]
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        assert min(answered(prometheus, expression)) >= 0


def test_figures_are_those_of_the_crowd(prometheus: Prometheus) -> None:
    joules = "job_profile_model_version_source_scope:edge_compress_energy_joules_per_inference:ratio_rate5m"
    assert answered(prometheus, joules) == pytest.approx([0.002] * len(answered(prometheus, joules)), rel=0.3)
    assert answered(prometheus, "sum(edge_compress_devices)") == [20]
    for figure, spread in (("p95", 0.25), ("mean_duration", 0.1)):  # percentiles are read from buckets
        told = answered(prometheus, f"job_profile_model_version:edge_compress_newest_to_others_{figure}:ratio")
        assert told == pytest.approx([1.5], abs=spread)
    energy = "job_profile_model_version_source_scope:edge_compress_newest_to_others_energy_per_inference:ratio"
    assert answered(prometheus, energy) == pytest.approx([1.0], abs=0.1)


def test_rules_and_alerts_are_evaluated_without_errors(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) > len(RECORDED)
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert [rule["name"] for rule in rules if rule["health"] == "err"] == []


def test_the_slower_version_is_noticed_and_nothing_else(prometheus: Prometheus) -> None:
    """But for the rollout, which ended a moment ago, and for predictions, which depend on the machine."""
    answered(prometheus, 'ALERTS{alertname="EdgeCompressLatencyRegression"}')
    found = {alert["labels"]["alertname"]: alert["state"] for alert in prometheus.ask("alerts")["alerts"]}
    others = found.keys() - {"EdgeCompressRolloutStuck", "EdgeCompressPredictionsOff"}
    assert others == {"EdgeCompressLatencyRegression"}
    assert set(found.values()) == {"pending"}, "none fires at once"
