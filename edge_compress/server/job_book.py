"""The states of jobs in the store, one change at a time: nobody but this book moves a job. Every method blocks.

Which job runs, and when, is decided in ``jobs``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from edge_compress.domain.job import JobState, JobStatus, check_move
from edge_compress.domain.schema import decode, encode
from edge_compress.errors import EdgeCompressError
from edge_compress.server.refusals import AlreadyOver
from edge_compress.store.interface import Record, ResourceStore

_log = logging.getLogger(__name__)


class JobBook:
    """Jobs as they stand."""

    def __init__(self, store: ResourceStore, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._one_at_a_time = threading.Lock()

    def requeue_interrupted(self) -> None:
        """Put jobs that ran when the server died back into the queue."""
        for record in self._store.list("Job").records:
            if status_of(record).state == JobState.RUNNING:
                again = JobStatus(message="interrupted; goes on from the finished steps")
                self._store.set_status("Job", record.name, encode(again))

    def queued(self) -> list[Record]:
        """Jobs that wait, the oldest first."""
        waiting = [record for record in self._store.list("Job").records if status_of(record).state == JobState.QUEUED]
        return sorted(waiting, key=lambda record: (record.created_at, record.name))

    def begin(self, name: str) -> Record | None:
        """The job, now running, or None when somebody cancelled it meanwhile."""
        with self._one_at_a_time:
            record = self._store.get("Job", name)
            if status_of(record).state != JobState.QUEUED:
                return None
            running = JobStatus(JobState.RUNNING.value, step="starting", started_at=self._clock())
            return self._store.set_status("Job", name, encode(running))

    def note(self, name: str, fraction: float, step: str) -> None:
        """Write down how far a running job is. What cannot be written is logged only."""
        with self._one_at_a_time:
            status = status_of(self._store.get("Job", name))
            if status.state != JobState.RUNNING:
                return
            try:
                self._store.set_status("Job", name, encode(replace(status, progress=fraction, step=step)))
            except EdgeCompressError as error:
                _log.warning("cannot write the progress of job %s: %s", name, error)

    def finish(self, name: str, ended: JobStatus) -> None:
        """Note the end, unless the job was cancelled meanwhile: then that stands."""
        with self._one_at_a_time:
            status = status_of(self._store.get("Job", name))
            if status.state != JobState.RUNNING:
                return
            check_move(JobState(status.state), JobState(ended.state))
            final = JobState(ended.state).final
            progress = 1.0 if ended.state in (JobState.SUCCEEDED, JobState.INFEASIBLE) else status.progress
            if final:
                ended = replace(ended, progress=progress, started_at=status.started_at, finished_at=self._clock())
            self._store.set_status("Job", name, encode(ended))

    def cancel(self, name: str) -> Record:
        """End a job for good. Raises NotFound, AlreadyOver. A repeat changes nothing."""
        with self._one_at_a_time:
            record = self._store.get("Job", name)
            status = status_of(record)
            if status.state == JobState.CANCELLED:
                return record
            if JobState(status.state).final:
                raise AlreadyOver(f"job {name} is over already: {status.state}")
            ended = replace(status, state=JobState.CANCELLED.value, message="cancelled on request", finished_at=self._clock())
            return self._store.set_status("Job", name, encode(ended))


def status_of(record: Record) -> JobStatus:
    """The status of a job's record."""
    return decode(JobStatus, record.status, "status")
