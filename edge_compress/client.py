"""The Python SDK, which the command line itself uses: a server's resources as frozen values, over calls that survive restarts.

Never imports torch, onnx or pluggy. Reading fleet files is left to ``fleet_file``, moving blobs to ``transfer``, deadlines and
repetition to ``calls``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from edge_compress import wire
from edge_compress.api.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    artifacts_pb2_grpc,
    common_pb2,
    compression_pb2,
    compression_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
)
from edge_compress.calls import Calls
from edge_compress.config import DEFAULT_SERVER
from edge_compress.domain.command import Command
from edge_compress.domain.job import JobState
from edge_compress.domain.overview import DeviceHistory, FleetOverview
from edge_compress.domain.resource import Change, PlanPreview, Plugin, Stored
from edge_compress.domain.schema import unknown_name
from edge_compress.domain.spec import Model, dump_resource
from edge_compress.errors import InvalidInput, NotFound, Unavailable
from edge_compress.messages import from_message
from edge_compress.sources import Given, Source, gathered
from edge_compress.transfer import Prepared, Progress, Transfer
from edge_compress.watching import Watch

FactsOf = Callable[[Path], Mapping[str, Any]]
"""facts of a model file in plain form, as ``graph.facts.facts_of(path).to_json()`` gives them"""


@dataclass(frozen=True)
class Applied:
    """What an apply did to one resource: ``created``, ``configured`` or ``unchanged``."""

    kind: str
    name: str
    outcome: str
    resource: Stored


@dataclass(frozen=True)
class _Rpcs:
    """Where the calls about a kind are, and what its messages are called."""

    stub: Any
    singular: str
    plural: str
    apply_request: Any = None


_RPCS = {
    "DeviceProfile": _Rpcs(profiles_pb2_grpc.ProfileServiceStub, "Profile", "Profiles", profiles_pb2.ApplyProfileRequest),
    "Model": _Rpcs(models_pb2_grpc.ModelServiceStub, "Model", "Models", models_pb2.ApplyModelRequest),
    "Recipe": _Rpcs(compression_pb2_grpc.CompressionServiceStub, "Recipe", "Recipes", compression_pb2.ApplyRecipeRequest),
    "Deployment": _Rpcs(
        deployments_pb2_grpc.DeploymentServiceStub, "Deployment", "Deployments", deployments_pb2.ApplyDeploymentRequest
    ),
    "Job": _Rpcs(compression_pb2_grpc.CompressionServiceStub, "Job", "Jobs"),
    "Artifact": _Rpcs(artifacts_pb2_grpc.ArtifactServiceStub, "Artifact", "Artifacts"),
    "Device": _Rpcs(agents_pb2_grpc.AgentServiceStub, "Device", "Devices"),
    "Rollout": _Rpcs(deployments_pb2_grpc.DeploymentServiceStub, "Rollout", "Rollouts"),
}


class Client:
    """A connection to one server. ``timeout`` (seconds) bounds each answer, retries included.

    Every method raises the domain errors of ``edge_compress.errors``; Unavailable where no server answers.
    """

    def __init__(self, server: str = DEFAULT_SERVER, timeout: float = 30.0, *, insecure: bool = False) -> None:
        self._calls = Calls(server, timeout, insecure)
        self._transfer = Transfer(self._calls)
        stubs = {rpcs.stub for rpcs in _RPCS.values()}
        self._stubs = {stub: stub(self._calls.channel) for stub in stubs}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection and of scratch files."""
        self._transfer.close()
        self._calls.close()

    def apply(
        self,
        what: Source | Iterable[Source],
        *,
        root: Path | str = ".",
        progress: Progress = lambda path, done, total: None,
        expected_generation: int = 0,
        validate_only: bool = False,
    ) -> tuple[Applied, ...]:
        """Create or change resources, uploading first the files that Models name (relative to ``root`` or their fleet file).

        All are checked before the first is changed, so that a refusal changes nothing; ``validate_only`` ends there. Applying
        twice changes nothing. With ``expected_generation`` a resource that somebody changed meanwhile raises Conflict.
        """
        uploaded = [self._uploaded(item, progress) for item in gathered(what, Path(root))]
        checked: tuple[Applied, ...] = ()
        if validate_only or len(uploaded) > 1:
            alongside = [f"{item.kind}/{item.resource.name}" for item in uploaded]
            check = {"expected_generation": expected_generation, "validate_only": True}
            checked = tuple(self._apply_one(item, check, alongside) for item in uploaded)
        if validate_only:
            return checked
        return tuple(self._apply_one(item, {"expected_generation": expected_generation}) for item in uploaded)

    def get(self, kind: str, name: str) -> Stored:
        """One resource. Raises NotFound."""
        return wire.stored_from_wire(self._calls.unary(self._rpc(kind, "Get"), common_pb2.GetRequest(name=name)))

    def list(self, kind: str, *, labels: Mapping[str, str] | None = None, page_size: int = 100) -> Iterator[Stored]:
        """Every resource of a kind by name, fetched page by page."""
        request = common_pb2.ListRequest(page_size=page_size, labels=labels or {})
        while True:
            page = self._calls.unary(self._rpc(kind, "List", many=True), request)
            yield from map(wire.stored_from_wire, getattr(page, _RPCS[kind].plural.lower()))
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch(self, kind: str, name: str = "", *, since: int = 0, seconds: float | None = None) -> Iterator[Change]:
        """Changes as they happen, for ever or for ``seconds``; ``since`` 0 begins with everything there is, as ADDED.

        Goes on by itself where the server was away or dropped old changes, and tells each change at most once.
        """
        self._rpc(kind, "Get")

        def names() -> set[str]:
            return {item.name for item in self.list(kind) if name in ("", item.name)}

        def follow(after: int, at_most: float) -> Iterator[Change]:
            return self._follow(kind, common_pb2.WatchRequest(since_revision=after, name=name), at_most)

        return Watch(self._calls, follow, names).changes(since, seconds)

    def overview(self) -> FleetOverview:
        """The fleet at a glance: profiles, what they did in the last minute, rollouts under way."""
        answer = self._calls.unary(self._agents.GetFleetOverview, agents_pb2.GetFleetOverviewRequest())
        return from_message(FleetOverview, answer)

    def history(self, device: str) -> DeviceHistory:
        """The last hour of a device, as far as the server saw it. Raises NotFound."""
        answer = self._calls.unary(self._agents.GetDeviceHistory, common_pb2.GetRequest(name=device))
        return from_message(DeviceHistory, answer)

    def delete(self, kind: str, name: str) -> None:
        """Remove a resource. Raises NotFound, and InUse while others need it."""
        repeated = False

        def attempt(left: float) -> None:
            nonlocal repeated
            try:
                self._rpc(kind, "Delete")(common_pb2.DeleteRequest(name=name), timeout=left)
            except grpc.RpcError as failure:
                # After an answer that was lost on the way, the thing is gone because the attempt before did it.
                if not repeated or not isinstance(self._calls.translated(failure), NotFound):
                    raise
            finally:
                repeated = True

        self._calls.repeat(attempt)

    def jobs(self, *, labels: Mapping[str, str] | None = None) -> Iterator[Stored]:
        """Every job, oldest and newest; labels are ``model``, ``profile`` and ``deployment``."""
        return self.list("Job", labels=labels)

    def cancel_job(self, name: str) -> Stored:
        """Stop a job; its finished steps stay cached. Raises NotFound, Conflict when it had ended."""
        answer = self._calls.unary(self._compression.CancelJob, compression_pb2.CancelJobRequest(name=name))
        return wire.stored_from_wire(answer)

    def rollout(self, name: str) -> Stored:
        """The rollout ``name``, or the newest one of the deployment ``name``. Raises NotFound."""
        try:
            return self.get("Rollout", name)
        except NotFound:
            with contextlib.suppress(NotFound):
                deployment = self.get("Deployment", name)
                return self.get("Rollout", f"{name}-{deployment.metadata.generation}")
            raise

    def command_rollout(self, name: str, command: Command | str, reason: str = "") -> Stored:
        """Pause, resume, promote, abort or undo a rollout, or the newest one of a deployment. Raises NotFound, and Conflict where
        it is in no state for that."""
        number = wire.rollout_command_to_wire(Command(command))
        request = deployments_pb2.CommandRolloutRequest(name=name, command=number, reason=reason)
        if command == Command.PROMOTE:
            status: Any = self.rollout(name).status
            request.step = status.step
        service = self._stubs[deployments_pb2_grpc.DeploymentServiceStub]
        return wire.stored_from_wire(self._calls.unary(service.CommandRollout, request))

    def wait_for_jobs(
        self, names: Sequence[str], *, timeout: float | None = None, progress: Callable[[Stored], None] = lambda job: None
    ) -> tuple[Stored, ...]:
        """The jobs once all have ended, in the order of ``names``. ``progress`` sees each change. A job that does not exist yet
        is waited for. Raises Unavailable after ``timeout`` seconds without the end (None: no limit)."""
        ended: dict[str, Stored] = {}
        changes = self.watch("Job", seconds=timeout) if names else iter(())
        while set(names) - ended.keys():
            change = next(changes, None)
            if change is None:
                missing = ", ".join(name for name in names if name not in ended)
                raise Unavailable(f"not every job ended within {timeout or 0:g} s: {missing}; wait again, or describe the job")
            job = change.resource
            if job.name in names:
                progress(job)
                if JobState(job.status.state).final:
                    ended[job.name] = job
        return tuple(ended[name] for name in names)

    def plan(
        self, what: Source | Iterable[Source] = (), *, root: Path | str = ".", facts_of: FactsOf | None = None
    ) -> PlanPreview:
        """What applying would do and what each pair would try. Uploads and changes nothing.

        ``facts_of`` computes the facts of models that the server does not hold; without it those pairs have no predictions.
        """
        request = compression_pb2.PlanRequest()
        for given in gathered(what, Path(root)):
            resource = given.resource
            if isinstance(resource, Model):
                prepared = self._prepared(resource, given)
                resource = prepared.model
                self._add_facts(request, resource, prepared.sources, facts_of)
            request.documents_json.append(json.dumps(dump_resource(resource)))
        return from_message(PlanPreview, self._calls.unary(self._compression.Plan, request))

    def report(self, model: str) -> dict[str, Any]:
        """A model's entry of the one-shot JSON: ``float`` and ``profiles``. Raises NotFound."""
        answer = self._calls.unary(self._compression.GetReport, compression_pb2.GetReportRequest(model=model))
        report: dict[str, Any] = json.loads(answer.report_json)
        return report

    def plugins(self) -> tuple[Plugin, ...]:
        """Every plugin that the server found, broken ones with their error."""
        answer = self._calls.unary(self._compression.ListPlugins, compression_pb2.ListPluginsRequest())
        return tuple(from_message(Plugin, item) for item in answer.plugins)

    def upload(self, path: Path | str, progress: Callable[[int, int], None] = lambda done, total: None) -> str:
        """Send a file, going on where an earlier try stopped; returns its sha256. Raises TooLarge, StorageFull, Unavailable."""
        return self._transfer.upload_file(Path(path), progress)

    def download(self, sha256: str, path: Path | str, progress: Callable[[int], None] = lambda done: None) -> None:
        """Fetch a blob to ``path``, which appears when whole and verified. Raises NotFound, Corrupt."""
        self._transfer.download(sha256, Path(path), progress)

    @property
    def _agents(self) -> Any:
        return self._stubs[agents_pb2_grpc.AgentServiceStub]

    @property
    def _compression(self) -> Any:
        return self._stubs[compression_pb2_grpc.CompressionServiceStub]

    def _rpc(self, kind: str, verb: str, *, many: bool = False) -> Any:
        if kind not in _RPCS:
            raise unknown_name("kind", kind, _RPCS, "kind")
        rpcs = _RPCS[kind]
        return getattr(self._stubs[rpcs.stub], verb + (rpcs.plural if many else rpcs.singular))

    def _prepared(self, model: Model, given: Given) -> Prepared:
        try:
            return self._transfer.prepare(model, given.folder)
        except InvalidInput as error:
            raise given.located(error) from error

    def _uploaded(self, given: Given, progress: Progress) -> Given:
        """The resource as the server is told of it, the files that it names being there."""
        if not isinstance(given.resource, Model):
            return given
        prepared = self._prepared(given.resource, given)
        self._transfer.upload_all(prepared, progress)
        return replace(given, resource=prepared.model)

    def _apply_one(self, given: Given, options: Mapping[str, Any], alongside: Sequence[str] = ()) -> Applied:
        kind = given.kind
        field = _RPCS[kind].singular.lower()
        request = _RPCS[kind].apply_request(**{field: wire.resource_to_wire(given.resource)}, **options)
        if kind == "Deployment":
            request.alongside.extend(alongside)
        try:
            answer = self._calls.unary(self._rpc(kind, "Apply"), request)
        except InvalidInput as error:
            raise given.located(error) from error
        stored = wire.stored_from_wire(getattr(answer, field))
        return Applied(kind, given.resource.name, wire.outcome_from_wire(answer.outcome), stored)

    def _follow(self, kind: str, request: common_pb2.WatchRequest, seconds: float) -> Iterator[Change]:
        call = self._rpc(kind, "Watch", many=True)(request, timeout=seconds)
        for message in self._calls.stream(call):
            stored = wire.stored_from_wire(getattr(message, _RPCS[kind].singular.lower()))
            yield Change(wire.change_from_wire(message.type), stored)

    def _add_facts(
        self,
        request: compression_pb2.PlanRequest,
        model: Model,
        sources: Mapping[str, tuple[str, Path]],
        facts_of: FactsOf | None,
    ) -> None:
        ref = model.spec.file(model.spec.source)
        if facts_of is None or ref is None or ref.sha256 not in sources or self._transfer.held(ref.sha256).complete:
            return
        request.facts_json[ref.sha256] = json.dumps(dict(facts_of(sources[ref.sha256][1])))
