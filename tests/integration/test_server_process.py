"""Real server processes: started by the command, killed, stopped, crowded out, and never heavy."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from edge_compress.api.v1 import artifacts_pb2, artifacts_pb2_grpc, common_pb2, profiles_pb2_grpc
from edge_compress.client import Client
from edge_compress.domain.spec import parse_resource

START_SECONDS = 30


class Server:
    """An ``edge-compress server`` process on free ports."""

    def __init__(self, state, *options):
        command = [sys.executable, "-m", "edge_compress", "server", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, "--state", str(state), "--log-format", "json", *options], stderr=subprocess.PIPE, text=True
        )
        self.lines = []
        self.address = self._wait_until_it_serves()
        threading.Thread(target=self._drain, daemon=True).start()

    def _wait_until_it_serves(self):
        deadline = time.monotonic() + START_SECONDS
        for line in self.process.stderr:
            self.lines.append(line)
            assert time.monotonic() < deadline, "it took too long to start"
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if entry["event"] == "serving":
                    return entry["address"]
        raise AssertionError(f"the server ended: {''.join(self.lines)}")

    def _drain(self):
        self.lines.extend(self.process.stderr)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds=8):
        self.process.terminate()
        return self.process.wait(seconds)


@pytest.fixture
def start(tmp_path):
    """Starts servers, by default all on one state folder; what still runs at the end is killed."""
    started = []

    def start_one(state=tmp_path / "state", *options):
        started.append(Server(state, *options))
        return started[-1]

    yield start_one
    for server in started:
        server.kill()
        server.process.stderr.close()


def refused(*arguments, seconds=START_SECONDS):
    """What a server that must not start writes; its exit code is 1."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_compress", "server", *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def profile(name="cam", **body):
    return parse_resource({"kind": "DeviceProfile", "metadata": {"name": name}, "spec": body})


def test_sigterm_ends_it_soon_and_streams_are_told_to_come_back(start):
    server = start()
    with grpc.insecure_channel(server.address) as channel:
        watch = profiles_pb2_grpc.ProfileServiceStub(channel).WatchProfiles(common_pb2.WatchRequest())
        watch.initial_metadata()
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as caught:
            next(watch)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.process.wait(8) == 0
    assert time.monotonic() - began < 5


def test_what_was_applied_is_there_after_kill_9(start):
    server = start()
    with Client(server.address) as client:
        client.apply(profile(threads=2))
    server.kill()
    with Client(start().address) as client:
        assert client.get("DeviceProfile", "cam").spec.threads == 2


def test_an_upload_goes_on_after_kill_9(start):
    data = os.urandom(9_000_000)
    sha256 = hashlib.sha256(data).hexdigest()
    server = start()
    arrived = threading.Event()

    def parts(offset, stop_at):
        yield artifacts_pb2.UploadBlobRequest(
            header=artifacts_pb2.UploadHeader(sha256=sha256, size_bytes=len(data), offset_bytes=offset)
        )
        for at in range(offset, stop_at, 500_000):
            chunk = artifacts_pb2.Chunk(offset=at, data=data[at : min(at + 500_000, stop_at)])
            yield artifacts_pb2.UploadBlobRequest(chunk=chunk)
        if stop_at < len(data):
            arrived.wait(30)

    with grpc.insecure_channel(server.address) as channel:
        stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)
        cut = stub.UploadBlob.future(parts(0, 6_000_000))
        deadline = time.monotonic() + 20
        while stub.GetBlob(artifacts_pb2.GetBlobRequest(sha256=sha256)).offset_bytes < 6_000_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.kill()
        arrived.set()
        assert isinstance(cut.exception(timeout=20), grpc.RpcError)
    with grpc.insecure_channel(start().address) as channel:
        stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)
        held = stub.GetBlob(artifacts_pb2.GetBlobRequest(sha256=sha256))
        assert (held.complete, held.offset_bytes) == (False, 6_000_000), "nothing that arrived was lost"
        assert stub.UploadBlob(parts(held.offset_bytes, len(data))).complete
        chunks = stub.DownloadBlob(artifacts_pb2.DownloadBlobRequest(sha256=sha256))
        assert b"".join(chunk.data for chunk in chunks) == data


def test_a_second_server_on_one_state_folder_is_refused_in_one_line(start, tmp_path):
    server = start()
    said = refused("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--state", str(tmp_path / "state"))
    assert len(said.strip().splitlines()) == 1
    assert str(tmp_path / "state") in said
    assert str(server.process.pid) in said
    with Client(server.address) as client:
        assert client.apply(profile())[0].outcome == "created", "the first one is not disturbed"


def test_a_port_in_use_is_one_line_and_leaves_no_state(start, tmp_path):
    server = start()
    said = refused("--listen", server.address, "--state", str(tmp_path / "other"))
    assert len(said.strip().splitlines()) == 1
    assert server.address in said
    assert not (tmp_path / "other").exists()


def test_an_address_others_can_reach_is_refused_in_one_line(tmp_path):
    said = refused("--listen", "0.0.0.0:0", "--state", str(tmp_path / "state"))
    assert len(said.strip().splitlines()) == 1
    assert "--insecure" in said


def test_a_serving_process_has_no_model_library_in_it(start):
    server = start()
    with Client(server.address) as client:
        assert client.plugins()
    mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
    heavy = [name for name in ("libtorch", "onnx_cpp2py", "onnxruntime_pybind") if name in mapped]
    assert heavy == []


def test_two_processes_that_apply_at_once_both_succeed_and_one_spec_stands(start, tmp_path):
    server = start()
    fleets = []
    for threads in (3, 5):
        documents = [
            f"{{kind: DeviceProfile, metadata: {{name: p{number}}}, spec: {{threads: {threads}}}}}" for number in range(8)
        ]
        fleets.append(tmp_path / f"fleet{threads}.yaml")
        fleets[-1].write_text("\n---\n".join(documents))
    command = [sys.executable, "-m", "edge_compress", "apply", "--server", server.address, "-f"]
    rivals = [
        subprocess.Popen([*command, str(fleet)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for fleet in fleets
    ]
    for rival in rivals:
        said, complaints = rival.communicate(timeout=60)
        assert rival.returncode == 0, complaints
        assert said.count("profile/") == 8
    with Client(server.address) as client:
        stored = list(client.list("DeviceProfile"))
    assert len(stored) == 8
    assert {one.spec.threads for one in stored} <= {3, 5}
    assert all(one.metadata.generation in (1, 2) for one in stored)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with 6 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_keeps_what_arrived_and_the_upload_goes_on_with_more_room(start, small_disk):
    data = os.urandom(8_000_000)
    sha256 = hashlib.sha256(data).hexdigest()
    server = start(small_disk / "state")

    def parts(offset):
        yield artifacts_pb2.UploadBlobRequest(
            header=artifacts_pb2.UploadHeader(sha256=sha256, size_bytes=len(data), offset_bytes=offset)
        )
        for at in range(offset, len(data), 250_000):
            yield artifacts_pb2.UploadBlobRequest(chunk=artifacts_pb2.Chunk(offset=at, data=data[at : at + 250_000]))

    with grpc.insecure_channel(server.address) as channel:
        stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.UploadBlob(parts(0))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        held = stub.GetBlob(artifacts_pb2.GetBlobRequest(sha256=sha256)).offset_bytes
        assert 0 < held < len(data)
        with Client(server.address) as client:
            assert list(client.list("DeviceProfile")) == [], "the server still answers"
        subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
        assert stub.UploadBlob(parts(held)).complete
    assert server.terminate() == 0
