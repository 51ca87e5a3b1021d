"""What may go wrong on a device, done to a real agent process: kills in every state, spoilt bytes, full disks, dying models.

Whatever happens, what ``current`` points to is a verified model, and the update ends as a person would expect.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import resource
import shutil
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_compress.agent.journal import Journal
from edge_compress.agent.setup import Setup, to_line
from edge_compress.api.v1 import agents_pb2, artifacts_pb2
from edge_compress.domain.fleet import DeviceState
from edge_compress.encoding import Form, Source, packed, unpack
from tests.disks import fill, small_disk
from tests.integration.agent_harness import (
    NAME,
    WAY,
    Agent,
    AgentServer,
    current,
    dense_model,
    goes_on_serving,
    golden_for,
    good,
    running,
    serving,
    settled,
    slow_model,
    wait_until,
)

DYING = str(Path(__file__).with_name("dying_agent.py"))


@dataclass(frozen=True)
class Home:
    """A device that serves an assignment: its state folder, and what the server holds."""

    state: Path
    blobs: dict[str, bytes]
    first: agents_pb2.Assignment


@pytest.fixture
def server() -> Iterator[AgentServer]:
    with serving() as started:
        yield started


@pytest.fixture(scope="module")
def settled_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """As kill -9 left a device that served its first model."""
    state = tmp_path_factory.mktemp("home") / "agent"
    with serving() as server, running(server, state):
        wait_until(lambda: NAME in server.devices, "hello")
        first = good(server, "one", 1)
        return Home(state, dict(server.blobs), first)


@pytest.fixture
def home(settled_home: Home, server: AgentServer, tmp_path: Path) -> Home:
    """A copy of it, whose server is up."""
    state = tmp_path / "agent"
    shutil.copytree(settled_home.state, state, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    server.blobs |= settled_home.blobs
    server.wanted[NAME] = settled_home.first
    return replace(settled_home, state=state)


@contextmanager
def dying(server: AgentServer, state: Path, dies_in: str, moment: str) -> Iterator[Agent]:
    """An agent that kills itself in a state; see ``dying_agent``."""
    setup = to_line(Setup(f"127.0.0.1:{server.port}", "cam", NAME, str(state)))
    agent = Agent(server, state, command=[sys.executable, DYING, dies_in, moment, setup])
    try:
        yield agent
    finally:
        agent.end()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def verified(state: Path) -> str:
    """The digest that ``current`` points to, having looked at the bytes behind it."""
    assert digest(state / "current" / "model.onnx") == current(state)
    return current(state)


def kept(state: Path) -> set[str]:
    """The slots, each of which must hold the bytes it is named by."""
    names = {path.name for path in (state / "slots").iterdir()}
    assert {digest(state / "slots" / name / "model.onnx") for name in names} == names
    return names


def wants_second(server: AgentServer, wrong_by: float = 0.0, hidden: int = 256) -> agents_pb2.Assignment:
    """From the next session on the device is to run another model."""
    model = dense_model(2, hidden)
    server.wanted[NAME] = server.artifact("two", model, golden_for(model, wrong_by=wrong_by))
    return server.wanted[NAME]


DEATHS = [(state, moment) for state in WAY for moment in ("begins", "ends")][:-1]
"""the work of the last state, Committed, has no next line that it could be killed in front of"""


@pytest.mark.parametrize(("dies_in", "moment"), DEATHS)
def test_kill_9_in_any_state_of_an_update_is_followed_by_its_end(
    server: AgentServer, home: Home, dies_in: str, moment: str
) -> None:
    second = wants_second(server)
    with dying(server, home.state, dies_in, moment) as agent:
        assert agent.process.wait(30) == -signal.SIGKILL
        assert agent.position()["state"] == dies_in
        assert verified(home.state) == home.first.spec.sha256
    with running(server, home.state) as agent:
        assert settled(server, "two").state == "Committed"
        assert verified(home.state) == second.spec.sha256
        assert kept(home.state) == {home.first.spec.sha256, second.spec.sha256}
        assert agent.position()["previous"]["sha256"] == home.first.spec.sha256
        goes_on_serving(server, second.spec.version)


@pytest.mark.parametrize(("dies_in", "moment"), [("RollingBack", "begins"), ("RollingBack", "ends"), ("RolledBack", "begins")])
def test_kill_9_in_a_roll_back_is_followed_by_its_end(server: AgentServer, home: Home, dies_in: str, moment: str) -> None:
    wants_second(server, wrong_by=1.0)
    with dying(server, home.state, dies_in, moment) as agent:
        assert agent.process.wait(30) == -signal.SIGKILL
        assert agent.position()["state"] == dies_in
    with running(server, home.state):
        move = settled(server, "two")
        assert (move.state, move.current_sha256) == ("RolledBack", home.first.spec.sha256)
        assert "golden vectors disagree" in move.message
        assert verified(home.state) == home.first.spec.sha256
        goes_on_serving(server, home.first.spec.version)


def test_kill_9_while_a_committed_model_gives_way_brings_back_the_one_before(server: AgentServer, home: Home) -> None:
    with running(server, home.state):
        wait_until(lambda: NAME in server.devices, "hello")
        good(server, "two", 2)
    journal = Journal(home.state / "journal")
    assert journal.position.state is DeviceState.COMMITTED
    journal.append(journal.position.rolling_back("it died too often"))  # what a kill right then leaves
    with running(server, home.state):
        wait_until(lambda: server.devices[NAME].last("two").state == "RolledBack", "roll-back")
        assert server.devices[NAME].last("two").message == "it died too often"
        assert verified(home.state) == home.first.spec.sha256
        goes_on_serving(server, home.first.spec.version)


def test_a_slot_that_was_half_filled_when_the_power_went_is_filled(server: AgentServer, home: Home) -> None:
    second = wants_second(server)
    with dying(server, home.state, "Staged", "begins") as agent:
        assert agent.process.wait(30) == -signal.SIGKILL
    slot = home.state / "slots" / second.spec.sha256
    slot.mkdir()
    (home.state / "partial" / second.spec.sha256).rename(slot / "model.onnx")
    with running(server, home.state):
        assert settled(server, "two").state == "Committed"
        assert verified(home.state) == second.spec.sha256


def tries_again(server: AgentServer, home: Home, second: agents_pb2.Assignment) -> None:
    """What was in the way is gone: the same model, offered again, is committed."""
    again = agents_pb2.Assignment()
    again.CopyFrom(second)
    again.id = "three"
    server.offer(NAME, again)
    assert settled(server, "three").state == "Committed"
    assert verified(home.state) == second.spec.sha256


def went_back(server: AgentServer, home: Home, said: str) -> None:
    """The update ended RolledBack with these words, and what served before it serves."""
    move = settled(server, "two")
    assert (move.state, move.current_sha256) == ("RolledBack", home.first.spec.sha256)
    assert re.search(said, move.message), move.message
    assert verified(home.state) == home.first.spec.sha256
    assert list((home.state / "partial").iterdir()) == []
    goes_on_serving(server, home.first.spec.version)


def flipped(data: bytes) -> bytes:
    """With one bit of it the other way."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def flipped_bytes(chunk: artifacts_pb2.Chunk) -> artifacts_pb2.Chunk:
    return artifacts_pb2.Chunk(offset=chunk.offset, data=flipped(unpack(chunk.data)))


def flipped_frame(chunk: artifacts_pb2.Chunk) -> artifacts_pb2.Chunk:
    return artifacts_pb2.Chunk(offset=chunk.offset, data=flipped(chunk.data), encoding=chunk.encoding)


@pytest.mark.parametrize("flip", [flipped_bytes, flipped_frame])
def test_a_bit_that_flips_on_the_way_never_becomes_current(
    server: AgentServer, home: Home, flip: Callable[[artifacts_pb2.Chunk], artifacts_pb2.Chunk]
) -> None:
    second = wants_second(server)
    whole, server.spoil = server.spoil, flip
    with running(server, home.state):
        went_back(server, home, "digest|cannot be unpacked")
        server.spoil = whole
        tries_again(server, home, second)


class Differences(AgentServer):
    """Sends models as differences, spoilt by ``spoil``, to a device that has the base."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form, self.sent_differences = form, 0

    async def DownloadBlob(self, request, context):
        blob, base = self.blobs[request.sha256], self.blobs.get(request.base_sha256)
        if base is None or zipfile.is_zipfile(io.BytesIO(blob)):  # golden vectors
            await super().DownloadBlob(request, context)
            return
        data, form = packed(Source.of(blob, base), 0, len(blob), frozenset({self.form}))
        assert form is self.form
        self.sent_differences += 1
        await context.write(self.spoil(artifacts_pb2.Chunk(offset=0, data=data, encoding=form.value)))


@pytest.mark.parametrize("form", [Form.PATCH, Form.DELTA])
@pytest.mark.parametrize("wrong", ["frame", "bytes"])
def test_differences_that_arrive_wrong_are_followed_by_all_of_it(
    settled_home: Home, tmp_path: Path, form: Form, wrong: str
) -> None:
    """Whether they cannot be unpacked or unpack to something else."""
    state = tmp_path / "agent"
    shutil.copytree(settled_home.state, state, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))
    with serving(Differences(form)) as server:
        server.blobs |= settled_home.blobs
        server.wanted[NAME] = settled_home.first
        base = server.blobs[settled_home.first.spec.sha256]
        model = flipped(base)
        second = server.artifact("two", model, golden_for(model))
        other = packed(Source.of(flipped(model[:-200]) + model[-200:], base), 0, len(model), frozenset({form}))[0]

        def spoil(chunk: artifacts_pb2.Chunk) -> artifacts_pb2.Chunk:
            if chunk.encoding != form.value:
                return chunk
            data = other if wrong == "bytes" else flipped(chunk.data)
            return artifacts_pb2.Chunk(offset=chunk.offset, data=data, encoding=chunk.encoding)

        server.spoil = spoil
        server.wanted[NAME] = second
        with running(server, state) as agent:
            assert settled(server, "two").state == "Committed"
            assert verified(state) == second.spec.sha256
            assert server.sent_differences == 1
            assert "all of it is fetched" in agent.log


@contextmanager
def little_room(server: AgentServer, home: Home, agent: Agent) -> Iterator[None]:
    """No file may grow beyond what a model in the middle of its download has."""
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    yield
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def full_disk(server: AgentServer, home: Home, agent: Agent) -> Iterator[None]:
    """Somebody else takes all room in the middle of a download."""
    filler = fill(home.state, leave=0)
    yield
    filler.unlink()


@pytest.fixture
def disk_home(settled_home: Home, server: AgentServer, tmp_path: Path) -> Iterator[Home]:
    """A copy of the home on a disk of its own."""
    with small_disk(tmp_path / "agent") as state:
        ignored = shutil.ignore_patterns("*.sock")
        shutil.copytree(settled_home.state, state, symlinks=True, ignore=ignored, dirs_exist_ok=True)
        server.blobs |= settled_home.blobs
        server.wanted[NAME] = settled_home.first
        yield replace(settled_home, state=state)


@pytest.mark.parametrize(("room", "where"), [(little_room, "home"), (full_disk, "disk_home")], ids=["limit", "disk"])
def test_a_disk_that_fills_in_the_middle_of_a_download(
    server: AgentServer, request: pytest.FixtureRequest, room: Callable[..., AbstractContextManager[None]], where: str
) -> None:
    home = request.getfixturevalue(where)
    second = wants_second(server, hidden=8000)
    server.chunk_pause = 0.2
    partial = home.state / "partial" / second.spec.sha256
    with running(server, home.state) as agent:
        wait_until(lambda: partial.exists() and partial.stat().st_size > 200_000, "some bytes")
        with room(server, home, agent):
            went_back(server, home, r"no room on the disk: \S+ needs \d+ bytes, \d+ fitted")
        server.chunk_pause = 0.0
        tries_again(server, home, second)


def test_a_disk_too_full_for_the_journal_delays_an_update_even_through_a_kill(server: AgentServer, disk_home: Home) -> None:
    state, first = disk_home.state, disk_home.first
    second = wants_second(server)
    server.wanted[NAME] = first
    second.artifact = "long" * 2000  # no line fits what is left of the journal's last page
    with running(server, state) as agent:
        wait_until(lambda: NAME in server.devices, "hello")
        filler = fill(state, leave=0)
        server.offer(NAME, second)
        wait_until(lambda: "the journal cannot be written" in agent.log, "the journal cannot be written")
        goes_on_serving(server, first.spec.version)
        agent.kill()
    assert verified(state) == first.spec.sha256
    with running(server, state) as agent:
        wait_until(lambda: server.devices[NAME].hellos == 2, "the agent comes back")
        assert server.devices[NAME].hello.assignment == "one"
        goes_on_serving(server, first.spec.version)
        filler.unlink()
        assert settled(server, "two").state == "Committed"
        assert verified(state) == second.spec.sha256


def test_a_model_that_ends_its_process_in_the_probe_is_refused(server: AgentServer, home: Home) -> None:
    slow = slow_model(layers=24)
    server.wanted[NAME] = server.artifact("two", slow, golden_for(slow))
    with running(server, home.state) as agent:
        wait_until(lambda: agent.position().get("state") == "Probing" and len(agent.children()) == 2, "a candidate")
        os.kill(max(agent.children()), signal.SIGKILL)
        went_back(server, home, r"the model process was killed by SIGKILL during (load|check|time)")
        assert server.devices[NAME].states("two") == [*WAY[:5], "RollingBack", "RolledBack"]
