"""What the bench compresses: models with the samples that calibrate, steer, train and judge.

Peers and the judge get preprocessed arrays; our product gets the raw arrays and has to preprocess them itself, as a user's would.
Test samples are seen by nobody but the judge, except where ``held_out`` says that there were too few to set any aside.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EDGE_COMPRESS_SHARED", ROOT.parent / "shared")) / "data"
CALIBRATED = 200

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Labelled:
    """Raw samples, first axis first, and their classes."""

    samples: Array
    labels: Array

    def every(self, start: int, step: int) -> Labelled:
        """Each ``step``-th sample from ``start`` on."""
        return Labelled(self.samples[start::step], self.labels[start::step])


@dataclass(frozen=True)
class Preprocess:
    """value = (raw - mean) / std, a number or one a channel; ``to_nchw`` where raw samples are NHWC and the model's are not."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    to_nchw: bool = False

    def __call__(self, raw: Array) -> Array:
        """Model inputs in float32."""
        values = (raw.astype(np.float32) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if self.to_nchw else values)

    def declared(self) -> dict[str, Any]:
        """The same as a fleet file says it."""
        plain: dict[str, Any] = {"mean": list(self.mean), "std": list(self.std)}
        return {"layout": "NHWC", **plain} if self.to_nchw else plain


@dataclass(frozen=True)
class Case:
    """One model. ``calibration`` is unlabelled; ``evaluation`` steers our choice; ``test`` judges everybody."""

    name: str
    path: Path
    preprocess: Preprocess
    calibration: Array
    evaluation: Labelled
    test: Labelled
    training: Labelled | None = None
    held_out: bool = True

    def input_name(self) -> str:
        """Name of the model's only input."""
        return str(onnx.load(self.path, load_external_data=False).graph.input[0].name)


def shared() -> Iterator[Case]:
    """The team's models, smallest first. Exits with a reason where their folder is absent."""
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is not there; set EDGE_COMPRESS_SHARED to the folder that holds the team's data folder")
    yield cifar_case("resnet8_cifar10", SHARED / "resnet8_cifar10.onnx", Preprocess())
    yield cifar_case("resnet20_cifar10", SHARED / "resnet20_cifar10.onnx", IMAGENET_STATISTICS)
    yield imagenet_case("efficientnet_lite0", SHARED / "efficientnet_lite0.onnx")


IMAGENET_STATISTICS = Preprocess((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), to_nchw=True)
"""of 8-bit colours"""


def cifar() -> tuple[Labelled, Labelled]:
    """CIFAR-10, 8-bit NHWC: 10,000 training and 5,000 test images."""
    with np.load(SHARED / "cifar10_10k.npz") as data:
        training, test = ((data[f"x_{part}"], data[f"y_{part}"].astype(np.int64)) for part in ("train", "test"))
    return Labelled(*training), Labelled(*test)


def cifar_case(name: str, path: Path, preprocess: Preprocess) -> Case:
    """Trained on training images; every other test image steers, the rest judge."""
    training, test = cifar()
    return Case(name, path, preprocess, training.samples[:CALIBRATED], test.every(0, 2), test.every(1, 2), training)


def imagenet_case(name: str, path: Path) -> Case:
    """500 ImageNet images of 1,000 classes: the first 200 calibrate, the others are too few to be split."""
    with np.load(SHARED / "imagenet_500_jpeg.npz") as data:
        offset, jpeg, labels = data["offset"], data["jpeg"], data["y"].astype(np.int64)
    files = [jpeg[start:end].tobytes() for start, end in itertools.pairwise(offset)]
    images = np.stack([np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files])
    judged = Labelled(images[CALIBRATED:], labels[CALIBRATED:])
    preprocess = Preprocess((127.0,), (128.0,), to_nchw=True)
    return Case(name, path, preprocess, images[:CALIBRATED], judged, judged, held_out=False)
