"""Becomes a command that dies with the process that asked for it: ``python -m edge_compress.demo.bound PARENT COMMAND…``.

Linux tells a process when its parent is gone, however it went; elsewhere the command runs unbound and ``Cast.close`` ends it.
"""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def bind(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` ends, and everything this process becomes by exec."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was told
        os._exit(1)


def main() -> None:
    """Bind to the parent and become the command."""
    bind(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
