"""The fleet at a glance as text that fits 80 columns, and a device's last hour as sparklines."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from edge_compress.cli.printing import table
from edge_compress.domain.fleet import DISCONNECTED
from edge_compress.domain.overview import (
    DeviceHistory,
    Figures,
    FleetOverview,
    ProfileOverview,
    RolloutOverview,
    VersionOverview,
)
from edge_compress.report_page import figures

_TITLES = ("PROFILE", "DEVICES", "INF/S", "P95", "ENERGY", "ERR/S")
_WIDTHS = (28, 7, 6, 7, 7, 5)
"""at least, so that columns stay where they are while figures change"""
_MOST_VERSIONS = 4
"""of a profile"""
_BARS = "▁▂▃▄▅▆▇█"


def overview_lines(overview: FleetOverview, now: float) -> list[str]:
    """Profiles with the states of their devices and their versions below, then the rollouts under way."""
    blocks = [_block(profile) for profile in overview.profiles]
    laid_out = table(_TITLES, [row for rows, _ in blocks for row in rows], _WIDTHS)
    lines, rest = [_headline(overview, now), ""], iter(laid_out)
    lines.append(next(rest) if blocks else "no device has joined yet")
    for rows, states in blocks:
        lines += [next(rest), f"  {states}", *(next(rest) for _ in rows[1:])]
    return [*lines, *_rollouts(overview.rollouts)]


def history_lines(history: DeviceHistory) -> list[str]:
    """Latency and energy of a device by minute, from the first in which it did something; none where nothing is known."""
    points = list(itertools.dropwhile(lambda point: point.mean_seconds is None, history.points))
    told = (
        ("latency", [point.mean_seconds for point in points], figures.milliseconds),
        ("energy", [point.joules_per_inference for point in points], figures.millijoules),
    )
    known = [
        (f"  {name}: {_span(values, say)}", f"    {sparkline(values)}") for name, values, say in told if set(values) - {None}
    ]
    minutes = f"{len(points)} minutes" if len(points) > 1 else "minute"
    return [f"Last {minutes}, mean of an inference in each:", *(line for pair in known for line in pair)] if points else []


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each value, from zero to the highest; a space where there is none."""
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    top = len(_BARS) - 1
    return "".join(" " if value is None else _BARS[max(0, round(value / highest * top))] for value in values)


def _headline(overview: FleetOverview, now: float) -> str:
    devices = sum(sum(profile.devices.values()) for profile in overview.profiles)
    away = sum(profile.devices.get(DISCONNECTED, 0) for profile in overview.profiles)
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    return f"{clock}   {devices} devices, {devices - away} connected   figures of the last {overview.window_seconds:.0f} s"


def _block(profile: ProfileOverview) -> tuple[list[tuple[str, ...]], str]:
    """Rows of a profile, its own first, and the states of its devices."""
    shown = profile.versions[:_MOST_VERSIONS]
    own = (profile.profile, str(sum(profile.devices.values())), *_cells(profile.recent))
    rows = [own, *(_version(version) for version in shown)]
    return rows, _states(profile.devices) + _left_out(len(profile.versions) - len(shown))


def _version(version: VersionOverview) -> tuple[str, ...]:
    name = f"  {version.model or figures.NONE} {version.version}"
    return (name, str(version.devices), *_cells(version.recent))


def _cells(recent: Figures) -> tuple[str, ...]:
    seconds, joules = recent.p95_seconds, recent.joules_per_inference
    return (
        figures.significant(recent.inferences_per_second),
        figures.milliseconds(None if seconds is None else 1000 * seconds),
        figures.millijoules(None if joules is None else 1000 * joules),
        figures.significant(recent.errors_per_second),
    )


def _states(devices: Mapping[str, int]) -> str:
    ordered = sorted(devices.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {state}" for state, count in ordered)


def _left_out(count: int) -> str:
    return f"; {count} more versions" if count > 0 else ""


def _rollouts(rollouts: Iterable[RolloutOverview]) -> list[str]:
    rows = [(one.name, one.state, _step(one), one.verdict or figures.NONE, one.message or figures.NONE) for one in rollouts]
    return ["", *table(("ROLLOUT", "STATE", "STEP", "VERDICT", "WHY"), rows)] if rows else []


def _step(rollout: RolloutOverview) -> str:
    of = f"/{rollout.steps}" if rollout.steps else ""
    return f"{rollout.step}{of} ({rollout.share:.0%})"


def _span(values: Sequence[float | None], say: Callable[[float | None], str]) -> str:
    """The lowest and the highest of some values in base units, and the newest; ``say`` takes thousandths."""
    known = [1000 * value for value in values if value is not None]
    return f"{say(min(known))} to {say(max(known))}, last {say(known[-1])}"
