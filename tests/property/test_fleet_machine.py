"""A server and its devices under whatever may happen: kills between any two writes, lost links, rotten bytes, full disks, models
that crash, are wrong or too slow, versions that replace each other, people who steer, time that passes.

The server's part are the pure functions of ``delivery``, the devices' part is the real ``Install`` on real files, with fetching,
model processes and traffic played. What must hold always: traffic is given to whole, verified files only; ``current`` points at
such; no more devices than a step allows begin with a version. And in the end every device settles, and so does the rollout.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge_compress.agent import install, slots
from edge_compress.agent import machine as agent
from edge_compress.agent.child import ChildFailed
from edge_compress.agent.journal import Journal
from edge_compress.agent.preflight import Preflight
from edge_compress.agent.probe import Figures, Refused
from edge_compress.agent.slots import Slots
from edge_compress.agent.surroundings import Surroundings
from edge_compress.agent.transfer import Fetched
from edge_compress.delivery.assignments import must_be_sent, standing
from edge_compress.delivery.devices import Device
from edge_compress.delivery.rollouts import Reach, going_back, members_of, next_step, wanted_rollout
from edge_compress.delivery.running import SETTLED, Running, joined, moved
from edge_compress.delivery.world import StoredDeployment, StoredRollout, World
from edge_compress.domain.artifact import Artifact, GoldenVectors
from edge_compress.domain.command import Command, commanded
from edge_compress.domain.fleet import DeviceSpec, DeviceState, DeviceStatus
from edge_compress.domain.resource import ResourceStatus
from edge_compress.domain.rollout import RolloutState, RolloutStatus
from edge_compress.domain.session import Assignment, Hello, Move
from edge_compress.domain.spec import Deployment, DeploymentSpec, DeviceProfile, Metadata, RolloutPolicy, Selector
from edge_compress.errors import Conflict, StorageFull
from edge_compress.store.interface import Record

FAULTS = ("", "", "", "bytes", "load", "probe", "trial", "some probes")
"""what is wrong with a version: on every device, or on some"""
NAMES = [f"cam-{number}" for number in range(6)]
GOLDEN = b"golden"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Killed(BaseException):
    """The device lost its power."""


@dataclass(frozen=True)
class Version:
    """A file and what is wrong with it."""

    data: bytes
    fault: str

    @property
    def artifact(self) -> Artifact:
        golden = GoldenVectors(sha(GOLDEN), len(GOLDEN), 1, 0.0, 0.0)
        digest = sha(self.data)
        size = len(self.data)
        return Artifact(f"vision-{digest[:12]}", "vision", "cam", digest, size, size, "onnxruntime", golden, version=digest[:12])

    def fails(self, at: str, device: str) -> bool:
        """Whether it fails there on that device."""
        return self.fault == at or (self.fault == f"some {at}s" and int(sha(device.encode() + self.data)[0], 16) < 8)


class Fetching:
    """Transfer: a few bytes at a time."""

    def __init__(self, device: Played) -> None:
        self._device = device

    async def fetch(self, sha256: str, size: int, path: Path, *options: Any) -> Fetched:
        data = GOLDEN if sha256 == sha(GOLDEN) else self._device.versions[sha256].data
        if sha256 != sha(GOLDEN) and self._device.versions[sha256].fails("bytes", self._device.name):
            data = b"x" + data[1:]
        with path.open("ab") as file:  # it takes no time here
            while (held := file.tell()) < size:
                while not self._device.linked:  # noqa: ASYNC110  # each round is a step of the test
                    await asyncio.sleep(0)
                if self._device.full:
                    raise StorageFull("no room on the disk")
                file.write(data[held : held + 7])
                file.flush()
                await asyncio.sleep(0)
        return Fetched()


class Process:
    """A model process."""

    pid = 1

    def __init__(self, assignment: agent.Assignment, device: Played) -> None:
        self.device, self.assignment = device, assignment
        self.version = device.versions[assignment.sha256]

    async def loaded(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if self.version.fails("load", self.device.name):
            raise ChildFailed("the model process was killed by SIGSEGV during load", died=True)

    def kill(self) -> None:
        """It has no process."""


class Serving:
    """Traffic; holds what it is given against its digest."""

    def __init__(self, device: Played) -> None:
        self.device, self.assignment, self.paused = device, None, False

    def serve(self, assignment: agent.Assignment | None, child: Process | None = None) -> None:
        if assignment is not None:
            self.device.must_be_verified(assignment, "traffic")
        self.assignment, self.paused = assignment, False

    async def try_out(self, assignment: agent.Assignment, child: Process) -> None:
        self.device.must_be_verified(assignment, "a trial")
        await asyncio.sleep(0)
        if child.version.fails("trial", self.device.name):
            raise Refused("a wrong answer in the trial")

    async def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def remember_peak(self, assignment: agent.Assignment, peak: int) -> None:
        """Nobody asks."""


class Tight(Surroundings):
    """Memory never holds two model processes."""

    def free_memory(self) -> int:
        return 1


@dataclass
class Played:
    """One device: its folder outlives it, its loop and everything on it does not."""

    name: str
    folder: Path
    versions: dict[str, Version]
    linked: bool = False
    full: bool = False
    told: str = ""
    """assignment that it was sent last in this session"""
    kill_in: int = -1
    """moments before and after writes until the power goes; below 0: it stays"""
    dead: bool = False
    wrong: list[str] = field(default_factory=list)
    heard: list[agent.Position] = field(default_factory=list)
    boot: int = 0

    def start(self) -> None:
        self.boot, self.dead = self.boot + 1, False
        self.slots = Slots(self.folder)
        self.journal = Journal(self.folder / "journal")
        self.journal.append = self._append(self.journal.append)  # type: ignore[method-assign]
        self.traffic: Any = Serving(self)
        self.traffic.serve(self.journal.position.serving)
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)  # a device that was killed says nothing
        transfer: Any = Fetching(self)
        preflight = Preflight(self.slots, Tight(self.folder / "no-such-place"), serving=lambda: 1 << 40)
        self.install = install.Install(preflight, self.journal, transfer, self.traffic, self.heard.append)
        self.task = self.loop.create_task(self.install.run())

    def _append(self, write: Callable[[agent.Position], None]) -> Callable[[agent.Position], None]:
        def append(position: agent.Position) -> None:
            self.power()
            write(position)
            self.power()

        return append

    def must_be_verified(self, assignment: agent.Assignment, what: str) -> None:
        """Noted, not raised: the agent takes what its parts raise for a candidate's failure."""
        if not self.slots.staged(assignment) or sha(self.slots.model(assignment).read_bytes()) != assignment.sha256:
            self.wrong.append(f"{what} for an unverified file")

    def power(self) -> None:
        """Before each write, and after it, before anything follows from it: the power may go."""
        self.kill_in -= 1
        if self.kill_in == 0:
            self.dead = True
            raise Killed

    def steps(self, count: int) -> None:
        """Go on for a while; a device whose power went comes up again."""
        with _played(self):
            for _ in range(count):
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
        if self.dead:
            self.stop()
            self.start()

    def stop(self) -> None:
        """As kill -9 leaves it."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        with _played(self):
            while asyncio.all_tasks(self.loop):
                self.loop.call_soon(self.loop.stop)
                self.loop.run_forever()
        self.loop.close()
        self.linked, self.kill_in = False, -1


@contextmanager
def _played(device: Played) -> Iterator[None]:
    """Threads are steps of the same loop, model processes are played."""

    async def here(function: Callable[..., Any], *arguments: Any) -> Any:
        await asyncio.sleep(0)
        return function(*arguments)

    async def probe(child: Process, assignment: agent.Assignment) -> Figures:
        await asyncio.sleep(0)
        if child.version.fails("probe", device.name):
            raise Refused("golden vectors disagree")
        return Figures(0.001, 0.002, 1000)

    write = slots.write_atomically

    def written(path: Path, data: bytes) -> None:
        device.power()
        write(path, data)

    made = {"Child": lambda folders, assignment: Process(assignment, device), "probe": probe}
    with (
        mock.patch.multiple(install, **made),
        mock.patch.object(install.asyncio, "to_thread", here),
        mock.patch.object(slots, "write_atomically", written),
    ):
        yield


def record(kind: str, name: str, generation: int = 1, created: float = 0.0, **labels: str) -> Record:
    return Record(kind, name, "u-1", labels, {}, {}, generation, 1, created, created)


class FleetMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.generation = 1000.0, 0
        self.scratch = Path(tempfile.mkdtemp())
        self.versions: dict[str, Version] = {}
        self.rollouts: dict[str, StoredRollout] = {}
        self.statuses: dict[str, DeviceStatus] = {}
        self.begun: dict[str, set[str]] = {}
        """rollout -> devices that were offered it"""
        self.devices = {name: Played(name, self.scratch / name, self.versions) for name in NAMES}
        for device in self.devices.values():
            device.folder.mkdir()
            device.start()

    @initialize(steps=st.sampled_from([(1.0,), (0.3, 1.0), (0.2, 0.5, 1.0)]), soak=st.sampled_from([0.0, 30.0]))
    def begin(self, steps: tuple[float, ...], soak: float) -> None:
        self.policy = RolloutPolicy(steps=steps, soak=soak, abort_at=0.3, min_executed=1, device_deadline=600.0)
        for device in self.devices.values():
            self.links_up(device.name)
        self.declares("", 0)
        self.everybody_goes_on()

    # -- the server --------------------------------------------------------------------------------------------------------

    @property
    def rollout(self) -> StoredRollout:
        return self.rollouts[f"vision-{self.generation}"]

    def world(self) -> World:
        artifacts = {version.artifact.name: version.artifact for version in self.versions.values()}
        profiles = {"cam": (record("DeviceProfile", "cam"), DeviceProfile(Metadata("cam")))}
        return World((self.deployment(),), profiles, {}, {}, {}, self.rollouts, artifacts)

    def deployment(self) -> StoredDeployment:
        spec = DeploymentSpec("vision", selector=Selector(("cam",)), rollout=self.policy)
        declared = Deployment(Metadata("vision"), spec)
        return StoredDeployment(record("Deployment", "vision", self.generation), declared, ResourceStatus())

    def keep(self, rollout: StoredRollout, status: RolloutStatus) -> None:
        self.rollouts[rollout.record.name] = replace(rollout, status=status)

    def look(self) -> None:
        """A pass of the server; what it offers reaches those that are there."""
        stored = [Device(name, DeviceSpec("cam"), status) for name, status in self.statuses.items()]
        live = lambda name: self.devices[name].linked  # noqa: E731
        reach = Reach(live, policy=self.policy)
        members = members_of(self.rollout, self.world(), stored, reach, self.now)
        step = next_step(self.deployment(), self.rollout, members, self.now, len(stored) - len(members))
        self.keep(self.rollout, step.status)
        wanted = {**step.assignments, **going_back(self.rollout, self.world(), stored, reach)}
        for name, assignment in wanted.items():
            self.offers(name, assignment)

    def offers(self, name: str, assignment: Assignment) -> None:
        device, status = self.devices[name], self.statuses[name]
        if standing(status, assignment) is None:
            self.statuses[name] = replace(status, offered=assignment.id, news_at=self.now)
            if assignment.rollout == self.rollout.record.name and self.rollout.status.state != RolloutState.ABORTED:
                self.counts(name)
        serving = device.journal.position.serving
        if (
            device.linked
            and device.told != assignment.id
            and must_be_sent(self.statuses[name], serving.sha256 if serving else "", assignment)
        ):
            device.told = assignment.id
            device.install.assign(_assigned(assignment.id, self.versions[assignment.artifact.sha256]))

    def counts(self, name: str) -> None:
        """No more devices begin with a version than the step allows."""
        begun = self.begun.setdefault(self.rollout.record.name, set())
        begun.add(name)
        share = self.policy.steps[self.rollout.status.step]
        assert len(begun) <= max(1, math.ceil(share * len(self.statuses) - 1e-9))

    def offer(self) -> Assignment:
        artifact = self.world().artifacts[self.rollout.spec.artifacts["cam"]]
        return Assignment(f"{self.rollout.record.name}.x", "vision", self.rollout.record.name, artifact)

    def hears(self, device: Played) -> None:
        """What a device said while it had a link."""
        said, device.heard[:] = list(device.heard), []
        for position in said if device.linked else ():
            if position.assignment is None:
                continue
            current = position.serving.sha256 if position.serving else ""
            move = Move(position.assignment.id, position.state.value, position.message[:200], current if position.settled else "")
            running = self.running(current) if move.state in SETTLED else None
            self.statuses[device.name] = moved(self.statuses[device.name], move, running, self.now)

    def running(self, sha256: str) -> Running:
        if sha256 not in self.versions:
            return Running()
        artifact = self.versions[sha256].artifact
        return Running("vision", artifact.name, artifact.version)

    # -- what may happen ---------------------------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(FAULTS), size=st.integers(0, 30))
    def declares(self, fault: str, size: int) -> None:
        """A new version takes the place of the one before."""
        self.generation += 1
        version = Version(f"version {self.generation} ".encode() + b"." * size, fault)
        self.versions[sha(version.data)] = version
        for rollout in self.rollouts.values():
            self.keep(rollout, replace(rollout.status, state=RolloutState.SUPERSEDED.value))
        deployment = self.deployment()
        wanted = wanted_rollout(deployment, {"cam": version.artifact.name}, None, self.rollouts.values())
        assert wanted is not None
        made = record("Rollout", wanted.name, created=float(self.generation), **wanted.labels)
        self.rollouts[wanted.name] = StoredRollout(made, wanted.spec, RolloutStatus())
        self.look()

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 25))
    def goes_on(self, name: str, count: int) -> None:
        self.devices[name].steps(count)
        self.hears(self.devices[name])
        self.look()

    @rule()
    def everybody_goes_on(self) -> None:
        for _ in range(4):
            for name in NAMES:
                self.goes_on(name, 12)

    @rule(name=st.sampled_from(NAMES))
    def is_killed(self, name: str) -> None:
        self.devices[name].stop()
        self.devices[name].start()

    @rule(name=st.sampled_from(NAMES), writes=st.integers(1, 6))
    def will_lose_its_power(self, name: str, writes: int) -> None:
        self.devices[name].kill_in = writes

    @rule(name=st.sampled_from(NAMES))
    def links_up(self, name: str) -> None:
        device = self.devices[name]
        if device.linked:
            return
        device.linked, device.told = True, ""
        position = device.journal.position
        current = position.serving.sha256 if position.serving else ""
        hello = Hello(
            name, "cam", f"b{device.boot}", current_sha256=current, state=position.state.value,
            assignment=position.assignment.id if position.assignment else "",
        )  # fmt: skip
        self.statuses[name] = joined(self.statuses.get(name, DeviceStatus()), hello, self.running(current), self.now)
        device.heard[:] = [position]  # each session begins with where the device stands
        self.hears(device)

    @rule(name=st.sampled_from(NAMES))
    def link_breaks(self, name: str) -> None:
        self.devices[name].linked = False

    @rule(name=st.sampled_from(NAMES), full=st.booleans())
    def disk_fills(self, name: str, full: bool) -> None:
        self.devices[name].full = full

    @rule(seconds=st.sampled_from([1.0, 31.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.look()

    @rule(command=st.sampled_from(list(Command)))
    def is_told(self, command: Command) -> None:
        try:
            self.keep(self.rollout, commanded(command, self.policy, self.rollout.spec, self.rollout.status, self.now))
        except Conflict:
            return
        self.look()

    # -- what must hold ----------------------------------------------------------------------------------------------------

    @invariant()
    def current_is_whole(self) -> None:
        for device in self.devices.values():
            assert not device.wrong
            fetching = device.journal.position.state in (DeviceState.PREFLIGHT, DeviceState.FETCHING, DeviceState.IDLE)
            assert not (fetching and device.traffic.paused), "nobody serves while nothing is being tried"
            link = device.folder / "current"
            if link.is_symlink():
                (model,) = [path for path in link.resolve().iterdir() if path.name == "model.onnx"]
                assert sha(model.read_bytes()) == link.resolve().name

    def teardown(self) -> None:
        """Once nothing goes wrong any more every device settles, and the rollout ends."""
        try:
            self.comes_to_rest()
        finally:
            for device in self.devices.values():
                device.stop()
            shutil.rmtree(self.scratch)

    def comes_to_rest(self) -> None:
        if not self.rollouts:
            return
        for device in self.devices.values():
            device.full, device.kill_in = False, -1
            self.links_up(device.name)
        if self.rollout.status.state == RolloutState.PAUSED:
            self.is_told(Command.RESUME)
        ended = (RolloutState.COMPLETED, RolloutState.ABORTED)
        for _ in range(60):
            self.everybody_goes_on()
            self.now += 7 * 3600.0  # longer than any penalty
            waiting = {"Penalised", "Waiting"} & self.rollout.status.devices.keys()
            over = self.rollout.status.state == RolloutState.ABORTED or not waiting
            settled = all(one.journal.position.settled for one in self.devices.values())
            if self.rollout.status.state in ended and over and settled:
                break
        self.check_ends()

    def check_ends(self) -> None:
        assert self.rollout.status.state in (RolloutState.COMPLETED, RolloutState.ABORTED), self.rollout.status
        wanted = self.offer().artifact
        self.current_is_whole()
        for name, device in self.devices.items():
            position = device.journal.position
            assert position.settled, (name, position)
            serving = position.serving.sha256 if position.serving else ""
            assert serving == (device.traffic.assignment.sha256 if device.traffic.assignment else "")
            assert serving == device.slots.current()
            if self.rollout.status.state == RolloutState.COMPLETED and not self.versions[wanted.sha256].fault:
                assert serving == wanted.sha256, (name, position)


TestFleetMachine = FleetMachine.TestCase
TestFleetMachine.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)


def test_what_serves_goes_on_when_a_newer_version_takes_the_place_of_one_that_was_tried_alone(tmp_path: Path) -> None:
    made = {sha(version.data): version for version in (Version(b"first", ""), Version(b"second", ""), Version(b"third", ""))}
    device = Played("cam-0", tmp_path, made)
    device.start()
    device.linked = True
    first, second, third = (_assigned(f"a.{number}", version) for number, version in enumerate(made.values()))
    try:
        device.install.assign(first)
        device.steps(60)
        assert device.journal.position.state is DeviceState.COMMITTED
        device.install.assign(second)
        while not device.traffic.paused:
            device.steps(1)
        assert device.journal.position.state is DeviceState.PROBING
        device.linked = False  # the next one is not here soon
        device.install.assign(third)
        device.steps(60)
        assert (device.journal.position.state, device.traffic.paused) == (DeviceState.FETCHING, False)
    finally:
        device.stop()


def _assigned(name: str, version: Version) -> agent.Assignment:
    made, golden = version.artifact, version.artifact.golden
    files = (made.sha256, made.bytes, golden.sha256, golden.bytes, 1)
    return agent.Assignment(name, made.name, "vision", *files, version=made.version)
