"""Tasks that look into a model layer by layer: how sensitive each is, and how long each takes in an artifact.

What is made of the figures is left to ``layers``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_compress.domain.schema import encode
from edge_compress.graph.check import load_checked
from edge_compress.graph.facts import facts_of
from edge_compress.graph.sensitivity import sensitivities
from edge_compress.plugin.registry import Registry
from edge_compress.worker.frame import DataSource, Frame


def sensitivity(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Relative error of the answers by layer, for the layers in ``names`` on the first ``samples`` samples.

    Stops with the layers it has after a third of the time limit in processor time, which other work on the machine does not
    shorten, and before the limit itself.
    """
    latest = time.monotonic() + 0.8 * frame.limits.seconds
    most = time.process_time() + frame.limits.seconds / 3
    feeds = DataSource.read(arguments["source"]).feeds(arguments["samples"])
    model = load_checked(Path(arguments["model"]))
    found = sensitivities(model, feeds, arguments["names"], lambda: time.process_time() > most or time.monotonic() > latest)
    return {"errors": found, "samples": len(feeds)}


def layer_times(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """The layers of an artifact in its own order with the ``time`` of each (seconds), and the ``rest``; nothing without a
    profiler."""
    target = Registry.load(only=[arguments["plugin"]], strict=True).target(arguments["target"])
    path = Path(arguments["artifact"])
    feeds = DataSource.read(arguments["source"]).feeds(4)
    found = target.layer_seconds(path, arguments["threads"], feeds, arguments["run_seconds"])
    layers = facts_of(path).layers if found else ()
    return {"layers": [{"facts": encode(item), "time": found.get(item.name)} for item in layers], "rest": found.get("")}
