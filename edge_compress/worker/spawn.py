"""Runs one task in a child process of its own, with limits on time, memory and cores, and says how it ended.

The child gets a scratch folder, a scrubbed environment and no open files of ours. Whatever it does (crash, hang, eat memory,
write garbage) comes back as StepFailed with its last log lines. What the tasks are is left to ``tasks``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_compress import errors
from edge_compress.errors import FULL_ERRNOS, Cancelled, EdgeCompressError, StepFailed, StorageFull

_LOG_LINES = 20
_POLL_SECONDS = 0.05
_FULL_BYTES = 2**20
"""a child that fails with less room than this left on the disk fails for want of it"""
_AMPLE_BYTES = 2**30
"""a child that finds the disk full when this much is free without its own files filled it itself"""
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "SSL_CERT_FILE")


@dataclass(frozen=True)
class ChildLimits:
    """What a child may use: wall-clock seconds, bytes of memory, and bytes it may write to one file."""

    seconds: float = 600.0
    memory_bytes: int = 4 * 2**30
    file_bytes: int = 8 * 2**30


@dataclass(frozen=True)
class ChildResult:
    """What a task returned, and the files it left in ``scratch``, which the caller owns until ``discard``."""

    value: Mapping[str, Any]
    scratch: Path
    log: tuple[str, ...]
    seconds: float

    def discard(self) -> None:
        """Remove the scratch folder."""
        shutil.rmtree(self.scratch, ignore_errors=True)


def run_child(
    task: str,
    arguments: Mapping[str, Any],
    *,
    scratch_root: Path,
    limits: ChildLimits,
    cores: frozenset[int],
    cancelled: threading.Event | None = None,
    on_progress: Callable[[float, str], None] = lambda fraction, message: None,
) -> ChildResult:
    """Run ``task`` with JSON-ready ``arguments``.

    Raises the domain error the task raised (InvalidModel, InvalidData …), StepFailed for anything else that went wrong,
    StorageFull when there was no room to work in, and Cancelled when ``cancelled`` was set.
    """
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f"{task}-", dir=scratch_root))
    except OSError as error:
        raise StorageFull(f"no scratch folder for {task}: {error.strerror}") from error
    started = time.monotonic()
    try:
        ending = _Child(task, arguments, scratch, limits, cores).watch(cancelled, on_progress)
        log = _tail(scratch / "log")
        value = _result(task, scratch, ending, log, limits)
    except (StepFailed, StorageFull, OSError) as error:
        full = _is_full(error, scratch_root)  # the child may have removed its own folder
        shutil.rmtree(scratch, ignore_errors=True)
        if full:
            raise _no_room(scratch_root) from error
        if isinstance(error, OSError):
            raise StepFailed(f"its process or its files were lost: {error}", reason="crash") from error
        raise
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return ChildResult(value, scratch, log, time.monotonic() - started)


class _Child:
    """One running child and how it is watched."""

    def __init__(
        self, task: str, arguments: Mapping[str, Any], scratch: Path, limits: ChildLimits, cores: frozenset[int]
    ) -> None:
        request = {
            "task": task,
            "arguments": arguments,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "seconds": limits.seconds,
            "cores": sorted(cores),
            "parent": os.getpid(),
        }
        (scratch / "request.json").write_text(json.dumps(request), encoding="utf-8")
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        reading, writing = os.pipe()
        self._events = os.fdopen(reading, "rb", buffering=0)
        self._pending = b""
        with (scratch / "log").open("wb") as log:
            self._process = subprocess.Popen(  # our own interpreter and module
                # -P: nothing is imported from the folder we were started in, which may hold a stranger's files
                [sys.executable, "-P", "-m", "edge_compress.worker.child", str(scratch), str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                env=_environment(scratch, len(cores)),
                start_new_session=True,
            )
        os.close(writing)

    def watch(self, cancelled: threading.Event | None, on_progress: Callable[[float, str], None]) -> str:
        """Follow the child to its end. Returns "" when it ended by itself, else why it was killed."""
        try:
            while True:
                ended = self._read_events(on_progress)
                if ended or self._process.poll() is not None:
                    self._process.wait(timeout=10)
                    return ""
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled("cancelled")
                if time.monotonic() > self._deadline:
                    return "timeout"
                if _resident_bytes(self._process.pid) > self._limits.memory_bytes:
                    return "memory"
        except subprocess.TimeoutExpired:
            return "timeout"
        finally:
            self._kill()
            self._events.close()

    def _read_events(self, on_progress: Callable[[float, str], None]) -> bool:
        poll = select.poll()  # select() takes no descriptor over 1023, of which a server with many agents has thousands
        poll.register(self._events, select.POLLIN)
        if not poll.poll(1000 * _POLL_SECONDS):
            return False
        data = self._events.read(65536)
        if not data:
            return True
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > 65536:
            self._pending = b""
        for line in lines:
            try:
                event = json.loads(line)
                on_progress(min(1.0, max(0.0, float(event["fraction"]))), str(event["message"])[:200])
            except (ValueError, KeyError, TypeError):
                continue  # a plugin wrote to a pipe that is not its own; its result is what counts
        return False

    def _kill(self) -> None:
        """End the child and whatever it started: it leads a session, so its group is everything it did not detach."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _is_full(error: Exception, scratch_root: Path) -> bool:
    """Whether a child failed because its scratch folder has no room, though what it says may be something else."""
    told = isinstance(error, StorageFull) or getattr(error, "errno", None) in FULL_ERRNOS
    return told or shutil.disk_usage(scratch_root).free < _FULL_BYTES


def _no_room(scratch_root: Path) -> EdgeCompressError:
    """Whose fault it is that there was no room, judged once the child's own files are gone."""
    if shutil.disk_usage(scratch_root).free > _AMPLE_BYTES:
        return StepFailed("filled the disk with its files", reason="output")
    return StorageFull(f"{scratch_root}: no room left on the disk to work in; make room and try again")


def _environment(scratch: Path, threads: int) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    folder = str(scratch)
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    return {**kept, **limits, "HOME": folder, "TMPDIR": folder, "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}


def _resident_bytes(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _tail(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 16384))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return tuple(line[:300] for line in lines if line.strip())[-_LOG_LINES:]


def _result(task: str, scratch: Path, ending: str, log: tuple[str, ...], limits: ChildLimits) -> Mapping[str, Any]:
    if ending == "timeout":
        raise StepFailed(f"stopped after {limits.seconds:g} s, its time limit", reason="timeout", log=log)
    if ending == "memory":
        raise StepFailed(f"stopped above {limits.memory_bytes // 2**20} MiB, its memory limit", reason="memory", log=log)
    try:
        reply = json.loads((scratch / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        last = f": {log[-1]}" if log else ""
        raise StepFailed(f"its process died without a result{last}", reason="crash", log=log) from error
    if "error" in reply:
        raise _rebuilt(reply["error"], log)
    value: Mapping[str, Any] = reply["value"]
    return value


def _rebuilt(error: Mapping[str, Any], log: tuple[str, ...]) -> EdgeCompressError:
    message = str(error.get("message", ""))
    if error.get("class") == "MemoryError":
        return StepFailed(f"ran out of its memory limit: {message}", reason="memory", log=log)
    cls = getattr(errors, str(error.get("class")), None)
    if cls in (errors.InvalidModel, errors.InvalidData, errors.InvalidSpec):
        violations = tuple(errors.Violation(str(f), str(d)) for f, d in error.get("violations", ()))
        rebuilt: EdgeCompressError = cls(message, violations=violations)
        return rebuilt
    if cls is StorageFull:
        return StorageFull(message)
    if cls is errors.TooLarge:
        return errors.TooLarge(message)
    if cls is errors.Corrupt:
        return StepFailed(message, reason="output", log=log)
    return StepFailed(message, reason="error", log=log)
