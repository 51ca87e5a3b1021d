"""What others make of a model: onnxruntime's quantiser as it comes and as its documentation advises, and NNCF.

Each writes a file to a folder and says where; it raises where it cannot, with one line that the table shows.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from tests.bench.cases import ROOT, Array, Case

NNCF_PYTHON = ROOT / "build" / "bench-nncf" / "bin" / "python"
NNCF_SECONDS = 600
ADVISED: Mapping[str, Any] = {
    "quant_format": QuantFormat.QDQ,
    "per_channel": True,
    "activation_type": QuantType.QUInt8,
    "weight_type": QuantType.QInt8,
}

Peer = Callable[[Case, Path], Path]


class PeerFailed(Exception):
    """A peer could not compress the model; one line says why."""


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Calibration samples one by one, as onnxruntime's quantiser asks for them."""

    def __init__(self, name: str, samples: Array) -> None:
        self._feeds = ({name: sample[None]} for sample in samples)

    def get_next(self) -> dict[str, Array] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def peers(*, dot_product: bool) -> dict[str, Peer]:
    """By name. ``reduce_range`` is what onnxruntime advises for x86 without VNNI; with VNNI it also advises against it."""
    found: dict[str, Peer] = {
        "ORT default": lambda case, folder: onnxruntime_static(case, folder, {}),
        "ORT best practice": lambda case, folder: onnxruntime_static(case, folder, {**ADVISED, "reduce_range": True}),
    }
    if dot_product:
        found["ORT best, VNNI"] = lambda case, folder: onnxruntime_static(case, folder, {**ADVISED, "reduce_range": False})
    return {**found, "NNCF": nncf}


def onnxruntime_static(case: Case, folder: Path, options: Mapping[str, Any]) -> Path:
    """onnxruntime's static quantisation after its own preparation of the model."""
    prepared, quantized = folder / "prepared.onnx", folder / "quantized.onnx"
    try:
        quant_pre_process(str(case.path), str(prepared))
        reader = Reader(case.input_name(), case.preprocess(case.calibration))
        quantize_static(str(prepared), str(quantized), reader, **options)
    except Exception as error:  # whatever a peer raises is its result
        raise PeerFailed(f"{type(error).__name__}: {error}".splitlines()[0]) from error
    return quantized


def nncf(case: Case, folder: Path) -> Path:
    """NNCF in the environment that `make bench-nncf` builds."""
    if not NNCF_PYTHON.exists():
        raise PeerFailed(f"{NNCF_PYTHON.relative_to(ROOT)} is not there: run `make bench-nncf`")
    samples, quantized = folder / "samples.npz", folder / "quantized.onnx"
    np.savez(samples, x=case.preprocess(case.calibration))
    script = Path(__file__).with_name("nncf_peer.py")
    command = [str(NNCF_PYTHON), str(script), str(case.path), str(samples), str(quantized)]
    quiet = {**os.environ, "CI": "true"}  # no telemetry
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet, timeout=NNCF_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise PeerFailed(f"not done after {NNCF_SECONDS} s") from error
    if done.returncode or not quantized.exists():
        raise PeerFailed((done.stderr.strip().splitlines() or ["it says nothing"])[-1])
    return quantized
