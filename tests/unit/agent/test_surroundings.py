"""The device's files as the kernel documents them, built by the test."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_compress.agent.surroundings import Battery, Surroundings

MEMINFO = "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:     512 kB\nHugePages_Total:       0\n"


def write(root: Path, files: dict[str, str]) -> Surroundings:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Surroundings(root)


def test_memory_is_what_the_system_has_and_the_control_group_allows(tmp_path: Path) -> None:
    around = write(tmp_path, {"proc/meminfo": MEMINFO})
    assert around.free_memory() == 512 * 1024
    assert around.facts(tmp_path).memory_bytes == 2048 * 1024
    group = "sys/fs/cgroup/devices.slice"
    around = write(
        tmp_path,
        {
            "proc/self/cgroup": "1:name=systemd:/x\n0::/devices.slice/agent.service\n",
            f"{group}/memory.max": "1048576\n",
            f"{group}/memory.current": "900000\n",
            f"{group}/memory.stat": "anon 1\ninactive_file 100000\n",
            f"{group}/agent.service/memory.max": "max\n",
        },
    )
    assert around.free_memory() == 1048576 - 800000
    assert around.facts(tmp_path).memory_bytes == 1048576


def test_what_nobody_says_is_unknown(tmp_path: Path) -> None:
    around = Surroundings(tmp_path)
    facts = around.facts(tmp_path)
    assert (around.free_memory(), around.battery()) == (None, None)
    assert (facts.memory_bytes, facts.int8_dot_product) == (0, None)
    assert facts.cores >= 1
    assert facts.storage_bytes > 0


def test_the_emptiest_battery_counts_and_a_mouses_does_not(tmp_path: Path) -> None:
    supply = "sys/class/power_supply"
    around = write(
        tmp_path,
        {
            f"{supply}/AC/type": "Mains\n",
            f"{supply}/AC/online": "0\n",
            f"{supply}/BAT0/type": "Battery\n",
            f"{supply}/BAT0/capacity": "80\n",
            f"{supply}/BAT0/status": "Discharging\n",
            f"{supply}/BAT1/type": "Battery\n",
            f"{supply}/BAT1/capacity": "15\n",
            f"{supply}/BAT1/status": "Charging\n",
            f"{supply}/mouse/type": "Battery\n",
            f"{supply}/mouse/scope": "Device\n",
            f"{supply}/mouse/capacity": "3\n",
        },
    )
    assert around.battery() == Battery(0.15, charging=True)
    write(tmp_path, {f"{supply}/BAT1/status": "Unknown\n"})
    assert around.battery() == Battery(0.15, charging=False)
    write(tmp_path, {f"{supply}/AC/online": "1\n"})
    assert around.battery() == Battery(0.15, charging=True), "on mains, whatever the gauge knows"


@pytest.mark.parametrize(
    ("cpuinfo", "said"),
    [
        ("flags\t\t: fpu sse2 avx2\n", False),
        ("flags\t\t: fpu avx512_vnni\n", True),
        ("Features\t: fp asimd asimddp\n", True),
        ("model name: x\n", None),
    ],
)
def test_dot_products_are_read_from_the_processors_flags(tmp_path: Path, cpuinfo: str, said: bool | None) -> None:
    assert write(tmp_path, {"proc/cpuinfo": cpuinfo}).facts(tmp_path).int8_dot_product is said
