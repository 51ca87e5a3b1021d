"""The dashboard of a fleet, as code: what each panel asks, in which unit, and where it turns yellow or red.

Run it (``make dashboards``) to write ``dashboards/fleet.json``, which Grafana loads. It asks the server's own series, so that it
works without the recording rules; only the comparison of the newest version needs them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("dashboards") / "fleet.json"
COLUMNS = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN = 'profile=~"$profile",model=~"$model"'
RATE = "[$__rate_interval]"
VERSION, VERSION_LEGEND = "profile, model, version", "{{profile}} {{model}} {{version}}"


@dataclass(frozen=True)
class Panel:
    """One panel. ``unit`` is Grafana's name of it; ``warn``, ``bad``: from where it is yellow and red."""

    title: str
    query: str
    unit: str
    legend: str = ""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8
    warn: float | None = None
    bad: float | None = None
    stacked: bool = False
    about: str = ""


def rate(series: str, by: str, labels: str = CHOSEN) -> str:
    """The rate of a counter, added up."""
    return f"sum by ({by}) (rate(edge_compress_{series}{{{labels}}}{RATE}))"


def share(part: str, whole: str) -> str:
    """A part of a whole: 0 where there is none of it, nothing where there is no whole."""
    return f"({part} or 0 * {whole}) / ({whole} > 0)"


def p95(by: str) -> str:
    """The 95th percentile of latency."""
    return f"histogram_quantile(0.95, {rate('inference_duration_seconds_bucket', f'{by}, le' if by else 'le')})"


def energy(by: str) -> str:
    """Joules of an inference, by meter, since they cover different things; inferences that nothing metered are left out."""
    metered = (
        f"group by ({VERSION}, source, scope) (edge_compress_energy_joules_total{{{CHOSEN}}})"
        f" * on ({VERSION}) group_left () {rate('inferences_total', VERSION)}"
    )
    each = f"{by}, source, scope" if by else "source, scope"
    return f"{rate('energy_joules_total', each)} / (sum by ({each}) ({metered}) > 0)"


METER = "{{source}} ({{scope}})"
DEVICES = "sum(edge_compress_devices)"
STEPS = "edge_compress_job_duration_seconds"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Now": (
        Panel(
            "Devices with a session",
            f'sum(edge_compress_devices{{state!="Disconnected"}}) or 0 * {DEVICES}', "short", kind="stat", width=4, height=4,
        ),
        Panel(
            "Silent devices", share('sum(edge_compress_devices{state="Disconnected"})', DEVICES), "percentunit", kind="stat",
            width=4, height=4, warn=0.05, bad=0.1, about="Share of the devices that joined and have no session now.",
        ),
        Panel("Inferences per second", rate("inferences_total", ""), "ops", kind="stat", width=4, height=4),
        Panel("Latency, 95th percentile", p95(""), "s", kind="stat", width=4, height=4),
        Panel("Energy of an inference", energy(""), "joule", METER, kind="stat", width=4, height=4),
        Panel(
            "Inferences that fail",
            share(rate("inferences_total", "", f'{CHOSEN},outcome!="ok"'), rate("inferences_total", "")), "percentunit",
            kind="stat", width=4, height=4, warn=0.001, bad=0.01,
        ),
    ),
    "Devices": (
        Panel("Devices by state", "sum by (state) (edge_compress_devices)", "short", "{{state}}", width=12, stacked=True),
        Panel("Inferences per second", rate("inferences_total", VERSION), "ops", VERSION_LEGEND, width=12, stacked=True),
        Panel("Latency, 95th percentile, by profile", p95("profile"), "s", "{{profile}}"),
        Panel("Latency, 95th percentile, by version", p95(VERSION), "s", VERSION_LEGEND),
        Panel(
            "Mean latency by version",
            f"{rate('inference_duration_seconds_sum', VERSION)} / ({rate('inference_duration_seconds_count', VERSION)} > 0)",
            "s", VERSION_LEGEND, about="Exact, where percentiles are read from buckets.",
        ),
        Panel("Energy of an inference by version", energy(VERSION), "joule", f"{VERSION_LEGEND}, {METER}"),
        Panel(
            "Power that inferences draw", rate("energy_joules_total", "profile, source, scope"), "watt",
            f"{{{{profile}}}}, {METER}", stacked=True,
        ),
        Panel(
            "Inferences that fail, by version",
            share(rate("inferences_total", VERSION, f'{CHOSEN},outcome!="ok"'), rate("inferences_total", VERSION)),
            "percentunit", VERSION_LEGEND, warn=0.001, bad=0.01,
        ),
        Panel(
            "The newest version beside the others: latency",
            f"job_profile_model_version:edge_compress_newest_to_others_p95:ratio{{{CHOSEN}}}", "none", VERSION_LEGEND,
            width=12, warn=1.1, bad=1.2, about="95th percentile of 15 minutes to the others' of a day. Needs the rules.",
        ),
        Panel(
            "The newest version beside the others: energy",
            "job_profile_model_version_source_scope:edge_compress_newest_to_others_energy_per_inference:ratio"
            f"{{{CHOSEN}}}", "none", f"{VERSION_LEGEND}, {METER}",
            width=12, warn=1.1, bad=1.2, about="Of 15 minutes to the others' of a day, by one meter. Needs the recording rules.",
        ),
    ),
    "Updates": (
        Panel("Bytes sent", rate("transfer_bytes_total", "kind", ""), "Bps", "{{kind}}", stacked=True),
        Panel(
            "Progress of rollouts",
            share(
                'sum by (rollout) (edge_compress_rollout_devices{state="Committed"})',
                "sum by (rollout) (edge_compress_rollout_devices)",
            ),
            "percentunit", "{{rollout}}",
        ),
        Panel("States of rollouts", "edge_compress_rollout_state == 1", "none", "{{rollout}}: {{state}}", kind="stat"),
        Panel(
            "Rollouts by step and state of the devices", "sum by (rollout, step, state) (edge_compress_rollout_devices)", "short",
            "{{rollout}}, step {{step}}: {{state}}", width=16, stacked=True,
        ),
        Panel(
            "Differences that came out wrong in a day", "sum(increase(edge_compress_wrong_differences_total[1d])) or vector(0)",
            "short", kind="stat", warn=1, bad=100, about="Such updates are noticed and fetched whole.",
        ),
    ),
    "Compression": (
        Panel("Jobs by state", "sum by (state) (edge_compress_jobs)", "short", "{{state}}", stacked=True),
        Panel(
            "Mean duration of a step", f"sum by (strategy) ({STEPS}_sum) / (sum by (strategy) ({STEPS}_count) > 0)", "s",
            "{{strategy}}", kind="bargauge", about="Since the server started.",
        ),
        Panel(
            "Steps by how they ended", f"sum by (strategy, outcome) ({STEPS}_count)", "short", "{{strategy}}: {{outcome}}",
            kind="bargauge", about="Since the server started. A step that fails is a candidate less, no failed job.",
        ),
        Panel(
            "How far predictions are off", "max by (quantity) (edge_compress_prediction_error_ratio)", "percentunit",
            "{{quantity}}", kind="bargauge", width=12, warn=0.25, bad=0.5,
            about="Mean of |predicted - measured| / measured over the artifacts that were chosen.",
        ),
        Panel(
            "Reports that were not counted, in a day", "sum(increase(edge_compress_reports_dropped_total[1d])) or vector(0)",
            "short", kind="stat", width=12, warn=1, bad=1000,
        ),
    ),
}  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana imports it."""
    return {
        "uid": "edge-compress-fleet",
        "title": "Fleet",
        "description": "Devices, latency, energy, updates and compression of an edge-compress server.",
        "tags": ["edge-compress"],
        "schemaVersion": 38,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_source(), _choice("profile"), _choice("model")]},
        "annotations": {"list": []},
        "panels": list(_placed()),
    }


def _source() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "refresh": 1}


def _choice(label: str) -> dict[str, Any]:
    """A variable: the values of a label, several at once, all of them at first."""
    return {
        "name": label,
        "label": label.capitalize(),
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": f"label_values(edge_compress_inferences_total, {label})", "refId": label},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Rows one below the other, panels from left to right as the width allows."""
    number, top = 0, 0
    for title, panels in ROWS.items():
        number += 1
        at = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": at, "panels": []}
        top += 1
        for line in _lines(panels):
            left = 0
            for panel in line:
                number += 1
                yield {"id": number, "gridPos": {"x": left, "y": top, "w": panel.width, "h": panel.height}, **_drawn(panel)}
                left += panel.width
            top += max(panel.height for panel in line)


def _lines(panels: Sequence[Panel]) -> list[list[Panel]]:
    lines: list[list[Panel]] = [[]]
    for panel in panels:
        if sum(one.width for one in lines[-1]) + panel.width > COLUMNS:
            lines.append([])
        lines[-1].append(panel)
    return lines


def _drawn(panel: Panel) -> dict[str, Any]:
    over_time = panel.kind == "timeseries"
    target = {"refId": "A", "datasource": DATASOURCE, "expr": panel.query, "legendFormat": panel.legend or "__auto"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "targets": [target if over_time else {**target, "instant": True, "range": False}],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _field(panel: Panel) -> dict[str, Any]:
    steps = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": at} for colour, at in (("yellow", panel.warn), ("red", panel.bad)) if at is not None]
    made: dict[str, Any] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.unit == "percentunit":
        made["max"] = 1
    if panel.kind != "timeseries":
        return {**made, "color": {"mode": "thresholds"}}
    lines = {"drawStyle": "line", "fillOpacity": 20 if panel.stacked else 0, "showPoints": "never", "spanNulls": False}
    lines["stacking"] = {"mode": "normal" if panel.stacked else "none", "group": "A"}
    lines["thresholdsStyle"] = {"mode": "line" if panel.bad is not None else "off"}
    return {**made, "color": {"mode": "palette-classic"}, "custom": lines}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        legend = {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "bargauge":
        return {"reduceOptions": reduced, "orientation": "horizontal", "displayMode": "basic", "showUnfilled": True}
    shown = "name" if panel.unit == "none" else "auto"  # a value that is always 1 says nothing
    return {"reduceOptions": reduced, "colorMode": "value", "graphMode": "none", "textMode": shown, "justifyMode": "auto"}


def text() -> str:
    """What ``dashboards/fleet.json`` must be."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
