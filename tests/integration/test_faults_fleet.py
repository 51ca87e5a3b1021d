"""What may go wrong between a server and its devices, done to real processes: kills, cuts, silence, bad models, old backups.

Whatever happens, nothing is lost, devices go on serving, and rollouts end as a person would expect.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_compress.encoding import CHUNK_BYTES, packed_bytes
from tests.integration.quick_fleet import SECOND_CHUNK, QuickFleet, quick_fleet, until, version

NAMES = ("cam-1", "cam-2", "cam-3")
CANARY = {"steps": ["30%", "100%"], "min_executed": 1, "soak": "1h"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[QuickFleet]:
    with quick_fleet(tmp_path) as made:
        yield made


def settle(fleet: QuickFleet, *names: str) -> None:
    """Devices that all run the first version."""
    for name in names:
        fleet.start_agent(name)
    fleet.deploy("first")
    fleet.comes_to("vision-1", "Completed")
    fleet.all_run("first")


def soaking(fleet: QuickFleet) -> str:
    """Deploy the second version; the name of its canary, once that runs it."""
    fleet.deploy("second", **CANARY)
    until(lambda: tally(fleet, "vision-2") == {"Committed": 1, "Waiting": 2}, "a canary soaks")
    (canary,) = [name for name in NAMES if fleet.runs(name, "second")]
    return canary


def tally(fleet: QuickFleet, rollout: str) -> dict[str, int]:
    status = fleet.rollout(rollout)
    return {} if status is None else dict(status.devices)


def restart(fleet: QuickFleet) -> None:
    """kill -9 of the server, and all agents back on the next one."""
    fleet.end_server()
    fleet.start_server()
    until(lambda: fleet.live() == len(fleet.agents), "all agents are back")


def test_kill_9_of_the_server_before_anything_was_offered(fleet: QuickFleet) -> None:
    fleet.deploy("first")
    restart(fleet)
    until(lambda: fleet.rollout("vision-1"), "a rollout without devices")
    restart(fleet)
    for name in NAMES:
        fleet.start_agent(name)
    fleet.comes_to("vision-1", "Completed")
    fleet.all_run("first")


def test_kill_9_of_the_server_while_devices_fetch(fleet: QuickFleet) -> None:
    settle(fleet, *NAMES)
    for name in NAMES:
        fleet.links[name].hold_after(SECOND_CHUNK)
    fleet.deploy("large")
    until(lambda: all(fleet.held(name) == CHUNK_BYTES for name in NAMES), "each has one chunk")
    fleet.end_server()
    fleet.start_server()
    for link in fleet.links.values():
        link.flow()
    fleet.comes_to("vision-2", "Completed")
    fleet.all_run("large")
    assert fleet.sent("resumed") > 3 * CHUNK_BYTES
    assert fleet.sent("full") < CHUNK_BYTES, "golden vectors: no model was fetched from its beginning again"


def test_kill_9_of_the_server_while_a_canary_soaks_and_while_it_is_paused(fleet: QuickFleet) -> None:
    settle(fleet, *NAMES)
    canary = soaking(fleet)
    restart(fleet)
    until(lambda: tally(fleet, "vision-2") == {"Committed": 1, "Waiting": 2}, "the canary still soaks")
    assert fleet.rollout("vision-2").state == "Progressing"
    fleet.client.command_rollout("vision-2", "pause", "weekend")
    restart(fleet)
    until(lambda: tally(fleet, "vision-2") == {"Committed": 1, "Waiting": 2}, "it is still paused")
    assert (fleet.rollout("vision-2").state, fleet.rollout("vision-2").held) == ("Paused", "weekend")
    assert [name for name in NAMES if fleet.runs(name, "second")] == [canary]
    fleet.client.command_rollout("vision-2", "resume")
    fleet.client.command_rollout("vision-2", "promote")
    fleet.all_run("second")
    fleet.client.command_rollout("vision-2", "promote")
    fleet.comes_to("vision-2", "Completed")


def test_kill_9_of_the_server_while_devices_go_back(fleet: QuickFleet) -> None:
    settle(fleet, *NAMES)
    canary = soaking(fleet)
    fleet.agents[canary].process.send_signal(signal.SIGSTOP)
    fleet.client.command_rollout("vision-2", "abort")
    fleet.end_server()
    fleet.agents[canary].process.send_signal(signal.SIGCONT)
    assert fleet.current(canary) != fleet.current(next(name for name in NAMES if name != canary))
    fleet.start_server()
    fleet.all_run("first")
    assert fleet.rollout("vision-2").state == "Aborted"


def test_a_connection_that_is_cut_in_mid_download_costs_no_whole_chunk_twice(fleet: QuickFleet) -> None:
    fleet.start_agent("cam-1")
    until(lambda: fleet.live() == 1, "it is there")
    fleet.links["cam-1"].cut_after(SECOND_CHUNK, SECOND_CHUNK)
    fleet.deploy("large")
    fleet.comes_to("vision-1", "Completed")
    fleet.all_run("large")
    stops = [int(one) for one in re.findall(r"stopped at byte (\d+)", fleet.agents["cam-1"].log)]
    assert stops == [CHUNK_BYTES, 2 * CHUNK_BYTES], "each time it went on from what it had"
    twice = fleet.sent("full") + fleet.sent("resumed") - packed(fleet, "large")
    assert 0 <= twice <= len(stops) * CHUNK_BYTES, "no more than the chunk that was on its way at each cut"


def packed(fleet: QuickFleet, recipe: str) -> int:
    """Bytes that a version takes on the link."""
    return sum(packed_bytes(written(fleet, data)) for data in version(recipe))


def written(fleet: QuickFleet, data: bytes) -> Path:
    path = fleet.folder / "blob"
    path.write_bytes(data)
    return path


def digest(recipe: str) -> str:
    return hashlib.sha256(version(recipe)[0]).hexdigest()


def test_a_bit_that_flips_on_the_servers_disk_is_not_sent(fleet: QuickFleet) -> None:
    settle(fleet, "cam-1")
    fleet.agents["cam-1"].kill()
    fleet.deploy("second")
    until(lambda: fleet.rollout("vision-2"), "it is ready to be delivered")
    blob = fleet.state / "blobs" / digest("second")[:2] / digest("second")[2:]
    blob.chmod(0o600)
    with blob.open("r+b") as file:
        file.seek(40_000)
        byte = file.read(1)[0]
        file.seek(40_000)
        file.write(bytes([byte ^ 1]))
    fleet.start_agent("cam-1")
    told = fleet.comes_to("vision-2", "Aborted")
    assert "DATA_LOSS" in told.message
    fleet.all_run("first")
    assert re.search(r"ERROR +call method=DownloadBlob code=DATA_LOSS .* set aside as ", fleet.server_log)
    assert "RolledBack" in fleet.agents["cam-1"].log
    assert not blob.exists()

    fleet.client.upload(written(fleet, version("second")[0]))
    fleet.start_agent("cam-2")
    fleet.deploy("second", soak="0s", device_deadline="5m")
    until(lambda: fleet.runs("cam-2", "second"), "what was uploaded again is delivered")


def test_a_device_that_falls_silent_in_an_update_times_out_and_is_right_again_when_it_wakes(fleet: QuickFleet) -> None:
    settle(fleet, "cam-1", "cam-2")
    for link in fleet.links.values():
        link.hold_after(SECOND_CHUNK)
    fleet.deploy("large", steps=["50%", "100%"], min_executed=1, device_deadline="2s")
    until(lambda: any(fleet.held(name) for name in fleet.agents), "one of them fetches")
    (canary,) = [name for name in fleet.agents if fleet.held(name)]
    fleet.agents[canary].process.send_signal(signal.SIGSTOP)
    told = fleet.comes_to("vision-2", "Aborted")
    assert dict(told.devices) == {"TimedOut": 1, "Waiting": 1}
    assert told.message.startswith("1 of 1 devices that tried failed")
    until(lambda: not fleet.device(canary).connected, "the server notices that nobody is there")
    for link in fleet.links.values():
        link.flow()
    fleet.agents[canary].process.send_signal(signal.SIGCONT)
    fleet.all_run("first")
    until(lambda: fleet.live() == 2, "both are there")
    assert dict(fleet.rollout("vision-2").devices) == {"TimedOut": 1, "Waiting": 1}


def test_a_newer_generation_supersedes_one_that_is_being_fetched(fleet: QuickFleet) -> None:
    settle(fleet, "cam-1")
    fleet.links["cam-1"].hold_after(SECOND_CHUNK)
    fleet.deploy("large")
    until(lambda: fleet.held("cam-1"), "it is being fetched")
    fleet.deploy("second")
    fleet.comes_to("vision-2", "Superseded")
    fleet.links["cam-1"].flow()
    fleet.comes_to("vision-3", "Completed")
    fleet.all_run("second")
    assert "Completed" not in fleet.rollout("vision-2").message
    assert fleet.held("cam-1") == 0


def test_of_two_deployments_that_select_a_device_the_newer_wins(fleet: QuickFleet) -> None:
    settle(fleet, "cam-1")
    fleet.links["cam-1"].hold_after(SECOND_CHUNK)
    fleet.deploy("large")
    until(lambda: fleet.held("cam-1"), "it is being fetched")
    fleet.deploy("second", "other")
    until(lambda: tally(fleet, "other-1"), "the other one has the device")
    fleet.links["cam-1"].flow()
    fleet.comes_to("other-1", "Completed")
    fleet.all_run("second")
    older = fleet.rollout("vision-2")
    assert (older.state, dict(older.devices)) == ("Progressing", {})
    assert older.message.endswith("or a newer deployment has them")
    assert fleet.held("cam-1") == 0
    fleet.client.delete("Deployment", "other")
    fleet.comes_to("vision-2", "Completed")
    fleet.all_run("large")


def test_a_step_whose_devices_all_fail_leaves_the_others_alone(fleet: QuickFleet) -> None:
    settle(fleet, *NAMES)
    fleet.deploy("wrong", **CANARY)
    told = fleet.comes_to("vision-2", "Aborted")
    assert dict(told.devices) == {"RolledBack": 1, "Waiting": 2}
    assert "golden vectors disagree" in told.message
    fleet.all_run("first")
    tried = [name for name in NAMES if "golden vectors disagree" in fleet.agents[name].log]
    assert len(tried) == 1
    assert [name for name in NAMES if digest("wrong") in (fleet.folder / name / "journal").read_text()] == tried


def backed_up(fleet: QuickFleet) -> Path:
    """A copy of the server's state, taken while it is stopped."""
    fleet.end_server(signal.SIGTERM)
    backup = fleet.folder / "backup"
    shutil.copytree(fleet.state, backup)
    fleet.start_server()
    return backup


def restored(fleet: QuickFleet, backup: Path) -> None:
    """The server runs on the backup, and all agents are back."""
    fleet.end_server(signal.SIGTERM)
    shutil.rmtree(fleet.state)
    backup.rename(fleet.state)
    fleet.start_server()
    until(lambda: fleet.live() == len(fleet.agents), "all agents are back")


def test_a_server_from_a_backup_that_knows_no_version_shows_what_runs_and_finds_it_good(fleet: QuickFleet) -> None:
    backup = backed_up(fleet)
    settle(fleet, *NAMES)
    restored(fleet, backup)
    for name in NAMES:
        status = fleet.device(name)
        assert (status.state, status.version, status.artifact) == ("Committed", digest("first")[:12], "")
    before = fleet.inferences()
    until(lambda: fleet.inferences() > before, "they go on serving and reporting")
    fleet.deploy("first")
    fleet.comes_to("vision-1", "Completed")
    fleet.all_run("first")
    until(lambda: all(fleet.device(name).artifact for name in NAMES), "the version is known by its name")
    assert fleet.sent("full") + fleet.sent("delta") == 0, "nothing had to be sent"


def test_a_server_from_yesterdays_backup_brings_devices_to_what_it_declares_and_then_to_the_fleet_file(
    fleet: QuickFleet,
) -> None:
    settle(fleet, *NAMES)
    backup = backed_up(fleet)
    fleet.deploy("second")
    fleet.comes_to("vision-2", "Completed")
    fleet.all_run("second")
    restored(fleet, backup)
    fleet.all_run("first")
    assert fleet.rollout("vision-2") is None
    fleet.deploy("second")
    fleet.comes_to("vision-2", "Completed")
    fleet.all_run("second")
    for name in NAMES:
        log = fleet.agents[name].log
        assert log.count("Committed") == 4, "each way once: nothing goes round in circles"
        assert "Traceback" not in log
