"""Inner maps: found by size, compared by hints or attention, with gradients, and gone without a trace afterwards."""

from __future__ import annotations

import pytest
import torch
from edge_compress_distill.graphs import traced
from edge_compress_distill.matching import Energy, match, students_maps, teachers_maps, unmatch
from edge_compress_distill.repvgg import RepVgg

from edge_compress.graph.bridge.maps import Taps, map_loss
from edge_compress.graph.bridge.teacher import Teacher
from edge_compress.plugin import ImageTask
from tests.unit.plugins.teachers import images, teacher

INPUTS = [torch.from_numpy(images(6, size=16))]


def student() -> torch.fx.GraphModule:
    return traced(RepVgg().build(ImageTask(3, 16, 16, 5), 0.25, seed=0))


def test_maps_of_one_size_find_each_other() -> None:
    theirs, ours = teachers_maps(teacher(), INPUTS), students_maps(student(), INPUTS)
    assert theirs == {(16, 16): ("wide", 8), (8, 8): ("deep", 16)}
    assert {places for places in ours if min(places) > 1} == {(16, 16), (8, 8)}


@pytest.mark.parametrize("kind", ["hints", "attention"])
def test_their_loss_reaches_the_students_weights(kind: str) -> None:
    graph = student()
    names = match(graph, kind, teachers_maps(teacher(), INPUTS), students_maps(graph, INPUTS), seed=0)
    taps = Taps(graph, names)
    graph(*INPUTS)
    loss = map_loss(taps.seen, Teacher(teacher(), maps=names).answer(INPUTS)[1])
    loss.backward()
    first = next(item for name, item in graph.named_parameters() if name.endswith("three.0.weight"))
    assert names == ("wide", "deep")
    assert float(loss.detach()) > 0
    assert first.grad is not None
    assert float(first.grad.abs().max()) > 0


@pytest.mark.parametrize("kind", ["hints", "attention"])
def test_listeners_change_no_answer_and_leave(kind: str) -> None:
    graph = student()
    before, kept = graph.eval()(*INPUTS), set(graph.state_dict())
    match(graph, kind, teachers_maps(teacher(), INPUTS), students_maps(graph, INPUTS), seed=0)
    assert torch.equal(graph.eval()(*INPUTS), before)
    unmatch(graph)
    assert torch.equal(graph(*INPUTS), before)
    assert set(graph.state_dict()) == kept


def test_energy_knows_places_and_no_channels() -> None:
    maps = torch.randn(2, 7, 4, 4, generator=torch.Generator().manual_seed(0))
    shuffled = maps[:, torch.randperm(7, generator=torch.Generator().manual_seed(1))]
    assert torch.allclose(Energy()(maps), Energy()(shuffled))
    assert Energy()(maps).square().squeeze(1) == pytest.approx(maps.square().mean(1).numpy(), rel=1e-4)
