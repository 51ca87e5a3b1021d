"""From a .pt2 archive to ONNX: read without unpickling, replayed step by step, written by torch's exporter, held to its answers.

To be run where an untrusted file may do no harm: in a child process with limits. Reading is left to ``graph.archive`` and
``graph.program``, running to ``replay``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edge_compress.errors import InvalidModel, Unsupported
from edge_compress.graph.archive import read_archive
from edge_compress.graph.bridge.export import OPSET
from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.graph.bridge.replay import TYPES, Replay
from edge_compress.graph.program import Input, Program, Range, read_program
from edge_compress.graph.tidy import tidied
from edge_compress.graph.walk import subgraphs

_MOST_ELEMENTS = 2**28
"""of an input that the model is tried with"""
_RELATIVE, _ABSOLUTE = 2e-3, 2e-4


def lift(path: Path, max_bytes: int) -> onnx.ModelProto:
    """The archive's model as ONNX, under the names of its inputs and outputs.

    Raises InvalidModel, TooLarge for a file that is not sound, Unsupported for a model that has no ONNX form or answers otherwise
    in it.
    """
    archive = read_archive(path, max_bytes)
    program = read_program(archive.program)
    module = Replay(program, archive.tensors).eval()
    lengths = {name: _trial(limits) for name, limits in program.free.items()}
    feeds = _feeds(program, lengths, seed=0)
    want = _answers(module, feeds)
    model = _named(_written(module, program, feeds), program, module.names)
    _hold(model, program, feeds, want)
    if lengths:
        others = _feeds(program, {name: _other(limits, lengths[name]) for name, limits in program.free.items()}, seed=1)
        _hold(model, program, others, _answers(module, others))
    return model


def warm() -> None:
    """Import what a lift needs beyond torch, so that nothing is left to import once an untrusted file is open."""
    module = torch.nn.Linear(1, 1)
    _exported(module, (torch.zeros(2, 1),), None, ["x"], ["y"])


def _trial(limits: Range) -> int:
    """A length to export with. Below 2 torch takes an axis for a fixed one."""
    least = max(2, limits.least)
    return limits.hint if least <= limits.hint <= limits.most else min(least, max(limits.most, 1))


def _other(limits: Range, trial: int) -> int:
    return trial + 1 if trial < limits.most else max(limits.least, trial - 1, 1)


def _feeds(program: Program, lengths: Mapping[str, int], seed: int) -> tuple[Tensor, ...]:
    draw = np.random.default_rng(seed)
    return tuple(_feed(item, tuple(lengths.get(str(size), size) for size in item.sizes), draw) for item in program.inputs)


def _feed(item: Input, shape: tuple[Any, ...], draw: np.random.Generator) -> Tensor:
    """Normal numbers for floats; zeros and ones for whole numbers, which may be indices."""
    if item.dtype not in TYPES or TYPES[item.dtype] is torch.bfloat16:
        raise Unsupported(f"input {item.name!r}: read element type {item.dtype}, expected plain numbers; export it in float32")
    if np.prod(shape, dtype=np.float64) > _MOST_ELEMENTS:
        raise Unsupported(f"input {item.name!r}: read shape {shape}, expected at most {_MOST_ELEMENTS} elements")
    kind = TYPES[item.dtype]
    values = draw.standard_normal(shape) if kind.is_floating_point else draw.integers(0, 2, shape)
    return torch.as_tensor(np.asarray(values)).to(kind)


def _answers(module: Replay, feeds: tuple[Tensor, ...]) -> list[np.ndarray[Any, Any]]:
    try:
        with torch.no_grad():
            return [item.detach().numpy() for item in module(*feeds)]
    except MemoryError:
        raise
    except Exception as error:  # torch runs what a stranger's file says: any error it raises means "not this program"
        raise InvalidModel(f"the program does not run: {_first_line(error)}") from error


def _written(module: Replay, program: Program, feeds: tuple[Tensor, ...]) -> onnx.ModelProto:
    dims = {
        name: torch.export.Dim(f"axis{index}", min=limits.least, max=limits.most)
        for index, (name, limits) in enumerate(program.free.items())
    }
    axes = tuple({axis: dims[size] for axis, size in enumerate(item.sizes) if isinstance(size, str)} for item in program.inputs)
    try:
        return _exported(module, feeds, (axes,), *_placeholders(program))
    except MemoryError:
        raise
    except Exception as error:  # the exporter raises its own, torch's and onnxscript's errors
        raise Unsupported(f"torch's exporter cannot write the model as ONNX: {_first_line(error)}") from error


def _exported(module: nn.Module, feeds: tuple[Tensor, ...], axes: Any, inputs: list[str], outputs: list[str]) -> onnx.ModelProto:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter deprecates its own insides
        program = torch.export.export(module, feeds, dynamic_shapes=axes, strict=False)
        made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False,
            input_names=inputs, output_names=outputs)  # fmt: skip
    assert made is not None
    proto: onnx.ModelProto = made.model_proto
    return proto


def _outputs(program: Program) -> list[str]:
    """The outputs' names, each once."""
    names: list[str] = []
    for index, item in enumerate(program.outputs):
        taken = item.name in names or item.name in {one.name for one in program.inputs}
        names.append(f"{item.name}_{index}" if taken else item.name)
    return names


def _placeholders(program: Program) -> tuple[list[str], list[str]]:
    """Names of inputs and outputs that the exporter gives to nothing else: it does not look whether a wanted one is free."""
    return [f"input/{index}" for index in range(len(program.inputs))], [
        f"output/{index}" for index in range(len(program.outputs))
    ]


def _named(made: onnx.ModelProto, program: Program, names: Mapping[str, str]) -> onnx.ModelProto:
    """The written graph under the program's names for inputs, outputs and tensors, without the exporter's notes."""
    model = tidied(made)
    graph = model.graph
    found = [item.name for item in graph.input], [item.name for item in graph.output]
    if found != _placeholders(program):
        counts = f"{len(graph.input)} inputs and {len(graph.output)} outputs"
        raise Unsupported(f"written as ONNX it has {counts}, expected {len(program.inputs)} and {len(program.outputs)}")
    public = dict(zip(found[0] + found[1], [*(item.name for item in program.inputs), *_outputs(program)], strict=True))
    _rename(graph, _NewNames({"": "", **public}, names, set(public.values())))
    _strip(graph)
    model.ClearField("metadata_props")
    model.producer_version = ""
    return model


@dataclass
class _NewNames:
    """Old name -> new one: public names are fixed, tensors get the archive's, others keep theirs where nobody else has it."""

    known: dict[str, str]
    kept: Mapping[str, str]
    taken: set[str]

    def __getitem__(self, old: str) -> str:
        if old not in self.known:
            wanted = self.kept.get(old, old)
            while wanted in self.taken:
                wanted += "_"
            self.taken.add(wanted)
            self.known[old] = wanted
        return self.known[old]


def _rename(graph: onnx.GraphProto, names: _NewNames) -> None:
    """One injective renaming of the graph and of those inside it."""
    entries: list[Any] = [*graph.input, *graph.output, *graph.initializer]
    for item in entries:
        item.name = names[item.name]
    for node in graph.node:
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names[name] for name in node.output]
        for body in subgraphs(node):
            _rename(body, names)


def _strip(graph: onnx.GraphProto) -> None:
    for item in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for field in ("value_info", "metadata_props", "doc_string"):
        graph.ClearField(field)
    for body in (body for node in graph.node for body in subgraphs(node)):
        _strip(body)


def _hold(model: onnx.ModelProto, program: Program, feeds: tuple[Tensor, ...], want: list[np.ndarray[Any, Any]]) -> None:
    try:
        got = run_onnx(model, {item.name: feed.numpy() for item, feed in zip(program.inputs, feeds, strict=True)})
    except Exception as error:  # onnxruntime's own errors have no common base
        raise Unsupported(f"onnxruntime cannot run what torch's exporter writes: {_first_line(error)}") from error
    for name, expected, found in zip(_outputs(program), want, got, strict=True):
        size = float(np.abs(expected).max(initial=0.0)) if expected.dtype != bool else 1.0
        if expected.shape != found.shape or not np.allclose(found, expected, rtol=_RELATIVE, atol=_ABSOLUTE * max(size, 1e-6)):
            raise Unsupported(f"written as ONNX, the model answers otherwise in output {name!r}; is something in it random?")


def _first_line(error: Exception, limit: int = 200) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line[:limit]
