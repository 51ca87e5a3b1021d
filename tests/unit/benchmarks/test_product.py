"""The fleet file that the bench declares is one that the product reads as meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_compress.fleet_file import load_path
from tests.bench.cases import Case, Labelled, Preprocess
from tests.bench.product import INT8, Wish, declare, made

WISH = Wish("int8-small", INT8, "size")


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "net.onnx").write_bytes(b"onnx")
    some = Labelled(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64))
    return Case("some_net", tmp_path / "net.onnx", Preprocess((1.0,), (2.0,), True), some.samples, some, some, some)


@pytest.mark.parametrize("training", [True, False])
def test_what_is_declared(case: Case, tmp_path: Path, training: bool) -> None:
    declare(case, tmp_path, [WISH], dot_product=True, training=training)
    found = {type(item.resource).__name__: item.resource for item in load_path(tmp_path / "fleet.yaml")}
    model, profile, deployment = found["Model"], found["DeviceProfile"], found["Deployment"]
    assert model.spec.data.training == ("training.npz" if training else "")
    assert (tmp_path / "training.npz").exists() == training
    assert model.spec.data.preprocess.layout == "NHWC"
    assert model.spec.quality.max_drop == 0.01
    assert (profile.spec.int8_dot_product, profile.spec.threads) == (True, 1)
    assert (deployment.spec.objective, deployment.spec.selector.profiles) == ("size", ("int8-small",))


def test_what_is_read_back(tmp_path: Path) -> None:
    step = {"strategy": "quantize.static", "params": {"bits": 6, "ratio": None, "mixed": True}}
    candidates = [{"state": "failed", "why": "error: no", "recipe": [step]}, {"state": "chosen", "why": "", "recipe": []}]
    entry = {"verdict": "FEASIBLE", "artifact": "m/int8-small/model.onnx", "quality": {"drop": 0.004}, "recipe": [step, step]}
    got = made(WISH, {**entry, "candidates": candidates}, tmp_path, 2.0)
    assert (got.file, got.claimed_drop) == (tmp_path / "m/int8-small/model.onnx", 0.4)
    assert got.recipe == "quantize.static(6) > quantize.static(6)"
    assert got.failed == ("quantize.static(6): error: no",)


def test_nothing_is_read_back_too(tmp_path: Path) -> None:
    entry = {"verdict": "INFEASIBLE", "artifact": None, "quality": None, "recipe": [], "candidates": []}
    none = made(WISH, entry, tmp_path, 2.0)
    assert (none.file, none.recipe, none.failed) == (None, "nothing", ())


def test_preprocess_makes_model_inputs(case: Case) -> None:
    assert case.preprocess(case.calibration).shape == (2, 3, 4, 4)
    assert case.preprocess(case.calibration).max() == -0.5
