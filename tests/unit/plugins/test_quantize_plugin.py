from __future__ import annotations

import subprocess
import sys
from typing import Any

import edge_compress_prune
import edge_compress_quantize
import pytest

from edge_compress.domain.schema import decode, encode, fields_of
from edge_compress.plugin import DeviceProfileSpec, InvalidSpec, ModelFacts, Strategy

STRATEGIES: list[Strategy[Any]] = [
    *edge_compress_quantize.edge_compress_register_strategies(),
    *edge_compress_prune.edge_compress_register_strategies(),
]
FACTS = ModelFacts("0" * 64, 1000, 17, (), (), ops={"Conv": 1, "MatMul": 1}, weight_dtypes={"float32": 900})


def test_the_names_are_those_of_the_contract() -> None:
    names = {strategy.name for strategy in edge_compress_quantize.edge_compress_register_strategies()}
    cheap = {"quantize.static", "quantize.dynamic", "quantize.float16", "quantize.weights", "quantize.blocks"}
    assert names == {*cheap, "quantize.qat"}


def test_listing_strategies_loads_no_heavy_library() -> None:
    code = (
        "import sys, edge_compress_quantize as q, edge_compress_prune as p\n"
        "q.edge_compress_register_strategies(), p.edge_compress_register_strategies()\n"
        "print(sorted({'onnx', 'onnxruntime', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda item: item.name)
def test_every_parameter_is_documented_and_what_is_proposed_can_be_written_down(strategy: Strategy[Any]) -> None:
    assert all(item.doc for item in fields_of(strategy.Params))
    assert all(item.unit for item in fields_of(strategy.Params) if item.type is int)
    for profile in (DeviceProfileSpec(), DeviceProfileSpec(memory=1, storage=1)):
        for proposed in [strategy.Params(), *strategy.propose(FACTS, profile)]:
            bound = strategy.bind(proposed, profile)
            assert decode(strategy.Params, encode(bound)) == bound
            expected = strategy.expect(FACTS, bound)
            assert 0 < expected.bytes <= 1
            assert 0 < expected.download <= 1


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("quantize.static", {"bits": 9}),
        ("quantize.static", {"calibration": "maximum"}),
        ("quantize.static", {"percentile": 20}),
        ("quantize.weights", {"bits": 1}),
        ("prune.magnitude", {"ratio": 1.0}),
        ("prune.magnitude", {"threshold": -1.0}),
        ("quantize.dynamic", {"per_chanel": True}),
    ],
)
def test_parameters_out_of_bounds_are_refused(name: str, params: dict[str, Any]) -> None:
    strategy = next(item for item in STRATEGIES if item.name == name)
    with pytest.raises(InvalidSpec, match=next(iter(params))):
        decode(strategy.Params, params)
