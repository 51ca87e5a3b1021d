"""Draws up the plan of one pair: asks every plugin, in a child process of its own, what it proposes.

What is made of the proposals is decided by ``domain.plan``; nothing here runs a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_compress.domain.cost import comparable_joules, predict, predicted_excesses
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.plan import Plan, Prediction, Proposal, draw_up, pipelines
from edge_compress.domain.schema import decode, encode
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.errors import InvalidInput, StepFailed, TooLarge
from edge_compress.plugin.registry import PluginRecord, Registry
from edge_compress.worker.costing import DeviceCosts
from edge_compress.worker.inputs import PairRequest
from edge_compress.worker.settings import WorkerSettings
from edge_compress.worker.steps import Run, StepRunner, Work

NO_ANSWER = "its plugin failed when asked"


class Planner:
    """See the module. Every method blocks and may be called from any thread."""

    def __init__(self, steps: StepRunner, registry: Registry, settings: WorkerSettings) -> None:
        self._steps, self._registry, self._settings = steps, registry, settings

    def plan(self, request: PairRequest, facts: ModelFacts, have: Sequence[str], run: Run) -> tuple[Plan, str]:
        """The plan, and why the runtime cannot take the model at all (empty: it can)."""
        profile, costs = request.profile.spec, DeviceCosts(request, facts, self._registry)
        target = self._registry.target(profile.runtime)
        support = target.supports(facts, profile)
        proposals, broken = self._proposals(request, facts, have, run)
        usable = [item for item in proposals if not item.refused]
        wanted = pipelines(proposals) if request.recipe is None else [tuple(sorted(usable, key=lambda item: item.index))]
        refused = [*broken, *(item for item in proposals if item.refused)]
        if request.recipe is not None and refused:
            wanted = []
        plan = draw_up(
            request.model.name,
            request.profile.name,
            request.objective,
            wanted,
            refused,
            lambda steps: costs.foretold(predict(facts, profile, steps), [item.step for item in steps]),
            lambda steps, predicted: _hopeless(steps, predicted, profile, facts),
            lambda expected: comparable_joules(facts, expected),
        )
        return plan, "" if support.ok else f"{target.name} cannot take this model, because {support.reason}"

    def _proposals(
        self, request: PairRequest, facts: ModelFacts, have: Sequence[str], run: Run
    ) -> tuple[list[Proposal], list[Proposal]]:
        """What all plugins propose, asked in one child process; where that fails, in one each, so that a plugin that crashes or
        hangs is refused alone, with what happened."""
        steps = self._recipe_steps(request)
        asked = [item for item in self._registry.records if item.strategies and (steps is None or _named(item, steps))]
        if not asked:
            return [], []
        try:
            return self._ask(asked, facts, request.profile.spec, have, steps, run), []
        except InvalidInput:
            if steps is not None:
                raise  # what the recipe says is wrong
        except (StepFailed, TooLarge):
            pass
        return self._ask_each(asked, request, facts, have, steps, run)

    def _ask_each(
        self, asked: Sequence[PluginRecord], request: PairRequest, facts: ModelFacts, have: Sequence[str], steps: Any, run: Run
    ) -> tuple[list[Proposal], list[Proposal]]:
        found: list[Proposal] = []
        broken: list[Proposal] = []
        for record in asked:
            try:
                found += self._ask([record], facts, request.profile.spec, have, steps, run)
            except (StepFailed, InvalidInput, TooLarge) as error:
                if steps is not None and isinstance(error, InvalidInput):
                    raise  # as above
                broken += [Proposal(name, "", "graph", refused=f"{NO_ANSWER}: {error}") for name in record.strategies]
        return found, broken

    def _recipe_steps(self, request: PairRequest) -> list[dict[str, Any]] | None:
        """The recipe's steps as they are sent; None without a recipe. Raises InvalidSpec for a strategy nobody offers."""
        if request.recipe is None:
            return None
        wanted = list(enumerate(request.recipe.spec.steps))
        for index, item in wanted:
            self._registry.strategy(item.strategy, f"spec.steps[{index}].strategy")
        return [{"strategy": item.strategy, "params": dict(item.params), "index": index} for index, item in wanted]

    def _ask(
        self,
        records: Sequence[PluginRecord],
        facts: ModelFacts,
        profile: DeviceProfileSpec,
        have: Sequence[str],
        steps: Any,
        run: Run,
    ) -> list[Proposal]:
        names = [name for record in records for name in record.strategies]
        arguments = {
            "plugins": sorted(record.name for record in records),
            "model": facts.to_json(),
            "profile": encode(profile),
            "have": sorted(have),
            "steps": None if steps is None else [item for item in steps if item["strategy"] in names],
        }
        strategies = {name: self._registry.strategies[name].version for name in names}
        plugins = sorted([record.name, record.distribution, record.version] for record in records)
        decides = {**arguments, "plugins": plugins, "strategies": strategies}
        value = self._steps.result(Work("propose", decides, arguments, self._settings.propose), run)
        return [decode(Proposal, item, "proposal") for item in value["proposals"]]


def _named(record: PluginRecord, steps: Sequence[dict[str, Any]]) -> bool:
    return any(item["strategy"] in record.strategies for item in steps)


def _hopeless(
    steps: tuple[Proposal, ...], predicted: Prediction, profile: DeviceProfileSpec, facts: ModelFacts
) -> tuple[float, str] | None:
    """Why a pipeline cannot meet the profile, and how far off it is; infinitely far: it must not run at all."""
    lowered = any(item.stage == "precision" for item in steps)
    if not lowered and not facts.quantized and "fp32" not in profile.precisions:
        return float("inf"), f"computes in fp32, but the profile allows only {', '.join(profile.precisions)}"
    over = predicted_excesses(predicted, profile)
    if over:
        return sum(item.times for item in over), "predicted: " + "; ".join(item.words for item in over)
    return None
