from __future__ import annotations

import os
import subprocess
import sys

from edge_compress.agent import footprint

GROW = """
from edge_compress.agent import footprint
before = footprint.begin()
data = bytearray(50 << 20)
del data
peak = footprint.added_since(before)
footprint.drop_idle_code()
print(peak, footprint.added_since(footprint.begin()), sorted([3, 1, 2]))
"""


def test_the_peak_is_seen_after_it_is_over_and_a_new_mark_forgets_it() -> None:
    done = subprocess.run([sys.executable, "-c", GROW], capture_output=True, text=True, timeout=60, check=True)
    peak, afterwards = (int(word) for word in done.stdout.split()[:2])
    assert 49 << 20 <= peak < 60 << 20
    assert afterwards < 5 << 20
    assert done.stdout.endswith("[1, 2, 3]\n")


def test_processes_that_are_gone_hold_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert footprint.resident_bytes([gone.pid]) == 0
    assert footprint.resident_bytes([os.getpid(), gone.pid]) > 10 << 20
