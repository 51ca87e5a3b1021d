"""Tasks that make files: one strategy step, the conversion to a target's format, and the golden vectors of an artifact."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_compress.domain.model import ModelFacts
from edge_compress.domain.schema import decode
from edge_compress.errors import Corrupt, StepFailed
from edge_compress.graph.check import load_checked
from edge_compress.graph.facts import facts_of
from edge_compress.plugin.registry import Registry
from edge_compress.worker.context import StepContext
from edge_compress.worker.frame import DataSource, Frame

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def apply_step(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Apply one strategy; leaves ``model.onnx``."""
    strategy = Registry.load(only=[arguments["plugin"]], strict=True).strategy(arguments["strategy"])
    params = decode(strategy.Params, arguments["params"], f"{strategy.name}.params")
    seconds = arguments.get("seconds")
    trains = {} if seconds is None else {"seconds": seconds, "pace": arguments["pace"]}
    context = StepContext(
        replace(frame, limits=replace(frame.limits, **trains)),
        seed=arguments["seed"],
        teacher=Path(arguments["teacher"]),
        calibration=_source(arguments.get("calibration")),
        training=_source(arguments.get("training")),
        kept=arguments.get("kept"),
        artifacts=arguments.get("artifacts"),
    )
    model = strategy.apply(load_checked(Path(arguments["model"])), params, context)
    if not hasattr(model, "SerializeToString"):
        raise Corrupt(f"{strategy.name} returned {type(model).__name__}, not an ONNX model")
    data = model.SerializeToString(deterministic=True)
    (frame.scratch / "model.onnx").write_bytes(data)
    return {"file": "model.onnx"}


def convert(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Check that a candidate kept its word, and write it in the target's format; leaves ``artifact``."""
    path = Path(arguments["model"])
    model = load_checked(path)
    original = ModelFacts.from_json(arguments["original"])
    facts = facts_of(path)
    _check_interface(original, facts)
    target = Registry.load(only=[arguments["plugin"]], strict=True).target(arguments["target"])
    context = StepContext(frame, seed=0, teacher=Path(arguments["teacher"]), calibration=None, training=None)
    variant = [arguments["variant"]] if arguments["variant"] else []
    (frame.scratch / "artifact").write_bytes(target.convert(model, context, *variant))
    if arguments["lossless"] and (samples := _source(arguments.get("samples"))):
        _check_parity(target, frame.scratch / "artifact", Path(arguments["teacher_artifact"]), samples)
    return {"file": "artifact", "file_name": target.file_name, "facts": facts.to_json()}


def golden(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Run an artifact on a few real samples; leaves ``golden.npz`` with in/<name> and out/<name> arrays, samples along the first
    axis. An output that has no row for each sample, or whose shape follows from values, is left out: nobody could tell its rows
    apart. Raises StepFailed where no other is left."""
    target = Registry.load(only=[arguments["plugin"]], strict=True).target(arguments["target"])
    runner = target.open(Path(arguments["artifact"]), threads=1)
    names = [item["name"] for item in arguments["outputs"]]
    rows_in: dict[str, list[Any]] = {}
    rows_out: dict[str, list[Any]] = {}
    for feed in DataSource.read(arguments["samples"]).feeds(arguments["count"]):
        outputs = runner.run(feed)
        for name, value in feed.items():
            rows_in.setdefault(name, []).append(value)
        for name, value in zip(names, outputs, strict=True):
            rows_out.setdefault(name, []).append(np.asarray(value))
    counts = [len(value) for value in next(iter(rows_in.values()))]
    rows_out = {name: rows for name, rows in rows_out.items() if _row_by_row(rows, counts)}
    if not rows_out:
        raise StepFailed(
            "no output has rows of one shape for each sample, so no device could confirm the artifact", reason="output"
        )
    largest = max((_largest(value) for rows in rows_out.values() for value in rows), default=0.0)
    arrays = {f"in/{name}": np.concatenate(rows) for name, rows in rows_in.items()}
    arrays |= {f"out/{name}": np.concatenate(rows) for name, rows in rows_out.items()}
    (frame.scratch / "golden.npz").write_bytes(_npz(arrays))
    return {"file": "golden.npz", "samples": sum(counts), "largest": largest}


def _row_by_row(values: Sequence[Any], counts: Sequence[int]) -> bool:
    """Whether each value has a row for each sample it was made of, all of one shape."""
    alike = len({value.shape[1:] for value in values}) == 1
    return alike and all(value.ndim > 0 and len(value) == count for value, count in zip(values, counts, strict=True))


def _largest(value: Any) -> float:
    """The largest finite magnitude: where some classes are impossible, a model may answer minus infinity."""
    return float(np.abs(value[np.isfinite(value)]).max(initial=0.0))


def _source(plain: dict[str, Any] | None) -> DataSource | None:
    return None if plain is None else DataSource.read(plain)


def _check_interface(original: ModelFacts, changed: ModelFacts) -> None:
    for what in ("inputs", "outputs"):
        before = [(item.name, item.dtype, _axes(item.shape)) for item in getattr(original, what)]
        after = [(item.name, item.dtype, _axes(item.shape)) for item in getattr(changed, what)]
        if before != after:
            raise Corrupt(f"the {what} changed from {before} to {after}")


def _axes(shape: Sequence[Any]) -> list[Any]:
    """Numbers stay; a free axis is a free axis whatever its name."""
    return [axis if isinstance(axis, int) else "free" for axis in shape]


def _check_parity(target: Any, changed: Path, original: Path, samples: DataSource) -> None:
    before, after = target.open(original, 1), target.open(changed, 1)
    for feed in samples.feeds(4):
        for want, got in zip(before.run(feed), after.run(feed), strict=True):
            want, got = np.asarray(want), np.asarray(got)
            scale = _largest(want) if want.dtype.kind == "f" else 0.0
            if got.shape != want.shape or not np.allclose(got, want, rtol=1e-3, atol=1e-4 + 1e-3 * scale):
                raise Corrupt(f"promised to be lossless, but an output is not what it was: {_said(got)}, expected {_said(want)}")


def _said(value: Any) -> str:
    mean = float(np.mean(value)) if value.size and value.dtype.kind in "fiub" else 0.0
    return f"{value.dtype} of shape {value.shape} and mean {mean:.3g}"


def _npz(arrays: Mapping[str, Any]) -> bytes:
    """As numpy.savez_compressed, with fixed times so that equal arrays give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, member.getvalue())
    return buffer.getvalue()
