"""How figures are written for people: sizes, times, energies, quality and recipes. ``None`` is a dash, never a zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
SHARES = frozenset({"top1", "top5", "agreement", "auc"})
"""quality metrics that people read in percent"""


def size(amount: float | None) -> str:
    """Bytes in the largest binary unit that keeps the number at one or more: ``226 KiB``."""
    if amount is None:
        return NONE
    power = 0 if abs(amount) < 1024 else min(int(math.log2(abs(amount)) // 10), 4)
    return f"{significant(amount / 1024**power)} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def milliseconds(amount: float | None) -> str:
    """Milliseconds; below 0.1 in microseconds: ``0.84 ms``."""
    if amount is None:
        return NONE
    return f"{significant(amount * 1000)} µs" if 0 < abs(amount) < 0.1 else f"{significant(amount)} ms"


def both_milliseconds(latency: Mapping[str, Any] | None) -> str:
    """Median and 95th percentile: ``0.84 · 1.2 ms``."""
    p50, p95 = (milliseconds((latency or {}).get(key)) for key in ("p50", "p95"))
    if p50 == NONE or p95 == NONE:
        return p50 if p95 == NONE else p95
    same = p50.split()[-1] == p95.split()[-1]
    return f"{p50.split()[0] if same else p50} · {p95}"


def duration(seconds: float) -> str:
    """Seconds; from two minutes on with minutes: ``12.3 s``, ``3 min 5 s``."""
    if seconds < 120:
        return f"{significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def millijoules(amount: float | None) -> str:
    """Millijoules; below 0.1 in microjoules: ``1.3 mJ``."""
    if amount is None:
        return NONE
    return f"{significant(amount * 1000)} µJ" if 0 < abs(amount) < 0.1 else f"{significant(amount)} mJ"


def quality(metric: str, value: float | None) -> str:
    """A quality value: in percent where the metric is a share, else as it is."""
    if value is None:
        return NONE
    return f"{100 * value:.2f} %" if metric in SHARES else f"{value:.4g}"


def drop(metric: str, value: float | None) -> str:
    """What was lost against the original: ``−0.10 points`` is worse, ``+0.10 points`` better, ``±0`` equal."""
    if value is None:
        return NONE
    amount = 100 * value if metric in SHARES else value
    written = f"{abs(amount):.2f}" if metric in SHARES else f"{abs(amount):.4g}"
    if not float(written):
        return "±0"
    return f"{'−' if amount > 0 else '+'}{written}{' points' if metric in SHARES else ''}"


def ratio(value: float | None) -> str:
    """A ratio to the original: ``0.73×``."""
    return NONE if value is None else f"{value:.2f}×"


def percent(value: float | None) -> str:
    """A share with two significant digits: ``0.34 %``, ``12 %``."""
    if value is None:
        return NONE
    amount = 100 * value
    if 0 < abs(amount) < 0.01:
        return "under 0.01 %"
    places = max(0, 1 - math.floor(math.log10(abs(amount)))) if amount else 0
    return f"{amount:.{places}f} %"


def count(amount: float | None) -> str:
    """A large number with a prefix: ``2.36 M``."""
    if amount is None:
        return NONE
    power = 0 if abs(amount) < 1000 else min(int(math.log10(abs(amount)) // 3), 4)
    return f"{significant(amount / 1000**power)}{('', ' k', ' M', ' G', ' T')[power]}"


def off_by(predicted: float | None, measured: float | None) -> str:
    """How far a prediction was off, as a share of what was measured: ``+12 %`` foretold too much, ``−8 %`` too little."""
    if predicted is None or not measured:
        return NONE
    share = predicted / measured - 1
    written = f"{abs(100 * share):.0f}"
    return "±0 %" if written == "0" else f"{'+' if share > 0 else '−'}{written} %"


def recipe(steps: Sequence[Mapping[str, Any]] | None) -> str:
    """The strategies in order: ``graph.optimize → quantize.static``."""
    return " → ".join(str(step.get("strategy", "?")) for step in steps) if steps else "as it is"


def parameters(steps: Sequence[Mapping[str, Any]] | None) -> str:
    """Every parameter that says something, step by step: ``bits=8 per_channel=true · percentile=99.9``."""
    given = [
        [(key, value) for key, value in (step.get("params") or {}).items() if value not in (None, "", [])] for step in steps or ()
    ]
    return " · ".join(" ".join(f"{key}={_plain(value)}" for key, value in pairs) for pairs in given if pairs)


def significant(value: float) -> str:
    """Three significant digits without an exponent, thousands kept whole: ``0.84``, ``12.3``, ``1024``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    return str(value)
