"""The steps of quantize.static in their order: fold, measure, choose layers, write. What can be set is in ``static``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from edge_compress.plugin import Context
from edge_compress_quantize import calibrate, equalize, keeping, mixed, smooth, storage
from edge_compress_quantize.assembly import Assembly
from edge_compress_quantize.canonical import canonical, restore_interface
from edge_compress_quantize.earlier import read_places
from edge_compress_quantize.grid import GridSettings
from edge_compress_quantize.placement import integer_share
from edge_compress_quantize.progress import Progress
from edge_compress_quantize.ranges import RangeSettings, Statistics
from edge_compress_quantize.reference import Goal, Reference
from edge_compress_quantize.refine import refine
from edge_compress_quantize.spending import spend
from edge_compress_quantize.wiring import Wiring, known_names

if TYPE_CHECKING:
    from edge_compress_quantize.static import StaticParams

_WORTH_STORING = 1024
"""values; smaller tensors without an integer kernel stay float"""
_MOMENT_SAMPLES = 128
"""calibration samples that moments are taken over"""
_HARM_SAMPLES = 64
"""calibration samples that the harm of noise on weights is measured with"""


def convert(model: onnx.ModelProto, params: StaticParams, context: Context) -> onnx.ModelProto:
    """A new model in integers. Raises ValueError as ``QuantizeStatic.apply`` says."""
    progress = Progress(context)
    assembly = assembled(model, params, context, progress)
    choice = _repaired(assembly, params, context, progress) if params.mixed else mixed.Choice()
    return written(assembly, model, choice, rest=params.rest)


def assembled(model: onnx.ModelProto, params: StaticParams, context: Context, progress: Progress) -> Assembly:
    """The folded model with its ranges, integers and biases, before any layer is kept higher. Raises as ``convert``."""
    exclude = known_names(model, params.exclude)
    folded = canonical(model, context.scratch)
    if params.smooth:
        _smoothed(folded, params, context)
    if params.equalize or (params.equalize is None and not params.per_channel):
        _equalized(folded, params, context)
    assembly = _measured(folded, exclude, params, context, progress)
    if params.rate is not None:
        spend(assembly, params.rate, context, samples=min(params.samples, _HARM_SAMPLES), progress=progress.phase(0.15))
    if params.scales_of:
        _kept(assembly, params, context)
    _refined(assembly, params, context, progress)
    return assembly


def written(assembly: Assembly, model: onnx.ModelProto, choice: mixed.Choice, *, rest: str) -> onnx.ModelProto:
    """The assembly in integers under the interface of ``model``; weights without an integer kernel stored in 8 bits where
    ``rest`` is "int8"."""
    made = assembly.build(choice.floats, choice.wide)
    if rest == "int8":
        settings = storage.StorageSettings(least_values=_WORTH_STORING)
        storage.store(made.graph, Wiring(made.graph), settings, assembly.exclude | choice.floats)
    restore_interface(made, model)
    return made


def _equalized(folded: onnx.ModelProto, params: StaticParams, context: Context) -> None:
    bounded = [pair.bounded for pair in equalize.pairs(Wiring(folded.graph)) if pair.bounded]
    peaks = calibrate.channel_peaks(folded, bounded, context, samples=params.samples)
    count = equalize.equalize(folded.graph, peaks)
    context.log(f"equalised {count} pairs of layers")


def _smoothed(folded: onnx.ModelProto, params: StaticParams, context: Context) -> None:
    tensors = [spot.tensor for spot in smooth.spots(Wiring(folded.graph))]
    peaks = calibrate.channel_peaks(folded, tensors, context, samples=params.samples, axis=-1, sizes=True)
    count = smooth.smooth(folded.graph, peaks, params.smooth)
    if count:
        context.log(f"outliers after {count} of {len(tensors)} normalisations moved into weights")


def _measured(
    folded: onnx.ModelProto, exclude: frozenset[str], params: StaticParams, context: Context, progress: Progress
) -> Assembly:
    """The folded model with the ranges measured that it takes to run all of it in integers."""
    histogram = params.mixed or params.calibration != "minmax"

    def observe(tensors: list[str]) -> dict[str, Statistics]:
        said = progress.phase(0.25)
        return calibrate.observe(folded, tensors, context, samples=params.samples, histogram=histogram, progress=said)

    assembly = Assembly(folded, exclude, _grid_settings(params), RangeSettings(params.calibration, params.percentile), observe)
    placed = assembly.placed()
    if not placed.roles:
        raise ValueError("no node of the model can run in integers")
    context.log(f"{integer_share(assembly.wiring, placed):.1%} of the weights are multiplied in integers")
    assembly.measure([placed])
    return assembly


def _kept(assembly: Assembly, params: StaticParams, context: Context) -> None:
    """The scales of an earlier artifact, where they fit."""
    whole = params.bits == 8 and params.rate is None
    room = keeping.WHOLE_RANGE if whole else keeping.FEW_BITS if params.rate is None else keeping.SPENT
    kept = keeping.keep(assembly, read_places(context.artifact(params.scales_of)), room, params.hold)
    context.log(f"diagnosis: {kept.told(params.scales_of)}")


def _refined(assembly: Assembly, params: StaticParams, context: Context, progress: Progress) -> None:
    """Better integers and biases, where they are asked for or few bits make them worth it."""
    few = params.bits < 8 or params.rate is not None
    compensate = params.rounding == "compensated" or (params.rounding == "auto" and few)
    correct = few or not params.per_channel if params.correct_bias is None else params.correct_bias
    by_gradients = params.rounding == "adaround"
    if compensate or correct or by_gradients:
        samples = min(params.samples, _MOMENT_SAMPLES)
        spent, said = params.rate is not None, progress.phase(0.3)
        refine(
            assembly, context, samples=samples, compensate=compensate, correct=correct, progress=said, together=spent,
            by_gradients=by_gradients,
        )  # fmt: skip


def _repaired(assembly: Assembly, params: StaticParams, context: Context, progress: Progress) -> mixed.Choice:
    """The layers to keep higher that the outputs need."""
    effort = mixed.effort(assembly)
    truth = Reference(assembly.model, context, samples=effort.checked, among=params.samples)
    goal = Goal(params.goal, params.agreement)
    return mixed.choose(assembly, truth, goal, effort, per=params.cost, progress=progress.phase(0.4), log=context.log)


def _grid_settings(params: StaticParams) -> GridSettings:
    return GridSettings(
        bits=params.bits,
        affine_weights=params.scheme == "affine",
        per_channel=params.per_channel,
        reduced=bool(params.reduce_range),
        signed_activations=params.activation == "s8",
        symmetric_activations=params.activation_scheme == "symmetric",
    )
