"""Runs queued jobs through the engine, oldest first, a few at a time, and keeps what they yield.

Which jobs there are is decided by delivery, how a pair is compressed by the engine. A job that was running when the server died
goes back to the queue, and the engine goes on from the steps that were finished. No failure of a job is the server's end.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from edge_compress.domain.artifact import Artifact, Verdict
from edge_compress.domain.job import JobSpec, JobState, JobStatus
from edge_compress.domain.schema import decode
from edge_compress.errors import Cancelled, EdgeCompressError, NotFound, StorageFull
from edge_compress.server.garbage import BlobUse
from edge_compress.server.history import Yield, forget, keep, outdated
from edge_compress.server.job_book import JobBook, status_of
from edge_compress.server.requests import request_of
from edge_compress.store.interface import Change, Event, Record, Store
from edge_compress.worker.engine import Engine, PairRequest, PairResult

_log = logging.getLogger(__name__)
_RETRY_SECONDS = 2.0
_STOP_SECONDS = 5.0
_ROOM_SECONDS = 5.0
"""between two tries of a job for which the disk has no room"""


@dataclass(frozen=True)
class QueueSettings:
    """``workers`` jobs run at once; progress is written every ``progress_seconds`` at most; ``kept`` final jobs stay at least."""

    workers: int = 1
    progress_seconds: float = 0.5
    kept: int = 200


class _Progress:
    """How far a job says it is; written by the engine's thread, read by the event loop."""

    def __init__(self) -> None:
        self.latest = (0.0, "")

    def __call__(self, fraction: float, message: str) -> None:
        self.latest = (min(max(fraction, 0.0), 1.0), message)


class JobQueue:
    """The queue. ``published`` hears of each artifact that may be delivered. Call it on one event loop."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        blob_use: BlobUse,
        settings: QueueSettings = QueueSettings(),
        *,
        published: Callable[[Artifact], None] = lambda artifact: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._engine, self._blob_use, self._settings = store, engine, blob_use, settings
        self._published = published
        self._book = JobBook(store, clock)
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="job")
        self._stops: dict[str, threading.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._closing = False
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Put interrupted jobs back into the queue and begin to work."""
        loop = asyncio.get_running_loop()

        def heard(event: Event) -> None:
            if _is_queued(event) and not loop.is_closed():
                loop.call_soon_threadsafe(self._wake.set)

        await asyncio.to_thread(self._book.requeue_interrupted)
        self._unsubscribe = self._store.subscribe(heard)
        self._wake.set()
        self._lead_task = asyncio.create_task(self._lead())

    async def close(self) -> None:
        """Stop what runs, in a few seconds; it goes on after the next start."""
        self._closing = True
        self._unsubscribe()
        self._lead_task.cancel()
        await asyncio.gather(self._lead_task, return_exceptions=True)
        for stop in self._stops.values():
            stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def cancel(self, name: str) -> Record:
        """Stop a job for good; its finished steps stay cached. Raises NotFound, AlreadyOver. A repeat changes nothing."""
        record = await asyncio.to_thread(self._book.cancel, name)
        if name in self._stops:
            self._stops[name].set()
        return record

    # The queue's life: one task that hands out work, one task a job.

    async def _lead(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._hand_out()
            except Exception as error:  # a queue that ends would leave every later job waiting for ever
                _log.warning("cannot read the job queue, will try again: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._wake.set()

    async def _hand_out(self) -> None:
        if len(self._stops) >= self._settings.workers:
            return
        for record in await asyncio.to_thread(self._book.queued):
            if len(self._stops) < self._settings.workers and record.name not in self._stops:
                self._stops[record.name] = threading.Event()
                task = asyncio.create_task(self._run(record.name))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _run(self, name: str) -> None:
        try:
            async with self._blob_use.hold():
                await self._work(name, self._stops[name])
            for old in await asyncio.to_thread(outdated, self._store, self._settings.kept):
                await asyncio.to_thread(forget, self._store, old)
        except Exception as error:  # a job that is not noted is begun again, whatever broke
            _log.warning("job %s could not be noted, will try again: %s", name, error)
            await asyncio.sleep(0 if self._closing else _RETRY_SECONDS)
        finally:
            del self._stops[name]
            if not self._closing:
                self._wake.set()

    async def _work(self, name: str, stop: threading.Event) -> None:
        record = await asyncio.to_thread(self._book.begin, name)
        if record is None:
            return
        _log.info("job begins", extra={"fields": {"job": name}})
        try:
            request = await asyncio.to_thread(self._still_asked, record)
            if request is None:
                await asyncio.to_thread(forget, self._store, name)
                _log.info("job forgotten: what it was to work on has changed", extra={"fields": {"job": name}})
                return
            ended = await self._compute(record, request, stop)
        except Cancelled as error:
            again = JobStatus(message="interrupted; goes on after the restart")
            ended = again if self._closing else JobStatus(JobState.CANCELLED.value, message=error.message)
        except StorageFull as error:
            _log.warning("job %s waits for room: %s", name, error)
            await self._end(name, JobStatus(message=f"waits for room: {error.message}"))
            await asyncio.sleep(0 if self._closing else _ROOM_SECONDS)
            return
        except EdgeCompressError as error:
            ended = JobStatus(JobState.FAILED.value, message=error.message)
        except Exception as error:  # whatever breaks in a job, the others and the server go on
            _log.exception("job %s broke", name)
            ended = JobStatus(JobState.FAILED.value, message=f"the engine broke: {type(error).__name__}: {error}")
        await self._end(name, ended)

    async def _compute(self, record: Record, request: PairRequest, stop: threading.Event) -> JobStatus:
        progress = _Progress()
        call = functools.partial(self._engine.run, request, progress=progress, cancelled=stop)
        work = asyncio.get_running_loop().run_in_executor(self._pool, call)
        await self._follow(record.name, work, progress)
        return await asyncio.to_thread(self._keep, record, work.result())

    async def _follow(self, name: str, work: asyncio.Future[PairResult], progress: _Progress) -> None:
        """Write the progress down until the work ends."""
        written = (0.0, "")
        while not (await asyncio.wait({work}, timeout=self._settings.progress_seconds))[0]:
            if progress.latest != written:
                written = progress.latest
                await asyncio.to_thread(self._book.note, name, *written)

    async def _end(self, name: str, ended: JobStatus) -> None:
        """Note how a job ended; on a full disk, as soon as there is room."""
        while True:
            try:
                await asyncio.to_thread(self._book.finish, name, ended)
                break
            except EdgeCompressError as error:
                if self._closing:
                    raise
                _log.warning("cannot note how job %s ended, will try again: %s", name, error)
                await asyncio.sleep(_RETRY_SECONDS)
        _log.info("job ends", extra={"fields": {"job": name, "state": ended.state, "message": ended.message}})

    # What follows blocks and runs in threads.

    def _still_asked(self, record: Record) -> PairRequest | None:
        """What the job is to do, or None when that is not what its key stands for: another job takes its place, and this one
        must leave no final state behind, for what was changed may be changed back."""
        spec = decode(JobSpec, record.spec, "spec")
        try:
            request = request_of(self._store, spec)
        except NotFound:
            return None
        return request if self._engine.key(request) == spec.key else None

    def _keep(self, record: Record, result: PairResult) -> JobStatus:
        """Store what a job yielded, and how it therefore ended."""
        new = keep(self._store, record, Yield(result.outcome, result.artifact, result.fallbacks))
        feasible = result.outcome.verdict == Verdict.FEASIBLE
        if new and feasible and result.artifact is not None:
            self._published(result.artifact)
        state = JobState.SUCCEEDED if feasible else JobState.INFEASIBLE
        said = "" if feasible else result.outcome.gap or f"{result.outcome.binding_constraint} cannot be met"
        name, others = result.artifact.name if result.artifact else "", tuple(item.name for item in result.fallbacks)
        return JobStatus(state.value, message=said, artifact=name, fallbacks=others)


def _is_queued(event: Event) -> bool:
    if event.record.kind != "Job" or event.change is Change.DELETED:
        return False
    return status_of(event.record).state == JobState.QUEUED
