"""Synthetic audio: ten kinds of tones, chirps and beats in noise, as spectrograms of 49 frames by 10 bands."""

from __future__ import annotations

import numpy as np

from tests.bench.cases import Array, Labelled

FRAMES, BANDS, CLASSES = 49, 10, 10


def tones(count: int, seed: int) -> Labelled:
    """``count`` log-spectrograms, (n, 1, 49, 10) float32. The class says which pattern is hidden in the noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    loud = random.uniform(0.2, 0.9, (count, 1, 1))
    power = random.exponential(1.0, (count, FRAMES, BANDS)) + loud * np.stack([_pattern(int(kind), random) for kind in labels])
    return Labelled(np.log(power + 1e-2)[:, None].astype(np.float32), labels.astype(np.int64))


def _pattern(kind: int, random: np.random.Generator) -> Array:
    """(49, 10): a ridge whose band moves with time in one of five ways, steady or beating."""
    time = np.linspace(0, 1, FRAMES)
    low, high = random.uniform(0.5, 3.0), random.uniform(6.0, 8.5)
    ridges = (
        np.full(FRAMES, low),
        np.full(FRAMES, high),
        low + (high - low) * time,
        high - (high - low) * time,
        (low + high) / 2 + (high - low) / 2 * np.sin(2 * np.pi * (2 * time + random.uniform())),
    )
    ridge = np.exp(-((np.arange(BANDS)[None] - ridges[kind % 5][:, None]) ** 2))
    beat = np.ones(FRAMES) if kind < 5 else (np.sin(2 * np.pi * (6 * time + random.uniform())) > 0) * 1.6
    return 2.0 * ridge * beat[:, None]
