"""The task that asks a plugin what it proposes: ranks, patience, and refusals with what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from edge_compress.domain.model import LayerFacts, ModelFacts, TensorFacts
from edge_compress.errors import InvalidSpec
from edge_compress.worker.asking import propose

MODEL = ModelFacts(
    "0" * 64,
    40_000_000,
    17,
    (TensorFacts("x", "float32", ("N", 3, 32, 32)),),
    (TensorFacts("y", "float32", ("N", 10)),),
    ops={"Conv": 1},
    layers=(LayerFacts("a", "Conv", 10**9, 4 * 10**7, 10**7, 2**16),),
    parameters=10**7,
)


def asked(plugin: str, *, have: tuple[str, ...] = ("calibration", "training"), steps: Any = None) -> list[dict[str, Any]]:
    arguments = {"plugins": [plugin], "model": MODEL.to_json(), "profile": {}, "have": list(have), "steps": steps}
    proposals: list[dict[str, Any]] = propose(arguments, None)["proposals"]  # type: ignore[arg-type]  # asking needs no scratch
    return proposals


def test_places_begin_where_the_strategys_patience_says() -> None:
    students = asked("distill")
    assert [item["rank"] for item in students] == list(range(2, 2 + len(students)))
    assert all(item["trains"] for item in students)
    svd = [item for item in asked("lowrank") if item["strategy"] == "lowrank.svd"]
    assert [item.get("rank", 0) for item in svd] == list(range(len(svd)))


def test_parameters_decide_whether_a_strategy_trains() -> None:
    steps = [{"strategy": "prune.structured", "params": {"schedule": {"epochs": epochs}}, "index": 0} for epochs in (0, 3)]
    assert [bool(item.get("trains")) for item in asked("prune", steps=steps)] == [False, True]


def test_what_only_the_plugin_knows_is_filled_in() -> None:
    assert {item["params"]["revision"] for item in asked("distill")} == {"1"}


def test_without_data_the_reason_is_told() -> None:
    (refused,) = asked("distill", have=())
    assert "needs calibration samples" in refused["refused"]


def test_a_recipes_parameters_are_checked() -> None:
    step = {"strategy": "distil.student", "params": {"architecture": "mobilenet_v3"}, "index": 0}
    with pytest.raises(InvalidSpec, match="architecture: read 'mobilenet_v3'"):
        asked("distill", steps=[step])
