"""The task that turns a .pt2 archive into ONNX. It runs where every step does: a child with limits and a scrubbed environment.

The reader opens no pickle and evaluates nothing (see ``graph.archive``). Should it be wrong about that, a wall stands behind it:
from before the file is opened, this process can look up no class for a pickle, start no process, reach no network and open no
file for writing but its own. The wall is an audit hook, which cannot be taken down once it is up.

Source: PEP 578, "Python Runtime Audit Hooks". It sees what Python does, not what compiled code does by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_compress.errors import InvalidModel, Unsupported
from edge_compress.worker.frame import Frame

_PROCESSES = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "os.kill",
)
_NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")
_REFUSED = frozenset({"pickle.find_class", *_PROCESSES, *_NETWORK})
_CHANGES = frozenset(("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.chown"))
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def lift(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Lift the archive at ``path``; leaves ``model.onnx``. Raises InvalidModel, TooLarge."""
    from edge_compress.graph.bridge.lift import lift as lifted
    from edge_compress.graph.bridge.lift import warm

    warm()
    sys.dont_write_bytecode = True
    sys.addaudithook(wall(frame.scratch))
    try:
        model = lifted(Path(arguments["path"]), arguments["max_bytes"])
    except Unsupported as error:
        raise InvalidModel(str(error)) from error
    (frame.scratch / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    return {"file": "model.onnx"}


def wall(scratch: Path) -> Any:
    """A hook that refuses with PermissionError whatever a lift has no business doing."""
    inside = str(scratch.resolve()) + os.sep

    def within(path: Any) -> bool:
        return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(inside)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _REFUSED:
            raise PermissionError(f"a lift may not do {event}")
        if event in _CHANGES and not all(within(item) for item in arguments if isinstance(item, (str, bytes))):
            raise PermissionError(f"a lift may not do {event} outside its own folder")
        if event == "open" and len(arguments) == 3 and (arguments[2] or 0) & _WRITING and not within(arguments[0]):
            raise PermissionError(f"a lift may not write {arguments[0]}")

    return hook
