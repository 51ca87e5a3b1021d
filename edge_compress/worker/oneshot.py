"""The ``compress`` verb: every selected (model, profile) pair of a fleet file, in this process, with no server.

State lies in ``<out>/.cache``: a run that was stopped goes on from there, and a second run does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_compress.domain.report import report_entry
from edge_compress.domain.schema import decode
from edge_compress.domain.spec import Deployment, DeviceProfile, FileRef, Model, Recipe, Resource
from edge_compress.errors import InvalidInput, InvalidModel, InvalidSpec, NotFound
from edge_compress.graph.external import inline_external_data
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from edge_compress.worker.engine import Budget, Engine, PairRequest, PairResult, WorkerSettings

Progress = Callable[[str, str, float, str], None]
Where = Callable[[Resource, InvalidInput], str]
"""where a resource's field that an error is about was read"""
_PAIRS_AT_ONCE = 2


@dataclass(frozen=True)
class Pair:
    """A model for a profile, and the recipe and objective that its deployment asks for."""

    model: Model
    profile: DeviceProfile
    recipe: Recipe | None
    objective: str


def compress_fleet(
    resources: Sequence[Resource],
    *,
    root: Path,
    out: Path,
    budget_seconds: float | None = None,
    progress: Progress = lambda model, profile, fraction, message: None,
    seed: int = 0,
    where: Where = lambda resource, error: f"{type(resource).__name__} {resource.name}",
) -> dict[str, Any]:
    """Compress every selected pair; writes ``out/<model>/<profile>/model.*`` and ``report.json`` files.

    ``root`` is the folder that paths in the resources are relative to; an error about a resource begins with what ``where`` says.
    ``budget_seconds`` are for each model.

    Returns the contract's ``--json`` mapping. Raises InvalidSpec, InvalidModel, InvalidData before any pair is begun.
    """
    pairs = selected_pairs(resources, where)
    registry = Registry.load()
    _check(pairs, registry, where)
    out = out.resolve()  # child processes work in folders of their own
    out.mkdir(parents=True, exist_ok=True)
    store = open_state(out / ".cache")
    settings = WorkerSettings(allow_pt2=True)  # the user's own file, lifted in a child all the same
    engine = Engine(store=store, registry=registry, scratch=_scratch(out / ".cache"), settings=settings)
    stop = threading.Event()
    try:
        uploaded = {}
        for model in {pair.model.name: pair.model for pair in pairs}.values():
            with _located(model, where):
                uploaded[model.name] = _with_files(model, root, store)
                engine.check_data(uploaded[model.name])
        requests = [PairRequest(uploaded[pair.model.name], pair.profile, pair.recipe, pair.objective, seed) for pair in pairs]
        results = _Runs(engine, stop, progress).all(requests, budget_seconds)
        return _write(pairs, results, store, registry, out)
    finally:
        engine.close()
        store.close()


def selected_pairs(resources: Sequence[Resource], where: Where) -> list[Pair]:
    """Every pair that a Deployment selects; without Deployments, every model for every profile, for latency."""
    profiles = {item.name: item for item in resources if isinstance(item, DeviceProfile)}
    models = {item.name: item for item in resources if isinstance(item, Model)}
    recipes = {item.name: item for item in resources if isinstance(item, Recipe)}
    deployments = [item for item in resources if isinstance(item, Deployment)]
    if not deployments:
        pairs = [Pair(model, profile, None, "latency") for model in models.values() for profile in profiles.values()]
    else:
        pairs = []
        for item in deployments:
            with _located(item, where):
                pairs += _pairs_of(item, profiles, models, recipes)
    if not pairs:
        raise InvalidSpec("the file selects no pair of a model and a profile; give at least one Model and one DeviceProfile")
    unique = {(pair.model.name, pair.profile.name): pair for pair in reversed(pairs)}
    return list(reversed(unique.values()))


def _pairs_of(
    deployment: Deployment, profiles: Mapping[str, DeviceProfile], models: Mapping[str, Model], recipes: Mapping[str, Recipe]
) -> list[Pair]:
    spec = deployment.spec
    model = _named(models, spec.model, "Model", "spec.model")
    recipe = None if spec.recipe == "auto" else _named(recipes, spec.recipe, "Recipe", "spec.recipe")
    names = spec.selector.profiles or tuple(profiles)
    chosen = [_named(profiles, name, "DeviceProfile", f"spec.selector.profiles[{at}]") for at, name in enumerate(names)]
    return [Pair(model, profile, recipe, spec.objective) for profile in chosen]


def _named(known: Mapping[str, Any], name: str, kind: str, field: str) -> Any:
    if name not in known:
        raise InvalidSpec.at(field, name, f"the name of a {kind} in the file", f"known: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def _check(pairs: Sequence[Pair], registry: Registry, where: Where) -> None:
    """Refuse unknown runtimes, metrics, strategies and parameters before anything is computed."""
    for pair in pairs:
        with _located(pair.profile, where):
            registry.target(pair.profile.spec.runtime, "spec.runtime")
        with _located(pair.model, where):
            if pair.model.spec.quality.metric:
                registry.quality_metric(pair.model.spec.quality.metric, "spec.quality.metric")
        if pair.recipe is not None:
            with _located(pair.recipe, where):
                _check_recipe(pair.recipe, registry)


def _check_recipe(recipe: Recipe, registry: Registry) -> None:
    for index, step in enumerate(recipe.spec.steps):
        strategy = registry.strategy(step.strategy, f"spec.steps[{index}].strategy")
        decode(strategy.Params, step.params, f"spec.steps[{index}].params")


@contextlib.contextmanager
def _located(resource: Resource, where: Where) -> Iterator[None]:
    """Errors in the block are about ``resource``."""
    try:
        yield
    except InvalidInput as error:
        raise error.located(where(resource, error)) from error


def _scratch(folder: Path) -> Path:
    """An empty scratch folder; what a killed run left in it goes."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def _with_files(model: Model, root: Path, store: Store) -> Model:
    refs = []
    for field, name in model.spec.paths().items():
        path = root / name
        if not path.is_file():
            raise NotFound("file", f"{name} ({field} of Model {model.name})")
        sha256 = _put_model(field, name, path, store) if path.suffix == ".onnx" else store.blobs.put_file(path)
        refs.append(FileRef(name, sha256, store.blobs.size(sha256)))
    return replace(model, spec=replace(model.spec, files=tuple(dict.fromkeys(refs))))


def _put_model(field: str, name: str, path: Path, store: Store) -> str:
    """Keep an ONNX file, the tensors that lie beside it put inside, as an upload would."""
    try:
        return store.blobs.put_bytes(inline_external_data(path))
    except InvalidModel as error:
        raise error.within(field, name) from error


class _Runs:
    """Runs pairs side by side; what breaks one stops all."""

    def __init__(self, engine: Engine, stop: threading.Event, progress: Progress) -> None:
        self._engine, self._stop, self._progress = engine, stop, progress

    def all(self, requests: Sequence[PairRequest], budget_seconds: float | None) -> list[PairResult]:
        """Every pair, a few at a time; with a budget one model after the other, so that each has its own."""
        if budget_seconds is None:
            return self._side_by_side(requests, None, _PAIRS_AT_ONCE)
        found: dict[int, PairResult] = {}
        for name in dict.fromkeys(item.model.name for item in requests):
            mine = [at for at, item in enumerate(requests) if item.model.name == name]
            together = [requests[at] for at in mine]
            # All at once: they mostly wait for each other's steps, and the time runs for all of them.
            budget = self._engine.budget(together, budget_seconds)
            found |= zip(mine, self._side_by_side(together, budget, len(mine)), strict=True)
        return [found[at] for at in range(len(requests))]

    def _side_by_side(self, requests: Sequence[PairRequest], budget: Budget | None, at_once: int) -> list[PairResult]:
        with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="pair") as pool:
            futures = [pool.submit(self._run, item, budget) for item in requests]
            try:
                return [future.result() for future in futures]
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise

    def _run(self, request: PairRequest, budget: Budget | None) -> PairResult:
        model, profile = request.model.name, request.profile.name
        return self._engine.run(
            request,
            progress=lambda fraction, message: self._progress(model, profile, fraction, message),
            cancelled=self._stop,
            budget=budget,
        )


def _write(pairs: Sequence[Pair], results: Sequence[PairResult], store: Store, registry: Registry, out: Path) -> dict[str, Any]:
    paths: dict[str, dict[str, str]] = {}
    for pair, result in zip(pairs, results, strict=True):
        if result.artifact is not None:
            file_name = registry.target(pair.profile.spec.runtime).file_name
            path = Path(pair.model.name) / pair.profile.name / file_name
            _copy(store.blobs.path(result.artifact.sha256), out / path)
            paths.setdefault(pair.model.name, {})[pair.profile.name] = path.as_posix()
    report: dict[str, Any] = {"models": {}}
    for name in dict.fromkeys(pair.model.name for pair in pairs):
        outcomes = [result.outcome for result in results if result.outcome.model == name]
        report["models"][name] = report_entry(outcomes, paths.get(name, {}))
        for profile, entry in report["models"][name]["profiles"].items():
            folder = out / name / profile
            folder.mkdir(parents=True, exist_ok=True)
            _replace(folder / "report.json", json.dumps(entry, indent=2).encode())
    return report


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    shutil.copyfile(source, partial)
    os.replace(partial, path)


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
