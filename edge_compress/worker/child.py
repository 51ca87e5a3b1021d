"""The child's side: puts on its limits, runs one task, and leaves ``result.json`` in its scratch folder.

Started by ``spawn`` as ``python -m edge_compress.worker.child SCRATCH EVENT_FD``; not for people.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_NO_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc", "bad allocation")
"""how torch and onnxruntime say what is a MemoryError elsewhere"""


def main(scratch: Path, event_fd: int) -> int:
    """Run the task in ``scratch/request.json``; progress goes to ``event_fd`` as JSON lines."""
    request = json.loads((scratch / "request.json").read_text(encoding="utf-8"))
    _put_on_limits(request)
    os.chdir(scratch)
    try:
        from edge_compress.plugin.strategy import Limits
        from edge_compress.worker.frame import Frame, Reporter
        from edge_compress.worker.tasks import task

        limits = Limits(request["seconds"], request["memory_bytes"], len(request["cores"]))
        reply = {"value": task(request["task"])(request["arguments"], Frame(scratch, Reporter(event_fd), limits))}
    except BaseException as error:  # everything a plugin may raise becomes that candidate's record, SystemExit included
        traceback.print_exc()
        reply = {"error": _describe(error)}
    partial = scratch / "result.json.partial"
    partial.write_text(json.dumps(reply), encoding="utf-8")
    partial.rename(scratch / "result.json")
    return 0


def _put_on_limits(request: dict[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != request["parent"]:
        os._exit(1)  # the parent died before the line above took hold
    os.sched_setaffinity(0, request["cores"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Heap and private mappings; address space as such would hit the sparse reservations of runtimes.
    resource.setrlimit(resource.RLIMIT_DATA, (request["memory_bytes"], request["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"], request["file_bytes"]))


def _describe(error: BaseException) -> dict[str, Any]:
    from edge_compress.errors import FULL_ERRNOS, EdgeCompressError

    if isinstance(error, EdgeCompressError):
        violations = [(item.field, item.description) for item in error.violations]
        return {"class": type(error).__name__, "message": str(error), "violations": violations}
    if isinstance(error, MemoryError) or any(said in str(error) for said in _NO_MEMORY):
        first_line = next(iter(str(error).splitlines()), "")
        return {"class": "MemoryError", "message": first_line[:200] or "allocation refused"}
    if isinstance(error, OSError) and error.errno in FULL_ERRNOS:
        return {"class": "StorageFull", "message": str(error)}
    first_line = next(iter(str(error).splitlines()), "")
    return {"class": "StepFailed", "message": f"{type(error).__name__}: {first_line}"[:500]}


if __name__ == "__main__":
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    os._exit(code)  # runtimes' threads and atexit hooks may hang; the result is on disk already
