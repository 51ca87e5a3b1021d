"""What 20 unlike profiles of one model cost beside their distinct outcomes computed alone: `make bench-profiles`.

The demo's network and digits, through the command line as a user runs it. All profiles together, then one profile of each
distinct artifact in a folder of its own; processor seconds of everything that ran, and the steps that each run kept. The sum of
the distinct ones pays for what they have in common once each, which is what anyone without a shared cache would pay.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_compress.demo import data

MODEL = Path(data.__file__).with_name("digits.onnx")
MOST = 1.5

PROFILES: Sequence[Mapping[str, Any]] = (
    {},
    {"precisions": ["fp32", "int8"]},
    {"precisions": ["fp32", "int8"], "int8_dot_product": True},
    {"precisions": ["fp32", "int8"], "threads": 2},
    {"precisions": ["fp32", "fp16"]},
    {"precisions": ["fp32"]},
    {"precisions": ["fp32"], "threads": 2},
    {"precisions": ["int8"]},
    {"memory": "64Mi"},
    {"memory": "16Mi", "precisions": ["fp32", "int8"]},
    {"storage": "1Mi"},
    {"storage": "400Ki", "precisions": ["fp32", "fp16"]},
    {"latency_p95": "50ms"},
    {"latency_p95": "20ms", "precisions": ["fp32", "int8"], "threads": 2},
    {"rate": "5/s"},
    {"rate": "20/s", "power_budget": "2W", "compute": {"fp32": "8GFLOPS", "watts_per_core": "1.5W"}},
    {"compute": {"fp32": "2GFLOPS", "memory_bandwidth": "1GB/s"}, "precisions": ["fp32", "int8"]},
    {"link": {"bandwidth": "1Mbit", "metered": True}},
    {"link": {"bandwidth": "50Mbit"}, "precisions": ["fp32", "int8"], "int8_dot_product": True},
    {"storage": "400Ki", "memory": "32Mi", "latency_p95": "100ms", "threads": 2, "link": {"bandwidth": "1Mbit"}},
)


@dataclass(frozen=True)
class Cost:
    """What a run cost: processor seconds, steps kept by task, and the artifact's digest of each profile."""

    seconds: float
    steps: Mapping[str, int]
    artifacts: Mapping[str, str]


def fleet(names: Sequence[str]) -> str:
    """A fleet file with these profiles and the demo's model."""
    documents: list[Any] = [
        {"kind": "DeviceProfile", "metadata": {"name": name}, "spec": dict(PROFILES[int(name[1:])])} for name in names
    ]
    files = {"calibration": "calib.npz", "evaluation": "val.npz"}
    spec = {"source": "digits.onnx", "data": {**files, "preprocess": {"layout": "NHWC", "std": 255}}}
    return yaml.safe_dump_all([*documents, {"kind": "Model", "metadata": {"name": "digits"}, "spec": spec}])


def run(names: Sequence[str], folder: Path) -> Cost:
    """Compress for these profiles, from nothing. Raises RuntimeError with what was said when that fails."""
    folder.mkdir()
    data.write(data.load(), folder)
    (folder / "digits.onnx").write_bytes(MODEL.read_bytes())
    (folder / "fleet.yaml").write_text(fleet(names))
    command = [sys.executable, "-m", "edge_compress", "compress", "-f", "fleet.yaml", "--out", "out", "--json"]
    before = _child_seconds()
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode not in (0, 3):
        raise RuntimeError(ran.stderr[-2000:])
    told = json.loads(ran.stdout)["models"]["digits"]["profiles"]
    artifacts = {name: str(entry["sha256"]) for name, entry in told.items()}
    return Cost(_child_seconds() - before, _steps(folder / "out" / ".cache"), artifacts)


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _steps(cache: Path) -> Counter[str]:
    """Finished steps in a store, by task."""
    database = next(path for path in cache.iterdir() if path.suffix in (".db", ".sqlite", ".sqlite3"))
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        return Counter(key.split("/", 1)[0] for (key,) in connection.execute("SELECT key FROM steps"))


def main() -> int:
    """Print the table; 1 when sharing costs more than it may."""
    names = [f"p{number}" for number in range(len(PROFILES))]
    with tempfile.TemporaryDirectory() as scratch:
        together = run(names, Path(scratch) / "together")
        firsts = {sha256: name for name, sha256 in reversed(together.artifacts.items())}
        alone = {name: run([name], Path(scratch) / name) for name in sorted(firsts.values())}
    spent = sum(cost.seconds for cost in alone.values())
    print(f"{len(names)} profiles, {len(firsts)} distinct artifacts")
    print(f"{'together':12} {together.seconds:8.1f} s  {dict(together.steps)}")
    for name, cost in alone.items():
        print(f"{name + ' alone':12} {cost.seconds:8.1f} s  {dict(cost.steps)}")
    ratio = together.seconds / spent
    print(f"together / distinct outcomes alone: {ratio:.2f} (at most {MOST})")
    return int(ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
