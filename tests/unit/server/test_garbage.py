"""Unused blobs go, needed ones and young ones stay, and nobody is robbed while they count on theirs."""

import asyncio
import hashlib
import time

import pytest

from edge_compress.server.garbage import DAY, BlobUse, GarbageCollector


@pytest.fixture
def use():
    return BlobUse()


@pytest.fixture
def collector(store, use):
    return GarbageCollector(store, use, clock=lambda: time.time() + 2 * DAY)


async def test_only_what_no_record_needs_goes(store, collector):
    model, artifact, golden, unused = (store.blobs.put_bytes(word) for word in (b"model", b"artifact", b"golden", b"unused"))
    store.apply("Model", "m", labels={}, spec={"source": "m.onnx", "files": [{"path": "m.onnx", "sha256": model}]})
    store.apply("Artifact", "a", labels={}, spec={"sha256": artifact, "golden": {"sha256": golden}})
    assert await collector.sweep() == 1
    assert set(store.blobs.digests()) == {model, artifact, golden}
    assert not store.blobs.has(unused)


async def test_young_blobs_stay(store, use):
    store.blobs.put_bytes(b"just uploaded")
    assert await GarbageCollector(store, use).sweep() == 0
    assert len(list(store.blobs.digests())) == 1


async def test_an_upload_that_nobody_finished_goes_and_a_fresh_one_stays(store, use, collector):
    abandoned = hashlib.sha256(b"all of it").hexdigest()
    store.blobs.append(abandoned, 0, b"all")
    assert await GarbageCollector(store, use).sweep() == 0
    assert store.blobs.partial(abandoned) == 3
    assert await collector.sweep() == 1
    assert store.blobs.partial(abandoned) == 0


async def test_nothing_is_swept_while_somebody_counts_on_blobs(store, use, collector):
    store.blobs.put_bytes(b"about to be named")
    async with use.hold():
        assert await collector.sweep() == 0
    assert await collector.sweep() == 1


async def test_who_comes_during_a_sweep_waits_for_its_end(use):
    newcomer = use.hold()
    async with use.alone() as alone:
        assert alone
        came = asyncio.create_task(newcomer.__aenter__())
        await asyncio.sleep(0.02)
        assert not came.done()
    await asyncio.wait_for(came, 5)
    async with use.alone() as alone:
        assert not alone
    await newcomer.__aexit__(None, None, None)
    async with use.alone() as alone:
        assert alone


async def test_the_collector_sweeps_by_itself(store, use, until):
    store.blobs.put_bytes(b"unused")
    collector = GarbageCollector(store, use, every_seconds=0.01, clock=lambda: time.time() + 2 * DAY)
    task = asyncio.create_task(collector.run())
    await until(lambda: not list(store.blobs.digests()))
    task.cancel()
