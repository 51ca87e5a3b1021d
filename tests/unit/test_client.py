"""The client against a real server process: what it promises, also when the server is killed under it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_compress import Client
from edge_compress.api.v1 import artifacts_pb2, artifacts_pb2_grpc
from edge_compress.calls import Calls
from edge_compress.domain.resource import Change
from edge_compress.domain.spec import DeviceProfile, DeviceProfileSpec, Metadata
from edge_compress.errors import (
    Conflict,
    Corrupt,
    InUse,
    InvalidModel,
    InvalidSpec,
    NotFound,
    StartupError,
    Unavailable,
)
from tests.unit.cli.server_process import ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def profile(name: str, labels: dict[str, str] | None = None, **spec: Any) -> DeviceProfile:
    return DeviceProfile(Metadata(name, labels or {}), DeviceProfileSpec(**spec))


def write_model(folder: Path, *, external: str = "", size: int = 64) -> Path:
    """A linear model of ``size`` outputs whose weights differ from test to test, in ``external`` where that is given."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.random.default_rng(abs(hash(str(folder)))).normal(size=(8, size)).astype(np.float32)
    tensor = numpy_helper.from_array(weights, "w")
    if external:
        (folder / external).parent.mkdir(parents=True, exist_ok=True)
        (folder / external).write_bytes(weights.tobytes())
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=external)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", size])]
    graph = helper.make_graph([node], "g", info, out, [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    np.savez(folder / "calib.npz", x=np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32))
    return folder / "m.onnx"


def model_document(name: str) -> dict[str, Any]:
    return {"kind": "Model", "metadata": {"name": name}, "spec": {"source": "m.onnx", "data": {"calibration": "calib.npz"}}}


def deployment_document(name: str, model: str, profiles: list[str]) -> dict[str, Any]:
    spec = {"model": model, "selector": {"profiles": profiles}}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_apply_creates_then_changes_nothing_then_changes(client: Client) -> None:
    declared = profile("apply-cam", {"site": "a"}, memory=2**26)
    outcomes = [client.apply(item)[0].outcome for item in (declared, declared, profile("apply-cam", {"site": "b"}))]
    assert outcomes == ["created", "unchanged", "configured"]
    stored = client.get("DeviceProfile", "apply-cam")
    assert stored.spec == DeviceProfileSpec()
    assert (stored.metadata.labels, stored.metadata.generation > 0) == ({"site": "b"}, True)


def test_a_dry_run_changes_nothing(client: Client) -> None:
    assert client.apply(profile("dry"), validate_only=True)[0].outcome == "created"
    with pytest.raises(NotFound, match="'dry'"):
        client.get("DeviceProfile", "dry")


def test_list_goes_through_all_pages_and_selects_by_label(client: Client) -> None:
    client.apply([profile(f"page-{index}", {"row": str(index % 2)}) for index in range(5)])
    names = [item.name for item in client.list("DeviceProfile", page_size=2) if item.name.startswith("page-")]
    assert names == [f"page-{index}" for index in range(5)]
    assert [item.name for item in client.list("DeviceProfile", labels={"row": "1"}, page_size=1)] == ["page-1", "page-3"]


def test_a_model_is_uploaded_with_its_files_and_comes_back(client: Client, tmp_path: Path) -> None:
    source = write_model(tmp_path)
    seen: list[tuple[str, int, int]] = []
    applied = client.apply(model_document("up"), root=tmp_path, progress=lambda *told: seen.append(told))[0]
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert applied.resource.spec.file("m.onnx").sha256 == digest
    assert {(path, total) for path, done, total in seen if done == total} == {
        ("m.onnx", source.stat().st_size),
        ("calib.npz", (tmp_path / "calib.npz").stat().st_size),
    }
    client.download(digest, tmp_path / "back/m.onnx")
    assert (tmp_path / "back/m.onnx").read_bytes() == source.read_bytes()
    assert [item.name for item in (tmp_path / "back").iterdir()] == ["m.onnx"]
    seen.clear()
    assert client.apply(model_document("up"), root=tmp_path, progress=lambda *told: seen.append(told))[0].outcome == "unchanged"
    assert seen == []


def test_an_upload_goes_on_where_it_broke_off(client: Client, server: ServerProcess, tmp_path: Path) -> None:
    source = write_model(tmp_path, size=50_000)
    data = source.read_bytes()
    digest, half = hashlib.sha256(data).hexdigest(), 512 * 1024

    def parts() -> Iterator[artifacts_pb2.UploadBlobRequest]:
        yield artifacts_pb2.UploadBlobRequest(header=artifacts_pb2.UploadHeader(sha256=digest, size_bytes=len(data)))
        yield artifacts_pb2.UploadBlobRequest(chunk=artifacts_pb2.Chunk(offset=0, data=data[:half]))

    with grpc.insecure_channel(server.address) as channel:
        artifacts_pb2_grpc.ArtifactServiceStub(channel).UploadBlob(parts(), timeout=30)
    seen: list[int] = []
    client.apply(model_document("resumed"), root=tmp_path, progress=lambda path, done, total: seen.append(done))
    assert seen[0] == half
    assert max(seen) == len(data)


def test_external_tensors_travel_inside_the_model(client: Client, tmp_path: Path) -> None:
    source = write_model(tmp_path, external="weights.bin")
    applied = client.apply(model_document("external"), root=tmp_path)[0]
    ref = applied.resource.spec.file("m.onnx")
    client.download(ref.sha256, tmp_path / "whole.onnx")
    whole = onnx.load(tmp_path / "whole.onnx", load_external_data=False)
    assert whole.graph.initializer[0].data_location == TensorProto.DEFAULT
    assert whole.graph.initializer[0].raw_data == (tmp_path / "weights.bin").read_bytes()
    assert ref.bytes == (tmp_path / "whole.onnx").stat().st_size > source.stat().st_size


def test_external_tensors_outside_the_folder_are_refused(client: Client, tmp_path: Path) -> None:
    write_model(tmp_path / "inside", external="../secret.bin")
    with pytest.raises(InvalidModel, match=r"\.\./secret\.bin"):
        client.apply(model_document("escape"), root=tmp_path / "inside")
    with pytest.raises(NotFound):
        client.get("Model", "escape")


def test_a_missing_file_is_named_with_its_field(client: Client, tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec) as caught:
        client.apply(model_document("missing"), root=tmp_path)
    assert caught.value.violations[0].field == "spec.source"


def test_a_download_does_not_trust_what_lay_there(client: Client, tmp_path: Path) -> None:
    write_model(tmp_path, size=5000)
    ref = client.apply(model_document("partial"), root=tmp_path)[0].resource.spec.file("m.onnx")
    target = tmp_path / "out/m.onnx"
    target.parent.mkdir()
    partial = target.with_name(f".m.onnx.{ref.sha256[:16]}.partial")
    partial.write_bytes(b"wrong" * 1000)
    with pytest.raises(Corrupt):
        client.download(ref.sha256, target)
    assert not target.exists()
    partial.write_bytes((tmp_path / "m.onnx").read_bytes()[:7777])
    client.download(ref.sha256, target)
    assert target.read_bytes() == (tmp_path / "m.onnx").read_bytes()
    partial.write_bytes(b"x" * (ref.bytes + 1))
    target.unlink()
    client.download(ref.sha256, target)
    assert target.exists()


def test_errors_of_the_server_come_back_as_themselves(client: Client, tmp_path: Path) -> None:
    client.apply(profile("used"))
    write_model(tmp_path)
    client.apply([model_document("used"), deployment_document("used", "used", ["used"])], root=tmp_path)
    with pytest.raises(InUse) as in_use:
        client.delete("DeviceProfile", "used")
    assert in_use.value.users == ("deployment/used",)
    with pytest.raises(Conflict):
        client.apply(profile("used", threads=2), expected_generation=17)
    recipe = {"kind": "Recipe", "metadata": {"name": "r"}, "spec": {"steps": [{"strategy": "quantize.statc"}]}}
    with pytest.raises(InvalidSpec, match=r"quantize\.static") as wrong:
        client.apply(recipe)
    assert wrong.value.violations[0].field == "spec.steps[0].strategy"
    with pytest.raises(NotFound):
        client.download("0" * 64, tmp_path / "nothing")
    with pytest.raises(InvalidSpec, match="did you mean 'Device'"):
        client.get("Devic", "x")
    client.delete("Deployment", "used")
    client.delete("DeviceProfile", "used")
    with pytest.raises(NotFound):
        client.delete("DeviceProfile", "used")


def test_a_plan_tells_changes_and_jobs_and_changes_nothing(client: Client, tmp_path: Path) -> None:
    from edge_compress.graph.facts import facts_of

    write_model(tmp_path)
    documents = [
        deployment_document("planned", "planned", ["planned"]),
        model_document("planned"),
        {"kind": "DeviceProfile", "metadata": {"name": "planned"}},
    ]
    preview = client.plan(documents, root=tmp_path, facts_of=lambda path: facts_of(path).to_json())
    assert {(change.kind, change.outcome) for change in preview.changes} == {
        ("DeviceProfile", "created"),
        ("Model", "created"),
        ("Deployment", "created"),
    }
    pair = next(item for item in preview.pairs if item.model == "planned")
    assert (pair.profile, pair.deployment, pair.cached) == ("planned", "planned", False)
    assert any(not candidate.refused and candidate.bytes for candidate in pair.candidates)
    assert pair.job.startswith("planned-planned-")
    with pytest.raises(NotFound):
        client.get("Model", "planned")


def test_a_job_can_be_cancelled_and_waited_for(client: Client, tmp_path: Path) -> None:
    write_model(tmp_path)
    documents = [profile("slow"), model_document("slow"), deployment_document("slow", "slow", ["slow"])]
    client.apply(documents, root=tmp_path)
    name = next(pair.job for pair in client.plan(documents, root=tmp_path).pairs if pair.model == "slow")
    for change in client.watch("Job", name):
        if change.resource.name == name:
            break
    client.cancel_job(name)
    states: list[str] = []
    ended = client.wait_for_jobs([name], timeout=120, progress=lambda job: states.append(job.status.state))
    assert [job.name for job in ended] == [name]
    assert ended[0].status.state in ("Cancelled", "Succeeded", "Infeasible")
    assert states[-1] == ended[0].status.state
    assert name in [job.name for job in client.jobs(labels={"model": "slow"})]


def test_waiting_has_an_end(client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(Unavailable, match="no-such-job"):
        client.wait_for_jobs(["no-such-job"], timeout=0.5)
    assert time.monotonic() - began < 20
    assert client.wait_for_jobs([]) == ()


def test_plugins_and_reports_are_there(client: Client) -> None:
    assert "quantize.static" in [offer.name for plugin in client.plugins() for offer in plugin.offers]
    with pytest.raises(NotFound):
        client.report("no-such-model")


def collect(client: Client, changes: list[Change], *, until: str) -> threading.Thread:
    def read() -> None:
        for change in client.watch("DeviceProfile"):
            changes.append(change)
            if change.resource.name == until:
                return

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_watches_and_calls_survive_a_killed_server(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path / "server")
    server.start()
    try:
        with Client(server.address, timeout=90) as client:
            client.apply([profile("kept"), profile("changed"), profile("dropped")])
            changes: list[Change] = []
            reader = collect(client, changes, until="last")
            wait_until(lambda: len(changes) == 3)
            server.kill()
            answer: list[str] = []
            caller = threading.Thread(target=lambda: answer.append(client.get("DeviceProfile", "kept").name), daemon=True)
            caller.start()
            server.start()
            caller.join(60)
            assert answer == ["kept"]
            client.apply(profile("changed", threads=2))
            client.delete("DeviceProfile", "dropped")
            client.apply(profile("last"))
            reader.join(60)
            assert not reader.is_alive()
    finally:
        server.stop()
    told = [(change.type, change.resource.name) for change in changes]
    assert sorted(told[:3]) == [("ADDED", "changed"), ("ADDED", "dropped"), ("ADDED", "kept")]
    assert list(dict.fromkeys(told[3:])) == [("MODIFIED", "changed"), ("DELETED", "dropped"), ("ADDED", "last")]
    revisions = [change.resource.metadata.revision for change in changes]
    assert len(set(revisions)) == len(revisions), "each change is told once"


def test_without_a_server_the_answer_comes_soon_and_says_what_to_do() -> None:
    began = time.monotonic()
    with Client("127.0.0.1:1") as client, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1; start one"):
        client.plugins()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("address", ["10.1.2.3:50551", "example.org:50551", "0.0.0.0:1"])
def test_other_machines_need_a_decision(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StartupError, match="--insecure"):
        Client(address)
    Client(address, insecure=True).close()
    assert "neither encrypted nor authenticated" in caplog.text


@pytest.mark.parametrize("address", ["localhost", ":1", "127.0.0.1:x", "127.0.0.1:0", "127.0.0.1:70000"])
def test_a_bad_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidSpec, match="--server"):
        Client(address)


def test_the_client_never_imports_what_a_device_does_not_have() -> None:
    heavy = ("torch", "onnx", "pluggy", "onnxruntime")
    code = f"import sys, edge_compress; edge_compress.Client; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_a_channel_that_does_not_close_keeps_nobody() -> None:
    """grpc's own close waits for ever for some calls that Ctrl-C broke off."""
    never = threading.Event()

    class Stuck:
        def close(self) -> None:
            never.wait()

    calls = Calls("127.0.0.1:1", 1.0)
    calls.channel.close()
    calls.channel = Stuck()
    closer = threading.Thread(target=calls.close, daemon=True)
    closer.start()
    closer.join(30)
    assert not closer.is_alive()
    never.set()
