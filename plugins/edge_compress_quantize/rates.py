"""How coarse each channel's integers may be when all weights together may take so many bits on the wire.

The transport packs integers to about their entropy, so a weight costs what its step leaves of it, not the width of its type. Each
doubling of a step saves one bit a weight and makes four times the noise; the noise of all is least, for the bits that are left,
where every weight adds the same harm: step ~ 1 / sqrt(harm of a unit of noise on one weight). No layer is cut off at a number of
levels: values far out cost a few long codes.

Source: reverse water-filling (Cover and Thomas, Elements of Information Theory, section 10.3.3) with uniform scalar quantisation
and entropy coding (Gish and Pierce 1968). Leaves how harmful noise is to ``fisher``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_ROUNDS = 24
_OCTAVES = 40.0
"""steps are looked for this many doublings around the start"""
_A_OCTAVE = 2
"""different steps in a doubling"""
_SMALLEST = 1e-300
_LEAST_HARM = 1e-3
"""of a layer's mean: samples say little of channels that they hardly used"""


@dataclass(frozen=True, eq=False)
class Part:
    """One weight tensor: its ``rows`` (channels, K), the mean ``harm`` of a unit of noise on a weight of each channel
    (channels,), and the largest integer it may use."""

    rows: Array
    harm: Array
    limit: int


def steps(parts: Sequence[Part], bits: float, *, trust: float) -> list[Array]:
    """The step of each channel of each part, float64, for ``bits`` a weight on the mean.

    ``trust``: how much the channels of a layer may differ, from 0 (all alike, as its mean harm says) to 1 (as theirs says).
    """
    shapes = [_shape(part, trust) for part in parts]
    total = sum(part.rows.size for part in parts)
    low, high = -_OCTAVES, _OCTAVES
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        needed = sum(_spent(part, _floored(part, shape * 2.0**middle)) for part, shape in zip(parts, shapes, strict=True))
        low, high = (middle, high) if needed > bits * total else (low, middle)
    return [_floored(part, shape * 2.0**high) for part, shape in zip(parts, shapes, strict=True)]


def coded_bits(integers: Array) -> float:
    """What an ideal coder with one table makes of some integers, in bits."""
    whole = integers.astype(np.int64).reshape(-1)
    counts = np.bincount(whole - whole.min())
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / whole.size)).sum())


def _spent(part: Part, step: Array) -> float:
    """Bits of a part with these steps; coarser than its largest weight means none, whatever the step."""
    bounded = np.maximum(step, _SMALLEST)[:, None]
    return coded_bits(np.clip(np.rint(part.rows / bounded), -part.limit, part.limit))


def _shape(part: Part, trust: float) -> Array:
    """Steps up to a common factor."""
    mean = float(part.harm.mean()) or 1e-30
    harm = np.maximum(part.harm, _LEAST_HARM * mean)
    return np.asarray((harm / mean) ** (-trust / 2) / mean**0.5, np.float64)


def _floored(part: Part, step: Array) -> Array:
    """No step so fine that the largest weight has no integer. Steps are powers of the square root of 2, a quarter of a bit at
    most from what is best: so few values take no room on the wire."""
    needed = np.abs(part.rows).max(axis=1) / part.limit
    exact = np.log2(np.maximum(step, needed)) * _A_OCTAVE
    return np.asarray(2.0 ** (np.where(step > needed, np.rint(exact), np.ceil(exact)) / _A_OCTAVE))
