"""Float, onnxruntime's defaults, onnxruntime's best practice and ours, side by side on the shared models: `make bench-compress`.

All of one model's sessions run in this process, one thread each, interleaved, so that the ratios hold while the machine's speed
drifts. Quality is top-1 on samples that calibration does not see. Needs the team's data folder (EDGE_COMPRESS_SHARED).
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from edge_compress_graph.optimize import GraphOptimize
from edge_compress_onnxruntime.pack import pack
from edge_compress_quantize.static import QuantizeStatic, StaticParams
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

try:
    from compression import zstd
except ImportError:
    from backports import zstd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.unit.plugins.array_context import ArrayContext  # noqa: E402  # a script finds its own folder only

CALIBRATED = 200
ROUNDS = 200
WARM_UP = 20

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Case:
    """A model with preprocessed samples: calibration unlabelled, test labelled."""

    name: str
    path: Path
    calibration: Array
    test: Array
    labels: Array


@dataclass(frozen=True)
class Row:
    """One line of the table. ``drop`` in points of top-1, ``latency`` as a ratio to float."""

    model: str
    method: str
    bytes: int
    smaller: float
    zstd_bytes: int
    top1: float
    drop: float
    latency: float
    milliseconds: float
    seconds: float


def cifar(folder: Path, name: str, preprocess: Callable[[Array], Array]) -> Case:
    """CIFAR-10: calibrated on training images, measured on 5,000 test images."""
    with np.load(folder / "cifar10_10k.npz") as data:
        calibration, test = preprocess(data["x_train"][:CALIBRATED]), preprocess(data["x_test"])
        return Case(name, folder / f"{name}.onnx", calibration, test, data["y_test"].astype(np.int64))


def resnet20_input(images: Array) -> Array:
    """NCHW, ImageNet mean and deviation."""
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    return np.ascontiguousarray(((images.astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))


def imagenet(folder: Path) -> Case:
    """500 ImageNet images: calibrated on the first 200, measured on the other 300."""
    with np.load(folder / "imagenet_500_jpeg.npz") as data:
        offset, jpeg, labels = data["offset"], data["jpeg"], data["y"]
    files = [jpeg[start:end].tobytes() for start, end in itertools.pairwise(offset)]
    images = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    inputs = np.ascontiguousarray(((images.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2))
    path = folder / "efficientnet_lite0.onnx"
    return Case("efficientnet_lite0", path, inputs[:CALIBRATED], inputs[CALIBRATED:], labels[CALIBRATED:])


def cases(folder: Path) -> Iterator[Case]:
    """The shared models, smallest first."""
    yield cifar(folder, "resnet8_cifar10", lambda images: images.astype(np.float32))
    yield cifar(folder, "resnet20_cifar10", resnet20_input)
    yield imagenet(folder)


class Reader(CalibrationDataReader):
    """Calibration samples one by one, as onnxruntime's quantiser asks for them."""

    def __init__(self, name: str, samples: Array) -> None:
        self._feeds = ({name: sample[None]} for sample in samples)

    def get_next(self) -> dict[str, Array] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)


def peer(case: Case, folder: Path, *, best: bool) -> bytes:
    """onnxruntime's quantiser: as it comes, or as its documentation advises for x86."""
    prepared, quantized = folder / "prepared.onnx", folder / "quantized.onnx"
    quant_pre_process(str(case.path), str(prepared))
    advised: dict[str, Any] = {
        "quant_format": QuantFormat.QDQ,
        "per_channel": True,
        "reduce_range": True,
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
    }
    quantize_static(str(prepared), str(quantized), Reader(input_name(case), case.calibration), **(advised if best else {}))
    return quantized.read_bytes()


def ours(case: Case, folder: Path, params: StaticParams) -> bytes:
    """graph.optimize, quantize.static and the target's packing, as a recipe would."""
    context = ArrayContext({input_name(case): case.calibration}, scratch=folder)
    model = GraphOptimize().apply(onnx.load(case.path), GraphOptimize.Params(), context)
    return pack(QuantizeStatic().apply(model, params, context))


def methods(case: Case) -> dict[str, Callable[[Path], bytes]]:
    """What is compared, by name."""
    return {
        "float": lambda folder: case.path.read_bytes(),
        "ORT default": lambda folder: peer(case, folder, best=False),
        "ORT best practice": lambda folder: peer(case, folder, best=True),
        "ours": lambda folder: ours(case, folder, StaticParams(reduce_range=True)),
        "ours, full range": lambda folder: ours(case, folder, StaticParams(reduce_range=False)),
        "ours, mse": lambda folder: ours(case, folder, StaticParams(reduce_range=True, calibration="mse")),
        "ours, percentile": lambda folder: ours(case, folder, StaticParams(reduce_range=True, calibration="percentile")),
    }


def input_name(case: Case) -> str:
    """Name of the model's only input."""
    return str(onnx.load(case.path, load_external_data=False).graph.input[0].name)


def session(data: bytes, threads: int) -> ort.InferenceSession:
    """A session under the agent's settings."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def top1(data: bytes, case: Case) -> float:
    """Share of the test samples whose highest output is the label, in percent."""
    runner, name, right = session(data, 2), input_name(case), 0
    for start in range(0, len(case.test), 50):
        outputs = runner.run(None, {name: case.test[start : start + 50]})[0]
        right += int((outputs.argmax(axis=1) == case.labels[start : start + 50]).sum())
    return 100 * right / len(case.test)


def medians(files: dict[str, bytes], case: Case) -> dict[str, float]:
    """Median seconds of one inference, every session in turn in each round."""
    runners = {name: session(data, 1) for name, data in files.items()}
    times: dict[str, list[float]] = {name: [] for name in files}
    name = input_name(case)
    for turn in range(WARM_UP + ROUNDS):
        sample = case.test[turn % len(case.test)][None]
        for method, runner in runners.items():
            started = time.perf_counter()
            runner.run(None, {name: sample})
            times[method].append(time.perf_counter() - started)
    return {method: float(np.median(taken[WARM_UP:])) for method, taken in times.items()}


def measure(case: Case) -> list[Row]:
    """Every method on one model."""
    files, seconds = {}, {}
    for method, make in methods(case).items():
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            files[method] = make(Path(folder))
            seconds[method] = time.perf_counter() - started
    taken = medians(files, case)
    quality = {method: top1(data, case) for method, data in files.items()}
    return [
        Row(
            case.name,
            method,
            len(data),
            len(files["float"]) / len(data),
            len(zstd.compress(data, level=19)),
            quality[method],
            quality["float"] - quality[method],
            taken[method] / taken["float"],
            taken[method] * 1e3,
            seconds[method],
        )
        for method, data in files.items()
    ]


def show(rows: list[Row]) -> None:
    """One aligned line a row."""
    heads = ("model", "method", "bytes", "smaller", "zstd -19", "top-1", "drop", "latency", "ms", "s")
    print("{:20}{:20}{:>11}{:>9}{:>11}{:>8}{:>7}{:>9}{:>8}{:>7}".format(*heads))
    for row in rows:
        print(
            f"{row.model:20}{row.method:20}{row.bytes:11,}{row.smaller:8.2f}x{row.zstd_bytes:11,}{row.top1:8.2f}"
            f"{row.drop:7.2f}{row.latency:9.2f}{row.milliseconds:8.2f}{row.seconds:7.1f}"
        )


def main() -> None:
    """Measure and print; ``--json`` writes the rows too."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("EDGE_COMPRESS_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there; set EDGE_COMPRESS_SHARED to the team's data folder")
    rows = [row for case in cases(folder) if arguments.only in case.name for row in measure(case)]
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
