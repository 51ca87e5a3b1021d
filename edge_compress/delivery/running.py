"""What a device runs and where it stands, by what its agent says: which artifact a digest is, and the status that follows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from edge_compress.domain.artifact import Artifact
from edge_compress.domain.fleet import DeviceState, DeviceStatus
from edge_compress.domain.schema import decode
from edge_compress.domain.session import Hello, Move
from edge_compress.store.interface import ResourceStore

SETTLED = (DeviceState.COMMITTED.value, DeviceState.ROLLED_BACK.value)
"""states whose move says what takes traffic now"""


@dataclass(frozen=True)
class Running:
    """What a device runs. All empty: nothing; only ``version``: an artifact that this server does not know."""

    model: str = ""
    artifact: str = ""
    version: str = ""


class ArtifactBook:
    """Artifacts by digest, read again from the store when an unknown one is asked for."""

    def __init__(self, store: ResourceStore) -> None:
        self._store = store
        self._known: dict[str, Running] = {}

    async def running(self, sha256: str) -> Running:
        """What a device that reports ``sha256`` runs."""
        if not sha256:
            return Running()
        if sha256 not in self._known:
            self._known.update(await asyncio.to_thread(self._read))
        return self._known.get(sha256, Running(version=sha256[:12]))

    def _read(self) -> dict[str, Running]:
        artifacts = [decode(Artifact, record.spec, "spec") for record in self._store.list("Artifact").records]
        return {one.sha256: Running(one.model, one.name, one.version or one.sha256[:12]) for one in artifacts}


def joined(status: DeviceStatus, hello: Hello, running: Running, now: float) -> DeviceStatus:
    """The status of a device that begins a session and runs ``running``."""
    return replace(
        runs(status, running),
        state=hello.device_state.value,
        connected=True,
        boot_id=hello.boot_id,
        last_seen=now,
        assignment=hello.assignment,
        # One that knows of no assignment was wiped: it begins again, and was not silent since it was offered one.
        offered=status.offered if hello.assignment else "",
        news_at=status.news_at if hello.assignment else now,
    )


def moved(status: DeviceStatus, move: Move, running: Running | None, now: float) -> DeviceStatus:
    """The status after a move; ``running`` is what runs now, None where the move does not say. A repeat changes nothing."""
    known = status.wrong_here if status.assignment == move.assignment else 0
    said = (move.assignment, move.state, move.message, move.bad_differences)
    if (status.assignment, status.state, status.message, known) == said:
        return status
    new = runs(status, running) if running is not None else status
    if move.state == DeviceState.ROLLED_BACK:
        new = replace(new, failures=new.failures + 1, failed_at=now)
    elif move.state == DeviceState.COMMITTED and new.version != status.version:
        new = replace(new, failures=0)  # going back to what ran while it failed is no success
    return replace(
        new,
        state=move.state,
        assignment=move.assignment,
        message=move.message,
        waits=move.waits,
        bad_differences=status.bad_differences + max(0, move.bad_differences - known),
        wrong_here=move.bad_differences,
        p95_seconds=move.p95_seconds if move.p95_seconds is not None else new.p95_seconds,
        news_at=now,
        last_seen=now,
    )


def runs(status: DeviceStatus, running: Running) -> DeviceStatus:
    """The status with what really runs; figures of what ran before are dropped."""
    same = (status.model, status.version) == (running.model, running.version)
    new = replace(status, model=running.model, artifact=running.artifact, version=running.version)
    return new if same else replace(new, p95_seconds=None, joules_per_inference=None, energy_source="", inferences=0)
