"""The job queue over a real store, with an engine that does as it is told."""

import asyncio

import pytest

from edge_compress.domain import spec
from edge_compress.domain.artifact import Outcome
from edge_compress.domain.job import JobSpec, JobStatus
from edge_compress.domain.schema import decode, encode
from edge_compress.errors import InvalidModel, NotFound
from edge_compress.server.garbage import BlobUse
from edge_compress.server.history import newest_outcomes, outdated
from edge_compress.server.jobs import JobQueue, QueueSettings
from edge_compress.server.refusals import AlreadyOver
from edge_compress.server.requests import request_of
from tests.unit.server.quick_engine import QuickEngine, raises, waits, yields


def declare(store, *profiles):
    model = spec.ModelSpec("m.onnx", files=(spec.FileRef("m.onnx", "0" * 64),))
    store.apply("Model", "vision", labels={}, spec=encode(model))
    for profile in profiles:
        store.apply("DeviceProfile", profile, labels={}, spec={})


def ask(store, engine, profile, **changes):
    """Queue a job as delivery does; returns its name."""
    given = JobSpec("?", "vision", profile)
    key = changes.get("key") or engine.key(request_of(store, given))
    name = f"vision-{profile}-{key[:10]}"
    labels = {"model": "vision", "profile": profile}
    store.apply("Job", name, labels=labels, spec=encode(JobSpec(key, "vision", profile)), status=encode(JobStatus()))
    return name


def status(store, name):
    return decode(JobStatus, store.get("Job", name).status)


@pytest.fixture
async def queue(store, engine):
    published = []
    made = JobQueue(store, engine, BlobUse(), QueueSettings(1, 0.02, kept=200), published=published.append)
    made.published_to = published
    yield made
    await made.close()


async def test_a_feasible_job_leaves_artifact_outcome_and_event(store, engine, queue, until):
    declare(store, "cam")
    await queue.start()
    name = ask(store, engine, "cam")
    await until(lambda: status(store, name).state == "Succeeded")
    done = status(store, name)
    artifact = store.get("Artifact", done.artifact)
    assert artifact.labels == {"model": "vision", "profile": "cam", "verdict": "FEASIBLE"}
    assert store.blobs.has(artifact.spec["sha256"])
    assert decode(Outcome, store.get("Outcome", name).spec).verdict == "FEASIBLE"
    assert [one.name for one in queue.published_to] == [done.artifact]
    assert (done.progress, done.started_at <= done.finished_at) == (1.0, True)


async def test_an_infeasible_job_says_why_and_keeps_the_nearest(store, engine, queue, until):
    declare(store, "pendant")
    engine.behaviour["pendant"] = yields(verdict="INFEASIBLE")
    await queue.start()
    name = ask(store, engine, "pendant")
    await until(lambda: status(store, name).state == "Infeasible")
    assert status(store, name).message == "storage 8Ki is twice the 4Ki allowed"
    assert store.get("Artifact", status(store, name).artifact)
    assert queue.published_to == [], "what does not meet its goals is not delivered"


async def test_the_same_bytes_for_two_profiles_are_one_artifact(store, engine, queue, until):
    declare(store, "pendant", "cam", "hub")
    engine.behaviour["pendant"] = yields(verdict="INFEASIBLE")
    await queue.start()
    for profile in ("pendant", "cam", "hub"):
        name = ask(store, engine, profile)
        await until(lambda name=name: status(store, name).finished_at)
    (record,) = store.list("Artifact").records
    assert record.labels["profile"] == "cam", "the first that meets its goals"
    assert len(queue.published_to) == 1
    assert [one.profile for one in newest_outcomes(store, "vision")] == ["cam", "hub", "pendant"]


@pytest.mark.parametrize(
    ("error", "said"),
    [(InvalidModel("spec.source: no graph"), "no graph"), (ZeroDivisionError("oops"), "ZeroDivisionError: oops")],
)
async def test_a_failure_is_the_jobs_and_the_next_one_runs(store, engine, queue, until, error, said, caplog):
    declare(store, "bad", "cam")
    engine.behaviour["bad"] = raises(error)
    await queue.start()
    bad, good = ask(store, engine, "bad"), ask(store, engine, "cam")
    await until(lambda: status(store, good).state == "Succeeded")
    assert status(store, bad).state == "Failed"
    assert said in status(store, bad).message
    assert "\n" not in status(store, bad).message


async def test_oldest_first_and_at_most_so_many_at_once(store, engine, until):
    names = [f"p{number}" for number in (3, 1, 2, 0, 4)]
    declare(store, *names)
    queue = JobQueue(store, engine, BlobUse(), QueueSettings(workers=2, progress_seconds=0.02))
    jobs = [ask(store, engine, name) for name in names]
    await queue.start()
    await until(lambda: all(status(store, job).finished_at for job in jobs))
    await queue.close()
    assert sorted(engine.ran) == sorted(names)
    assert set(engine.ran[:2]) == {"p3", "p1"}
    assert engine.most_at_once <= 2


async def test_a_running_job_shows_progress_and_is_cancelled_within_moments(store, engine, queue, until):
    declare(store, "slow", "cam")
    engine.behaviour["slow"] = waits(0.25)
    await queue.start()
    name, waiting = ask(store, engine, "slow"), ask(store, engine, "cam")
    await until(lambda: status(store, name).progress == 0.25)
    assert status(store, name).step == "waiting"
    assert (await queue.cancel(name)).status["state"] == "Cancelled"
    await until(lambda: status(store, waiting).state == "Succeeded")
    assert status(store, name).state == "Cancelled", "what the engine says later does not count"
    assert (await queue.cancel(name)).revision == store.get("Job", name).revision, "a repeat changes nothing"
    with pytest.raises(AlreadyOver):
        await queue.cancel(waiting)
    with pytest.raises(NotFound):
        await queue.cancel("nobody")


async def test_a_queued_job_is_cancelled_before_it_ran(store, engine, queue, until):
    declare(store, "slow", "cam")
    engine.behaviour["slow"] = waits()
    await queue.start()
    first, second = ask(store, engine, "slow"), ask(store, engine, "cam")
    await until(lambda: engine.ran == ["slow"])
    await queue.cancel(second)
    await queue.cancel(first)
    await until(lambda: not queue._stops)
    assert engine.ran == ["slow"]
    assert status(store, second).state == "Cancelled"


async def test_closing_puts_what_runs_back_and_the_next_server_does_it(store, engine, queue, until):
    declare(store, "slow")
    engine.behaviour["slow"] = waits()
    await queue.start()
    name = ask(store, engine, "slow")
    await until(lambda: status(store, name).state == "Running")
    await queue.close()
    assert status(store, name).state == "Queued"
    next_ = JobQueue(store, QuickEngine(store), BlobUse(), QueueSettings(1, 0.02))
    await next_.start()
    await until(lambda: status(store, name).state == "Succeeded")
    await next_.close()


async def test_jobs_that_ran_when_the_server_was_killed_run_again(store, engine, queue, until):
    declare(store, "cam")
    name = ask(store, engine, "cam")
    store.set_status("Job", name, encode(JobStatus("Running", 0.7, "step 3", started_at=1.0)))
    await queue.start()
    await until(lambda: status(store, name).state == "Succeeded")


async def test_a_job_whose_work_has_changed_is_forgotten_without_a_final_state(store, engine, queue, until):
    declare(store, "cam", "hub")
    stale = ask(store, engine, "cam", key="f" * 64)
    gone = ask(store, engine, "hub")
    store.delete("DeviceProfile", "hub")
    await queue.start()
    await until(lambda: not store.list("Job").records)
    assert engine.ran == []
    assert stale != gone


async def test_old_final_jobs_go_but_never_the_newest_of_their_pair(store, engine):
    for profile in ("cam", "rare"):
        declare(store, profile)
    for number in range(8):
        key = f"{number:x}" * 64
        name = ask(store, engine, "cam" if number else "rare", key=key) if number else None
        if name is None:
            spec_ = JobSpec(key, "vision", "rare")
            store.apply("Job", "rare", labels={}, spec=encode(spec_), status=encode(JobStatus("Failed", finished_at=1.0)))
        else:
            store.set_status("Job", name, encode(JobStatus("Succeeded", finished_at=float(number))))
    old = outdated(store, 3)
    assert "rare" not in old
    assert len(old) == 4
    assert len(outdated(store, 200)) == 0
    store.delete("DeviceProfile", "rare")
    assert "rare" in outdated(store, 3), "of a profile that is gone the newest goes, too"


async def test_the_queue_sleeps_until_there_is_work(store, engine, queue, until):
    declare(store, "cam")
    await queue.start()
    await asyncio.sleep(0.05)
    assert engine.ran == []
    ask(store, engine, "cam")
    await until(lambda: engine.ran == ["cam"])
