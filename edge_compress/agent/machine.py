"""Where the agent stands: the assignment it works on, what takes traffic, and the moves between states. Pure values.

``domain.fleet`` has the table of allowed moves; ``journal`` keeps positions, ``install`` does the work of each state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from edge_compress.domain.fleet import DeviceState, check_move
from edge_compress.errors import InvalidSpec

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_MOST_FALLBACKS = 4
_RESERVED_NAMES = ("golden.npz", "manifest.json")


@dataclass(frozen=True)
class Assignment:
    """What the device is to run and what to hold it to. Refuses to exist when a digest, name or size is not one.

    ``bytes`` and ``golden_bytes`` are uncompressed; ``latency_p95_seconds`` and ``memory_bytes`` are None without a limit.
    """

    id: str
    artifact: str
    model: str
    sha256: str
    bytes: int
    golden_sha256: str
    golden_bytes: int
    golden_samples: int
    rtol: float = 0.0
    atol: float = 0.0
    version: str = ""
    runtime: str = "onnxruntime"
    file_name: str = "model.onnx"
    deployment: str = ""
    rollout: str = ""
    latency_p95_seconds: float | None = None
    memory_bytes: int | None = None
    threads: int = 1
    self_test_per_second: float = 0.0
    cohort: str = ""
    expected_memory_bytes: int | None = None
    """that the model adds to the runtime's own, as measured before it was published"""
    differences_only: bool = False
    bytes_per_second: float = 0.0
    """that its download may take; 0: as many as come"""
    fallbacks: tuple[Assignment, ...] = ()
    """the same for next-best artifacts, for when this one does not fit"""

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidSpec.at("assignment.id", self.id, "a name")
        for field in ("sha256", "golden_sha256"):
            if not _SHA256.match(getattr(self, field)):
                raise InvalidSpec.at(f"assignment.{field}", getattr(self, field), "64 lower case hexadecimal digits")
        if not _FILE_NAME.match(self.file_name) or self.file_name in _RESERVED_NAMES:
            raise InvalidSpec.at("assignment.file_name", self.file_name, "a plain file name like model.onnx")
        for field, low, high in (("bytes", 1, 2**40), ("golden_bytes", 1, 2**32), ("threads", 1, 256)):
            if not low <= getattr(self, field) <= high:
                raise InvalidSpec.at(f"assignment.{field}", getattr(self, field), f"{low} to {high}")
        if len(self.fallbacks) > _MOST_FALLBACKS:
            raise InvalidSpec.at("assignment.fallbacks", len(self.fallbacks), f"at most {_MOST_FALLBACKS}")


_NOTHING_KNOWN: dict[str, Any] = {
    "p95_seconds": None,
    "peak_memory_bytes": None,
    "waits": False,
    "alone": False,
    "base": "",
}
"""of a candidate that work begins on"""


@dataclass(frozen=True)
class Position:
    """Everything a restart must know.

    ``serving`` takes traffic outside of a trial; ``previous`` is what a roll-back from it returns to. ``restarts`` counts how
    often the agent came back in the present state, ``message`` says what people should know: why it waits or rolls back.
    ``refusals`` says why better artifacts of the assignment were not taken, each in words.
    """

    state: DeviceState = DeviceState.IDLE
    assignment: Assignment | None = None
    serving: Assignment | None = None
    previous: Assignment | None = None
    message: str = ""
    p95_seconds: float | None = None
    peak_memory_bytes: int | None = None
    restarts: int = 0
    waits: bool = False
    """in Preflight, for a reason of the device's own"""
    alone: bool = False
    """memory cannot hold the candidate and what serves"""
    base: str = ""
    """digest of what serves, where differences may go to it; empty: all is fetched"""
    refusals: tuple[str, ...] = ()
    bad_differences: int = 0
    """times that differences came out wrong, in this assignment"""

    def moved(self, state: DeviceState, **changes: Any) -> Position:
        """The position after a move. Raises Conflict when the table does not allow it."""
        check_move(self.state, state)
        return replace(self, state=state, restarts=0, **changes)

    def assigned(self, assignment: Assignment) -> Position:
        """The position in which work on ``assignment`` begins. Raises Conflict in the middle of a roll-back."""
        return self.moved(
            DeviceState.PREFLIGHT, assignment=assignment, message="", refusals=(), bad_differences=0, **_NOTHING_KNOWN
        )

    def fallen_back(self, why: str) -> Position:
        """The position in which work on the next-best artifact begins, which there must be. Raises Conflict once committed."""
        failed = self.assignment
        assert failed is not None
        following = replace(failed.fallbacks[0], fallbacks=failed.fallbacks[1:])
        refusals = (*self.refusals, f"not {failed.artifact}: {why}")
        return self.moved(
            DeviceState.PREFLIGHT, assignment=following, message="; ".join(refusals), refusals=refusals, **_NOTHING_KNOWN
        )

    def committed(self) -> Position:
        """The position in which the assignment takes the traffic for good; what served before it can be returned to."""
        old = self.serving
        same = old is not None and self.assignment is not None and old.sha256 == self.assignment.sha256
        kept = self.previous if same else old
        return self.moved(DeviceState.COMMITTED, serving=self.assignment, previous=kept)

    def rolling_back(self, why: str) -> Position:
        """The position after a failure. A committed assignment gives way to what served before it."""
        why = "; ".join((*self.refusals, why))
        if self.state is DeviceState.COMMITTED:
            return self.moved(DeviceState.ROLLING_BACK, message=why, waits=False, serving=self.previous, previous=None)
        return self.moved(DeviceState.ROLLING_BACK, message=why, waits=False)

    @property
    def settled(self) -> bool:
        """Nothing is being done."""
        return self.state in (DeviceState.IDLE, DeviceState.COMMITTED, DeviceState.ROLLED_BACK)

    @property
    def needed(self) -> frozenset[str]:
        """Digests of the models whose slots must stay."""
        working = () if self.state is DeviceState.ROLLED_BACK else (self.assignment,)
        return frozenset(item.sha256 for item in (*working, self.serving, self.previous) if item is not None)


def to_plain(position: Position) -> dict[str, Any]:
    """The JSON-ready form of a position."""
    return asdict(position)


def from_plain(plain: Mapping[str, Any]) -> Position:
    """Read ``to_plain`` back; fields this version does not know are left out. Raises ValueError, TypeError or InvalidSpec."""
    known = {field.name for field in fields(Position)}
    values = {key: value for key, value in plain.items() if key in known}
    values["refusals"] = tuple(values.get("refusals", ()))
    for key in ("assignment", "serving", "previous"):
        if values.get(key) is not None:
            values[key] = assignment_from(values[key])
    return Position(**{**values, "state": DeviceState(plain["state"])})


def assignment_from(plain: Mapping[str, Any]) -> Assignment:
    """Read the JSON form of an assignment. Raises TypeError or InvalidSpec."""
    known = {field.name for field in fields(Assignment)}
    values = {key: value for key, value in plain.items() if key in known}
    return Assignment(**{**values, "fallbacks": tuple(map(assignment_from, plain.get("fallbacks", ())))})
