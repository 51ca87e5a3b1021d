"""One factorisation from model to model: find layers, look at data, choose ranks, write the graph."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import onnx

from edge_compress.graph.tidy import tidied
from edge_compress.plugin import Context
from edge_compress_lowrank.factors import Split, output_energy, split
from edge_compress_lowrank.layers import Layer, find_layers
from edge_compress_lowrank.moments import Moment, observe
from edge_compress_lowrank.probe import HELD_OUT, Probe
from edge_compress_lowrank.ranks import Choice, by_energy, by_ratio, may_pay, menu
from edge_compress_lowrank.rewrite import rewrite
from edge_compress_lowrank.svd import SvdParams
from edge_compress_lowrank.ways import WAYS

_OLDEST_IR = 4
"""the first in which a constant need not be listed as an input"""


def factorise(model: onnx.ModelProto, params: SvdParams, context: Context) -> onnx.ModelProto:
    """A new model. Raises ValueError when nothing pays."""
    tidy = tidied(model)
    layers = find_layers(tidy, params.exclude)
    worthwhile = [layer for layer in layers if may_pay(layer, params.round_to)]
    if not worthwhile:
        raise ValueError(f"factors of rank {params.round_to} or more pay for none of the model's {len(layers)} layers")
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        shelf = _Shelf(Path(folder))
        chosen = _choose(layers, _known_menus(tidy, worthwhile, shelf, params, context), params)
        splits = dict(_splits(worthwhile, chosen, shelf))
    for line in _account(layers, chosen):
        context.log(line)
    rewrite(tidy, splits)
    tidy.ir_version = max(tidy.ir_version, _OLDEST_IR)
    return tidied(tidy)


class _Shelf:
    """Moments on disk until they are needed a second time: covariances of all layers together may not fit in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Path] = {}

    def put(self, layer: Layer, moment: Moment) -> None:
        path = self._folder / f"moment{len(self._files)}.npz"
        arrays = [moment.mean] if moment.second is None else [moment.mean, moment.second]
        np.savez(path, *arrays)
        self._files[layer.key] = path

    def take(self, layer: Layer) -> Moment:
        path = self._files.pop(layer.key)
        with np.load(path) as stored:
            moment = Moment(*(stored[name] for name in stored.files))
        path.unlink()
        return moment


def _known_menus(
    model: onnx.ModelProto, layers: list[Layer], shelf: _Shelf, params: SvdParams, context: Context
) -> dict[str, list[Choice]]:
    """The menus, measured once for all ratios and targets. Fills the shelf in any case."""
    plan = {"round_to": params.round_to, "samples": params.samples, "layers": [layer.key for layer in layers]}
    kind = "moved" if params.whiten and params.energy is None else "lost" if params.whiten else "weights"
    measured: dict[str, list[Choice]] = {}

    def measure() -> bytes:
        measured.update(_menus(model, layers, shelf, params, context))
        return json.dumps({key: [asdict(item) for item in choices] for key, choices in measured.items()}).encode()

    stored = context.cached(f"menus by {kind}: {json.dumps(plan, sort_keys=True)}", measure)
    if not measured:
        for layer, moment in _moments(model, layers, params, context):
            shelf.put(layer, moment)
    plain = json.loads(stored)
    return {key: [Choice(**{**item, "ranks": tuple(item["ranks"])}) for item in choices] for key, choices in plain.items()}


def _menus(
    model: onnx.ModelProto, layers: list[Layer], shelf: _Shelf, params: SvdParams, context: Context
) -> dict[str, list[Choice]]:
    """What each layer could be, with each moment put on the shelf. Harm is measured only where it decides something."""
    probe = Probe(model, context) if params.whiten and params.energy is None else None
    menus = {}
    for number, (layer, moment) in enumerate(_moments(model, layers, params, context)):
        shelf.put(layer, moment)
        menus[layer.key] = menu(layer, moment, params.round_to, partial(probe.harm, layer) if probe else None)
        context.progress(0.05 + 0.85 * (number + 1) / len(layers), f"{number + 1} of {len(layers)} layers tried out")
    return menus


def _moments(model: onnx.ModelProto, layers: list[Layer], params: SvdParams, context: Context) -> Iterable[tuple[Layer, Moment]]:
    if params.whiten:
        return observe(model, layers, context, params.samples, HELD_OUT)
    return ((layer, Moment.unknown(layer.matrix.shape[1])) for layer in layers)


def _choose(layers: list[Layer], menus: Mapping[str, list[Choice]], params: SvdParams) -> dict[str, Choice]:
    if params.energy is not None:
        chosen = by_energy(menus, params.energy)
        if not chosen:
            raise ValueError(f"no layer can be split with profit that keeps {params.energy:.3%} of its output's energy")
        return chosen
    whole = sum(layer.macs([layer.whole]) if params.target == "macs" else layer.weight.size for layer in layers)
    return by_ratio(menus, params.ratio * whole, params.target)


def _splits(layers: list[Layer], chosen: Mapping[str, Choice], shelf: _Shelf) -> Iterator[tuple[str, tuple[Layer, Split]]]:
    for layer in layers:
        if choice := chosen.get(layer.key):
            moment = shelf.take(layer)
            way = next(kind for kind in WAYS if kind.name == choice.way)
            yield layer.key, (layer, split(layer, moment, way(layer, moment), choice.ranks, output_energy(layer, moment)))


def _account(layers: list[Layer], chosen: Mapping[str, Choice]) -> Iterator[str]:
    macs, weights = sum(layer.macs([layer.whole]) for layer in layers), sum(layer.weight.size for layer in layers)
    less, fewer = sum(item.macs for item in chosen.values()), sum(item.weights for item in chosen.values())
    yield f"{len(chosen)} of {len(layers)} layers are split: {less / macs:.1%} fewer MACs, {fewer / weights:.1%} fewer weights"
    for layer in layers:
        if item := chosen.get(layer.key):
            yield _line(layer.name, item)


def _line(name: str, item: Choice) -> str:
    return f"{name}: {item.way}, rank {'+'.join(map(str, item.ranks))}, loses {item.lost:.2%} of its output's energy"
