"""Measures compressed files, whoever made them: bytes, top-1 with an interval of its drop, and latency beside the original.

Every file is run as a device runs it: one sample at a time, one thread, the agent's session settings. Latencies are taken in
turns, so that their ratios hold while the machine's speed drifts.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from edge_compress.encoding import packed_bytes

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SECONDS_OF_TIMING = 20.0
ROUNDS = (40, 400)
"""fewest and most"""
WARM_UP = 10

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Drop:
    """Loss of top-1 against the original on the same samples, in points, with half the width of its 95 % interval."""

    points: float
    margin: float


@dataclass(frozen=True)
class Sizes:
    """Bytes of a file: on disk, in our link's chunks, and under zstd -19 as a whole."""

    disk: int
    download: int
    zstd19: int


def sizes(path: Path) -> Sizes:
    """Measure a file."""
    data = path.read_bytes()
    return Sizes(len(data), packed_bytes(path), len(zstd.compress(data, level=19)))


def session(path: Path) -> ort.InferenceSession:
    """A session of one thread under the agent's settings."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def right(path: Path, inputs: Array, labels: Array) -> Array:
    """For each sample whether the highest output is its label, shape (n,), bool."""
    runner = session(path)
    name = runner.get_inputs()[0].name
    highest = [int(np.argmax(runner.run(None, {name: sample[None]})[0])) for sample in inputs]
    return np.equal(highest, labels)


def drop(before: Array, after: Array) -> Drop:
    """What ``after`` loses against ``before``, both as ``right`` gives them.

    The interval is that of paired differences: samples that both get right or wrong say nothing, as in McNemar's test.
    """
    lost = before.astype(np.float64) - after
    return Drop(100 * float(lost.mean()), 196 * float(lost.std(ddof=1)) / len(lost) ** 0.5)


def latencies(files: Mapping[str, Path], inputs: Array) -> dict[str, float]:
    """Median seconds of one inference. Each round runs every file once, and starts with another one than the round before."""
    runners = {method: session(path) for method, path in files.items()}
    names = {method: runner.get_inputs()[0].name for method, runner in runners.items()}
    order, times = list(runners), {method: [] for method in runners}  # type: tuple[list[str], dict[str, list[float]]]
    begun, turn = time.perf_counter(), 0
    while turn < WARM_UP + ROUNDS[0] or (turn < WARM_UP + ROUNDS[1] and time.perf_counter() - begun < SECONDS_OF_TIMING):
        sample = inputs[turn % len(inputs)][None]
        for method in order[turn % len(order) :] + order[: turn % len(order)]:
            started = time.perf_counter()
            runners[method].run(None, {names[method]: sample})
            times[method].append(time.perf_counter() - started)
        turn += 1
    return {method: float(np.median(taken[WARM_UP:])) for method, taken in times.items()}
