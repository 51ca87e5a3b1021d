"""Groups on networks whose right answer is known: what must go together does, and what cannot be cut stays whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from edge_compress_prune.structured_costs import costs_of, layers_of
from edge_compress_prune.structured_groups import Group, Silence, cut, find_groups
from edge_compress_prune.structured_repair import Repair
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.leave, self.head = nn.Conv2d(6, 8, 3, padding=1), nn.Linear(8 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        x = (x + self.leave(self.inner(x).relu())).relu()
        return self.head(nn.functional.avg_pool2d(x, 4).flatten(1))


class Joined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)
        self.each, self.norm = nn.Conv2d(10, 10, 3, padding=1, groups=10), nn.BatchNorm2d(10)
        self.last = nn.Conv2d(10, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        return self.last(self.norm(self.each(both)).sigmoid())


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.plain, self.end = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = y.reshape(len(y), 2, 4, 8, 8).transpose(1, 2).reshape(len(y), 8, 8, 8)
        return self.last(y) + self.end(self.plain(x).sigmoid())


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1, groups=2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def images(count: int = 2) -> list[Tensor]:
    return [torch.from_numpy(np.random.default_rng(1).standard_normal((count, 3, 8, 8)).astype(np.float32))]


def by_name(groups: list[Group]) -> dict[str, int]:
    return {group.name: group.channels for group in groups}


def test_a_residual_sum_is_one_group_and_the_output_is_none() -> None:
    groups, left_out = find_groups(made(Residual), images())
    sums = next(group for group in groups if group.channels == 8)
    assert {part.path for part in sums.parts} == {"enter", "leave", "inner", "head"}
    assert sorted(group.channels for group in groups) == [6, 8]
    assert left_out == []


def test_cutting_gives_what_silencing_gives_after_flatten_too() -> None:
    module, inputs = made(Residual), images()
    group = next(item for item in find_groups(module, inputs)[0] if item.channels == 8)
    with torch.no_grad(), Silence(module, group, [1, 6]):
        wanted = module(*inputs)
    before = module(*inputs)
    cut(module, inputs, {group.name: [1, 6]})
    assert torch.allclose(module(*inputs), wanted, atol=1e-5)
    assert not torch.allclose(before, wanted, atol=1e-3)
    assert module.head.in_features == 6 * 4
    assert module.leave.out_channels == module.enter.out_channels == 6


def test_silence_ends() -> None:
    module, inputs = made(Residual), images()
    group = find_groups(module, inputs)[0][0]
    before = module(*inputs)
    with Silence(module, group, range(group.channels)):
        assert not torch.equal(module(*inputs), before)
    assert torch.equal(module(*inputs), before)


def test_concat_depthwise_and_batch_norm_follow() -> None:
    module, inputs = made(Joined), images()
    groups, _ = find_groups(module, inputs)
    assert by_name(groups) == {"each": 10}
    cut(module, inputs, {"each": [0, 6, 7]})
    assert (module.left.out_channels, module.right.out_channels) == (3, 4)
    assert (module.each.groups, module.norm.num_features, module.last.in_channels) == (7, 7, 7)
    assert module(*inputs).shape == (2, 2, 8, 8)


@pytest.mark.parametrize(("kind", "who"), [(Shuffled, "first"), (Grouped, "first")])
def test_channels_that_are_mixed_stay_whole_with_the_reason(kind: type[nn.Module], who: str) -> None:
    groups, left_out = find_groups(made(kind), images())
    assert who not in by_name(groups)
    assert any(line.startswith(f"{who} keeps its 8 channels: ") for line in left_out)


def test_one_bad_group_does_not_spoil_the_others() -> None:
    assert "plain" in by_name(find_groups(made(Shuffled), images())[0])


def test_costs_are_those_of_one_sample_and_follow_a_cut() -> None:
    module, inputs = made(Residual), images(4)
    assert costs_of(module, inputs, "macs")["inner"] == 8 * 8 * 9 * 8 * 6
    assert costs_of(module, inputs, "weights")["head"] == 32 * 5
    groups, _ = find_groups(module, inputs)
    inner = next(group for group in groups if group.channels == 6)
    predicted = sum(layer.now({inner.name: 0.5}) for layer in layers_of(module, groups, inputs, "macs"))
    cut(module, inputs, {inner.name: [0, 2, 4]})
    assert sum(costs_of(module, inputs, "macs").values()) == pytest.approx(predicted)


def test_readers_learn_what_channels_said_that_others_say_too() -> None:
    module, inputs = made(Residual), images(8)
    with torch.no_grad():
        module.inner.weight[3], module.inner.bias[3] = 2 * module.inner.weight[1], 2 * module.inner.bias[1]
    group = next(item for item in find_groups(module, inputs)[0] if item.channels == 6)
    before = module(*inputs)
    Repair(module, [group], [inputs]).compensate(group, [3])
    cut(module, inputs, {group.name: [3]})
    assert torch.allclose(module(*inputs), before, atol=0.02 * float(before.detach().abs().max()))


class Wide(nn.Module):
    """Eight numbers, 64 channels, four numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(8, 64), nn.Linear(64, 4)

    def forward(self, x):
        return self.head(torch.relu(self.inner(x)))


def test_what_a_channel_says_always_goes_into_the_offset_of_its_readers() -> None:
    module, inputs = made(Residual), images(8)
    with torch.no_grad():
        module.inner.weight[3], module.inner.bias[3] = 0.0, 1.7  # nothing but a constant, which no other channel says
    group = next(item for item in find_groups(module, inputs)[0] if item.channels == 6)
    before = module(*inputs)
    Repair(module, [group], [inputs]).compensate(group, [3])
    cut(module, inputs, {group.name: [3]})
    after = module(*inputs)
    inside = float((after - before).detach().abs().max())
    assert inside < 0.1 * float(before.detach().abs().max()), "places at the border read fewer of it"


def test_few_samples_repair_little_of_many_channels() -> None:
    torch.manual_seed(0)
    module = made(Wide)
    group = next(item for item in find_groups(module, [torch.randn(2, 8)])[0] if item.channels == 64)

    def changed(samples: int) -> float:
        reader = module.get_submodule(group.readers[0].path)
        before = reader.weight.detach().clone()
        repair = Repair(module, [group], [[torch.randn(samples, 8)]])
        with Silence(module, group, list(range(8)), lambda: repair.compensate(group, list(range(8)))):
            return float((reader.weight - before)[:, 8:].detach().norm())

    assert changed(4) < 0.5 * changed(4000)
