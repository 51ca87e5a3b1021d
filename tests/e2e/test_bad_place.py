"""Servers and agents that cannot start where they are told to: taken ports, taken folders, unsafe addresses, a full disk.

Each says so in one line and ends with 1 (2 for a flag that makes no sense); whoever has the place already goes on undisturbed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_compress import Client
from tests.disks import fill, small_disk
from tests.e2e.tiny import half_written, inventory, refused

Wait = Callable[..., Any]


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_in_use(stand: Any, taken_port: int) -> None:
    taken, free = f"127.0.0.1:{taken_port}", "127.0.0.1:0"
    for flag, ports in {"--listen": (taken, free), "--metrics-listen": (free, taken)}.items():
        line = refused(stand, "server", "--listen", ports[0], "--metrics-listen", ports[1], "--state", str(stand.state))
        assert line.startswith(f"{flag}: ")
        assert taken in line
        assert "in use" in line
    assert not stand.state.exists(), "nothing was made"
    stand.start_server()
    assert inventory(stand) == set(), "and elsewhere it starts on the same folder"


def test_a_second_server_on_the_same_folder(served: Any) -> None:
    before = inventory(served)
    line = refused(served, "server", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--state", str(served.state))
    assert str(served.state) in line
    assert f"process {served.server.pid}" in line
    assert "--state" in line
    assert inventory(served) == before


def test_a_folder_that_cannot_be(stand: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = str(tmp_path / "file" / "state")
    assert place in refused(stand, "server", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--state", place)
    assert place in refused(stand, "agent", "--profile", "cam", "--state", place)


@pytest.mark.parametrize("flag", ["--listen", "--metrics-listen"])
def test_an_address_that_others_can_reach(flag: str, stand: Any) -> None:
    other = "--metrics-listen" if flag == "--listen" else "--listen"
    line = refused(stand, "server", flag, f"0.0.0.0:{stand.port}", other, "127.0.0.1:0", "--state", str(stand.state))
    assert line.startswith(f"{flag}: 0.0.0.0:{stand.port} can be reached from other machines")
    assert "--insecure" in line
    assert not stand.state.exists()


def test_an_address_that_others_can_reach_is_served_with_a_warning_when_asked_for(stand: Any, wait_for: Wait) -> None:
    listen = ["--listen", f"0.0.0.0:{stand.port}", "--metrics-listen", "", "--state", str(stand.state)]
    stand.server = stand.spawn("server", *listen, "--insecure", log="server")
    wait_for("it serves", lambda: "serving" in stand.log("server"))
    assert inventory(stand) == set()
    warnings = [line for line in stand.log("server").splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "without encryption or authentication" in warnings[0]


def test_clients_and_agents_refuse_other_machines_too(stand: Any, tmp_path: Path) -> None:
    far = "192.0.2.1:50551"
    for verb in (["get", "profiles"], ["agent", "--profile", "cam", "--state", str(tmp_path / "agent")]):
        line = refused(stand, *verb, "--server", far)
        assert far in line
        assert "--insecure" in line
    assert not (tmp_path / "agent").exists()


def test_no_server(stand: Any) -> None:
    assert f"no server answers at {stand.address}" in refused(stand, "get", "profiles")


FLAGS = {
    "--listen": ["server", "--listen", "nonsense"],
    "--workers": ["server", "--workers", "0"],
    "--max-model": ["server", "--max-model", "lots"],
    "--budget": ["compress", "-f", "fleet.yaml", "--out", "out", "--budget", "-5m"],
    "--timeout": ["get", "profiles", "--timeout", "soon"],
    "--output": ["get", "profiles", "-o", "tabel"],
    "--selector": ["get", "profiles", "-l", "nonsense"],
    "KIND": ["get", "profils"],
    "--heartbeat": ["agent", "--profile", "cam", "--heartbeat", "0s"],
}


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_that_make_no_sense_are_usage_errors(flag: str, stand: Any) -> None:
    assert refused(stand, *FLAGS[flag], code=2).startswith(f"{flag}: ")


def test_a_variable_that_makes_no_sense_is_named(stand: Any) -> None:
    stand.environment["EDGE_COMPRESS_MAX_MODEL"] = "lots"
    assert refused(stand, "server").startswith("EDGE_COMPRESS_MAX_MODEL: read 'lots'")


def test_an_agent_whose_profile_nobody_declared(served: Any, tmp_path: Path) -> None:
    line = refused(served, "agent", "--profile", "nobody", "--name", "lost", "--server", served.address, "--state", str(tmp_path))
    assert "hello.profile: read 'nobody', expected an existing DeviceProfile" in line
    assert ("Device", "lost") not in {(kind, name) for kind, name, _ in inventory(served)}


def test_two_agents_with_one_folder_and_a_profile_that_a_device_needs(served: Any, tiny: Path, wait_for: Wait) -> None:
    with Client(served.address) as client:
        client.apply({"kind": "DeviceProfile", "metadata": {"name": "cam"}})
        first = served.start_agent("cam", "cam-1")

        def connected() -> bool:
            return any(item.name == "cam-1" and item.status.connected for item in client.list("Device"))

        wait_for("the first agent is connected", connected)
        folder = str(served.folder / "cam-1")
        line = refused(served, "agent", "--server", served.address, "--profile", "cam", "--name", "cam-2", "--state", folder)
        assert f"another agent uses the state folder {folder}" in line
        assert first.poll() is None
        assert connected()
        assert {item.name for item in client.list("Device")} == {"cam-1"}
        assert "in use by device/cam-1" in refused(served, "delete", "profile", "cam")
        first.terminate()
        assert first.wait(20) == 0


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as disk:
        yield disk


def test_a_full_disk(make_stand: Callable[..., Any], small_disk: Path, tiny: Path, wait_for: Wait) -> None:
    """Nothing of what did not fit is kept, the server goes on, and once there is room everything works."""
    stand = make_stand()
    (stand.folder / "state").symlink_to(small_disk)
    stand.start_server()
    ballast = np.random.default_rng(3).integers(0, 255, 6 * 2**20, dtype=np.uint8)
    data = dict(np.load(tiny.parent / "calib.npz"))
    np.savez(tiny.parent / "calib.npz", ballast=ballast, **data)
    filler = fill(small_disk, leave=2 * 2**20)
    before = inventory(stand)

    line = refused(stand, "apply", "-f", str(tiny))
    assert line.startswith("spec.data.calibration: calib.npz: ")
    assert "no room left on the disk" in line
    assert inventory(stand) == before
    assert [path for path in half_written(stand.state) if path.parent.name != "partial"] == []

    fill(small_disk, leave=0)
    line = refused(stand, "apply", "-f", str(profile_in(tiny.parent)))
    assert "no room left on the disk" in line
    assert inventory(stand) == before
    filler.unlink()
    (small_disk / "rest").unlink()
    stand.cli("apply", "-f", str(tiny), "--wait")
    assert {item["status"]["state"] for item in stand.get("Job")} == {"Succeeded"}
    assert half_written(stand.state) == []


def test_a_disk_that_fills_while_a_job_runs(make_stand: Callable[..., Any], small_disk: Path, tiny: Path, wait_for: Wait) -> None:
    """The job waits for room; a full disk is no verdict about a model."""
    stand = make_stand()
    (stand.folder / "state").symlink_to(small_disk)
    enlarge(tiny.parent / "digits.onnx", 512)
    tiny.write_text(tiny.read_text().replace("storage: 1Mi", "storage: 4Mi"))
    stand.start_server()
    filler = fill(small_disk, leave=2 * 2**20)
    stand.cli("apply", "-f", str(tiny))
    wait_for("the server says that there is no room", lambda: "no room left" in stand.log("server"))
    assert {item["status"]["state"] for item in stand.get("Job")} <= {"Queued", "Running"}
    filler.unlink()
    wait_for("the job ends", stand.jobs_done)
    assert {item["status"]["state"] for item in stand.get("Job")} == {"Succeeded"}


def test_a_full_disk_under_a_one_shot_run(stand: Any, small_disk: Path, tiny: Path) -> None:
    """It stops in one line and, given room, goes on."""
    out = small_disk / "out"
    filler = fill(small_disk, leave=200 * 2**10)
    line = refused(stand, "compress", "-f", str(tiny), "--out", str(out))
    assert "no room left on the disk" in line
    assert not list(out.glob("digits/*/model.*"))
    filler.unlink()
    stand.cli("compress", "-f", str(tiny), "--out", str(out))
    assert len(list(out.glob("digits/cam/*"))) == 2
    assert half_written(out / ".cache") == []


def enlarge(path: Path, kibibytes: int) -> None:
    """Give a model a weight that nothing needs but that is computed with."""
    model = onnx.load(path)
    weight = np.random.default_rng(5).standard_normal((10, kibibytes * 256 // 10)).astype(np.float32) * 1e-6
    back = np.zeros((weight.shape[1], 10), np.float32)
    model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "wide"), onnx.numpy_helper.from_array(back, "back")])
    model.graph.node[-1].output[0] = "narrow"
    model.graph.node.append(onnx.helper.make_node("MatMul", ["narrow", "wide"], ["more"]))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["more", "back"], ["none"]))
    model.graph.node.append(onnx.helper.make_node("Add", ["narrow", "none"], ["scores"]))
    path.write_bytes(model.SerializeToString())


def profile_in(folder: Path) -> Path:
    """A declaration that is too large for what is left of any page."""
    labels = ", ".join(f"label-{index}: {'x' * 60}" for index in range(2000))
    (folder / "wide.yaml").write_text(f"kind: DeviceProfile\nmetadata: {{name: wide, labels: {{{labels}}}}}\n")
    return folder / "wide.yaml"
