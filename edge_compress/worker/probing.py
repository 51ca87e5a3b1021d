"""Tasks that look into a model: how sensitive each layer is, how long each takes in an artifact, and how fast the model
trains here.

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


def speed(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Multiply-accumulates of training a second and thread, as ``macs_per_second``; 0 where the model cannot be trained."""
    from edge_compress.graph.bridge import Unsupported
    from edge_compress.graph.bridge.rehearsal import training_speed

    samples, macs = DataSource.read(arguments["source"]).open(), float(arguments["macs"])
    model = load_checked(Path(arguments["model"]))
    try:
        found = training_speed(model, lambda size: samples.batches(size), macs, frame.limits, arguments["run_seconds"])
    except (Unsupported, ValueError):
        found = 0.0
    return {"macs_per_second": found}


def layer_times(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """The layers of an artifact in its own order with the ``time`` of each (seconds), and the ``rest``; nothing without a
    profiler."""
    target = Registry.load(only=[arguments["plugin"]], strict=True).target(arguments["target"])
    path = Path(arguments["artifact"])
    feeds = DataSource.read(arguments["source"]).feeds(4)
    found = target.layer_seconds(path, arguments["threads"], feeds, arguments["run_seconds"])
    layers = facts_of(path).layers if found else ()
    return {"layers": [{"facts": encode(item), "time": found.get(item.name)} for item in layers], "rest": found.get("")}
