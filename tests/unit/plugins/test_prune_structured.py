"""prune.structured on the demo's network, really trained on real digits: smaller by what was asked, under the same interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edge_compress_prune.schedule import Schedule
from edge_compress_prune.structured import PruneStructured, StructuredParams

from edge_compress.demo import data
from edge_compress.domain.schema import decode, encode
from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.plugin import Batch, DeviceProfileSpec, InvalidSpec, LayerFacts, Limits, ModelFacts
from tests.unit.plugins.array_context import ArrayContext

NETWORK = Path(data.__file__).with_name("digits.onnx")
PROFILE = DeviceProfileSpec()
QUICK: dict[str, Any] = {"epochs": 2, "batch": 32, "round_to": 4}


class Digits(ArrayContext):
    """Calibration samples, and other ones to train on."""

    def __init__(self, scratch: Path) -> None:
        parts = data.load()
        super().__init__({"image": planes(parts["calib"].x)}, scratch=scratch, teacher=onnx.load(NETWORK))
        self.validation, self.labels = planes(parts["val"].x), parts["val"].y
        self.images, self.truth = planes(parts["train"].x)[:960], parts["train"].y[:960]
        self.limits = Limits(seconds=3600, memory_bytes=1 << 32, threads=1)

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.images))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            yield Batch({"image": self.images[chosen]}, self.truth[chosen])

    def top1(self, model: onnx.ModelProto) -> float:
        scores = run_onnx(model, {"image": self.validation})[0]
        return float((scores.argmax(1) == self.labels).mean())


def planes(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray((images.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)


@pytest.fixture
def digits(tmp_path: Path) -> Digits:
    return Digits(tmp_path)


def pruned(context: Digits, **params: Any) -> onnx.ModelProto:
    schedule = Schedule(**{name: params.pop(name) for name in ("kind", "rounds", "epochs") if name in params})
    model = PruneStructured().apply(onnx.load(NETWORK), StructuredParams(schedule=schedule, **params), context)
    onnx.checker.check_model(model, full_check=True)
    return model


def weights(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(item.dims)) for item in model.graph.initializer if len(item.dims) > 1)


def test_half_the_weights_answer_nearly_as_all_did(digits: Digits) -> None:
    before = onnx.load(NETWORK)
    after = pruned(digits, weights=0.5, **QUICK)
    assert 0.35 < weights(after) / weights(before) <= 0.5
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert digits.top1(after) > digits.top1(before) - 0.05
    assert digits.fractions == sorted(digits.fractions)
    assert digits.fractions[-1] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(digits: Digits) -> None:
    first, again = (pruned(digits, macs=0.6, epochs=0.2).SerializeToString(deterministic=True) for _ in range(2))
    digits.seed = 1
    other = pruned(digits, macs=0.6, epochs=0.2).SerializeToString(deterministic=True)
    assert first == again
    assert first != other


@pytest.mark.parametrize("importance", ["l1", "magnitude", "bn_scale", "gradient", "activation"])
def test_every_importance_keeps_more_than_cutting_the_best_channels_would(digits: Digits, importance: str) -> None:
    assert digits.top1(pruned(digits, ratio=0.2, importance=importance, epochs=0, round_to=1)) > 0.6


@pytest.mark.parametrize("schedule", ["iterative", "agp"])
def test_rounds_arrive_where_one_cut_would(digits: Digits, schedule: str) -> None:
    after = pruned(digits, weights=0.5, kind=schedule, rounds=2, epochs=0.4, round_to=4)
    assert weights(after) / weights(onnx.load(NETWORK)) <= 0.5
    shares = [float(line.split("%")[0]) for line in digits.logged if "of the weights left" in line]
    assert len(shares) == 2
    assert shares[0] > shares[1] <= 50.0


def test_channels_are_multiples_and_excluded_groups_stay_whole(digits: Digits) -> None:
    told = pruned(digits, ratio=0.5, epochs=0)
    line = next(line for line in digits.logged if "channels: " in line).split("channels: ")[1]
    counts = {name: change.split("->") for name, change in (part.rsplit(" ", 1) for part in line.split(", "))}
    assert all(int(after) % 8 == 0 for before, after in counts.values() if int(before) >= 16)
    shrunk = next(name for name, (before, after) in counts.items() if before != after)
    kept = pruned(digits, ratio=0.5, epochs=0, exclude=(shrunk,))
    assert told.SerializeToString() != kept.SerializeToString()
    assert f"{shrunk} " not in digits.logged[-1]


def test_labels_and_features_can_be_learnt_from_too(digits: Digits) -> None:
    inner = next(node.output[0] for node in onnx.load(NETWORK).graph.node if node.op_type == "Relu")
    plain = pruned(digits, weights=0.3, most=0.9, epochs=1, batch=16)
    taught = pruned(digits, weights=0.3, most=0.9, epochs=1, batch=16, label_weight=0.3, features=(inner,))
    assert plain.SerializeToString() != taught.SerializeToString()
    assert digits.top1(taught) > 0.8


def test_an_unknown_feature_is_named(digits: Digits) -> None:
    with pytest.raises(ValueError, match="features: read 'nowhere'"):
        pruned(digits, weights=0.6, epochs=0.1, features=("nowhere",))


def test_it_is_refused_where_it_cannot_work() -> None:
    conv = (LayerFacts("a", "Conv", macs=100, weight_count=10, weight_bytes=40),)
    strategy = PruneStructured()
    assert strategy.supports(facts({"Conv": 1}, conv), PROFILE).ok
    assert "quantised" in strategy.supports(facts({"QuantizeLinear": 1, "Conv": 1}, conv), PROFILE).reason
    assert "has weights" in strategy.supports(facts({"Relu": 1}, ()), PROFILE).reason
    assert "NonMaxSuppression" in strategy.supports(facts({"Conv": 1, "NonMaxSuppression": 1}, conv), PROFILE).reason


def test_what_is_expected_falls_with_what_is_left() -> None:
    conv = (LayerFacts("a", "Conv", macs=100, weight_count=250, weight_bytes=1000),)
    strategy, model = PruneStructured(), facts({"Conv": 1}, conv)
    half, third = (strategy.expect(model, StructuredParams(macs=share)) for share in (0.5, 0.33))
    assert third.bytes < half.bytes < 1
    assert third.latency < half.latency < 1


def test_channels_come_in_what_the_kernels_of_the_profile_like() -> None:
    strategy, floats = PruneStructured(), DeviceProfileSpec(precisions=("fp32",))
    assert strategy.bind(StructuredParams(macs=0.7), PROFILE).round_to == 16
    assert strategy.bind(StructuredParams(macs=0.7), floats).round_to == 16, "so that profiles share the training"
    assert strategy.bind(StructuredParams(weights=0.5), PROFILE).round_to == 8
    assert strategy.bind(StructuredParams(macs=0.7, round_to=4), PROFILE).round_to == 4


def test_layers_too_small_for_two_lots_stay_whole_where_lots_are_large(digits: Digits) -> None:
    pruned(digits, macs=0.7, epochs=0, round_to=16)
    line = next(line for line in digits.logged if "channels: " in line).split("channels: ")[1]
    counts = [part.rsplit(" ", 1)[1].split("->") for part in line.split(", ")]
    assert any(before != after for before, after in counts)
    assert all(before == after if int(before) < 32 else int(after) % 16 == 0 for before, after in counts)


def test_arithmetic_goes_as_far_as_the_answers_stay(digits: Digits) -> None:
    before = digits.top1(onnx.load(NETWORK))
    mild, far = (pruned(digits, keep=keep, epochs=0, round_to=4) for keep in (0.97, 0.8))
    assert weights(far) < weights(mild) < weights(onnx.load(NETWORK))
    assert digits.top1(mild) > before - 0.05
    assert digits.top1(far) > before - 0.25


def test_proposals_are_two_to_four_and_differ_and_all_train() -> None:
    strategy = PruneStructured()
    proposals = strategy.propose(facts({"Conv": 1}, ()), PROFILE)
    assert 2 <= len(set(proposals)) == len(proposals) <= 4
    assert all(strategy.trains(item) for item in proposals)
    assert not strategy.trains(StructuredParams(keep=0.98, schedule=Schedule(epochs=0)))


def test_what_channels_are_worth_is_found_once_for_all_cuts(digits: Digits) -> None:
    pruned(digits, keep=0.97, epochs=0, round_to=4)
    kept = dict(digits.kept)
    assert kept
    again = pruned(digits, keep=0.8, epochs=0, round_to=4)
    assert digits.kept == kept
    digits.kept.clear()
    assert pruned(digits, keep=0.8, epochs=0, round_to=4).SerializeToString() == again.SerializeToString()


def facts(ops: dict[str, int], layers: tuple[LayerFacts, ...]) -> ModelFacts:
    return ModelFacts("0" * 64, 1100, 17, (), (), ops=ops, layers=layers, weight_bytes=1000)


def test_the_recipe_of_the_contract_is_understood() -> None:
    params = decode(StructuredParams, {"ratio": 0.4, "importance": "magnitude", "schedule": {"epochs": 3}})
    assert params.schedule == Schedule(epochs=3)
    assert decode(StructuredParams, encode(params)) == params
    with pytest.raises(InvalidSpec, match=r"schedule\.kind: read 'cubic', expected a known value"):
        decode(StructuredParams, {"schedule": {"kind": "cubic"}})
