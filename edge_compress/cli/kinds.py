"""The kinds as people name them, and what a table shows of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_compress.domain import quantity as q
from edge_compress.domain.resource import Plugin, Stored
from edge_compress.domain.schema import unknown_name
from edge_compress.report_page import figures

NONE = figures.NONE


@dataclass(frozen=True)
class Column:
    """A column: its title, its text for one resource, and whether only ``-o wide`` shows it."""

    title: str
    text: Callable[[Any], str]
    wide: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind: its name in resources, as one word in commands, other words for it, and its columns."""

    kind: str
    singular: str
    aliases: tuple[str, ...]
    columns: tuple[Column, ...]


def kind_named(word: str) -> Kind:
    """The kind that a singular, plural or short name means. Raises InvalidSpec with the nearest name."""
    names = {name: kind for kind in KINDS for name in (kind.singular, f"{kind.singular}s", kind.kind.lower(), *kind.aliases)}
    if word.lower() not in names:
        raise unknown_name("KIND", word, names, "kind")
    return names[word.lower()]


def singular(kind: str) -> str:
    """The word for a kind in commands: DeviceProfile is ``profile``."""
    return next((item.singular for item in KINDS if item.kind == kind), kind.lower())


def age(seconds_since_epoch: float) -> str:
    """How long ago, in its two largest units at most: ``3m12s``; a dash for never."""
    if not seconds_since_epoch:
        return NONE
    return duration(max(0.0, time.time() - seconds_since_epoch))


def duration(seconds: float) -> str:
    """A length of time as people say it: ``42s``, ``3m12s``, ``5h7m``, ``12d4h``."""
    whole = int(seconds)
    for unit, size, small, step in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // step
            return f"{whole // size}{unit}" + (f"{rest}{small}" if rest else "")
    return f"{whole}s"


def amount(quantity: q.Quantity, value: float | None) -> str:
    """A declared quantity as people write it; a dash where none was declared."""
    return NONE if value is None else quantity.format(value)


def labels(values: Any) -> str:
    """Labels as selectors are written."""
    return ",".join(f"{key}={value}" for key, value in sorted(values.items())) or NONE


def condition(stored: Stored, kind: str) -> str:
    """The reason of one condition of a declared resource; a dash while there is none."""
    found = [item for item in stored.status.conditions if item.type == kind] if stored.status else []
    return (found[0].reason or found[0].status) if found else NONE


def recipe(steps: Any) -> str:
    """The strategies of a recipe, in order."""
    return figures.recipe([{"strategy": step.strategy} for step in steps])


def _energy(status: Any) -> str:
    return NONE if status.joules_per_inference is None else figures.millijoules(1000 * status.joules_per_inference)


def _seconds(value: float | None) -> str:
    return NONE if value is None else figures.milliseconds(1000 * value)


def _quality(spec: Any) -> str:
    quality = spec.expected.quality
    return NONE if quality is None else f"{figures.quality(quality.metric, quality.value)} {quality.metric}"


def _took(status: Any) -> str:
    return duration((status.finished_at or time.time()) - status.started_at) if status.started_at else NONE


def _devices(status: Any) -> str:
    return " ".join(f"{count} {state}" for state, count in sorted(status.devices.items())) or NONE


NAME = Column("NAME", lambda item: item.name)
AGE = Column("AGE", lambda item: age(item.metadata.created_at))
LABELS = Column("LABELS", lambda item: labels(item.metadata.labels), wide=True)

KINDS = (
    Kind(
        "DeviceProfile",
        "profile",
        ("prof",),
        (
            NAME,
            Column("RUNTIME", lambda item: item.spec.runtime),
            Column("MEMORY", lambda item: amount(q.BYTES, item.spec.memory)),
            Column("STORAGE", lambda item: amount(q.BYTES, item.spec.storage)),
            Column("PRECISIONS", lambda item: ",".join(item.spec.precisions)),
            Column("LATENCY-P95", lambda item: amount(q.SECONDS, item.spec.latency_p95)),
            Column("POWER", lambda item: amount(q.WATTS, item.spec.power_budget), wide=True),
            Column("RATE", lambda item: amount(q.RATE, item.spec.rate), wide=True),
            Column("THREADS", lambda item: str(item.spec.threads), wide=True),
            Column("INT8-DOT", lambda item: "yes" if item.spec.int8_dot_product else "no", wide=True),
            Column("LINK", lambda item: amount(q.BITRATE, item.spec.link.bandwidth), wide=True),
            AGE,
            LABELS,
        ),
    ),
    Kind(
        "Model",
        "model",
        ("mod",),
        (
            NAME,
            Column("SOURCE", lambda item: item.spec.source),
            Column("METRIC", lambda item: item.spec.quality.metric or "auto"),
            Column("MAX-DROP", lambda item: f"{item.spec.quality.max_drop:g}"),
            Column(
                "SIZE",
                lambda item: figures.size(next((ref.bytes for ref in item.spec.files if ref.path == item.spec.source), None)),
            ),
            AGE,
            Column(
                "SHA256",
                lambda item: next((ref.sha256[:12] for ref in item.spec.files if ref.path == item.spec.source), NONE),
                True,
            ),
            LABELS,
        ),
    ),
    Kind(
        "Recipe",
        "recipe",
        ("rec",),
        (NAME, Column("STEPS", lambda item: recipe(item.spec.steps)), AGE, LABELS),
    ),
    Kind(
        "Deployment",
        "deployment",
        ("dep", "deploy"),
        (
            NAME,
            Column("MODEL", lambda item: item.spec.model),
            Column("RECIPE", lambda item: item.spec.recipe),
            Column("OBJECTIVE", lambda item: item.spec.objective),
            Column("PROFILES", lambda item: ",".join(item.spec.selector.profiles) or "all"),
            Column("COMPRESSED", lambda item: condition(item, "Compressed")),
            Column("ROLLED-OUT", lambda item: condition(item, "RolledOut")),
            AGE,
            Column("SELECTOR", lambda item: labels(item.spec.selector.labels), wide=True),
            LABELS,
        ),
    ),
    Kind(
        "Job",
        "job",
        (),
        (
            NAME,
            Column("MODEL", lambda item: item.spec.model),
            Column("PROFILE", lambda item: item.spec.profile),
            Column("STATE", lambda item: item.status.state),
            Column("PROGRESS", lambda item: f"{item.status.progress:.0%}"),
            Column("STEP", lambda item: item.status.step or NONE),
            AGE,
            Column("TOOK", lambda item: _took(item.status), wide=True),
            Column("ARTIFACT", lambda item: item.status.artifact or NONE, wide=True),
            Column("MESSAGE", lambda item: item.status.message or NONE, wide=True),
        ),
    ),
    Kind(
        "Artifact",
        "artifact",
        ("art",),
        (
            NAME,
            Column("MODEL", lambda item: item.spec.model),
            Column("PROFILE", lambda item: item.spec.profile),
            Column("SIZE", lambda item: figures.size(item.spec.bytes)),
            Column("DOWNLOAD", lambda item: figures.size(item.spec.download_bytes)),
            Column("QUALITY", lambda item: _quality(item.spec)),
            Column("RECIPE", lambda item: recipe(item.spec.recipe)),
            AGE,
            Column("P95", lambda item: _seconds(item.spec.expected.latency and item.spec.expected.latency.p95), wide=True),
            Column("MEMORY", lambda item: figures.size(item.spec.expected.peak_memory_bytes), wide=True),
            Column("SHA256", lambda item: item.spec.sha256, wide=True),
        ),
    ),
    Kind(
        "Device",
        "device",
        ("dev",),
        (
            NAME,
            Column("PROFILE", lambda item: item.spec.profile),
            Column("STATE", lambda item: item.status.state),
            Column("CONNECTED", lambda item: "yes" if item.status.connected else "no"),
            Column("MODEL", lambda item: item.status.model or NONE),
            Column("VERSION", lambda item: item.status.version or NONE),
            Column("P95", lambda item: _seconds(item.status.p95_seconds)),
            Column("ENERGY", lambda item: _energy(item.status)),
            Column("SEEN", lambda item: age(item.status.last_seen)),
            Column("METER", lambda item: item.status.energy_source or NONE, wide=True),
            Column("INFERENCES", lambda item: str(item.status.inferences), wide=True),
            Column("MACHINE", lambda item: item.spec.machine or NONE, wide=True),
            Column("AGENT", lambda item: item.spec.agent_version or NONE, wide=True),
            Column("RUNTIME", lambda item: item.spec.runtime_version or NONE, wide=True),
            Column("LABELS", lambda item: labels(item.spec.labels), wide=True),
            Column("MESSAGE", lambda item: item.status.message or NONE, wide=True),
        ),
    ),
    Kind(
        "Rollout",
        "rollout",
        ("roll",),
        (
            NAME,
            Column("MODEL", lambda item: item.spec.model),
            Column("STATE", lambda item: item.status.state),
            Column("STEP", lambda item: str(item.status.step + 1)),
            Column("SHARE", lambda item: f"{item.status.share:.0%}"),
            Column("DEVICES", lambda item: _devices(item.status)),
            AGE,
            Column("ARTIFACTS", lambda item: labels(item.spec.artifacts), wide=True),
            Column("MESSAGE", lambda item: item.status.message or NONE, wide=True),
        ),
    ),
    Kind(
        "Plugin",
        "plugin",
        ("plug",),
        (
            NAME,
            Column("DISTRIBUTION", lambda item: item.distribution or NONE),
            Column("VERSION", lambda item: item.version or NONE),
            Column("STATUS", lambda item: f"broken: {item.error}" if item.error else "loaded"),
            Column("OFFERS", lambda item: ", ".join(offer.name for offer in item.offers) or NONE),
        ),
    ),
)


def parameters(plugin: Plugin) -> list[tuple[str, str, str]]:
    """What ``plugins list -o wide`` adds: (offer, what it is, its parameters with types, units and defaults)."""
    rows = []
    for offer in plugin.offers:
        words = [
            f"{item.name}: {item.type}"
            + (f" [{item.unit}]" if item.unit else "")
            + (f" = {item.default_json}" if item.default_json else "")
            for item in offer.parameters
        ]
        rows.append((offer.name, offer.kind.replace("_", " "), "; ".join(words) or NONE))
    return rows
