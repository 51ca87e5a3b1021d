"""Three ways to split a layer, each with the best first factors for the data that its input was seen to carry.

channel   k x k to r channels, then 1 x 1 (for 1 x 1 and matrix products the plain SVD); Zhang et al. 2016, arXiv:1505.06798
spatial   k x 1, then 1 x k; Jaderberg et al. 2014, arXiv:1405.3866
tucker    1 x 1, k x k, 1 x 1, ranks by the energy of either side (HOSVD); Kim et al. 2016, arXiv:1511.06530

With M the second moment of the patches x, what counts is the error of the output, E|Wx - W'x|^2 = tr((W - W') M (W - W')^T).
The projections come from the output's side, U_r U_r^T W with U_r the leading eigenvectors of W M W^T: the truncated SVD of
W M^(1/2) without an inverse (as SVD-LLM, arXiv:2403.07378, and ASVD, arXiv:2312.05821, reach by whitening). The last factor is
left to ``factors``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge_compress_lowrank.layers import Layer, Shaped
from edge_compress_lowrank.moments import Moment
from edge_compress_lowrank.window import Window

Array = np.ndarray[Any, Any]
Ranks = tuple[int, ...]

_RIDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Factor:
    """One of the layers that replace a layer; ``window`` None for a matrix product."""

    weight: Array
    window: Window | None


class Way(Protocol):
    """One way to split a layer whose input's moment is known."""

    name: str

    @staticmethod
    def fits(layer: Layer) -> bool:
        """Whether the layer's kernel can be split this way."""

    @staticmethod
    def shapes(layer: Layer, ranks: Ranks) -> list[Shaped]:
        """Weights' shapes and windows of the factors, first to last."""

    @staticmethod
    def thinnest(step: int) -> Ranks:
        """The smallest ranks that are multiples of ``step``."""

    def choices(self, step: int) -> list[Ranks]:
        """Ranks worth looking at, each a multiple of ``step``."""

    def front(self, ranks: Ranks) -> tuple[list[Factor], Array]:
        """All factors but the last, and what they do to one patch: (values the last one looks at, values of a patch)."""


class Channel:
    """See the module."""

    name = "channel"

    def __init__(self, layer: Layer, moment: Moment) -> None:
        self._layer = layer
        self._encoder, _ = encoder(layer.matrix, moment)

    @staticmethod
    def fits(layer: Layer) -> bool:
        """Always: a kernel of any size goes into the first factor."""
        return True

    @staticmethod
    def thinnest(step: int) -> Ranks:
        """The smallest ranks that are multiples of ``step``."""
        return (step,)

    @staticmethod
    def shapes(layer: Layer, ranks: Ranks) -> list[Shaped]:
        """Shapes and windows of the factors, first to last."""
        weight, window = layer.weight, layer.window
        point = window.point() if window else None
        ones = (1,) * (weight.ndim - 2)
        return [((ranks[0], *weight.shape[1:]), window), ((len(weight), ranks[0], *ones), point)]

    def choices(self, step: int) -> list[Ranks]:
        """Every multiple of ``step``."""
        return [(rank,) for rank in range(step, len(self._encoder) + 1, step)]

    def front(self, ranks: Ranks) -> tuple[list[Factor], Array]:
        """The first factor, and what it does to one patch."""
        rows = self._encoder[: ranks[0]]
        shape, window = self.shapes(self._layer, ranks)[0]
        return [Factor(rows.reshape(shape), window)], rows


class Spatial:
    """See the module. For kernels that extend along both of two axes."""

    name = "spatial"

    def __init__(self, layer: Layer, moment: Moment) -> None:
        self._layer = layer
        outputs, inputs, height, width = layer.weight.shape
        columns = layer.weight.astype(np.float64).transpose(0, 3, 1, 2).reshape(outputs * width, inputs * height)
        self._encoder, _ = encoder(columns, moment.folded((inputs, height, width), (0, 1)))

    @staticmethod
    def fits(layer: Layer) -> bool:
        """Only kernels that extend along both of two axes."""
        return layer.window is not None and len(layer.window.kernel) == 2 and min(layer.window.kernel) > 1

    @staticmethod
    def thinnest(step: int) -> Ranks:
        """The smallest ranks that are multiples of ``step``."""
        return (step,)

    @staticmethod
    def shapes(layer: Layer, ranks: Ranks) -> list[Shaped]:
        """Shapes and windows of the factors, first to last."""
        outputs, inputs, height, width = layer.weight.shape
        window = _window(layer)
        return [((ranks[0], inputs, height, 1), window.along(0)), ((outputs, ranks[0], 1, width), window.along(1))]

    def choices(self, step: int) -> list[Ranks]:
        """Every multiple of ``step``."""
        return [(rank,) for rank in range(step, len(self._encoder) + 1, step)]

    def front(self, ranks: Ranks) -> tuple[list[Factor], Array]:
        """The first factor, and what it does to one patch."""
        width = self._layer.weight.shape[-1]
        columns = self._encoder[: ranks[0]]
        placed = np.einsum("rx,bc->rbxc", columns, np.eye(width)).reshape(ranks[0] * width, -1)
        shape, window = self.shapes(self._layer, ranks)[0]
        return [Factor(columns.reshape(shape), window)], placed


class Tucker:
    """See the module. Ranks: (channels after the first factor, channels after the second)."""

    name = "tucker"

    def __init__(self, layer: Layer, moment: Moment) -> None:
        self._layer = layer
        weight = layer.weight.astype(np.float64)
        self._channels = moment.folded(weight.shape[1:], (0,))
        by_input = np.moveaxis(weight, 1, -1).reshape(-1, weight.shape[1])
        self._inner, self._inner_energy = encoder(by_input, self._channels)
        self._outer, self._outer_energy = encoder(layer.matrix, moment)

    @staticmethod
    def fits(layer: Layer) -> bool:
        """Kernels of more than one element: others have nothing between the two products."""
        return layer.window is not None and math.prod(layer.window.kernel) > 1

    @staticmethod
    def thinnest(step: int) -> Ranks:
        """The smallest ranks that are multiples of ``step``."""
        return (step, step)

    @staticmethod
    def shapes(layer: Layer, ranks: Ranks) -> list[Shaped]:
        """Shapes and windows of the factors, first to last."""
        (outputs, inputs, *kernel), window = layer.weight.shape, _window(layer)
        ones = (1,) * len(kernel)
        return [
            ((ranks[0], inputs, *ones), window.point()),
            ((ranks[1], ranks[0], *kernel), window),
            ((outputs, ranks[1], *ones), window.point()),
        ]

    def choices(self, step: int) -> list[Ranks]:
        """For each number of channels going out the fewest coming in that lose no more energy than those."""
        lost_inside, lost_outside = _lost(self._inner_energy), _lost(self._outer_energy)
        found: list[Ranks] = []
        for outer in range(step, len(lost_outside) + 1, step):
            enough = int(np.argmax(lost_inside <= max(lost_outside[outer - 1], 1e-9))) + 1
            inner = -(-enough // step) * step
            if inner <= len(lost_inside):
                found.append((inner, outer))
        return found

    def front(self, ranks: Ranks) -> tuple[list[Factor], Array]:
        """The first two factors, and what they do to one patch together."""
        inner = self._inner[: ranks[0]] / np.linalg.norm(self._inner[: ranks[0]], axis=1, keepdims=True)
        seen = self._channels.times(inner)
        decoder = np.linalg.solve(positive(seen @ inner.T), seen).T
        outer = self._outer[: ranks[1]].reshape(ranks[1], *self._layer.weight.shape[1:])
        core = np.einsum("pi...,iq->pq...", outer, decoder)
        rows = np.einsum("pq...,qi->pi...", core, inner).reshape(ranks[1], -1)
        first, second, _ = self.shapes(self._layer, ranks)
        return [Factor(inner.reshape(first[0]), first[1]), Factor(core, second[1])], rows


WAYS: tuple[type[Channel] | type[Tucker] | type[Spatial], ...] = (Channel, Tucker, Spatial)


def encoder(matrix: Array, moment: Moment) -> tuple[Array, Array]:
    """Rows (r, n) such that the first k of them, for any k, carry the most of what ``matrix`` @ x varies; and their energies.

    Each row's largest entry is positive, so that equal inputs give equal bytes.
    """
    square = _root(matrix) if len(matrix) > matrix.shape[1] else matrix
    energies, vectors = np.linalg.eigh(moment.times(square) @ square.T)
    rows = vectors[:, ::-1].T @ square
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1)
    return rows * np.where(largest < 0, -1.0, 1.0), np.maximum(energies[::-1], 0.0)


def _root(matrix: Array) -> Array:
    """A square matrix with the same matrix^T @ matrix: what outputs beyond the number of inputs say is said already."""
    energies, vectors = np.linalg.eigh(matrix.T @ matrix)
    root: Array = np.sqrt(np.maximum(energies, 0.0))[:, None] * vectors.T
    return root


def _lost(energies: Array) -> Array:
    """Share of the energy lost when only the first 1, 2, … are kept."""
    total = float(energies.sum())
    return 1 - np.cumsum(energies) / total if total else np.zeros(len(energies))


def positive(square: Array) -> Array:
    """A little more on the diagonal, so that a direction nothing was seen of does not make it singular."""
    return square + np.eye(len(square)) * (_RIDGE * max(float(np.trace(square)) / len(square), 1e-30))


def _window(layer: Layer) -> Window:
    if layer.window is None:
        raise ValueError(f"layer {layer.name!r} is no convolution")
    return layer.window
