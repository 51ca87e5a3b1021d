"""Runs tasks once: results are cached by the digest of everything that decides them, and threads that want the same one share it.

What is cached is a small JSON value and, where a task makes a file, the file as a blob. Which tasks to run is left to ``engine``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_compress.errors import Cancelled
from edge_compress.store.interface import Store
from edge_compress.worker.cores import Cores
from edge_compress.worker.keeping import Keeper
from edge_compress.worker.spawn import ChildLimits, run_child


def digest(value: Any) -> str:
    """sha256 of a JSON-ready value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@functools.cache
def version_of(distribution: str) -> str:
    """Installed version, or "" when it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Installed versions by name."""
    return {name: version_of(name) for name in sorted(set(distributions))}


@functools.cache
def this_machine() -> str:
    """What decides speed here: processor and how many cores."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "CPU part", "Hardware")):
            model += " " + line.split(":", 1)[1].strip()
            break
    return model


_DIAGNOSIS = "diagnosis: "
"""how a strategy begins a log line that says what was wrong with which layer and what it did about it"""

Observe = Callable[[str, str, float], None]
"""Told (strategy, outcome, seconds) of each strategy step that was really run."""


@dataclass(frozen=True)
class Work:
    """One task to run. ``decides`` is all that determines the result and nothing else; ``arguments`` also hold paths."""

    task: str
    decides: Mapping[str, Any]
    arguments: Mapping[str, Any]
    limits: ChildLimits
    cores: int = 1
    strategy: str = ""
    """the strategy whose step this is; empty for measurements and checks"""
    shelf: str = ""
    """digest of what everything depends on that the step keeps for others; empty: it keeps nothing"""

    @property
    def key(self) -> str:
        """Name of the result in the cache."""
        return f"{self.task}/{digest(self.decides)}"


@dataclass
class Run:
    """One caller's side of a run: how to stop it, and whom to tell."""

    cancelled: threading.Event
    progress: Callable[[float, str], None] = lambda fraction, message: None


class StepRunner:
    """Runs work in child processes, each distinct one once."""

    def __init__(self, store: Store, scratch: Path, cores: Cores, observe: Observe = lambda *_: None) -> None:
        self._store, self._scratch, self._cores, self._observe = store, scratch, cores, observe
        self._keeper = Keeper(store)
        self._running: dict[str, Future[Mapping[str, Any]]] = {}
        self._lock = threading.Lock()
        self.computed = 0
        """how many tasks really ran, for tests and reports"""

    def result(self, work: Work, run: Run) -> Mapping[str, Any]:
        """The task's value; where it made a file, ``sha256`` and ``bytes`` name the blob. Raises what the task raised."""
        while True:
            if (cached := self.cached(work.key)) is not None:
                return cached
            if run.cancelled.is_set():
                raise Cancelled("cancelled before it began")
            with self._lock:
                other = self._running.get(work.key)
                mine: Future[Mapping[str, Any]] = Future()
                if other is None:
                    self._running[work.key] = mine
            if other is None:
                return self._compute(work, run, mine)
            try:
                return self._await(other, run)
            except Cancelled:
                if run.cancelled.is_set():
                    raise
                # the other caller was cancelled, not we: do it ourselves

    def cached(self, key: str) -> Mapping[str, Any] | None:
        """A finished result whose file, if it has one, is still here."""
        value = self._store.step(key)
        if value is None or ("sha256" in value and not self._store.blobs.has(value["sha256"])):
            return None
        return value

    def _compute(self, work: Work, run: Run, mine: Future[Mapping[str, Any]]) -> Mapping[str, Any]:
        started = time.monotonic()
        outcome = "ok"
        try:
            value = self._spawn(work, run)
            self._store.put_step(work.key, value)
            mine.set_result(value)
        except BaseException as error:
            outcome = "cancelled" if isinstance(error, Cancelled) else getattr(error, "reason", "error")
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                self._running.pop(work.key, None)
            if work.strategy:
                self._observe(work.strategy, outcome, time.monotonic() - started)
        return value

    def _spawn(self, work: Work, run: Run) -> Mapping[str, Any]:
        with self._cores.take(work.cores, run.cancelled) as cores:
            lent = {"kept": self._keeper.lend(work.shelf)} if work.shelf else {}
            child = run_child(
                work.task,
                {**work.arguments, **lent},
                scratch_root=self._scratch,
                limits=work.limits,
                cores=cores,
                cancelled=run.cancelled,
                on_progress=run.progress,
            )
        try:
            self.computed += 1
            diagnosis = [line.removeprefix(_DIAGNOSIS) for line in child.log if line.startswith(_DIAGNOSIS)]
            value = {**child.value, "seconds": child.seconds, **({"diagnosis": diagnosis} if diagnosis else {})}
            if "file" in value:
                path = child.scratch / value.pop("file")
                value["bytes"] = path.stat().st_size
                value["sha256"] = self._store.blobs.put_file(path)
            if work.shelf:
                self._keeper.take(work.shelf, child.scratch)
            return value
        finally:
            child.discard()

    @staticmethod
    def _await(other: Future[Mapping[str, Any]], run: Run) -> Mapping[str, Any]:
        while True:
            try:
                return other.result(timeout=0.2)
            except TimeoutError:
                if other.done():
                    return other.result()  # ended just now, or the task itself raised a TimeoutError
                if run.cancelled.is_set():
                    raise Cancelled("cancelled while waiting for a shared step") from None
