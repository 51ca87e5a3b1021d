"""What every store must do when it is killed in the middle of a write, and when the disk is full."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_compress.errors import EdgeCompressError, StorageFull
from edge_compress.store.interface import Event, Store

CHILD = Path(__file__).with_name("writing_child.py")


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: Store, name: str, kind: str = "Model", **spec: object) -> int:
    return store.apply(kind, name, labels={}, spec=spec)[0].revision


class TestKill:
    """A ``kill -9`` at any moment: what was acknowledged is there, and nothing is half there."""

    @pytest.mark.parametrize("threads", [1, 8])
    def test_what_was_acknowledged_is_there(
        self, opener: str, open_store: Callable[..., Store], tmp_path: Path, threads: int
    ) -> None:
        folder = tmp_path / "state"
        acknowledged: dict[str, int] = {}
        for lap, lines in enumerate((1, 7, 40, 93)):
            acknowledged |= write_and_kill(opener, folder, threads, lap, lines)
            store = open_store(folder)
            for writer, last in acknowledged.items():
                check_writer(store, writer, last)
            check_whole(store)
            store.close()
        assert len(acknowledged) >= 4


def write_and_kill(opener: str, folder: Path, threads: int, lap: int, lines: int) -> dict[str, int]:
    """The last number that each writer saw acknowledged before it was killed, in the middle of whatever it did."""
    command = [sys.executable, str(CHILD), opener, str(folder), str(threads), str(lap)]
    last: dict[str, int] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        for seen, line in enumerate(child.stdout, start=1):
            writer, number = line.split()
            last[writer] = int(number)
            if seen == lines:
                child.kill()
    assert child.returncode == -9
    assert sum(last.values()) + len(last) >= lines
    return last


def check_writer(store: Store, writer: str, last: int) -> None:
    for number in range(last + 1):
        name = f"{writer}-{number}"
        assert store.get("Model", name).spec == {"number": number}
        assert store.step(name) == {"number": number}
        assert store.blobs.path(digest_of(name.encode())).read_bytes() == name.encode()
    assert store.get("Counter", writer).status["number"] >= last
    twins = [store.get("Twin", f"{writer}-{one}").status["number"] for one in "ab"]
    assert twins[0] == twins[1] >= last
    assert next(totals for key, totals in store.usage() if key.device == writer).inferences["ok"] >= last
    assert store.blobs.partial(digest_of(writer.encode())) >= 100 * (last + 1)


def check_whole(store: Store) -> None:
    events = store.events(["Model", "Counter", "Twin"], 0, limit=1_000_000)
    assert [event.record.revision for event in events] == list(range(1, store.revision() + 1))
    newest = {(event.record.kind, event.record.name): event.record for event in events}
    stored = [record for kind in ("Model", "Counter", "Twin") for record in store.list(kind).records]
    assert {(record.kind, record.name): record for record in stored} == newest
    for digest in store.blobs.digests():
        store.blobs.path(digest)


class TestFullDisk:
    """On a small file system of its own. A ballast file takes the room and gives it back."""

    def test_a_record_that_does_not_fit_is_refused_and_the_rest_stays(
        self, open_store: Callable[..., Store], small_disk: Path
    ) -> None:
        store = open_store(small_disk / "state")
        heard: list[Event] = []
        store.subscribe(heard.append)
        put(store, "before")
        ballast = fill(small_disk, leave=200_000)
        written = apply_until_full(store)
        assert store.get("Model", "before").generation == 1
        assert [record.name for record in store.list("Big").records] == written
        assert len(heard) == store.revision() == 1 + len(written)
        ballast.unlink()
        put(store, "after")
        store.close()
        store = open_store(small_disk / "state")
        assert [record.name for record in store.list("Big").records] == written
        assert store.get("Model", "after").generation == 1

    def test_small_writes_fit_where_a_big_one_beside_them_does_not(
        self, open_store: Callable[..., Store], small_disk: Path
    ) -> None:
        store = open_store(small_disk / "state")
        fill(small_disk, leave=1_500_000)

        def write(number: int) -> str:
            size = 2_000_000 if number % 4 == 0 else 10
            with contextlib.suppress(StorageFull):
                return store.apply("Model", f"m{number:02}", labels={}, spec={"x": "x" * size})[0].name
            return ""

        with ThreadPoolExecutor(16) as pool:
            written = [name for name in pool.map(write, range(32)) if name]
        assert written == [f"m{number:02}" for number in range(32) if number % 4]
        assert [record.name for record in store.list("Model").records] == written

    def test_a_blob_that_does_not_fit_leaves_nothing(
        self, open_store: Callable[..., Store], small_disk: Path, tmp_path: Path
    ) -> None:
        store = open_store(small_disk / "state")
        kept, data = store.blobs.put_bytes(b"kept"), os.urandom(3_000_000)
        source = tmp_path / "source"
        source.write_bytes(data)
        ballast = fill(small_disk, leave=1_000_000)
        before = free_bytes(small_disk)
        for act in (lambda: store.blobs.put_bytes(data), lambda: store.blobs.put_file(source)):
            with pytest.raises(StorageFull, match="no room"):
                act()
        assert list(store.blobs.digests()) == [kept]
        assert free_bytes(small_disk) == before
        ballast.unlink()
        assert store.blobs.path(store.blobs.put_file(source)).read_bytes() == data

    def test_an_upload_keeps_what_it_had_and_goes_on_when_there_is_room(
        self, open_store: Callable[..., Store], small_disk: Path
    ) -> None:
        store, data = open_store(small_disk / "state"), os.urandom(3_000_000)
        digest = digest_of(data)
        ballast = fill(small_disk, leave=1_000_000)
        store.blobs.append(digest, 0, data[:400_000])
        with pytest.raises(StorageFull):
            store.blobs.append(digest, 400_000, data[400_000:])
        assert store.blobs.partial(digest) == 400_000
        ballast.unlink()
        store.blobs.append(digest, 400_000, data[400_000:])
        store.blobs.commit(digest)
        assert store.blobs.path(digest).read_bytes() == data

    def test_opening_on_a_full_disk_says_so_and_works_when_there_is_room(
        self, open_store: Callable[..., Store], small_disk: Path
    ) -> None:
        ballast = fill(small_disk, leave=0)
        with pytest.raises(EdgeCompressError, match="no room"):
            open_store(small_disk / "state")
        ballast.unlink()
        assert open_store(small_disk / "state").revision() == 0


def apply_until_full(store: Store) -> list[str]:
    written: list[str] = []
    for number in range(1000):
        try:
            record, _ = store.apply("Big", f"b{number:03}", labels={}, spec={"x": "x" * 20_000})
        except StorageFull:
            return written
        written.append(record.name)
    raise AssertionError("the disk never filled")


def fill(disk: Path, leave: int) -> Path:
    """Write a file until only about ``leave`` bytes are free."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while free_bytes(disk) - leave >= 4096:
            file.write(b"\0" * min(65_536, free_bytes(disk) - leave))
    return ballast


def free_bytes(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize
