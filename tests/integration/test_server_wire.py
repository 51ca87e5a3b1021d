"""The whole server in this process, asked over real gRPC. Compression itself is replaced by an engine that computes nothing."""

import asyncio
import hashlib
import json
import os

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from edge_compress import encoding, wire
from edge_compress.api.v1 import (
    agents_pb2_grpc,
    artifacts_pb2,
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
from edge_compress.client import Client
from edge_compress.config import ServerSettings
from edge_compress.domain.spec import parse_resource
from edge_compress.errors import InUse, NotFound, StartupError
from edge_compress.server.app import App, Pace
from edge_compress.server.services import SERVICES
from tests.unit.server.quick_engine import QuickEngine, waits, yields

Code = grpc.StatusCode


class Stubs:
    """Every service over one channel."""

    def __init__(self, channel):
        self.profiles = profiles_pb2_grpc.ProfileServiceStub(channel)
        self.models = models_pb2_grpc.ModelServiceStub(channel)
        self.compression = compression_pb2_grpc.CompressionServiceStub(channel)
        self.artifacts = artifacts_pb2_grpc.ArtifactServiceStub(channel)
        self.deployments = deployments_pb2_grpc.DeploymentServiceStub(channel)
        self.agents = agents_pb2_grpc.AgentServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.reflection = reflection_pb2_grpc.ServerReflectionStub(channel)


class Running:
    """A started app, its engine, and stubs to ask it with."""

    def __init__(self, app, engine, stubs):
        self.app, self.engine, self.stubs = app, engine, stubs


@pytest.fixture
async def server(tmp_path):
    engines = []

    def make_engine(**parts):
        engines.append(QuickEngine(**parts))
        return engines[-1]

    settings = ServerSettings(
        listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", state=tmp_path / "state", workers=2, max_model_bytes=2_000_000,
        max_data_bytes=1_000_000, device_metrics=1000,
    )  # fmt: skip  # one line a thought
    app = App(settings, Pace(progress_seconds=0.05, make_engine=make_engine))
    await app.start()
    async with grpc.aio.insecure_channel(app.address) as channel:
        yield Running(app, engines[0], Stubs(channel))
    await app.stop()


async def refused(call):
    """The error of a call that must fail, and its violations as (field, description)."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    found = {}
    status = rpc_status.from_call(caught.value)
    for detail in status.details if status else ():
        request = error_details_pb2.BadRequest()
        if detail.Is(request.DESCRIPTOR):
            detail.Unpack(request)
            found |= {one.field: one.description for one in request.field_violations}
    return caught.value, found


def message(kind, name, **body):
    return wire.resource_to_wire(parse_resource({"kind": kind, "metadata": {"name": name}, "spec": body}))


def apply_profile(name="cam", **body):
    return profiles_pb2.ApplyProfileRequest(profile=message("DeviceProfile", name, **body))


async def upload(stubs, data):
    sha256 = hashlib.sha256(data).hexdigest()

    async def parts():
        yield artifacts_pb2.UploadBlobRequest(header=artifacts_pb2.UploadHeader(sha256=sha256, size_bytes=len(data)))
        for at in range(0, len(data), 400_000):
            yield artifacts_pb2.UploadBlobRequest(chunk=artifacts_pb2.Chunk(offset=at, data=data[at : at + 400_000]))

    state = await stubs.artifacts.UploadBlob(parts())
    assert state.complete
    return sha256


def model(sha256, data_sha256, name="vision"):
    files = [{"path": "m.onnx", "sha256": sha256}, {"path": "val.npz", "sha256": data_sha256}]
    return models_pb2.ApplyModelRequest(
        model=message("Model", name, source="m.onnx", data={"evaluation": "val.npz"}, files=files)
    )


async def declare(stubs, *profiles):
    """Profiles, a model and a deployment of it to them all."""
    for name in profiles:
        await stubs.profiles.ApplyProfile(apply_profile(name))
    await stubs.models.ApplyModel(model(await upload(stubs, b"model bytes"), await upload(stubs, b"val")))
    deployment = message("Deployment", "vision", model="vision", selector={"profiles": list(profiles)})
    await stubs.deployments.ApplyDeployment(deployments_pb2.ApplyDeploymentRequest(deployment=deployment))


async def jobs_when(stubs, state, count):
    """All jobs, once there are ``count`` and each is in ``state``."""
    async with asyncio.timeout(15):
        while True:
            jobs = (await stubs.compression.ListJobs(common_pb2.ListRequest())).jobs
            if len(jobs) == count and {job.status.state for job in jobs} <= {state}:
                return jobs
            await asyncio.sleep(0.02)


# -- what surrounds the services ------------------------------------------------------------------------------------------


async def test_health_says_serving_for_all_and_each(server):
    for name in ("", *SERVICES):
        answer = await server.stubs.health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    error, _ = await refused(server.stubs.health.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert error.code() is Code.NOT_FOUND


async def test_reflection_lists_every_service(server):
    call = server.stubs.reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await call.read()
    assert set(SERVICES) < {one.name for one in answer.list_services_response.service}


async def test_metrics_are_served(server):
    await declare(server.stubs, "cam")
    await jobs_when(server.stubs, "Succeeded", 1)
    assert 'edge_compress_jobs{state="Succeeded"} 1.0' in await scraped(server, "/metrics")
    assert "edge_compress_device_series_dropped_total 0" in await scraped(server, "/metrics/devices")


async def scraped(server, path):
    host, _, port = server.app.metrics_address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text


@pytest.mark.parametrize("flag", ["listen", "metrics_listen"])
async def test_a_second_server_does_not_share_a_port(server, tmp_path, flag):
    taken = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
    taken[flag] = server.app.address if flag == "listen" else server.app.metrics_address
    second = App(ServerSettings(state=tmp_path / "other", **taken), Pace(make_engine=QuickEngine))
    with pytest.raises(StartupError, match=taken[flag]) as caught:
        await second.start()
    assert "\n" not in str(caught.value)


async def test_a_server_that_could_not_start_lets_go_of_everything(server, tmp_path):
    state = tmp_path / "other"
    failing = App(ServerSettings(listen=server.app.address, metrics_listen="", state=state), Pace(make_engine=QuickEngine))
    with pytest.raises(StartupError):
        await failing.start()
    next_ = App(ServerSettings(listen="127.0.0.1:0", metrics_listen="", state=state), Pace(make_engine=QuickEngine))
    await next_.start()
    await next_.stop()


async def test_addresses_others_can_reach_need_insecure(tmp_path):
    app = App(ServerSettings(listen="0.0.0.0:0", metrics_listen="", state=tmp_path / "s"), Pace(make_engine=QuickEngine))
    with pytest.raises(StartupError, match="--insecure"):
        await app.start()
    assert not (tmp_path / "s").exists()


async def test_stopping_ends_streams_with_unavailable_and_is_quick(server):
    watch = server.stubs.profiles.WatchProfiles(common_pb2.WatchRequest())
    session = server.stubs.agents.Session()
    await session.wait_for_connection()
    await watch.wait_for_connection()
    began = asyncio.get_running_loop().time()
    stopping = asyncio.create_task(server.app.stop())
    error, _ = await refused(watch.read())
    assert error.code() is Code.UNAVAILABLE
    error, _ = await refused(session.read())
    assert error.code() is Code.UNAVAILABLE
    await stopping
    assert asyncio.get_running_loop().time() - began < 4


async def test_a_reader_that_does_not_read_cannot_hold_up_the_stop(server):
    sha256 = await upload(server.stubs, os.urandom(2_000_000))
    download = server.stubs.artifacts.DownloadBlob(artifacts_pb2.DownloadBlobRequest(sha256=sha256))
    await download.read()
    began = asyncio.get_running_loop().time()
    await server.app.stop()
    assert asyncio.get_running_loop().time() - began < 4


# -- resources ------------------------------------------------------------------------------------------------------------


async def test_pages_walk_through_all_and_refuse_strange_tokens(server):
    for number in range(7):
        await server.stubs.profiles.ApplyProfile(apply_profile(f"p{number}"))
    names, token = [], ""
    while True:
        page = await server.stubs.profiles.ListProfiles(common_pb2.ListRequest(page_size=3, page_token=token))
        names += [profile.metadata.name for profile in page.profiles]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"p{number}" for number in range(7)]
    for request in (common_pb2.ListRequest(page_token="forged"), common_pb2.ListRequest(page_size=-1)):
        error, _ = await refused(server.stubs.profiles.ListProfiles(request))
        assert error.code() is Code.INVALID_ARGUMENT


async def test_watch_shows_what_exists_then_what_changes(server):
    await server.stubs.profiles.ApplyProfile(apply_profile("cam"))
    watch = server.stubs.profiles.WatchProfiles(common_pb2.WatchRequest())
    first = await watch.read()
    assert (first.type, first.profile.metadata.name) == (common_pb2.WATCH_EVENT_TYPE_ADDED, "cam")
    await server.stubs.profiles.DeleteProfile(common_pb2.DeleteRequest(name="cam"))
    seen = [await watch.read()]
    while seen[-1].type != common_pb2.WATCH_EVENT_TYPE_DELETED:
        seen.append(await watch.read())
    watch.cancel()
    error, _ = await refused(server.stubs.profiles.WatchProfiles(common_pb2.WatchRequest(since_revision=999_999)).read())
    assert error.code() is Code.OUT_OF_RANGE


async def test_a_check_over_the_wire_stores_nothing(server):
    request = apply_profile("cam", threads=2)
    request.validate_only = True
    answer = await server.stubs.profiles.ApplyProfile(request)
    assert (answer.outcome, answer.profile.spec.threads) == (common_pb2.APPLY_OUTCOME_CREATED, 2)
    error, _ = await refused(server.stubs.profiles.GetProfile(common_pb2.GetRequest(name="cam")))
    assert error.code() is Code.NOT_FOUND
    error, violations = await refused(server.stubs.profiles.GetProfile(common_pb2.GetRequest()))
    assert (error.code(), set(violations)) == (Code.INVALID_ARGUMENT, {"name"})


async def test_lists_are_filtered_by_labels(server):
    for name, site in (("a", "north"), ("b", "south"), ("c", "north")):
        request = apply_profile(name)
        request.profile.metadata.labels["site"] = site
        await server.stubs.profiles.ApplyProfile(request)
    page = await server.stubs.profiles.ListProfiles(common_pb2.ListRequest(labels={"site": "north"}))
    assert [profile.metadata.name for profile in page.profiles] == ["a", "c"]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (profiles_pb2.ApplyProfileRequest(), "metadata.name"),
        (profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "Not A Name"}, "spec": {}}), "metadata.name"),
        (profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a"}, "spec": {"memory_bytes": -1}}), "spec.memory"),
        (profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a"}, "spec": {"memory_bytes": 2**62}}), "spec.memory"),
        (
            profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a"}, "spec": {"latency_p95_seconds": float("nan")}}),
            "spec.latency_p95",
        ),
        (profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a"}, "spec": {"threads": 9999}}), "spec.threads"),
        (
            profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a"}, "spec": {"precisions": ["fp8"]}}),
            "spec.precisions",
        ),
        (profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a"}, "spec": {"runtime": "tflit"}}), "spec.runtime"),
        (
            profiles_pb2.ApplyProfileRequest(profile={"metadata": {"name": "a", "labels": {"k y": "v"}}, "spec": {}}),
            "metadata.labels",
        ),
    ],
)
async def test_nonsense_is_refused_naming_the_field_and_nothing_is_stored(server, request_, field):
    error, violations = await refused(server.stubs.profiles.ApplyProfile(request_))
    assert error.code() is Code.INVALID_ARGUMENT
    assert any(one.startswith(field) for one in violations), (error.details(), violations)
    assert "\n" not in error.details()
    assert not (await server.stubs.profiles.ListProfiles(common_pb2.ListRequest())).profiles


async def test_bytes_that_are_no_message_break_one_call_only(server):
    async with grpc.aio.insecure_channel(server.app.address) as channel:
        raw = channel.unary_unary("/edge_compress.api.v1.ProfileService/ApplyProfile")
        error, _ = await refused(raw(b"\xff\xff\xff\xff"))
        assert error.code() in (Code.INTERNAL, Code.UNKNOWN)
        huge = channel.unary_unary("/edge_compress.api.v1.CompressionService/Plan")
        error, _ = await refused(huge(bytes(5_000_000)))
        assert error.code() is Code.RESOURCE_EXHAUSTED
    assert not (await server.stubs.profiles.ListProfiles(common_pb2.ListRequest())).profiles


async def test_of_two_clients_that_apply_at_once_each_gets_a_sound_answer(server):
    """Without an expected generation the last one stands; with one, exactly one wins."""
    both = [server.stubs.profiles.ApplyProfile(apply_profile("cam", threads=threads)) for threads in range(1, 17)]
    answers = await asyncio.gather(*both)
    generations = sorted(answer.profile.metadata.generation for answer in answers)
    assert generations == list(range(1, 17)), "each changed the spec once"
    rivals = [apply_profile("cam", threads=threads) for threads in range(20, 28)]
    for request in rivals:
        request.expected_generation = 16
    ended = await asyncio.gather(*(server.stubs.profiles.ApplyProfile(one) for one in rivals), return_exceptions=True)
    lost = [one.code() for one in ended if isinstance(one, grpc.aio.AioRpcError)]
    assert lost == [Code.ABORTED] * 7


async def test_a_profile_in_use_is_not_deleted_and_the_client_is_told_by_whom(server):
    await declare(server.stubs, "cam")

    def delete():
        with Client(server.app.address) as client:
            with pytest.raises(InUse, match="deployment/vision"):
                client.delete("DeviceProfile", "cam")
            with pytest.raises(NotFound):
                client.delete("DeviceProfile", "nobody")

    await asyncio.to_thread(delete)
    assert (await server.stubs.profiles.GetProfile(common_pb2.GetRequest(name="cam"))).metadata.name == "cam"


async def test_a_deployment_that_names_nothing_is_a_failed_precondition(server):
    deployment = message("Deployment", "vision", model="ghost", selector={"profiles": ["cam"]})
    error, violations = await refused(
        server.stubs.deployments.ApplyDeployment(deployments_pb2.ApplyDeploymentRequest(deployment=deployment))
    )
    assert error.code() is Code.FAILED_PRECONDITION
    assert set(violations) == {"spec.model", "spec.selector.profiles[0]"}


async def test_recipes_are_held_to_the_loaded_strategies(server):
    recipe = message("Recipe", "r", steps=[{"strategy": "quantize.statik"}])
    error, violations = await refused(server.stubs.compression.ApplyRecipe(compression_pb2.ApplyRecipeRequest(recipe=recipe)))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "did you mean 'quantize.static'?" in violations["spec.steps[0].strategy"]


# -- models ---------------------------------------------------------------------------------------------------------------


async def test_a_model_is_stored_only_when_its_files_are_here_and_sound(server):
    good, noise, data = b"model bytes", os.urandom(1000), b"val"
    stubs = server.stubs
    request = model(hashlib.sha256(good).hexdigest(), hashlib.sha256(data).hexdigest())
    error, violations = await refused(stubs.models.ApplyModel(request))
    assert error.code() is Code.FAILED_PRECONDITION
    assert {"spec.source", "spec.data.evaluation"} == set(violations)
    data_sha = await upload(stubs, data)
    error, _ = await refused(stubs.models.ApplyModel(model(await upload(stubs, noise), data_sha)))
    assert (error.code(), "no ONNX" in error.details()) == (Code.INVALID_ARGUMENT, True)
    error, violations = await refused(stubs.models.ApplyModel(model(await upload(stubs, good), await upload(stubs, b"NaN"))))
    assert set(violations) == {"spec.data.evaluation"}
    assert not (await stubs.models.ListModels(common_pb2.ListRequest())).models
    answer = await stubs.models.ApplyModel(request)
    assert answer.outcome == common_pb2.APPLY_OUTCOME_CREATED
    assert answer.model.status.conditions[0].status == "True"
    assert (await stubs.models.ApplyModel(request)).outcome == common_pb2.APPLY_OUTCOME_UNCHANGED


async def test_files_over_the_limit_are_refused_before_they_are_sent_or_named(server):
    header = artifacts_pb2.UploadHeader(sha256="a" * 64, size_bytes=2_000_001)
    error, _ = await refused(server.stubs.artifacts.UploadBlob(iter([artifacts_pb2.UploadBlobRequest(header=header)])))
    assert error.code() is Code.RESOURCE_EXHAUSTED
    data = await upload(server.stubs, bytes(1_000_001))
    error, _ = await refused(server.stubs.models.ApplyModel(model(await upload(server.stubs, b"model"), data)))
    assert (error.code(), "spec.data.evaluation" in error.details()) == (Code.RESOURCE_EXHAUSTED, True)


# -- blobs ----------------------------------------------------------------------------------------------------------------


async def test_a_blob_survives_a_cut_upload_and_comes_back_from_any_offset(server):
    data = os.urandom(700_000) + bytes(600_000)
    sha256 = hashlib.sha256(data).hexdigest()
    stubs = server.stubs

    def part(at, size=200_000):
        return artifacts_pb2.UploadBlobRequest(chunk=artifacts_pb2.Chunk(offset=at, data=data[at : at + size]))

    def header(at):
        return artifacts_pb2.UploadBlobRequest(
            header=artifacts_pb2.UploadHeader(sha256=sha256, size_bytes=len(data), offset_bytes=at)
        )

    call = stubs.artifacts.UploadBlob()
    await call.write(header(0))
    await call.write(part(0))
    await offset_is(stubs, sha256, 200_000)
    error, _ = await refused(stubs.artifacts.UploadBlob(iter([header(200_000)])))
    assert error.code() is Code.ABORTED, "somebody else sends it"
    call.cancel()
    state = await once_free(
        lambda: stubs.artifacts.UploadBlob(iter([header(200_000), *(part(at) for at in range(200_000, len(data), 200_000))]))
    )
    assert state.complete
    for offset in (0, 1, 524_288, 900_001, len(data)):
        request = artifacts_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset)
        chunks = [chunk async for chunk in stubs.artifacts.DownloadBlob(request)]
        assert b"".join(chunk.data for chunk in chunks) == data[offset:]


async def test_chunks_go_packed_to_those_who_can_unpack(server):
    data = b"weights " * 100_000
    sha256 = await upload(server.stubs, data)
    request = artifacts_pb2.DownloadBlobRequest(sha256=sha256, accept=[artifacts_pb2.ENCODING_ZSTD])
    chunks = [chunk async for chunk in server.stubs.artifacts.DownloadBlob(request)]
    assert {chunk.encoding for chunk in chunks} == {artifacts_pb2.ENCODING_ZSTD}
    assert b"".join(encoding.unpack(chunk.data) for chunk in chunks) == data
    assert sum(len(chunk.data) for chunk in chunks) < len(data) / 10


async def test_a_byte_that_rotted_on_the_servers_disk_is_data_loss(server, tmp_path):
    sha256 = await upload(server.stubs, b"sound bytes")
    file = tmp_path / "state" / "blobs" / sha256[:2] / sha256[2:]
    file.chmod(0o600)
    file.write_bytes(b"sound bytez")
    error, _ = await refused(server.stubs.artifacts.DownloadBlob(artifacts_pb2.DownloadBlobRequest(sha256=sha256)).read())
    assert error.code() is Code.DATA_LOSS


async def offset_is(stubs, sha256, offset):
    """Wait until the server holds so much of a blob."""
    async with asyncio.timeout(10):
        while True:
            held = await stubs.artifacts.GetBlob(artifacts_pb2.GetBlobRequest(sha256=sha256))
            if held.offset_bytes == offset:
                return
            await asyncio.sleep(0.01)


async def once_free(attempt):
    """The answer, once the server has noticed that the other sender is gone."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await attempt()
            except grpc.aio.AioRpcError as error:
                if error.code() is not Code.ABORTED:
                    raise
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("sha256", "offset", "code"),
    [
        ("x", 0, Code.INVALID_ARGUMENT),
        ("0" * 64, 0, Code.NOT_FOUND),
        (None, 99, Code.OUT_OF_RANGE),
        (None, -1, Code.OUT_OF_RANGE),
    ],
)
async def test_downloads_of_nonsense_are_refused(server, sha256, offset, code):
    sha256 = sha256 or await upload(server.stubs, b"short")
    request = artifacts_pb2.DownloadBlobRequest(sha256=sha256, offset_bytes=offset)
    error, _ = await refused(server.stubs.artifacts.DownloadBlob(request).read())
    assert error.code() is code


# -- compression ----------------------------------------------------------------------------------------------------------


async def test_a_deployment_becomes_jobs_artifacts_and_a_report(server):
    server.engine.behaviour = {"cam": yields(b"small"), "pendant": yields(b"smaller", "INFEASIBLE")}
    await declare(server.stubs, "cam", "pendant")
    async with asyncio.timeout(15):
        while True:
            jobs = (await server.stubs.compression.ListJobs(common_pb2.ListRequest())).jobs
            if len(jobs) == 2 and all(job.status.finished_at for job in jobs):
                break
            await asyncio.sleep(0.02)
    assert {job.spec.profile: job.status.state for job in jobs} == {"cam": "Succeeded", "pendant": "Infeasible"}
    artifacts = (await server.stubs.artifacts.ListArtifacts(common_pb2.ListRequest())).artifacts
    assert {artifact.spec.profile for artifact in artifacts} == {"cam", "pendant"}
    report = json.loads((await server.stubs.compression.GetReport(compression_pb2.GetReportRequest(model="vision"))).report_json)
    assert {name: entry["verdict"] for name, entry in report["profiles"].items()} == {"cam": "FEASIBLE", "pendant": "INFEASIBLE"}
    error, _ = await refused(server.stubs.compression.GetReport(compression_pb2.GetReportRequest(model="ghost")))
    assert error.code() is Code.NOT_FOUND


async def test_a_job_is_cancelled_over_the_wire(server):
    server.engine.behaviour = {"cam": waits()}
    await declare(server.stubs, "cam")
    (job,) = await jobs_when(server.stubs, "Running", 1)
    cancel = compression_pb2.CancelJobRequest(name=job.metadata.name)
    assert (await server.stubs.compression.CancelJob(cancel)).status.state == "Cancelled"
    assert (await server.stubs.compression.CancelJob(cancel)).status.state == "Cancelled", "a retry is safe"
    await asyncio.wait_for(asyncio.to_thread(server.engine.idle.wait), 5)
    error, _ = await refused(server.stubs.compression.CancelJob(compression_pb2.CancelJobRequest(name="ghost")))
    assert error.code() is Code.NOT_FOUND


async def test_a_plan_shows_changes_and_pairs_and_changes_nothing(server):
    await declare(server.stubs, "cam")
    await jobs_when(server.stubs, "Succeeded", 1)
    documents = [
        {"kind": "DeviceProfile", "metadata": {"name": "cam"}},
        {"kind": "DeviceProfile", "metadata": {"name": "hub"}, "spec": {"threads": 2}},
        {
            "kind": "Deployment",
            "metadata": {"name": "vision"},
            "spec": {"model": "vision", "selector": {"profiles": ["cam", "hub"]}},
        },
    ]
    request = compression_pb2.PlanRequest(documents_json=[json.dumps(one) for one in documents])
    plan = await server.stubs.compression.Plan(request)
    assert [wire.outcome_from_wire(change.outcome) for change in plan.changes] == ["unchanged", "created", "configured"]
    assert [(pair.profile, pair.cached) for pair in plan.pairs] == [("cam", True), ("hub", False)]
    assert plan.pairs[1].candidates[0].size_bytes == 100
    names = [one.metadata.name for one in (await server.stubs.profiles.ListProfiles(common_pb2.ListRequest())).profiles]
    assert names == ["cam"]
    assert len((await server.stubs.compression.ListJobs(common_pb2.ListRequest())).jobs) == 1


@pytest.mark.parametrize(
    ("documents", "code", "said"),
    [
        ([], Code.INVALID_ARGUMENT, "documents_json"),
        (["{"], Code.INVALID_ARGUMENT, "documents_json[0]"),
        (["[" * 100_000], Code.INVALID_ARGUMENT, "documents_json[0]"),
        (['{"kind": "DeviceProfil", "metadata": {"name": "a"}}'], Code.INVALID_ARGUMENT, "DeviceProfile"),
        (['{"kind": "DeviceProfile", "metadata": {"name": "a"}, "spec": {"memry": 1}}'], Code.INVALID_ARGUMENT, "'memory'"),
        (['{"kind": "Deployment", "metadata": {"name": "a"}, "spec": {"model": "ghost"}}'], Code.FAILED_PRECONDITION, "ghost"),
    ],
)
async def test_plans_of_nonsense_are_refused(server, documents, code, said):
    error, _ = await refused(server.stubs.compression.Plan(compression_pb2.PlanRequest(documents_json=documents)))
    assert (error.code(), said in error.details()) == (code, True), error.details()


async def test_a_plan_for_a_model_that_was_not_uploaded_needs_its_facts(server):
    sha256 = "a" * 64
    documents = [
        {"kind": "DeviceProfile", "metadata": {"name": "cam"}},
        {
            "kind": "Model",
            "metadata": {"name": "m"},
            "spec": {"source": "m.onnx", "files": [{"path": "m.onnx", "sha256": sha256}]},
        },
    ]
    request = compression_pb2.PlanRequest(documents_json=[json.dumps(one) for one in documents])
    error, _ = await refused(server.stubs.compression.Plan(request))
    assert error.code() is Code.FAILED_PRECONDITION
    request.facts_json[sha256] = json.dumps({"sha256": sha256, "bytes": 5, "opset": 18, "inputs": [], "outputs": []})
    plan = await server.stubs.compression.Plan(request)
    assert [(pair.model, pair.profile) for pair in plan.pairs] == [("m", "cam")]
    request.facts_json[sha256] = "{}"
    error, _ = await refused(server.stubs.compression.Plan(request))
    assert error.code() is Code.INVALID_ARGUMENT


async def test_plugins_are_listed_with_their_parameters(server):
    plugins = (await server.stubs.compression.ListPlugins(compression_pb2.ListPluginsRequest())).plugins
    offers = {offer.name: offer for plugin in plugins for offer in plugin.offers}
    assert "bits" in {parameter.name for parameter in offers["quantize.static"].parameters}
