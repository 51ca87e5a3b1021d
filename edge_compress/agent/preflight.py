"""May an update begin here and now? Runtime, disk, memory, battery, maintenance window, and the file that differences go to.

Reading the device is left to ``surroundings``, what a refusal leads to to ``install``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_compress.agent.machine import Assignment, Position
from edge_compress.agent.probe import Refused
from edge_compress.agent.slots import Slots, digest
from edge_compress.agent.surroundings import RUNTIMES, Surroundings
from edge_compress.domain.window import Window, is_open
from edge_compress.errors import StorageFull

log = logging.getLogger("edge_compress.agent")

_SPARE_BYTES = 1 << 20
"""of disk, kept free for the journal and the manifest"""
RUNTIME_BYTES = 64 << 20
"""of memory: what a model process takes before it has a model (measured: 50 to 60 MiB with onnxruntime)"""
_FILES_IN_MEMORY = 2
"""times its file that a model takes where nobody measured it"""


class NoRoom(Refused):
    """Memory is short just now."""


@dataclass(frozen=True)
class Rules:
    """What the owner of the device set. ``memory_budget``: bytes that the agent and its model processes may hold together;
    ``min_battery``: share below which nothing begins unless it charges; ``windows``: when something may begin, empty: always."""

    memory_budget: int | None = None
    min_battery: float = 0.0
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Clearance:
    """An update may begin. ``alone``: what serves must be stopped while the candidate is tried, ``why`` says for which figures;
    ``base``: digest of the file that differences may go to, empty: none."""

    alone: bool = False
    why: str = ""
    base: str = ""


@dataclass(frozen=True)
class Preflight:
    """``held`` and ``serving`` tell bytes of memory: of all processes of the agent, and of the model process that serves."""

    slots: Slots
    surroundings: Surroundings
    rules: Rules = field(default_factory=Rules)
    held: Callable[[], int] = lambda: 0
    serving: Callable[[], int] = lambda: 0

    def reason_to_wait(self) -> str:
        """Why nothing may begin now; empty: it may."""
        if not is_open(self.rules.windows, self.surroundings.minute_of_day()):
            return f"waits for the maintenance window {','.join(map(str, self.rules.windows))}"
        battery = self.surroundings.battery()
        if battery is not None and not battery.charging and battery.share < self.rules.min_battery:
            return f"waits for the battery: it is at {battery.share:.0%}, updates begin at {self.rules.min_battery:.0%}"
        return ""

    def clear(self, position: Position, assignment: Assignment) -> Clearance:
        """Let an update begin; reads the whole of the file that serves. Raises Refused, NoRoom, StorageFull."""
        if assignment.runtime not in RUNTIMES:
            raise Refused(f"this device has no runtime {assignment.runtime!r}; it has {', '.join(RUNTIMES)}")
        wanting, free = self.slots.wanting_bytes(assignment), self.slots.free_bytes()
        if wanting and wanting + _SPARE_BYTES > free:
            raise StorageFull(f"no room on the disk: {wanting + _SPARE_BYTES} bytes are needed, {free} are free")
        alone = self._memory(assignment)
        base = self._base(position.serving, assignment)
        if assignment.differences_only and not base and not self.slots.staged(assignment):
            raise Refused("only differences may be fetched on this link, and there is nothing here that they could go to")
        return Clearance(bool(alone), alone, base)

    def _memory(self, assignment: Assignment) -> str:
        """Why the candidate must be tried alone; empty: it has room beside what serves. Raises NoRoom where it has none."""
        expected = assignment.expected_memory_bytes
        needed = RUNTIME_BYTES + (_FILES_IN_MEMORY * assignment.bytes if expected is None else expected)
        free = self._free()
        if free is None or needed <= free:
            return ""
        figures = f"about {_mib(needed)} of memory are needed, {_mib(free)} are free"
        back = self.serving()
        if not back or needed > free + back:
            raise NoRoom(f"no room in memory: {figures}" + (f", {_mib(back)} more without what serves now" if back else ""))
        return f"what served was stopped while this was tried, for memory cannot hold both: {figures}"

    def _free(self) -> int | None:
        known = [self.surroundings.free_memory()]
        if self.rules.memory_budget is not None:
            known.append(max(0, self.rules.memory_budget - self.held()))
        return min((value for value in known if value is not None), default=None)

    def _base(self, serving: Assignment | None, assignment: Assignment) -> str:
        """What serves, if it is still the file that it is taken for: differences to another one come out wrong."""
        if serving is None or serving.sha256 == assignment.sha256 or self.slots.staged(assignment):
            return ""
        with contextlib.suppress(OSError):
            files = ((self.slots.model(serving), serving.sha256), (self.slots.golden(serving), serving.golden_sha256))
            if self.slots.staged(serving) and all(digest(path) == sha256 for path, sha256 in files):
                return serving.sha256
        log.warning("%s is not the file that it was taken for: all of it is fetched", serving.artifact or serving.sha256[:12])
        return ""


def _mib(value: int) -> str:
    return f"{value / 2**20:.0f} MiB"
