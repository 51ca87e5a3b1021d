"""The agent's own process, which kills itself with SIGKILL at one exact moment of an update.

    python tests/integration/dying_agent.py STATE begins|ends SETUP

``begins``: the state's line is in the journal and nothing of its work is done. ``ends``: all of its work is done, and the line
of the next state is not in the journal.
"""

from __future__ import annotations

import os
import signal
import sys

from edge_compress.agent.__main__ import main
from edge_compress.agent.journal import Journal
from edge_compress.agent.machine import Position


def die_in(state: str, moment: str) -> None:
    """Have every journal of this process kill it then."""
    append = Journal.append

    def deadly(journal: Journal, position: Position) -> None:
        if moment == "ends" and journal.position.state == state:
            os.kill(os.getpid(), signal.SIGKILL)
        append(journal, position)
        if moment == "begins" and position.state == state:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.append = deadly


if __name__ == "__main__":
    die_in(*sys.argv[1:3])
    sys.exit(main(sys.argv[3:]))
