"""Grafana's dashboards and provisioning, as far as they can be checked without Prometheus: shape, layout, units, and where they
come from. That panels have data is for the integration tests."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from edge_compress.metrics import PREFIX, SERIES

FOLDER = Path(__file__).parents[3] / "deploy" / "grafana"
FILES = sorted((FOLDER / "dashboards").glob("*.json"))
UNITS = {"short", "none", "s", "joule", "watt", "ops", "Bps", "percentunit"}
MEASURED_IN = {"duration_seconds": {"s", "short"}, "energy_joules": {"joule", "watt"}, "transfer_bytes": {"Bps"}}
"""unit of what is asked of these series; counts of steps are short"""


@pytest.fixture(scope="module")
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("fleet_dashboard", FOLDER / "fleet.py")
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def panels(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["panels"]


def drawn(path: Path) -> list[dict[str, Any]]:
    return [panel for panel in panels(path) if panel["type"] != "row"]


def test_the_committed_dashboard_is_what_its_code_makes(generator: Any) -> None:
    assert generator.TARGET in FILES
    assert generator.TARGET.read_text(encoding="utf-8") == generator.text(), "make dashboards"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dashboard_is_importable(path: Path) -> None:
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert whole["schemaVersion"] >= 36
    assert whole["uid"]
    assert whole["title"]
    names = {variable["name"] for variable in whole["templating"]["list"]}
    assert names == {"datasource", "profile", "model"}
    ids = [panel["id"] for panel in whole["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_panels_stay_on_the_grid_and_cover_no_other(path: Path) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in panels(path):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        own = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not own & cells, panel["title"]
        cells |= own


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_row_of_panels_is_full(path: Path) -> None:
    for _, line in itertools.groupby(panels(path), key=lambda panel: panel["gridPos"]["y"]):
        assert sum(panel["gridPos"]["w"] for panel in line) == 24


@pytest.mark.parametrize("panel", [panel for path in FILES for panel in drawn(path)], ids=lambda panel: panel["title"])
def test_panels_ask_for_series_that_exist_in_their_unit(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in UNITS
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
        named = re.findall(rf"(?<![:\w]){PREFIX}(\w+)", target["expr"])
        assert {re.sub("_(bucket|sum|count)$", "", name) for name in named} <= set(SERIES)
        assert set(re.findall(r"\$\w+", target["expr"])) <= {"$profile", "$model", "$__rate_interval"}
        asked = next((units for part, units in MEASURED_IN.items() if named and part in named[0]), UNITS)
        assert defaults["unit"] in asked
    steps = [step["value"] for step in defaults["thresholds"]["steps"]]
    assert steps[0] is None
    assert steps[1:] == sorted(steps[1:])


def test_dashboards_show_what_the_server_tells() -> None:
    """Every series but its version is on some panel."""
    asked = " ".join(target["expr"] for path in FILES for panel in drawn(path) for target in panel["targets"])
    assert {name for name in SERIES if PREFIX + name not in asked} == {"build_info"}


def test_provisioning_leads_to_the_dashboards() -> None:
    (provider,) = yaml.safe_load((FOLDER / "provisioning" / "dashboards" / "edge-compress.yml").read_text())["providers"]
    (source,) = yaml.safe_load((FOLDER / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    document = (FOLDER.parent / "README.md").read_text()
    assert f"deploy/grafana/dashboards:{provider['options']['path']}:" in document
    assert f"`{source['url']}`" in document
    assert source["type"] == "prometheus"
