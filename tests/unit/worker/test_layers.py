"""The layers of a pair as the engine tells them: measured in child processes, once, and never at the pair's expense."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge_compress.domain.layers import EVERYTHING_ELSE
from edge_compress.domain.spec import DeviceProfile, Model, Recipe
from edge_compress.worker.engine import Engine, PairRequest
from edge_compress.worker.layers import LayerScan
from edge_compress.worker.steps import Run


def test_an_outcome_tells_each_layer_before_and_after(
    digits: Model,
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    engine = make_engine()
    outcome = engine.run(PairRequest(digits, make_profile(), make_recipe("quantize.float16"))).outcome
    gemm, rest = outcome.layers
    assert (gemm.name, gemm.op, gemm.macs, gemm.bytes) == ("scores", "Gemm", 640, 2600)
    assert gemm.bytes_after == 1300
    assert gemm.sensitivity is not None
    assert 0 < gemm.sensitivity < 2, "border pixels are always zero and have huge weights: four bits leave little of the others"
    assert gemm.seconds is not None
    assert 0 < gemm.seconds < 0.1
    assert rest.name == EVERYTHING_ELSE
    assert not [line for line in outcome.diagnosis if "layers" in line]


def test_profiles_that_share_an_original_look_into_it_once(
    digits: Model,
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    engine = make_engine()
    steps = make_recipe("quantize.float16")
    first = engine.run(PairRequest(digits, make_profile("one"), steps)).outcome
    before = engine.steps.computed
    second = engine.run(PairRequest(digits, make_profile("two", storage="1Mi"), steps)).outcome
    assert second.layers == first.layers
    assert engine.steps.computed - before <= 3, "plugins asked anew for the new profile; no layer was looked into again"


def test_layers_that_cannot_be_had_are_absent_with_the_reason(
    digits: Model,
    make_engine: Callable[..., Engine],
    make_profile: Callable[..., DeviceProfile],
    make_recipe: Callable[..., Recipe],
) -> None:
    engine = make_engine()
    request = PairRequest(digits, make_profile(), make_recipe("quantize.float16"))
    result = engine.run(request)
    store, registry = engine._store, engine._registry
    facts = engine.facts(digits.spec.files[0].sha256)
    scan = LayerScan(store, engine.steps, registry, request, facts)
    data = digits.spec.files[1].sha256  # data, which is no model: the profiler cannot load it
    told = scan.added_to(result, [], data, Run(threading.Event())).outcome
    (gemm,) = told.layers
    assert (gemm.name, gemm.bytes, gemm.seconds) == ("scores", 2600, None)
    assert gemm.sensitivity is not None
    assert any(line.startswith("layers could not be timed: ") for line in told.diagnosis)
