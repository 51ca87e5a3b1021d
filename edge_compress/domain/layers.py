"""The layers of a model, before and after compression, side by side: which layer of the artifact comes from which of the
original, and what each cost then and now.

Layers keep their names through most steps; where one is split its parts carry its name with a suffix (``conv1/0``), and where
all names are lost the order still tells. Measuring is left to ``worker.layers``. What is unknown is None, never zero.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_compress.domain.model import LayerFacts

EVERYTHING_ELSE = "everything else"
"""name of the entry that holds the time of all nodes that are no layers: additions, reshapes, conversions between formats"""
MOST_LAYERS = 200
"""layers told one by one; of larger models those that cost most"""
MOST_SAMPLES = 32
"""on which a layer is probed"""
_MACS_PER_SECOND, _BYTES_PER_SECOND, _START_SECONDS = 20e9, 200e6, 0.01
"""nominal speeds, the same on every machine, by which probing is planned: the same model is probed the same way everywhere"""
_FAMILIES = {"Conv": ("conv",), "Gemm": ("matmul", "gemm")}


@dataclass(frozen=True)
class LayerReport:
    """One layer of the original, for a batch of one, and what became of it in the chosen artifact."""

    name: str
    op: str
    macs: int = 0
    """multiply-accumulates in the original"""
    bytes: int = 0
    """of its weights in the original"""
    bytes_after: int | None = None
    """of its weights in the artifact, scales and zero points included"""
    seconds: float | None = None
    """measured by the runtime's own profiler: the original under the profile's settings"""
    seconds_after: float | None = None
    sensitivity: float | None = None
    """error of the answers, as a share of their own size, when this layer alone has 4-bit weights and an 8-bit input"""
    note: str = ""


@dataclass(frozen=True)
class Timed:
    """Seconds of one inference by layer name, and of everything that is no layer."""

    layers: Mapping[str, float] = field(default_factory=dict)
    rest: float | None = None


@dataclass(frozen=True)
class Effort:
    """Which layers to probe for their sensitivity, by name, and on how many samples."""

    names: tuple[str, ...]
    samples: int


def effort(layers: Sequence[LayerFacts], seconds: float) -> Effort:
    """What fits into nominal ``seconds``: all layers with weights on as many samples as possible, else the heaviest on one."""
    weighted = [index for index, layer in enumerate(layers) if layer.weight_count and layer.macs]
    fixed = {at: _START_SECONDS + sum(item.weight_bytes for item in layers[at:]) / _BYTES_PER_SECOND for at in weighted}
    each = {at: sum(item.macs for item in layers[at:]) / _MACS_PER_SECOND for at in weighted}
    left = seconds - sum(fixed.values())
    samples = int(left / max(sum(each.values()), 1e-9))
    if samples >= 1:
        return Effort(tuple(layers[at].name for at in weighted), min(MOST_SAMPLES, samples))
    taken, spent = [], 0.0
    for at in sorted(weighted, key=lambda at: -layers[at].weight_bytes):
        if spent + fixed[at] + each[at] <= seconds:
            taken.append(at)
            spent += fixed[at] + each[at]
    return Effort(tuple(layers[at].name for at in sorted(taken)), 1)


def side_by_side(
    before: Sequence[LayerFacts],
    after: Sequence[LayerFacts],
    *,
    timed: Timed = Timed(),
    timed_after: Timed = Timed(),
    sensitivity: Mapping[str, float] | None = None,
) -> tuple[LayerReport, ...]:
    """Every layer of the original in its order, at most ``MOST_LAYERS``, and the time of everything else where it is known.

    Where no layer of ``after`` comes from one of the original's (another network was trained), all its time is everything else's.
    """
    parts = _parts(before, after)
    reports = []
    for index, layer in enumerate(before):
        own, name = parts.get(index, []), layer.name
        size = sum(item.weight_bytes for item in own) if own else None
        now = _sum([timed_after.layers.get(item.name) for item in own])
        was, error = timed.layers.get(name), (sensitivity or {}).get(name)
        note = _note(layer, own) if parts else ""
        reports.append(LayerReport(name, layer.op, layer.macs, layer.weight_bytes, size, was, now, error, note))
    return _heaviest(reports) + _rest(timed, timed_after if parts else _in_all(timed_after))


def _parts(before: Sequence[LayerFacts], after: Sequence[LayerFacts]) -> dict[int, list[LayerFacts]]:
    """The layers of ``after`` by the index of the one that they come from."""
    parts: dict[int, list[LayerFacts]] = {}
    for layer, origin in zip(after, origins(before, after), strict=True):
        if origin is not None:
            parts.setdefault(origin, []).append(layer)
    return parts


def origins(before: Sequence[LayerFacts], after: Sequence[LayerFacts]) -> list[int | None]:
    """For each layer of ``after`` the index of the one of ``before`` that it comes from, by name, else by order."""
    found = [_by_name(layer.name, before) for layer in after]
    taken = {index for index in found if index is not None}
    for at, index in enumerate(found):
        if index is not None and not before[index].macs and after[at].macs:
            found[at] = _worker_before(index, before, taken)
    return _by_order(before, after, found)


def same_layers(named: Sequence[LayerFacts], packed: Sequence[LayerFacts]) -> dict[str, str]:
    """Name in ``packed`` -> name in ``named``, for two files of one model of which one has lost its names.

    Nothing unless both hold the same kinds of layers in the same order. Their costs may differ: packing stores equal tensors once
    and may widen a layer to what the runtime's kernels like.
    """
    if [layer.op for layer in named] != [layer.op for layer in packed]:
        return {}
    return {there.name: here.name for here, there in zip(named, packed, strict=True)}


def _by_name(name: str, before: Sequence[LayerFacts]) -> int | None:
    """The layer of this name, else the longest name of which this one is an extension (``conv1/0``, ``conv1_quant``)."""
    best: int | None = None
    for index, layer in enumerate(before):
        if layer.name == name:
            return index
        extended = name.startswith(layer.name) and not name[len(layer.name)].isalnum()
        if extended and (best is None or len(layer.name) > len(before[best].name)):
            best = index
    return best


def _worker_before(index: int, before: Sequence[LayerFacts], taken: set[int]) -> int:
    """A fused layer often carries the name of the bias or normalisation behind it: the arithmetic is its predecessor's."""
    previous = index - 1
    while previous >= 0 and not before[previous].macs:
        previous -= 1
    return previous if previous >= 0 and previous not in taken else index


def _by_order(before: Sequence[LayerFacts], after: Sequence[LayerFacts], found: Sequence[int | None]) -> list[int | None]:
    """Give the layers that no name placed to those of the same family that none was found for, where there are as many."""
    placed = list(found)
    taken = {index for index in found if index is not None}
    for family in {_family(layer) for layer in after}:
        free = [index for index, layer in enumerate(before) if index not in taken and layer.macs and _family(layer) == family]
        lost = [at for at, index in enumerate(found) if index is None and after[at].macs and _family(after[at]) == family]
        if len(free) == len(lost):
            for at, index in zip(lost, free, strict=True):
                placed[at] = index
    return placed


def _family(layer: LayerFacts) -> str:
    op = layer.op.lower()
    return next((family for family, words in _FAMILIES.items() if any(word in op for word in words)), layer.op)


def _note(layer: LayerFacts, own: Sequence[LayerFacts]) -> str:
    if len(own) == 1 and own[0].op == layer.op:
        return ""
    if not own:
        return "folded into its neighbour" if not layer.macs else "no layer of the artifact comes from it"
    ops = [f"{len(list(group))} {op}" if len(own) > 1 else op for op, group in itertools.groupby(item.op for item in own)]
    return f"now {', '.join(ops)}"


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _heaviest(reports: Sequence[LayerReport]) -> tuple[LayerReport, ...]:
    if len(reports) <= MOST_LAYERS:
        return tuple(reports)
    bytes_, macs = sum(item.bytes for item in reports) or 1, sum(item.macs for item in reports) or 1
    order = sorted(range(len(reports)), key=lambda at: -(reports[at].bytes / bytes_ + reports[at].macs / macs))
    return tuple(reports[at] for at in sorted(order[:MOST_LAYERS]))


def _in_all(timed: Timed) -> Timed:
    return Timed({}, _sum([timed.rest, *timed.layers.values()]))


def _rest(timed: Timed, timed_after: Timed) -> tuple[LayerReport, ...]:
    if timed.rest is None and timed_after.rest is None:
        return ()
    return (LayerReport(EVERYTHING_ELSE, "", seconds=timed.rest, seconds_after=timed_after.rest),)
