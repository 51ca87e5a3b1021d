"""prune.unstructured on the demo's network: so many zeros, where they do least harm, and training that makes up for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_prune.magnitude import MagnitudeParams, PruneMagnitude
from edge_compress_prune.schedule import Schedule
from edge_compress_prune.unstructured import PruneUnstructured, UnstructuredParams
from onnx import numpy_helper

from edge_compress.graph.facts import facts_of_model
from edge_compress.plugin import DeviceProfileSpec, InvalidSpec
from tests.unit.plugins.test_prune_structured import NETWORK, Digits

NEVER = Schedule(epochs=0)


@pytest.fixture
def digits(tmp_path: Path) -> Digits:
    return Digits(tmp_path)


def pruned(context: Digits, **params: Any) -> onnx.ModelProto:
    model = PruneUnstructured().apply(onnx.load(NETWORK), UnstructuredParams(**params), context)
    onnx.checker.check_model(model, full_check=True)
    return model


def zeros(model: onnx.ModelProto) -> float:
    kept = [numpy_helper.to_array(item) for item in model.graph.initializer if len(item.dims) > 1]
    return sum(int((item == 0).sum()) for item in kept) / sum(item.size for item in kept)


@pytest.mark.parametrize(("importance", "scope"), [("magnitude", "layer"), ("activation", "global"), ("gradient", "global")])
def test_as_many_weights_go_as_were_asked_for_and_the_rest_answers(digits: Digits, importance: str, scope: str) -> None:
    made = pruned(digits, ratio=0.4, importance=importance, scope=scope, schedule=NEVER)
    assert zeros(made) == pytest.approx(0.4, abs=0.01)
    assert digits.top1(made) > 0.85


def test_training_makes_up_for_what_pruning_alone_loses(digits: Digits) -> None:
    alone = PruneMagnitude().apply(onnx.load(NETWORK), MagnitudeParams(ratio=0.85, scope="global"), digits)
    trained = pruned(digits, ratio=0.85, schedule=Schedule("agp", 2, epochs=1.5), batch=32)
    assert zeros(trained) == pytest.approx(0.85, abs=0.01), "they stay zero through training and the merging of BatchNorm"
    assert digits.top1(trained) > digits.top1(alone) + 0.1
    assert digits.top1(trained) > digits.top1(onnx.load(NETWORK)) - 0.05
    shares = [float(line.split("(")[1].split("%")[0]) for line in digits.logged if "weights are zero (" in line][1:]
    assert len(shares) == 2
    assert shares[0] < shares[1] == 85.0, "round by round"


def test_magnitudes_without_training_are_those_of_prune_magnitude(digits: Digits) -> None:
    alone = PruneMagnitude().apply(onnx.load(NETWORK), MagnitudeParams(threshold=0.05), digits)
    made = pruned(digits, threshold=0.05, schedule=NEVER)
    assert zeros(made) == pytest.approx(zeros(alone), abs=0.002)


def test_patterns_hold_in_every_group_along_the_inputs(digits: Digits) -> None:
    made = pruned(digits, pattern="2:4", schedule=NEVER)
    wide = [numpy_helper.to_array(item) for item in made.graph.initializer if len(item.dims) == 4 and item.dims[1] % 4 == 0]
    assert wide
    for weight in wide:
        groups = np.moveaxis(weight, 1, -1).reshape(-1, 4)
        assert ((groups != 0).sum(1) <= 2).all()


def test_the_same_seed_gives_the_same_bytes(digits: Digits) -> None:
    first, again = (pruned(digits, schedule=Schedule(epochs=0.1), importance="gradient").SerializeToString() for _ in range(2))
    assert first == again


def test_excluded_layers_stay_whole_and_strange_names_are_named(digits: Digits) -> None:
    pruned(digits, schedule=NEVER)
    name = digits.logged[-1].split("; ")[1].rsplit(" ", 1)[0].split(", ")[0].rsplit(" ", 1)[0]
    digits.logged.clear()
    pruned(digits, schedule=NEVER, exclude=(name,))
    assert f" {name} " not in digits.logged[-1]
    with pytest.raises(ValueError, match="exclude: read 'nobody', expected one of"):
        pruned(digits, schedule=NEVER, exclude=("nobody",))


def test_it_is_proposed_where_the_link_counts_and_refuses_what_it_cannot_do() -> None:
    facts, strategy = facts_of_model(onnx.load(NETWORK), "", 0), PruneUnstructured()
    assert not strategy.propose(facts, DeviceProfileSpec())
    assert strategy.supports(facts, DeviceProfileSpec()).ok
    with pytest.raises(InvalidSpec, match="pattern: read '5:4'"):
        UnstructuredParams(pattern="5:4")
