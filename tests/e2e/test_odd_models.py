"""Models of unusual kinds in one fleet file, through ``compress``: each gives an artifact that answers as the original does, or
a reason in one line. One that cannot be helped keeps no other from its artifact.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tests.property.building import Network, value
from tests.property.disguises import disguised, fixed
from tests.property.families import family

DRAW = np.random.default_rng(0)
PROFILE = """\
kind: DeviceProfile
metadata: {name: cam}
spec: {precisions: [fp32, int8]}
"""
MODEL = """\
---
kind: Model
metadata: {name: %(name)s}
spec: {source: %(name)s.onnx, data: {calibration: %(name)s.npz}, quality: {max_drop: 0.5}}
---
kind: Recipe
metadata: {name: %(name)s}
spec: {steps: [{strategy: %(strategy)s}]}
---
kind: Deployment
metadata: {name: %(name)s}
spec: {model: %(name)s, recipe: %(name)s, selector: {profiles: [cam]}}
"""


@dataclass(frozen=True)
class Helped:
    """A model for which a strategy gives an artifact with an error of at most ``error``, as a share of an output's deviation."""

    make: Callable[[], Network]
    strategy: str
    error: float = 0.2


@dataclass(frozen=True)
class Beyond:
    """A model for which ``strategy`` gives nothing, and what is said."""

    make: Callable[[], Network]
    strategy: str
    constraint: str
    said: str


def dense(op: str = "Relu", domain: str = "") -> Network:
    """Two dense layers, perhaps with an operator of another domain between them."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node(op, ["a"], ["b"], domain=domain),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    weights = [DRAW.standard_normal(shape).astype(np.float32) for shape in ((8, 48), (48, 5))]
    held = [numpy_helper.from_array(item, f"w{index}") for index, item in enumerate(weights)]
    graph = helper.make_graph(nodes, "dense", [value("x", ["N", 8])], [value("y", ["N", 5])], held)
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return Network(model, {"x": DRAW.standard_normal((16, 8)).astype(np.float32)})


def quantised() -> Network:
    """The input and the first weights are integers already."""
    network = dense()
    graph = network.model.graph
    graph.initializer[0].CopyFrom(numpy_helper.from_array(DRAW.integers(-90, 90, (8, 48)).astype(np.int8), "q"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0.01), "s"))
    graph.node[0].input[0] = "seen"
    stored = [("QuantizeLinear", "x", "rounded"), ("DequantizeLinear", "rounded", "seen"), ("DequantizeLinear", "q", "w0")]
    for op, given, made in reversed(stored):
        graph.node.insert(0, helper.make_node(op, [given, "s"], [made]))
    return network


def lone_number() -> Network:
    """One number for a whole batch, which tells no sample from another."""
    network = dense()
    network.model.graph.node.append(helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0))
    network.model.graph.output[0].CopyFrom(value("mean", []))
    return network


HELPED = {
    "old": Helped(lambda: disguised(family("image", 5, 9), "listed"), "quantize.static"),
    "new": Helped(lambda: family("tokens", 5, 25), "quantize.dynamic"),
    "looping": Helped(lambda: fixed(family("looping", 5, 17), 4), "quantize.weights, params: {smallest: 16}", 0.05),
    "table": Helped(lambda: disguised(family("table", 5, 13), "strange"), "quantize.static"),
}
BEYOND = {
    "quantised": Beyond(quantised, "quantize.weights", "precision", "quantised already"),
    "unknown": Beyond(lambda: dense(op="Frob", domain="com.acme"), "quantize.weights", "runtime", "com.acme:Frob"),
    "lone": Beyond(lone_number, "quantize.weights", "runtime", "no output has one row for each sample"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, samples and one fleet file for all of them."""
    made = tmp_path_factory.mktemp("odd")
    text = PROFILE
    for name, case in {**HELPED, **BEYOND}.items():
        network = case.make()
        onnx.save(network.model, made / f"{name}.onnx")
        np.savez(made / f"{name}.npz", **network.samples)
        text += MODEL % {"name": name, "strategy": case.strategy}
    (made / "fleet.yaml").write_text(text)
    return made


def test_each_gives_a_checked_artifact_or_a_reason(folder: Path, make_stand: Callable[..., Any]) -> None:
    done = make_stand().cli(
        "compress", "-f", str(folder / "fleet.yaml"), "--out", str(folder / "out"), "--json", code=3, timeout=280
    )
    found = {name: entry["profiles"]["cam"] for name, entry in json.loads(done.stdout)["models"].items()}
    assert set(found) == {*HELPED, *BEYOND}
    for name, helped in HELPED.items():
        assert found[name]["verdict"] == "FEASIBLE", (name, found[name]["candidates"])
        answers_as_before(folder / f"{name}.onnx", folder / "out" / found[name]["artifact"], folder / f"{name}.npz", helped.error)
    for name, beyond in BEYOND.items():
        assert (found[name]["verdict"], found[name]["binding_constraint"]) == ("INFEASIBLE", beyond.constraint), name
        assert beyond.said in found[name]["gap"], name
        assert "\n" not in found[name]["gap"], name


def answers_as_before(before: Path, after: Path, data: Path, error: float) -> None:
    with np.load(data) as arrays:
        samples = {name: arrays[name] for name in arrays.files}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    old, new = (onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]) for path in (before, after))
    assert interface(old) == interface(new)
    batch = old.get_inputs()[0].shape[0]
    rows = batch if isinstance(batch, int) else 16
    feed = {item.name: samples[item.name][:rows] for item in old.get_inputs()}
    for want, got in zip(old.run(None, feed), new.run(None, feed), strict=True):
        assert got.shape == want.shape
        if want.dtype.kind == "f":
            assert np.sqrt(np.mean((got - want) ** 2)) <= error * np.std(want), after


def interface(session: Any) -> list[tuple[str, str]]:
    return [(item.name, item.type) for item in (*session.get_inputs(), *session.get_outputs())]
