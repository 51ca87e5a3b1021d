"""What reports teach moves measurements, predictions and keys of a pair; without them nothing changes."""

from __future__ import annotations

import pytest

from edge_compress.domain.artifact import AppliedStep, Latency, Measurement
from edge_compress.domain.calibration import Corrections, Factor
from edge_compress.domain.model import LayerFacts, ModelFacts
from edge_compress.domain.plan import Prediction
from edge_compress.domain.spec import DeviceProfile, DeviceProfileSpec, Metadata, Model, ModelSpec
from edge_compress.plugin.registry import Registry
from edge_compress.worker.costing import DeviceCosts
from edge_compress.worker.inputs import PairRequest

FACTS = ModelFacts("f" * 64, 4000, 17, (), (), layers=(LayerFacts("all", "Conv", 10**6, 4000, 1000, 400),))
INT8 = (AppliedStep("quantize.static"),)
HERE = Measurement("0" * 64, 1000, latency=Latency(0.005, 0.006, ratio_to_float=0.5), peak_memory_bytes=1000)
SLOW_INTEGERS = Corrections((Factor("latency", "", 2.0), Factor("latency", "int8", 6.0), Factor("latency_p95", "", 2.0)), 500.0)


def costs(corrections: Corrections) -> DeviceCosts:
    profile = DeviceProfile(Metadata("cam"), DeviceProfileSpec())
    request = PairRequest(Model(Metadata("vision"), ModelSpec("m.onnx")), profile, None, corrections=corrections)
    return DeviceCosts(request, FACTS, Registry.load(only=["quantize"]))


def test_what_was_measured_here_is_told_as_devices_would_report_it() -> None:
    told = costs(SLOW_INTEGERS).reported(HERE, INT8)
    assert told.latency is not None
    assert (told.latency.p50, told.latency.ratio_to_float, told.peak_memory_bytes) == pytest.approx((0.03, 1.5, 1500))
    assert costs(SLOW_INTEGERS).plain(HERE) == HERE


def test_predictions_move_with_the_arithmetic_of_their_steps() -> None:
    known = costs(SLOW_INTEGERS)
    predicted = Prediction(latency_seconds=0.01, memory_bytes=100)
    assert known.foretold(predicted, INT8) == Prediction(latency_seconds=0.06, memory_bytes=600)
    assert known.foretold(predicted, ()) == Prediction(latency_seconds=0.02, memory_bytes=600)


def test_without_reports_nothing_changes() -> None:
    plain = costs(Corrections())
    assert not plain.learned
    assert plain.reported(HERE, INT8) == HERE
    assert plain.foretold(Prediction(latency_seconds=0.01), INT8) == Prediction(latency_seconds=0.01)
