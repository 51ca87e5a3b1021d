"""promtool checks the rules and plays the cases; every alert has cases in which it fires, is silent, and misses data."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_compress.metrics import PREFIX, SERIES

FOLDER = Path(__file__).parents[3] / "deploy" / "prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((FOLDER / name).read_text())["groups"] for rule in group["rules"]]


ALERTS = sorted({rule["alert"] for rule in rules("alerts.yml")})
ASKED = {"LatencyRegression", "EnergyRegression", "RolloutStuck", "DevicesSilent", "PredictionsOff", "JobsFailing"}


def promtool(*arguments: str | Path) -> None:
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("Debian's prometheus package, which has promtool, is not installed")
    found = subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def cases_of(alert: str) -> list[dict[str, Any]]:
    return [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"] if case["name"].startswith(f"{alert} ")]


def fires(case: dict[str, Any], alert: str) -> bool:
    asked = [test for test in case["alert_rule_test"] if test["alertname"] == alert]
    assert asked, f"{case['name']}: asks nothing of {alert}"
    return any(test["exp_alerts"] for test in asked)


@pytest.mark.prometheus
def test_the_rules_are_valid() -> None:
    promtool("check", "rules", FOLDER / "rules.yml", FOLDER / "alerts.yml")


@pytest.mark.prometheus
def test_the_configuration_is_valid_and_loads_the_rules() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")
    assert yaml.safe_load((FOLDER / "prometheus.yml").read_text())["rule_files"] == ["rules.yml", "alerts.yml"]


@pytest.mark.prometheus
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases_end_as_they_say(path: Path) -> None:
    promtool("test", "rules", path)


def test_what_was_promised_is_there() -> None:
    assert {f"EdgeCompress{name}" for name in ASKED} <= set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_fires_in_a_case_and_is_silent_in_another(alert: str) -> None:
    said = {case["name"]: fires(case, alert) for case in cases_of(alert)}
    assert all(name.startswith(f"{alert} {'fires' if does else 'is silent'}: ") for name, does in said.items())
    assert any(said.values())
    assert any("is silent: healthy" in name for name in said)
    assert any(": missing data" in name for name in said)


def test_every_case_is_of_an_alert() -> None:
    names = [case["name"] for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]
    assert len(names) == len(set(names)) == sum(len(cases_of(alert)) for alert in ALERTS)


@pytest.mark.parametrize("rule", rules("alerts.yml"), ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"].startswith("edge-compress ")


def test_recorded_names_follow_the_guide() -> None:
    for rule in rules("rules.yml"):
        level, metric, operation = rule["record"].split(":")
        assert level.split("_")[0] == "job"
        assert metric.startswith(PREFIX)
        assert operation


@pytest.mark.parametrize("rule", rules("rules.yml") + rules("alerts.yml"), ids=lambda rule: rule.get("record") or rule["alert"])
def test_rules_ask_for_series_that_exist(rule: dict[str, Any]) -> None:
    recorded = {one["record"] for one in rules("rules.yml")}
    assert set(re.findall(r"\bjob\w*:\w+:\w+", rule["expr"])) <= recorded
    named = re.findall(rf"(?<![:\w]){PREFIX}(\w+)", rule["expr"])
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= set(SERIES)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_cases_say_in_which_order_groups_are_evaluated(path: Path) -> None:
    """promtool takes another order each time otherwise, and a minute's difference with it."""
    files = [yaml.safe_load((FOLDER / name).read_text()) for name in ("rules.yml", "alerts.yml")]
    made = [group["name"] for file in files for group in file["groups"]]
    assert yaml.safe_load(path.read_text())["group_eval_order"] == made
