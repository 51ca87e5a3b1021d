"""Declared data as a model's inputs: checked once in full, then streamed in batches; never a whole array in memory.

An input's samples are the array of its name, or ``x`` for a model with one input; ``y`` holds labels. Other arrays in the file
are left alone. Reading bytes is left to ``npz``, axis order and arithmetic to ``layout``.
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_compress.domain.model import DataFacts, TensorFacts
from edge_compress.domain.spec import Preprocess
from edge_compress.errors import InvalidData, Violation
from edge_compress.graph.batch import Batch
from edge_compress.graph.labels import LABELS, count_classes
from edge_compress.graph.layout import Conversion, decide
from edge_compress.graph.npz import BadMember, Member, read_members

Array = np.ndarray[Any, Any]

WINDOW_BYTES = 48 * 2**20
"""stored bytes of the samples among which ``shuffled`` picks"""


@dataclass(frozen=True)
class Samples:
    """The samples of one data file for one model. Made by ``open``; safe to read from several threads."""

    role: str
    members: Mapping[str, Member]
    """by the model's input name"""
    conversions: Mapping[str, Conversion]
    labels: Member | None
    rows: int
    fixed_batch: int | None
    """the only batch size the model takes, or None where it takes any"""

    @classmethod
    def open(cls, path: Path, inputs: Sequence[TensorFacts], preprocess: Preprocess, role: str = "calibration") -> Samples:
        """Read the headers and settle how arrays become inputs. Raises InvalidData that names the array and what was expected."""
        arrays = _arrays(path, role)
        named = {item.name: _array_for(item, arrays, single=len(inputs) == 1, role=role) for item in inputs}
        if not named:
            raise _wrong(role, "", "the model has no inputs that data could feed")
        conversions = {item.name: _conversion(named[item.name], item, preprocess, role) for item in inputs}
        taken = {member.name for member in named.values()}
        labels = None if LABELS in taken or LABELS not in arrays else _usable(arrays[LABELS], role)
        rows = _common_rows([*named.values(), *([labels] if labels else [])], role)
        fixed = _fixed_batch(inputs, role)
        if fixed is not None and rows < fixed:
            raise _wrong(role, "", f"read {rows} samples, expected at least {fixed}, the model's fixed batch")
        return cls(role, named, conversions, labels, rows, fixed)

    def __len__(self) -> int:
        return self.rows

    def facts(self, metric_needs_labels: bool = False, outputs: Sequence[TensorFacts] = ()) -> DataFacts:
        """Read every value once and check it: finite, fitting the input's type, labels within the classes of ``outputs``.

        Raises InvalidData that names the array, the first bad sample where there is one, and what was expected.
        """
        try:
            for name, member in self.members.items():
                self._check_inputs(member, self.conversions[name])
            classes = count_classes(self.labels, needed=metric_needs_labels, outputs=outputs)
        except BadMember as bad:
            raise _wrong(self.role, bad.name, bad.said) from bad
        return DataFacts(samples=self.rows, labelled=self.labels is not None, classes=classes)

    def batches(self, batch_size: int, limit: int | None = None, skip: int = 0) -> Iterator[Batch]:
        """Samples in file order from ``skip`` on, at most ``limit`` of them. The last batch may be smaller.

        A model with a fixed batch gets batches of that size only: what is left over is dropped, and ``limit`` is rounded down
        to whole batches, to one at least.
        """
        size = self.fixed_batch or max(1, batch_size)
        if limit is not None and self.fixed_batch:
            limit = max(1, limit // size) * size
        for rows, labels in self._stored(size, skip, limit):
            batch = self._batch(rows, labels)
            if not self.fixed_batch or len(batch) == size:
                yield batch

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """One pass over all samples in an order that (seed, epoch) decides: each batch is drawn from a window of the file.

        The window holds ``WINDOW_BYTES`` of stored samples, all of a smaller file. Batches are as those of ``batches``.
        """
        size = self.fixed_batch or max(1, batch_size)
        random = np.random.default_rng([seed, epoch])
        stored = self._columns(size)
        waiting = _stack(list(itertools.islice(stored, max(1, self._window_rows() // size))))
        for chunk in stored:
            yield self._from_columns(_exchange(waiting, chunk, random))
        yield from self._drain(waiting, size, random)

    @property
    def well_shuffled(self) -> bool:
        """Whether ``shuffled`` draws from the whole file and leaves no sample out, so that its beginning stands for all of it."""
        return self._window_rows() >= self.rows and not self.fixed_batch

    def _drain(self, waiting: list[Array], size: int, random: np.random.Generator) -> Iterator[Batch]:
        order = random.permutation(len(waiting[0]))
        for start in range(0, len(order), size):
            picked = order[start : start + size]
            yield self._from_columns([column[picked] for column in waiting])

    def _window_rows(self) -> int:
        return max(1, WINDOW_BYTES // sum(member.row_bytes for member in self._all()))

    def _all(self) -> list[Member]:
        return [*self.members.values(), *([self.labels] if self.labels else [])]

    def _columns(self, size: int) -> Iterator[list[Array]]:
        whole = self.rows - self.rows % size if self.fixed_batch else self.rows
        for rows, labels in self._stored(size, 0, whole):
            yield [*rows, *([labels] if labels is not None else [])]

    def _from_columns(self, columns: Sequence[Array]) -> Batch:
        count = len(self.members)
        return self._batch(columns[:count], columns[count] if self.labels else None)

    def _stored(self, size: int, skip: int, limit: int | None) -> Iterator[tuple[list[Array], Array | None]]:
        streams = [member.chunks(size, skip=skip, limit=limit) for member in self._all()]
        try:
            for columns in zip(*streams, strict=True):
                rows = list(columns[: len(self.members)])
                yield rows, columns[-1] if self.labels else None
        except BadMember as bad:
            raise _wrong(self.role, bad.name, bad.said) from bad

    def _batch(self, rows: Sequence[Array], labels: Array | None) -> Batch:
        inputs = {}
        for (name, member), stored in zip(self.members.items(), rows, strict=True):
            try:
                inputs[name] = self.conversions[name].apply(stored)
            except ValueError as error:
                raise _wrong(self.role, member.name, str(error)) from error
        return Batch(inputs, None if labels is None else _flat(labels))

    def _check_inputs(self, member: Member, conversion: Conversion) -> None:
        for start, rows in member.numbered():
            try:
                values = conversion.apply(rows)
            except ValueError as error:
                raise BadMember(member.name, str(error)) from error
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                bad = start + int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(axis=1)))
                raise BadMember(member.name, f"sample {bad} holds NaN or infinity, expected finite numbers")


def _stack(chunks: Sequence[Sequence[Array]]) -> list[Array]:
    return [np.concatenate(column) for column in zip(*chunks, strict=True)]


def _exchange(waiting: Sequence[Array], chunk: Sequence[Array], random: np.random.Generator) -> list[Array]:
    """Draw as many rows from the window as ``chunk`` holds and put the chunk in their place."""
    places = random.choice(len(waiting[0]), len(chunk[0]), replace=False)
    drawn = [column[places] for column in waiting]
    for column, fresh in zip(waiting, chunk, strict=True):
        column[places] = fresh
    return drawn


def _arrays(path: Path, role: str) -> Mapping[str, Member | BadMember]:
    try:
        arrays = read_members(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise _wrong(role, "", f"{path.name} is not a readable .npz file ({error})") from error
    if not arrays:
        raise _wrong(role, "", f"{path.name} holds no arrays")
    return arrays


def _array_for(wanted: TensorFacts, arrays: Mapping[str, Member | BadMember], *, single: bool, role: str) -> Member:
    names = [wanted.name, "x"] if single else [wanted.name]
    for name in names:
        if name in arrays:
            return _usable(arrays[name], role)
    held, expected = ", ".join(sorted(arrays)), " or ".join(repr(name) for name in names)
    raise _wrong(role, "", f"read arrays {held}, expected one called {expected} for the model's input")


def _usable(member: Member | BadMember, role: str) -> Member:
    if isinstance(member, BadMember):
        raise _wrong(role, member.name, member.said) from member
    return member


def _conversion(member: Member, wanted: TensorFacts, preprocess: Preprocess, role: str) -> Conversion:
    try:
        return decide(member.row_shape, member.dtype, wanted, preprocess)
    except ValueError as error:
        raise _wrong(role, member.name, str(error)) from error


def _common_rows(members: Sequence[Member], role: str) -> int:
    rows = {member.name: member.rows for member in members}
    if len(set(rows.values())) > 1:
        held = ", ".join(f"{name}: {count}" for name, count in rows.items())
        raise _wrong(role, "", f"read {held} samples, expected as many in every array")
    count = next(iter(rows.values()))
    if count == 0:
        raise _wrong(role, members[0].name, "is empty, expected at least one sample")
    return count


def _fixed_batch(inputs: Sequence[TensorFacts], role: str) -> int | None:
    fixed = {item.shape[0] for item in inputs if item.shape and isinstance(item.shape[0], int)}
    if len(fixed) > 1:
        raise _wrong(role, "", f"the model's inputs take batches of {sorted(fixed)}, expected one size for all")
    return fixed.pop() if fixed else None


def _flat(labels: Array) -> Array:
    return labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels


def _wrong(role: str, array: str, said: str) -> InvalidData:
    field = f"spec.data.{role}"
    text = f"array {array!r}: {said}" if array else said
    return InvalidData(f"{field}: {text}", violations=(Violation(field, text),))
