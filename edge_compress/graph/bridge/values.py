"""Tensors while a model is being imported: what is known of each before the model runs, found by running it on small sizes.

Every free axis of the inputs is a ``Symbol`` with two trial sizes. A probe is one assignment of sizes; each operator is run on
all of them as it is imported. A value that comes out the same everywhere is a constant; whole numbers that change with the
sizes are written as sums of multiples of them (``Size``), so that they can be computed when the model runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import onnx
import torch
from torch import Tensor, fx

MOST_SIZES = 64
"""elements of the longest vector of whole numbers that counts as sizes"""
BATCH = "batch"
LENGTHS = ((64, 96), (16, 24), (256, 320), (1024, 1280), (16000, 17600))
"""trial sizes of free axes other than the batch: the first pair with which a model runs is taken"""


@dataclass(frozen=True)
class Symbol:
    """A free axis of the inputs: where it is read when the model runs, its size in most probes, and in the one that varies it."""

    name: str
    input: int
    axis: int
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Size:
    """``constant`` + the sum of times x the size of symbol number ``index``."""

    constant: int
    terms: tuple[tuple[int, int], ...] = ()
    """(index, times)"""


@dataclass(frozen=True)
class Value:
    """One tensor. ``probes`` holds it for each probe: its true values where ``known``, otherwise only shape and type count."""

    name: str
    probes: tuple[Tensor, ...]
    known: bool = False
    stored: bool = False
    """it is a tensor of the file, or one seen from another side, rather than something computed"""
    node: fx.Node | None = None

    @property
    def constant(self) -> Tensor | None:
        """The values, where they are the same in every probe."""
        first = self.probes[0]
        if not self.known or not all(item is first or _same(item, first) for item in self.probes[1:]):
            return None
        return first

    @property
    def shape(self) -> tuple[int, ...]:
        """In the first probe."""
        return tuple(self.probes[0].shape)


def symbols_of(inputs: Sequence[onnx.ValueInfoProto], length: tuple[int, int], *, free_batch: bool) -> tuple[Symbol, ...]:
    """Every free axis once. ``length``: trial sizes of the axes that are not the batch. The first axis of every input is the
    batch; where the file fixes it, it is still tried at two sizes if ``free_batch``."""
    found: dict[str, Symbol] = {}
    for index, item in enumerate(inputs):
        for axis, dim in enumerate(item.type.tensor_type.shape.dim):
            fixed = dim.HasField("dim_value")
            if axis == 0 and free_batch:
                start = dim.dim_value if fixed else 2
                found.setdefault(BATCH, Symbol(BATCH, index, 0, (start, start + 1)))
            elif not fixed:
                name = BATCH if axis == 0 else dim.dim_param or f"{index}.{axis}"
                found.setdefault(name, Symbol(name, index, axis, (2, 3) if axis == 0 else length))
    return tuple(found.values())


def assignments(symbols: Sequence[Symbol]) -> list[dict[str, int]]:
    """Sizes by symbol for each probe: all at their first size, then one after the other at its second."""
    base = {item.name: item.sizes[0] for item in symbols}
    probes = [base, *({**base, item.name: item.sizes[1]} for item in symbols)]
    if len(symbols) > 1:
        probes.append({item.name: item.sizes[1] for item in symbols})
    return probes


def input_shape(item: onnx.ValueInfoProto, index: int, sizes: Mapping[str, int]) -> list[int]:
    """The shape of one input in a probe."""
    shape = []
    for axis, dim in enumerate(item.type.tensor_type.shape.dim):
        name = BATCH if axis == 0 else dim.dim_param or f"{index}.{axis}"
        fixed = dim.HasField("dim_value") and not (axis == 0 and BATCH in sizes)
        shape.append(int(dim.dim_value) if fixed else sizes[name])
    return shape


def blank(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros that take no memory."""
    return torch.zeros((), dtype=dtype).expand(tuple(shape))


def as_sizes(probes: Sequence[Tensor], symbols: Sequence[Symbol]) -> tuple[Size, ...] | None:
    """The values as sizes, or None where they are not whole numbers, too many, or no sum of multiples of the symbols."""
    first = probes[0]
    plain = first.dtype in (torch.int64, torch.int32) and first.dim() <= 1 and first.numel() <= MOST_SIZES
    if not plain or any(item.shape != first.shape for item in probes):
        return None
    rows = [item.reshape(-1).tolist() for item in probes]
    found = [_size([row[index] for row in rows], symbols) for index in range(first.numel())]
    return None if None in found else tuple(item for item in found if item is not None)


def _size(seen: Sequence[int], symbols: Sequence[Symbol]) -> Size | None:
    """``seen``: the number in each probe, in the order of ``assignments``."""
    constant, terms = seen[0], []
    for index, symbol in enumerate(symbols):
        times = Fraction(seen[index + 1] - seen[0], symbol.sizes[1] - symbol.sizes[0])
        if times.denominator != 1:
            return None
        if times:
            terms.append((index, int(times)))
            constant -= int(times) * symbol.sizes[0]
    everything = constant + sum(times * symbols[index].sizes[1] for index, times in terms)
    return Size(constant, tuple(terms)) if everything == seen[-1] else None


def _same(left: Tensor, right: Tensor) -> bool:
    alike: Any = left.shape == right.shape and left.dtype == right.dtype
    return bool(alike) and (torch.equal(left, right) or bool(left.isnan().any() and torch.allclose(left, right, equal_nan=True)))
