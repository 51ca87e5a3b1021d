"""One resource as readable blocks: identity, declaration, conditions, and the report of a model's compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_compress.cli.glance import history_lines
from edge_compress.cli.kinds import Kind, age, labels, parameters
from edge_compress.cli.printing import as_yaml, document, table, timestamp
from edge_compress.client import Client
from edge_compress.domain.resource import Plugin, Stored
from edge_compress.errors import NotFound
from edge_compress.report_page import figures
from edge_compress.report_page.layers import standouts


def described(client: Client, kind: Kind, name: str) -> list[str]:
    """The lines about one resource. Raises NotFound."""
    if kind.kind == "Plugin":
        return _plugin(next((item for item in client.plugins() if item.name == name), None), name)
    stored = client.get(kind.kind, name)
    return [*_head(stored), *_body(stored), *_history(client, stored), *_report(client, stored)]


def report_lines(profile: str, entry: Mapping[str, Any]) -> list[str]:
    """What became of one profile: the verdict, the figures, and every candidate with why it lost."""
    reason = f", bound by {entry['binding_constraint']}: {entry['gap']}" if entry.get("binding_constraint") else ""
    lines = ["", f"Profile {profile}: {entry['verdict']}{reason}"]
    lines += [f"  {line}" for line in entry.get("diagnosis", [])]
    lines += [f"  {line}" for line in layer_lines(entry)]
    candidates = entry.get("candidates", [])
    words = recipes([item.get("recipe") or [] for item in candidates])
    rows = [
        (item["state"], said, *figures_of(item), item.get("why", "") or figures.NONE)
        for item, said in zip(candidates, words, strict=True)
    ]
    titles = ("STATE", "RECIPE", "SIZE", "QUALITY", "DROP", "P95", "MEMORY", "ENERGY", "WHY")
    return lines + [f"  {line}" for line in table(titles, rows)] if rows else lines


def layer_lines(entry: Mapping[str, Any]) -> list[str]:
    """What stands out of a profile's layers, in one line; none where nothing is known of them."""
    said = " ".join(f"{item.lead}{item.name}{item.rest}" for item in standouts(entry.get("layers") or []))
    return [f"layers: {said}"] if said else []


def figures_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Size, quality, drop, p95, peak memory and energy of an entry of a report, as text."""
    quality, latency, energy = entry.get("quality") or {}, entry.get("latency_ms") or {}, entry.get("energy_mj") or {}
    metric = quality.get("metric", "")
    source = f" ({energy['source']})" if energy.get("source") and energy.get("value") is not None else ""
    return (
        figures.size(entry.get("bytes")),
        figures.quality(metric, quality.get("value")),
        figures.drop(metric, quality.get("drop")),
        figures.milliseconds(latency.get("p95")),
        figures.size(entry.get("peak_memory_bytes")),
        figures.millijoules(energy.get("value")) + source,
    )


def recipes(every: Sequence[Sequence[Mapping[str, Any]]], *, full: bool = False) -> list[str]:
    """Each recipe in words, with the parameters that tell it from the others; ``full``: with all."""
    differing = _differing(every)
    return [" → ".join(_step(step, None if full else differing) for step in steps) or figures.recipe(None) for steps in every]


def _differing(every: Sequence[Sequence[Mapping[str, Any]]]) -> set[tuple[str, str]]:
    """(strategy, parameter) wherever two recipes give it different values."""
    values: dict[tuple[str, str], set[str]] = {}
    for steps in every:
        for step in steps:
            for name, value in step.get("params", {}).items():
                values.setdefault((step["strategy"], name), set()).add(repr(value))
    return {key for key, seen in values.items() if len(seen) > 1}


def _step(step: Mapping[str, Any], shown: set[tuple[str, str]] | None) -> str:
    chosen = {name: value for name, value in step.get("params", {}).items() if shown is None or (step["strategy"], name) in shown}
    words = figures.parameters([{"strategy": step["strategy"], "params": chosen}])
    return f"{step['strategy']} ({words})" if words else str(step["strategy"])


def _head(stored: Stored) -> list[str]:
    meta = stored.metadata
    rows = [
        ("Name:", meta.name),
        ("Kind:", stored.kind),
        ("Labels:", labels(meta.labels)),
        ("Generation:", str(meta.generation)),
        ("Created:", f"{timestamp(meta.created_at) or figures.NONE} ({age(meta.created_at)} ago)"),
    ]
    return table([], rows)


def _body(stored: Stored) -> list[str]:
    plain = document(stored)
    lines = ["Spec:", *_indented(plain["spec"])]
    conditions = getattr(stored.status, "conditions", None)
    if conditions is None:
        return lines if stored.status is None else [*lines, "Status:", *_indented(plain["status"])]
    rows = [(item.type, item.status, item.reason, f"{age(item.last_transition)} ago", item.message) for item in conditions]
    titles = ("TYPE", "STATUS", "REASON", "SINCE", "MESSAGE")
    return [*lines, "Conditions:", *(f"  {line}" for line in table(titles, rows))] if rows else [*lines, "Conditions: none yet"]


def _history(client: Client, stored: Stored) -> list[str]:
    """For a device its last hour; nothing for other kinds."""
    return history_lines(client.history(stored.name)) if stored.kind == "Device" else []


def _report(client: Client, stored: Stored) -> list[str]:
    """For a model every profile, for a job its own; nothing for other kinds."""
    if stored.kind not in ("Model", "Job"):
        return []
    try:
        report = client.report(stored.name if stored.kind == "Model" else stored.spec.model)
    except NotFound:
        return ["Report: none yet"]
    profiles = report["profiles"]
    wanted = profiles if stored.kind == "Model" else {name: profiles[name] for name in profiles if name == stored.spec.profile}
    lines = ["Report:"]
    for profile, entry in wanted.items():
        lines += report_lines(profile, entry)
    return lines


def _plugin(plugin: Plugin | None, name: str) -> list[str]:
    if plugin is None:
        raise NotFound("Plugin", name)
    rows = [
        ("Name:", plugin.name),
        ("Distribution:", f"{plugin.distribution} {plugin.version}".strip() or figures.NONE),
        ("Status:", f"broken: {plugin.error}" if plugin.error else "loaded"),
    ]
    lines = table([], rows)
    for offer in plugin.offers:
        lines += ["", f"{offer.kind.replace('_', ' ')} {offer.name}: {offer.summary}"]
        given = [
            (item.name, item.type, item.unit or figures.NONE, item.default_json or figures.NONE, item.doc)
            for item in offer.parameters
        ]
        lines += [f"  {line}" for line in table(("PARAMETER", "TYPE", "UNIT", "DEFAULT", "MEANING"), given)] if given else []
    return lines


def plugin_rows(plugins: list[Plugin]) -> list[str]:
    """Every offer with its parameters, as ``plugins list -o wide`` shows them."""
    rows = [(plugin.name, *row) for plugin in plugins for row in parameters(plugin)]
    rows += [(plugin.name, figures.NONE, "broken", plugin.error) for plugin in plugins if plugin.error]
    return table(("PLUGIN", "OFFER", "KIND", "PARAMETERS"), rows)


def _indented(value: Any) -> list[str]:
    return [f"  {line}" for line in as_yaml(value).rstrip("\n").split("\n")]
