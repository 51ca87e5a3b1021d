"""Every registered strategy, whatever plugin brings it, on random networks of every kind in every odd form.

It may say no with a reason, or fail with an error of its own that says what it cannot take. Else what it makes passes the
checker, loads packed as it would be delivered, keeps the interface, computes finite numbers as close as it promises, and is
the same bytes when made again. ``EDGE_COMPRESS_EXAMPLES`` sets the number of networks for each strategy, for long campaigns.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_compress.graph.check import MAX_OPSET, MIN_OPSET
from edge_compress.plugin.registry import Registry
from tests.property.bench import Bench, Refused, first_difference
from tests.property.building import Network
from tests.property.disguises import DISGUISES, disguised, fixed
from tests.property.families import FAMILIES, family

REGISTRY = Registry.load(strict=True)
EXAMPLES = int(os.environ.get("EDGE_COMPRESS_EXAMPLES", "0"))
FEW, FEWER = EXAMPLES or 10, EXAMPLES or 3

NETWORKS = st.tuples(
    st.sampled_from(sorted(FAMILIES)),
    st.integers(0, 2**16),
    st.integers(MIN_OPSET, min(MAX_OPSET, 25)),
    st.sampled_from(("", *sorted(DISGUISES))),
    st.sampled_from((0, 0, 0, 1, 4)),
)


@pytest.mark.parametrize("name", sorted(REGISTRY.strategies))
def test_it_says_no_or_keeps_its_word(name: str) -> None:
    strategy = REGISTRY.strategies[name]
    count = FEWER if strategy.requires.training else FEW

    @settings(max_examples=count, deadline=None, derandomize=not EXAMPLES, database=None)
    @given(NETWORKS, st.integers(0, 7))
    def holds(described: tuple[str, int, int, str, int], which: int) -> None:
        keeps_its_word(strategy, drawn(described), which)

    holds()


FOUND = (
    ("quantize.dynamic", ("sequence", 64569, 15, "spelled_out", 1), 6),  # an LSTM of an opset that gives it a layout
    ("quantize.static", ("any_size", 42529, 19, "alike", 4), 3),  # a layer whose node is named as another's tensor
    ("cluster.weights", ("tokens", 3, 17, "", 0), 0),  # a mask of minus infinities among the weights
    ("prune.structured", ("tokens", 18539, 20, "alike", 0), 0),  # maps whose channels are the last axis, and are cut
    ("prune.structured", ("sound", 40339, 18, "listed", 0), 3),  # one convolution at two resolutions, whose maps are watched
)
"""networks on which strategies failed once, and what was special about them"""


@pytest.mark.parametrize(("name", "described", "which"), FOUND, ids=str)
def test_what_failed_once_does_not_again(name: str, described: tuple[str, int, int, str, int], which: int) -> None:
    keeps_its_word(REGISTRY.strategies[name], drawn(described), which)


def drawn(described: tuple[str, int, int, str, int]) -> Network:
    kind, seed, opset, form, batch = described
    network = disguised(family(kind, seed, opset), form)
    return fixed(network, batch) if batch else network


def keeps_its_word(strategy: Any, network: Network, which: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(REGISTRY, network, Path(folder))
        try:
            made = bench.made(strategy, which)
        except Refused:
            return
        assert first_difference(bench.facts, made.facts) == ""
        assert made.error <= made.allowed, f"{made.params}: error {made.error:.3g}, promised {made.allowed:.3g}"
        assert made.bytes <= 1.3 * bench.packed_bytes + 12_000, f"{bench.packed_bytes} bytes became {made.bytes}"
        if which % 3 == 0:
            assert bench.made(strategy, which).sha256 == made.sha256, "made again, it is other bytes"
