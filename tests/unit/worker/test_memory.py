"""What the engine remembers of earlier runs, and when that is no answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_compress.domain.spec import DeviceProfile, Model, Recipe
from edge_compress.worker.engine import Engine, PairRequest, PairResult

MakeEngine = Callable[..., Engine]
MakeProfile = Callable[..., DeviceProfile]


def fate(result: PairResult, strategy: str) -> str:
    return next(item.why for item in result.outcome.candidates if item.steps and item.steps[-1].strategy == strategy)


def test_a_budget_looks_further_though_an_outcome_without_one_is_remembered(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    engine = make_engine()
    request = PairRequest(digits, make_profile("easy", threads=3, precisions=["fp32"]), None, "size")
    assert "give a budget" in fate(engine.run(request), "stranger.train")
    assert "give a budget" not in fate(engine.run(request, budget_seconds=300), "stranger.train")
    before = engine.steps.computed
    assert "give a budget" not in fate(engine.run(request, budget_seconds=300), "stranger.train")
    assert engine.steps.computed == before, "what the search found is remembered too"


def test_a_budget_that_is_spent_starts_no_training(
    hostile_plugin: Path, make_engine: MakeEngine, digits: Model, make_profile: MakeProfile
) -> None:
    request = PairRequest(digits, make_profile("easy", threads=3, precisions=["fp32"]), None, "size", seed=5)
    result = make_engine().run(request, budget_seconds=0.0)
    assert fate(result, "stranger.train").startswith("the budget is for 2 trainings of 0 s")


def test_a_new_version_of_a_strategy_or_of_its_libraries_makes_other_keys(
    hostile_plugin: Path,
    make_engine: MakeEngine,
    digits: Model,
    make_profile: MakeProfile,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine()
    request = PairRequest(digits, make_profile(), None)
    before = engine.key(request)
    rounds = type(engine._registry.strategies["stranger.round"])
    monkeypatch.setattr(rounds, "version", "2")
    newer = engine.key(request)
    monkeypatch.setattr(rounds, "libraries", ("pluggy",))
    assert len({before, newer, engine.key(request)}) == 3


def test_what_a_plugin_could_not_answer_is_asked_again(
    hostile_plugin: Path,
    make_engine: MakeEngine,
    digits: Model,
    make_profile: MakeProfile,
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = PairRequest(digits, make_profile("asked", precisions=["fp32"]), None, "size", seed=7)
    with monkeypatch.context() as patched:
        patched.setattr("edge_compress.worker.spawn._KEPT_VARIABLES", ("PATH", "PYTHONPATH", "EDGE_COMPRESS_HOSTILE_ASKED"))
        patched.setenv("EDGE_COMPRESS_HOSTILE_ASKED", "1")
        assert "its plugin failed when asked" in fate(make_engine().run(request), "stranger.round")
    assert "its plugin failed when asked" not in fate(make_engine().run(request), "stranger.round")
