"""The zoo: its networks answer, and its tones can be told apart."""

from __future__ import annotations

import numpy as np
import pytest

from tests.bench import zoo
from tests.bench.zoo_tones import tones


@pytest.mark.parametrize("name", zoo.MEMBERS)
def test_networks_answer(name: str) -> None:
    torch = pytest.importorskip("torch")
    from tests.bench import zoo_networks

    member = zoo.MEMBERS[name]
    network = getattr(zoo_networks, member.build)().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, *((3, 32, 32) if member.images else (1, 49, 10)))).shape == (2, 10)


def test_tones_depend_on_their_seed_alone() -> None:
    first, again, other = tones(20, 1), tones(20, 1), tones(20, 2)
    assert first.samples.shape == (20, 1, 49, 10)
    assert np.array_equal(first.samples, again.samples)
    assert not np.array_equal(first.samples, other.samples)


def test_tones_can_be_told_apart_but_not_by_their_mean() -> None:
    training, test = tones(600, 1), tones(200, 2)
    spectra = [data.samples.mean(axis=(1, 2)) for data in (training, test)]
    centres = np.stack([spectra[0][training.labels == kind].mean(axis=0) for kind in range(10)])
    nearest = ((spectra[1][:, None] - centres) ** 2).sum(-1).argmin(1)
    assert 0.2 < (nearest == test.labels).mean() < 0.9
