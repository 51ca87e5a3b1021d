"""kill -9 of the server in the middle of its work: nothing is lost, nothing finished is done again, agents come back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_compress import Client

Wait = Callable[..., Any]


def children_of(pid: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


def test_in_a_compression_finished_steps_stay_and_the_rest_goes_on(stand: Any, fleet: Path, wait_for: Wait) -> None:
    stand.start_server()
    stand.cli("apply", "-f", str(fleet))
    wait_for("three steps are finished", lambda: len(stand.steps()) >= 3)
    workers = children_of(stand.server.pid)
    stand.kill_server()
    before = stand.steps()
    wait_for("the child processes die with the server", lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 5)

    stand.start_server()
    wait_for("all jobs end", stand.jobs_done, 180)
    after = stand.steps()
    assert {key: after[key] for key in before} == before, "what was finished was not stored again"
    assert stand.steps_counted() == len(after) - len(before), "and not computed again"
    verdicts = {item["spec"]["profile"]: item["status"]["state"] for item in stand.get("Job")}
    assert verdicts == {"hub": "Succeeded", "cam": "Succeeded", "meter": "Succeeded", "pendant": "Infeasible"}


def test_in_an_upload_what_arrived_stays_and_the_upload_goes_on(stand: Any, tmp_path: Path, wait_for: Wait) -> None:
    import hashlib
    import threading

    size = 64 * 2**20
    big = tmp_path / "big.bin"
    block = bytes(range(256)) * 4096
    big.write_bytes(b"".join(block[index % 251 :] + block[: index % 251] for index in range(size // len(block))))
    digest = hashlib.sha256(big.read_bytes()).hexdigest()
    stand.start_server()
    partial = stand.state / "blobs"

    def held() -> int:
        return max((path.stat().st_size for path in partial.rglob("*") if path.is_file()), default=0)

    errors: list[BaseException] = []
    killed = threading.Event()

    def kill_in_the_middle() -> None:
        try:
            wait_for("a tenth has arrived", lambda: held() > size // 10, 60)
            stand.kill_server()
        except BaseException as error:
            errors.append(error)
        finally:
            killed.set()

    killer = threading.Thread(target=kill_in_the_middle)
    killer.start()
    sent: list[int] = []
    with Client(stand.address, timeout=60) as client:
        starter = threading.Thread(target=lambda: (killed.wait(), stand.start_server()))
        starter.start()
        assert client.upload(big, progress=lambda done, total: sent.append(done)) == digest
        starter.join()
    killer.join()
    assert not errors
    with Client(stand.address) as client:
        client.download(digest, tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == big.read_bytes()


def test_in_a_push_agents_come_back_by_themselves_and_commit(stand: Any, small_fleet: Path, wait_for: Wait) -> None:
    stand.start_server()
    stand.cli("apply", "-f", str(small_fleet))
    wait_for("all jobs end", stand.jobs_done, 180)
    agents = [stand.start_agent("cam", f"cam-{index}") for index in range(2)]
    wait_for("an agent is being served", lambda: stand.get("Device"), 30)
    stand.kill_server()
    assert all(agent.poll() is None for agent in agents), "agents outlive their server"
    stand.start_server()

    def committed() -> bool:
        devices = stand.get("Device")
        return len(devices) == 2 and all(item["status"].get("state") == "Committed" for item in devices)

    wait_for("both agents have committed", committed, 90)
    wanted = next(item["spec"]["sha256"] for item in stand.get("Artifact") if item["spec"]["profile"] == "cam")
    versions = {item["status"]["version"] for item in stand.get("Device")}
    assert versions == {wanted[:12]}
    wait_for("their inferences are counted", lambda: "edge_compress_inferences_total{" in stand.metrics(), 30)


def test_after_everything_a_second_apply_changes_nothing_and_computes_nothing(
    stand: Any, small_fleet: Path, wait_for: Wait
) -> None:
    stand.start_server()
    stand.cli("apply", "-f", str(small_fleet))
    wait_for("all jobs end", stand.jobs_done, 180)
    names = {item["metadata"]["name"] for item in stand.get("Job")}
    steps = stand.steps()
    again = stand.cli("apply", "-f", str(small_fleet)).stdout
    assert "created" not in again
    assert "configured" not in again
    assert again.count("unchanged") == 4
    stand.kill_server()
    stand.start_server()
    assert {item["metadata"]["name"] for item in stand.get("Job")} == names
    assert stand.jobs_done()
    assert stand.steps() == steps
