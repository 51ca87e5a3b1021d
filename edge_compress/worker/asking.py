"""The task that asks plugins' strategies what they propose for a model and a profile. Needs no model file and no runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_compress.domain.artifact import AppliedStep
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.plan import Dial, Proposal
from edge_compress.domain.schema import decode, encode, encode_all, fields_of
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.plugin.registry import Registry
from edge_compress.plugin.strategy import Requires, Strategy
from edge_compress.worker.frame import Frame

_MOST_PROPOSALS = 8


def propose(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """What the strategies of some plugins propose for a model and a profile, or why they do not apply."""
    registry = Registry.load(only=arguments["plugins"], strict=True)
    model = ModelFacts.from_json(arguments["model"])
    profile = decode(DeviceProfileSpec, arguments["profile"], "profile")
    have = frozenset(arguments["have"])
    proposals = []
    for name in sorted(registry.strategies):
        strategy = registry.strategies[name]
        if arguments["steps"] is None:
            proposals += _proposals(strategy, model, profile, have)
        else:
            proposals += [_asked(strategy, step, model, profile, have) for step in arguments["steps"] if step["strategy"] == name]
    return {"proposals": [encode(item) for item in proposals]}


def missing(requires: Requires, profile: DeviceProfileSpec, model: ModelFacts, have: frozenset[str]) -> str:
    """What a strategy requires and is not there, in words; empty when all is."""
    lacking = [item for item in requires.precision if item not in profile.precisions]
    if lacking:
        return f"needs {', '.join(lacking)}, but the profile allows only {', '.join(profile.precisions)}"
    if requires.float_model and model.quantized:
        return "the model is quantised already"
    if requires.calibration is True and "calibration" not in have:
        return "needs calibration samples (spec.data.calibration)"
    if requires.training and not have & {"training", "calibration"}:
        return "needs training samples (spec.data.training)"
    if requires.labels and "labels" not in have:
        return "needs labels (`y` in spec.data.training)"
    return ""


def _proposals(strategy: Strategy[Any], model: ModelFacts, profile: DeviceProfileSpec, have: frozenset[str]) -> list[Proposal]:
    why = _why_not(strategy, model, profile, have)
    if why:
        return [Proposal(strategy.name, strategy.version, strategy.stage, refused=why)]
    bound = [strategy.bind(params, profile) for params in list(strategy.propose(model, profile))[:_MOST_PROPOSALS]]
    return [_proposal(strategy, model, params, rank) for rank, params in enumerate(dict.fromkeys(bound), strategy.patience)]


def _asked(
    strategy: Strategy[Any], step: Mapping[str, Any], model: ModelFacts, profile: DeviceProfileSpec, have: frozenset[str]
) -> Proposal:
    params = strategy.bind(decode(strategy.Params, step["params"], f"{strategy.name}.params"), profile)
    proposal = _proposal(strategy, model, params)
    why = _why_not(strategy, model, profile, have)
    return Proposal(**{**vars(proposal), "refused": why, "index": step["index"]})


def _why_not(strategy: Strategy[Any], model: ModelFacts, profile: DeviceProfileSpec, have: frozenset[str]) -> str:
    if why := missing(strategy.requires, profile, model, have):
        return why
    support = strategy.supports(model, profile)
    return "" if support.ok else f"does not apply, because {support.reason}"


def _proposal(strategy: Strategy[Any], model: ModelFacts, params: Any, rank: int = 0) -> Proposal:
    expected, begins = strategy.expect(model, params), strategy.begins_with(params)
    return Proposal(
        strategy.name,
        strategy.version,
        strategy.stage,
        params=encode_all(params),
        bytes_ratio=expected.bytes,
        download_ratio=expected.download,
        latency_ratio=expected.latency,
        memory_ratio=expected.memory,
        lossless=strategy.ensures.lossless,
        golden_tolerance=strategy.ensures.golden_tolerance,
        trains=strategy.trains(params),
        rank=rank,
        dials=_dials(strategy.Params),
        keeps=next(iter(artifact_parameters(strategy.Params)), ""),
        begins=None if begins is None else _step(begins.strategy, begins.params),
        repairs=1.0 if begins is None else begins.repairs,
    )


def artifact_parameters(kind: type[Any]) -> list[str]:
    """The parameters that name an earlier artifact by its sha256."""
    return [item.name for item in fields_of(kind) if item.meta.get("artifact")]


def _dials(kind: type[Any]) -> tuple[Dial, ...]:
    marked = [(item, item.meta.get("dial")) for item in fields_of(kind)]
    return tuple(
        Dial(item.name, dial == "up", item.meta.get("minimum"), item.meta.get("maximum"), whole=item.type is int)
        for item, dial in marked
        if dial
    )


def _step(strategy: Strategy[Any], params: Any) -> AppliedStep:
    return AppliedStep(strategy.name, strategy.version, encode_all(params))
