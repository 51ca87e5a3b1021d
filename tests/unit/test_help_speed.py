"""``edge-compress --help`` answers at once: little CPU, nothing heavy imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LIMIT_SECONDS = 0.3
HEAVY = ("torch", "onnx", "onnxruntime", "numpy", "grpc", "google.protobuf", "pluggy", "rich", "yaml")


def cpu_of(*arguments: str) -> float:
    """Seconds of CPU of one run, children of this process being measured exactly."""
    before = os.times()
    subprocess.run([sys.executable, "-m", "edge_compress", *arguments], capture_output=True, check=True)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


@pytest.mark.parametrize("arguments", [("--help",), ("get", "--help"), ("version",)])
def test_help_takes_little_cpu(arguments: tuple[str, ...]) -> None:
    assert min(cpu_of(*arguments) for _ in range(3)) < LIMIT_SECONDS


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from edge_compress.cli.app import run\n"
        "try:\n    run(['--help'])\n"
        f"except SystemExit:\n    sys.stderr.write(repr([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stderr == "[]"
    assert all(verb in shown.stdout for verb in ("server", "agent", "apply", "plan", "get", "describe", "delete", "compress"))
