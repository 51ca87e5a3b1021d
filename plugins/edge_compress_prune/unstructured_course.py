"""Rounds of pruning weights one by one and training the others. What a weight is worth is left to ``unstructured_importance``.

Pruned weights are held at zero by torch's own masks (torch.nn.utils.prune) until training is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune

from edge_compress.graph.bridge.importer import Imported
from edge_compress.graph.bridge.norms import Normed, fold, unfold
from edge_compress.graph.bridge.pace import batch_within, epochs_within
from edge_compress.graph.bridge.training import Course, fine_tune
from edge_compress.plugin import Context
from edge_compress_prune.questions import Questions
from edge_compress_prune.sparsify import compared, kept_of, limit_of
from edge_compress_prune.structured_blocks import arithmetic_of
from edge_compress_prune.structured_groups import ROOTS, TURNED
from edge_compress_prune.unstructured import UnstructuredParams
from edge_compress_prune.unstructured_importance import weight_of, worths

Array = np.ndarray[Any, Any]


def thin_out(imported: Imported, params: UnstructuredParams, course: Course, context: Context) -> None:
    """Prune and train ``imported`` in place. Raises ValueError where there is nothing to prune or a name is unknown."""
    module = imported.module
    asked = Questions.ask(context)
    batches, answers = asked.fit, asked.answers
    unfold(module, batches)
    layers = _layers(module, params.exclude)
    few = [item[:2] if imported.free_batch else item for item in batches[0]]
    course = replace(course, batch=batch_within(context.limits.memory_bytes, course.batch, module, few))
    if course.epochs < 0:
        course = replace(course, epochs=_affordable(course.batch, context))
    done, epochs = 0.0, params.schedule.spans(course.epochs)
    for number, (left, part) in enumerate(zip(params.schedule.targets(1 - params.ratio), epochs, strict=True)):
        found = worths(module, layers, batches, answers, params.importance, context.seed)
        _mask(layers, _kept(found, layers, params, 1 - left))
        context.log(_told(layers))
        if part:
            span = (done / course.epochs, (done + part) / course.epochs)
            trained = fine_tune(module, context.teacher(), context, replace(course, epochs=part), span=span, round_=number)
            context.log(f"agreement with the original {trained.before:.1%} -> {trained.agreement:.1%} in {trained.steps} batches")
            done += part
    for layer in layers.values():
        prune.remove(layer, "weight")
    fold(module)


def _layers(module: nn.Module, exclude: tuple[str, ...]) -> dict[str, Any]:
    """By name, the layers whose weights may go. A convolution that has a BatchNorm of ours behind it keeps its own name."""
    norms = {f"{path}.0": path for path, part in module.named_modules() if isinstance(part, Normed)}
    found = {norms.get(path, path): part for path, part in module.named_modules() if isinstance(part, ROOTS)}
    if strange := next((name for name in exclude if name not in found), None):
        raise ValueError(f"exclude: read {strange!r}, expected one of {', '.join(sorted(found))}")
    found = {name: part for name, part in found.items() if name not in exclude}
    if not found:
        raise ValueError("no layer of the model has weights that may go")
    return found


def _kept(found: Mapping[str, Array], layers: Mapping[str, Any], params: UnstructuredParams, gone: float) -> dict[str, Array]:
    """By layer, which weights stay when a share of ``gone`` goes."""
    wanted = replace(params.untrained, ratio=gone)
    if params.importance != "gradient":  # which has one unit in all layers
        found = {name: compared(worth, wanted) for name, worth in found.items()}
    limit = limit_of(list(found.values()), wanted)
    return {name: kept_of(worth, 0 if isinstance(layers[name], TURNED) else 1, wanted, limit) for name, worth in found.items()}


def _mask(layers: Mapping[str, Any], kept: Mapping[str, Array]) -> None:
    for name, layer in layers.items():
        prune.custom_from_mask(layer, "weight", torch.from_numpy(kept[name].copy()))


def _told(layers: Mapping[str, Any]) -> str:
    zero = {name: weight_of(layer) == 0 for name, layer in layers.items()}
    total, zeros = sum(item.numel() for item in zero.values()), sum(int(item.sum()) for item in zero.values())
    most = sorted(((float(item.float().mean()), name) for name, item in zero.items()), reverse=True)
    shown = ", ".join(f"{name} {share:.0%}" for share, name in most[:8])
    return f"{zeros:,} of {total:,} weights are zero ({zeros / total:.1%}); {shown}"


def _affordable(batch: int, context: Context) -> float:
    macs = float(arithmetic_of(context.teacher()))
    samples = sum(len(item) for item in context.training(batch, 0))
    return epochs_within(context.limits, samples, student_macs=macs, teacher_macs=macs)
