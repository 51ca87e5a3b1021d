from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from edge_compress.agent import vectors
from edge_compress.agent.child import Child, ChildFailed
from edge_compress.agent.machine import Assignment
from edge_compress.agent.probe import Refused, probe
from edge_compress.agent.slots import Slots, digest
from tests.integration.agent_harness import alive, dense_model, golden_for, wait_until


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path)


@pytest.fixture
def assignment(slots: Slots, tmp_path: Path) -> Assignment:
    model = dense_model(1)
    return staged(slots, tmp_path, model, golden_for(model))


def staged(slots: Slots, folder: Path, model: bytes, golden: bytes) -> Assignment:
    digests = []
    for data in (model, golden):
        (folder / "file").write_bytes(data)
        digests.append(digest(folder / "file"))
        (folder / "file").rename(slots.partial(digests[-1]))
    made = Assignment(
        id="one", artifact="a", model="vision", sha256=digests[0], bytes=len(model), golden_sha256=digests[1],
        golden_bytes=len(golden), golden_samples=4, rtol=1e-3, atol=1e-3,
    )  # fmt: skip
    slots.stage(made)
    return made


@pytest.fixture
async def child(slots: Slots, assignment: Assignment) -> AsyncIterator[Child]:
    started = Child(slots, assignment)
    await started.loaded()
    yield started
    started.kill()


async def test_arrays_go_in_and_come_out(child: Child) -> None:
    answer = await child.ask("infer", 20, [vectors.to_array("x", np.ones((3, 64), np.float32))])
    (array,) = answer.arrays
    assert (array.name, array.shape) == ("y", (3, 10))
    assert np.isfinite(vectors.to_numpy(array)).all()
    assert 0 < answer.fields["seconds"] < 20
    assert answer.fields["cpu_seconds"] >= 0


async def test_an_error_of_the_runtime_is_an_answer_and_the_process_goes_on(child: Child) -> None:
    with pytest.raises(ChildFailed, match="could not infer") as failed:
        await child.ask("infer", 20, [vectors.to_array("x", np.ones((1, 3), np.float32))])
    assert not failed.value.died
    assert (await child.ask("sample", 20, index=99, rtol=1e-3, atol=1e-3)).fields["mismatch"] == ""


async def test_a_kill_is_told_by_its_signal(child: Child) -> None:
    os.kill(child.pid, signal.SIGSEGV)
    with pytest.raises(ChildFailed, match="killed by SIGSEGV") as failed:
        await child.ask("sample", 20, index=0, rtol=1e-3, atol=1e-3)
    assert failed.value.died
    with pytest.raises(ChildFailed):
        child.check_alive()


async def test_a_process_that_does_not_answer_is_ended(child: Child) -> None:
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildFailed, match="did not answer sample within") as failed:
        await child.ask("sample", 0.2, index=0, rtol=1e-3, atol=1e-3)
    assert failed.value.died
    wait_until(lambda: not alive(child.pid), "death")


async def test_a_probe_measures_and_judges(child: Child, assignment: Assignment) -> None:
    figures = await probe(child, assignment)
    assert 0 < figures.p50_seconds <= figures.p95_seconds < 1
    assert 0 < figures.peak_memory_bytes < 64 << 20


async def test_a_larger_model_takes_more_memory(slots: Slots, tmp_path: Path) -> None:
    peaks = []
    for hidden in (256, 60_000):
        model = dense_model(1, hidden)
        made = staged(slots, tmp_path, model, golden_for(model))
        child = Child(slots, made)
        try:
            await child.loaded()
            peaks.append((await probe(child, made)).peak_memory_bytes)
        finally:
            child.kill()
    weights = 60_000 * 74 * 4
    assert peaks[0] < 4 << 20
    assert weights <= peaks[1] < 4 * weights


async def test_wrong_golden_vectors_refuse_a_candidate(slots: Slots, tmp_path: Path) -> None:
    model = dense_model(1)
    made = staged(slots, tmp_path, model, golden_for(model, wrong_by=0.1))
    child = Child(slots, made)
    try:
        await child.loaded()
        with pytest.raises(Refused, match="golden vectors disagree"):
            await probe(child, made)
    finally:
        child.kill()
