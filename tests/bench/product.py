"""Runs our own product as a user would: a fleet file, ``edge-compress compress --json`` in its own process, its artifacts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.cases import ROOT, Case, Labelled

MAX_DROP = 0.01
INFEASIBLE = 3


class ProductFailed(Exception):
    """The command failed; the end of what it said."""


@dataclass(frozen=True)
class Wish:
    """A device profile of the bench, and what its deployment makes small."""

    name: str
    precisions: tuple[str, ...]
    objective: str


INT8 = ("fp32", "fp16", "int8")
WISHES = (
    Wish("int8-small", INT8, "size"),
    Wish("int8-fast", INT8, "latency"),
    Wish("fp32-fast", ("fp32",), "latency"),
    Wish("fp16-small", ("fp32", "fp16"), "size"),
)


@dataclass(frozen=True)
class Made:
    """What one wish got. ``file`` is None where nothing was made; ``claimed_drop`` in points, on the evaluation samples;
    ``failed`` names the strategies that broke on the way, and how."""

    wish: Wish
    file: Path | None
    verdict: str
    claimed_drop: float
    recipe: str
    seconds: float
    failed: tuple[str, ...] = ()


def compressed(
    case: Case, folder: Path, wishes: Sequence[Wish], *, dot_product: bool, training: bool, budget: str | None
) -> dict[str, Made]:
    """Wish name -> artifact. One run for all wishes; ``budget`` as the command takes it. Raises ProductFailed."""
    declare(case, folder, wishes, dot_product=dot_product, training=training)
    started = time.perf_counter()
    told = run_compress(folder, budget)
    seconds = time.perf_counter() - started
    (folder / "report.json").write_text(told)
    profiles = json.loads(told)["models"][model_name(case)]["profiles"]
    return {wish.name: made(wish, profiles[wish.name], folder / "out", seconds) for wish in wishes}


def run_compress(folder: Path, budget: str | None) -> str:
    """What ``edge-compress compress --json`` says of the fleet file in a folder. Raises ProductFailed."""
    command = [sys.executable, "-m", "edge_compress", "compress", "-f", "fleet.yaml", "--out", "out", "--json"]
    done = subprocess.run(
        command + ([] if budget is None else ["--budget", budget]),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, INFEASIBLE):
        raise ProductFailed((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    return done.stdout


def declare(case: Case, folder: Path, wishes: Sequence[Wish], *, dot_product: bool, training: bool) -> None:
    """Write the fleet file and the data it names. JSON is YAML."""
    data: dict[str, Any] = {"calibration": "calibration.npz", "evaluation": "evaluation.npz"}
    np.savez(folder / "calibration.npz", x=case.calibration)
    save(folder / "evaluation.npz", case.evaluation)
    if training and case.training is not None:
        save(folder / "training.npz", case.training)
        data["training"] = "training.npz"
    (folder / "model.onnx").write_bytes(case.path.read_bytes())
    quality = {"metric": "top1", "max_drop": MAX_DROP}
    model = {"source": "model.onnx", "data": {**data, "preprocess": case.preprocess.declared()}, "quality": quality}
    documents = [document("Model", model_name(case), model)]
    for wish in wishes:
        profile = {"precisions": wish.precisions, "int8_dot_product": dot_product and "int8" in wish.precisions, "threads": 1}
        deployment = {"model": model_name(case), "objective": wish.objective, "selector": {"profiles": [wish.name]}}
        documents += [document("DeviceProfile", wish.name, profile), document("Deployment", wish.name, deployment)]
    (folder / "fleet.yaml").write_text("\n---\n".join(json.dumps(item, indent=1) for item in documents))


def document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """One resource as a fleet file has it."""
    return {"apiVersion": "edge-compress/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def save(path: Path, data: Labelled) -> None:
    """Raw samples with labels."""
    np.savez(path, x=data.samples, y=data.labels)


def model_name(case: Case) -> str:
    """The case's name as a resource may be called."""
    return case.name.replace("_", "-")


def made(wish: Wish, entry: dict[str, Any], out: Path, seconds: float) -> Made:
    """One profile's entry in the command's JSON."""
    file = out / entry["artifact"] if entry.get("artifact") else None
    quality = entry.get("quality") or {}
    claimed = 100 * quality.get("drop", float("nan"))
    failed = [f"{steps(item['recipe'])}: {item['why']}" for item in entry["candidates"] if item["state"] == "failed"]
    return Made(wish, file, entry["verdict"], claimed, steps(entry["recipe"]), seconds, tuple(failed))


def steps(recipe: Sequence[dict[str, Any]]) -> str:
    """A recipe's strategies in one line, with what says most of their parameters."""
    shown = ("bits", "rate", "ratio", "macs", "weights", "width", "blocks")
    told = [(step["strategy"], [f"{step['params'][key]:g}" for key in shown if step["params"].get(key)]) for step in recipe]
    return " > ".join(name + (f"({', '.join(values)})" if values else "") for name, values in told) or "nothing"
