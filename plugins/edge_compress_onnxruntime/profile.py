"""How long each layer of a file takes in onnxruntime, by its own profiler and under an agent's settings.

Fused kernels keep in their name the node or the value that they grew from; so a copy of the model with numbered
names is profiled, and each kernel's time goes to the layer it stems from or, fused into it, ends in. Whole microseconds are all
the profiler tells, and it costs each kernel about one: small layers look slower than they are.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from edge_compress.graph.facts import facts_of_model
from edge_compress.graph.walk import nodes_within, subgraphs, uses
from edge_compress_onnxruntime.target import session_options

if TYPE_CHECKING:
    import numpy as np

FEWEST_RUNS, ENOUGH_RUNS, MOST_RUNS = 3, 9, 100
_WARM_UP_RUNS = 2
_LONGEST = 8
"""times the seconds asked for, after which a slow model is run no more than ``FEWEST_RUNS`` times"""
_ORIGIN = re.compile(r"(?<![A-Za-z0-9])[nv](\d+)_")
"""n: named after the node of this number, v: after the value it makes; what onnxruntime inserts has a prefix of its own"""
_INNER = "inner_"
"""begins the names of nodes in the bodies of If, Loop and Scan, whose time is in that of the node that holds them"""


def layer_seconds(
    path: Path, threads: int, feeds: Sequence[Mapping[str, np.ndarray[Any, Any]]], seconds: float
) -> dict[str, float]:
    """Median seconds by layer name as ``facts_of`` has it, and under "" of everything else. Empty where no layer was told."""
    model = onnx.load(path)
    layers = facts_of_model(model, "", 0).layers
    macs = {layer.name: layer.macs for layer in layers}
    places = {at: name for at, node in enumerate(model.graph.node) if (name := node.name or node.output[0]) in macs}
    kernels = _kernels(numbered(model), threads, feeds, seconds)
    shares, rest = attributed(model.graph.node, places, macs, kernels)
    return {**shares, "": rest} if shares else {}


def numbered(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose nodes and their values are named after the node's number: ``n7_`` and ``v7_0_``."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    new = {name: f"v{at}_{index}_" for at, node in enumerate(copy.graph.node) for index, name in enumerate(node.output) if name}
    for at, node in enumerate(copy.graph.node):
        node.name = f"n{at}_"
        _rename(node.input, new)
        _rename(node.output, new)
        for body in subgraphs(node):
            _rename_within(body, new)
    for item in copy.graph.output:
        item.name = new.get(item.name, item.name)
    copy.graph.ClearField("value_info")
    return copy


def attributed(
    nodes: Sequence[onnx.NodeProto], places: Mapping[int, str], macs: Mapping[str, int], kernels: Mapping[int, float]
) -> tuple[dict[str, float], float]:
    """Seconds by layer name, and of all kernels that no layer is part of.

    ``places``: the layers by node number; ``kernels``: seconds by the number of the node each stems from (-1: none). Layers
    fused into one kernel share its time by their multiply-accumulates; one that has none gets none.
    """
    readers = _readers(nodes)
    ends: dict[int, list[str]] = {}
    for at, name in places.items():
        end = _kernel_of(at, kernels, readers) if macs[name] else at  # a bias goes into what is before it, not behind
        if end in kernels:
            ends.setdefault(end, []).append(name)
    shares: dict[str, float] = {}
    for end, names in ends.items():
        whole = sum(macs[name] for name in names)
        for name in names:
            share = macs[name] / whole if whole else 1 / len(names)
            if share:
                shares[name] = shares.get(name, 0.0) + kernels[end] * share
    return shares, sum(value for at, value in kernels.items() if at not in ends)


def _readers(nodes: Sequence[onnx.NodeProto]) -> list[list[int]]:
    maker = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in nodes]
    for at, node in enumerate(nodes):
        for name in uses(node):
            if name in maker:
                readers[maker[name]].append(at)
    return readers


def _kernel_of(at: int, kernels: Mapping[int, float], readers: Sequence[Sequence[int]]) -> int:
    """The node itself where it has a kernel, else the nearest node downstream that has, which it was fused into."""
    seen, waiting = {at}, [at]
    for place in waiting:
        if place in kernels:
            return place
        fresh = [reader for reader in readers[place] if reader not in seen]
        seen.update(fresh)
        waiting += fresh
    return at


def _kernels(model: onnx.ModelProto, threads: int, feeds: Sequence[Mapping[str, Any]], seconds: float) -> dict[int, float]:
    """Median seconds in one inference by the number of the node that a kernel stems from."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = session_options(threads)
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        _run(session, feeds, seconds)
        return _medians(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def _run(session: Any, feeds: Sequence[Mapping[str, Any]], seconds: float) -> None:
    started, runs = time.monotonic(), 0
    while runs < FEWEST_RUNS or time.monotonic() - started < seconds * (_LONGEST if runs < ENOUGH_RUNS else 1):
        session.run(None, dict(feeds[runs % len(feeds)]))
        runs += 1
        if runs == MOST_RUNS:
            break


def _medians(events: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """By origin: the median over the runs of the sum of its kernels."""
    runs: list[dict[int, float]] = [{}]
    for event in sorted(events, key=lambda item: item.get("ts", 0)):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and not event["name"].startswith(_INNER):
            origin = origin_of(event["name"])
            runs[-1][origin] = runs[-1].get(origin, 0.0) + event["dur"] * 1e-6
        elif event.get("name") == "model_run":
            runs.append({})
    whole = [run for run in runs if run][_WARM_UP_RUNS:]
    return {origin: statistics.median(run.get(origin, 0.0) for run in whole) for origin in {at for run in whole for at in run}}


def origin_of(kernel: str) -> int:
    """The number of the node that a kernel stems from, by its name; -1 where it stems from none."""
    found = _ORIGIN.search(kernel)
    return int(found[1]) if found else -1


def _rename(names: Any, new: Mapping[str, str]) -> None:
    names[:] = [new.get(name, name) for name in names]


def _rename_within(body: onnx.GraphProto, new: Mapping[str, str]) -> None:
    """What a subgraph takes from outside gets the new name; names of its own stay."""
    own = {item.name for item in body.input} | {item.name for item in body.initializer}
    own.update(name for node in body.node for name in node.output)
    outside = {name: value for name, value in new.items() if name not in own}
    for at, inner in enumerate(nodes_within(body.node)):
        inner.name = f"{_INNER}{at}"
        _rename(inner.input, outside)
    for item in body.output:
        item.name = outside.get(item.name, item.name)
