"""Tasks that measure a finished artifact: quality on data, latency beside the float original, and peak memory."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_compress.errors import StepFailed
from edge_compress.plugin.quality import QualityMetric
from edge_compress.plugin.registry import Registry
from edge_compress.plugin.strategy import Batch
from edge_compress.plugin.target import Runner
from edge_compress.worker.frame import DataSource, Frame
from edge_compress.worker.outputs import Companions, with_rows

_BURST_SECONDS = 0.02
_BOOTSTRAPS = 200
_FIRST_LOOK = 512
"""samples after which a lost candidate may be given up; then after twice as many, and so on"""
_SURE = 3.3
"""standard errors"""


def quality(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """The metric's value over the evaluation samples with its 95% interval. Raises StepFailed where an output has nothing to do
    with the original's, whichever of them the metric looks at.

    With ``stop_at``, a value that the metric is to reach, samples come in random order and no more are looked at once it is clear
    that it will not.
    """
    judge = _Judge.open(arguments)
    metric, samples = judge.metric, DataSource.read(arguments["samples"]).open()
    stop_at = arguments["stop_at"] if _is_mean(metric) and samples.well_shuffled else None
    size, total = arguments["batch_size"], max(arguments["count"], 1)
    rows, done, look = [], 0, _FIRST_LOOK
    for batch in samples.batches(size) if stop_at is None else samples.shuffled(size, seed=0, epoch=0):
        rows.append(judge.rows(batch))
        done += len(batch)
        frame.reporter.progress(done / total, f"{done} of {total} samples")
        if stop_at is not None and done >= look:
            look *= 2
            if out_of_reach(metric, np.concatenate(rows), stop_at):
                break
    judge.companions.refuse_strangers()
    everything = np.concatenate(rows)
    value = metric.reduce(everything)
    if not math.isfinite(value):
        raise StepFailed(f"{metric.name} is not defined on these samples (does every class occur?)", reason="output")
    return {"value": value, "samples": len(everything), "confidence95": interval(metric, everything, value)}


@dataclass
class _Judge:
    """An artifact, a metric, and the original where either is held against it."""

    metric: QualityMetric
    runner: Runner
    reference: Runner | None
    companions: Companions
    chosen: Sequence[int] | None = None
    """outputs with a row for each sample, which are all that the metric sees"""

    @staticmethod
    def open(arguments: Mapping[str, Any]) -> _Judge:
        registry = Registry.load(only=arguments["plugins"], strict=True)
        metric, target = registry.quality_metric(arguments["metric"]), registry.target(arguments["target"])
        runner = target.open(Path(arguments["artifact"]), threads=1)
        compared = metric.needs_reference or arguments["companions"]
        reference = target.open(Path(arguments["reference"]), threads=1) if compared else None
        return _Judge(metric, runner, reference, Companions())

    def rows(self, batch: Batch) -> np.ndarray[Any, Any]:
        """What the metric says of each sample."""
        outputs = self.runner.run(batch.inputs)
        _refuse_nan(outputs)
        wanted = self.reference.run(batch.inputs) if self.reference else None
        if wanted is not None:
            self.companions.see(outputs, wanted)
        self.chosen = self.chosen or with_rows(outputs, len(batch))
        theirs = None if wanted is None else [wanted[at] for at in self.chosen]
        scored = self.metric.rows([outputs[at] for at in self.chosen], batch.labels, theirs)
        return _finite(np.asarray(scored, dtype=np.float64), self.metric.name)


def out_of_reach(metric: QualityMetric, rows: np.ndarray[Any, Any], wanted: float) -> bool:
    """Whether a mean over all samples as good as ``wanted`` is ruled out by the first of them, in random order: a sequential test
    with a fixed number of looks, each of which errs once in 2,000."""
    low, high = interval(metric, rows, metric.reduce(rows), _SURE)
    return high < wanted if metric.higher_is_better else low > wanted


def _is_mean(metric: QualityMetric) -> bool:
    return type(metric).reduce is QualityMetric.reduce


def interval(metric: QualityMetric, rows: np.ndarray[Any, Any], value: float, z: float = 1.959964) -> tuple[float, float]:
    """95% interval of a metric's value: Wilson (1927) for shares of right answers, normal for other means, else bootstrap.

    ``z``: standard errors, for other intervals than that of 95%, where no bootstrap is needed.
    """
    count = len(rows)
    if not _is_mean(metric):
        draw = np.random.default_rng(0)
        values = [metric.reduce(rows[draw.integers(0, count, count)]) for _ in range(_BOOTSTRAPS)]
        return float(np.nanquantile(values, 0.025)), float(np.nanquantile(values, 0.975))
    if np.isin(rows, (0.0, 1.0)).all():
        centre = (value + z * z / (2 * count)) / (1 + z * z / count)
        half = z / (1 + z * z / count) * math.sqrt(value * (1 - value) / count + z * z / (4 * count * count))
        return max(0.0, centre - half), min(1.0, centre + half)
    half = z * float(rows.std()) / math.sqrt(count)
    return value - half, value + half


def latency(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Seconds of one inference of several artifacts, taken in turns so that their ratios hold while the machine drifts.

    The first entry is the float original, to which the others are compared round by round. Of slow ones fewer rounds are taken,
    so that they end well within the time limit.
    """
    latest = time.monotonic() + frame.limits.seconds / 3
    registry = Registry.load(only=arguments["plugins"], strict=True)
    feeds = DataSource.read(arguments["samples"]).feeds(8)
    entries = []
    for item in arguments["artifacts"]:
        runner = registry.target(item["target"]).open(Path(item["path"]), threads=arguments["threads"])
        entries.append(_Timed(item["id"], runner, feeds))
    rounds = 0
    stop = time.monotonic() + arguments["seconds"] * len(entries)
    while rounds < 3 or (time.monotonic() < latest and (rounds < 15 or (time.monotonic() < stop and rounds < 200))):
        for entry in entries[rounds % len(entries) :] + entries[: rounds % len(entries)]:
            entry.burst()
        rounds += 1
        frame.reporter.progress(min(1.0, rounds / 20), f"timing, round {rounds}")
    return {entry.id: entry.summary(entries[0]) for entry in entries}


def memory(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Bytes that loading and running an artifact adds to a process that has the runtime loaded already, at the peak."""
    target = Registry.load(only=arguments["plugins"], strict=True).target(arguments["target"])
    feeds = DataSource.read(arguments["samples"]).feeds(2)
    target.warm()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark to what is resident now (proc(5))
    before, code_before = _status_bytes("VmRSS"), _status_bytes("RssFile")
    runner = target.open(Path(arguments["artifact"]), threads=arguments["threads"])
    for feed in feeds * 2:
        runner.run(feed)
    code = max(0, _status_bytes("RssFile") - code_before)  # pages of the runtime's own code that this model was the first to use
    return {"peak_memory_bytes": max(0, _status_bytes("VmHWM") - before - code)}


class _Timed:
    """One artifact being timed."""

    def __init__(self, identity: str, runner: Runner, feeds: list[dict[str, Any]]) -> None:
        self.id = identity
        self._runner = runner
        self._feeds = feeds
        self._seconds: list[float] = []
        self._cpu = 0.0
        self.medians: list[float] = []
        for feed in feeds[:3]:
            self._runner.run(feed)
        start = time.perf_counter()
        self._runner.run(feeds[0])
        self._count = max(1, min(50, int(_BURST_SECONDS / max(time.perf_counter() - start, 1e-6))))

    def burst(self) -> None:
        """Time a handful of inferences."""
        taken = []
        cpu = time.process_time()
        for index in range(self._count):
            feed = self._feeds[index % len(self._feeds)]
            start = time.perf_counter()
            self._runner.run(feed)
            taken.append(time.perf_counter() - start)
        self._cpu += time.process_time() - cpu
        self._seconds += taken
        self.medians.append(statistics.median(taken))

    def summary(self, baseline: _Timed) -> dict[str, float]:
        """Percentiles in seconds, and the median ratio to the baseline over the rounds."""
        ratios = [mine / theirs for mine, theirs in zip(self.medians, baseline.medians, strict=True)]
        return {
            "p50": float(np.quantile(self._seconds, 0.5)),
            "p95": float(np.quantile(self._seconds, 0.95)),
            "cpu_seconds": self._cpu / len(self._seconds),
            "ratio_to_float": statistics.median(ratios),
            "cpu_ratio": (self._cpu / len(self._seconds)) / max(baseline._cpu / len(baseline._seconds), 1e-9),
        }


def _refuse_nan(outputs: Sequence[Any]) -> None:
    """No device could confirm golden vectors of NaN, and a metric such as top1 would not notice."""
    for output in map(np.asarray, outputs):
        if output.dtype.kind == "f" and np.isnan(output).any():
            raise StepFailed("the artifact computes NaN", reason="output")


def _finite(rows: np.ndarray[Any, Any], metric: str) -> np.ndarray[Any, Any]:
    if not np.isfinite(rows).all():
        raise StepFailed(f"outputs give no finite {metric}: the artifact computes NaN or infinity", reason="output")
    return rows


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise StepFailed(f"the kernel does not tell {name}", reason="error")
