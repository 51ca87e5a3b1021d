"""The tasks a child process can run, by name. Each is imported when it is run, so that a child pays only for what it uses."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from edge_compress.worker.frame import Frame

Task = Callable[[Mapping[str, Any], Frame], dict[str, Any]]

TASKS = {
    "facts": "checks:facts",
    "lift": "lifting:lift",
    "data": "checks:data",
    "propose": "asking:propose",
    "step": "transform:apply_step",
    "convert": "transform:convert",
    "golden": "transform:golden",
    "quality": "measure:quality",
    "latency": "measure:latency",
    "memory": "measure:memory",
    "training-speed": "probing:speed",
    "sensitivity": "probing:sensitivity",
    "layer-times": "probing:layer_times",
}


def task(name: str) -> Task:
    """The function behind a task's name."""
    module, function = TASKS[name].split(":")
    found: Task = getattr(importlib.import_module(f"edge_compress.worker.{module}"), function)
    return found
