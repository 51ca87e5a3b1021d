"""The ``compress`` verb: every selected (model, profile) pair of a fleet file, in this process, with no server.

State lies in ``<out>/.cache``: a run that was stopped goes on from there, and a second run does nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_compress.domain.report import report_entry
from edge_compress.domain.spec import Deployment, DeviceProfile, FileRef, Model, Recipe, Resource
from edge_compress.errors import InvalidInput, InvalidModel, InvalidSpec, NotFound
from edge_compress.graph.external import inline_external_data
from edge_compress.plugin.registry import Registry
from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from edge_compress.worker.engine import Engine, PairRequest, PairResult

Progress = Callable[[str, str, float, str], None]
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
) -> dict[str, Any]:
    """Compress every selected pair; writes ``out/<model>/<profile>/model.*`` and ``report.json`` files.

    ``root`` is the folder that paths in the resources are relative to. Returns the contract's ``--json`` mapping. Raises
    InvalidSpec, InvalidModel, InvalidData before anything is computed for a pair.
    """
    pairs = selected_pairs(resources)
    registry = Registry.load()
    _check(pairs, registry)
    out.mkdir(parents=True, exist_ok=True)
    store = open_state(out / ".cache")
    engine = Engine(store=store, registry=registry, scratch=_scratch(out / ".cache"))
    stop = threading.Event()
    try:
        uploaded = {
            model.name: _with_files(model, root, store) for model in {pair.model.name: pair.model for pair in pairs}.values()
        }
        for model in uploaded.values():
            _check_files(engine, model)
        with ThreadPoolExecutor(max_workers=_PAIRS_AT_ONCE, thread_name_prefix="pair") as pool:
            futures = [pool.submit(_run, engine, pair, uploaded, seed, stop, budget_seconds, progress) for pair in pairs]
            try:
                results = [future.result() for future in futures]
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return _write(pairs, results, store, registry, out)
    finally:
        engine.close()
        store.close()


def selected_pairs(resources: Sequence[Resource]) -> list[Pair]:
    """Every pair that a Deployment selects; without Deployments, every model for every profile, for latency."""
    profiles = {item.name: item for item in resources if isinstance(item, DeviceProfile)}
    models = {item.name: item for item in resources if isinstance(item, Model)}
    recipes = {item.name: item for item in resources if isinstance(item, Recipe)}
    deployments = [item for item in resources if isinstance(item, Deployment)]
    if not deployments:
        pairs = [Pair(model, profile, None, "latency") for model in models.values() for profile in profiles.values()]
    else:
        pairs = [pair for item in deployments for pair in _pairs_of(item, profiles, models, recipes)]
    if not pairs:
        raise InvalidSpec("the file selects no pair of a model and a profile; give at least one Model and one DeviceProfile")
    unique = {(pair.model.name, pair.profile.name): pair for pair in reversed(pairs)}
    return list(reversed(unique.values()))


def _pairs_of(
    deployment: Deployment, profiles: Mapping[str, DeviceProfile], models: Mapping[str, Model], recipes: Mapping[str, Recipe]
) -> list[Pair]:
    spec = deployment.spec
    at = f"Deployment {deployment.name}: spec"
    model = _named(models, spec.model, "Model", f"{at}.model")
    recipe = None if spec.recipe == "auto" else _named(recipes, spec.recipe, "Recipe", f"{at}.recipe")
    names = spec.selector.profiles or tuple(profiles)
    chosen = [_named(profiles, name, "DeviceProfile", f"{at}.selector.profiles") for name in names]
    return [Pair(model, profile, recipe, spec.objective) for profile in chosen]


def _named(known: Mapping[str, Any], name: str, kind: str, field: str) -> Any:
    if name not in known:
        raise InvalidSpec.at(field, name, f"the name of a {kind} in the file", f"known: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def _check(pairs: Sequence[Pair], registry: Registry) -> None:
    """Refuse unknown runtimes, metrics, strategies and parameters before anything is computed."""
    from edge_compress.domain.schema import decode

    for pair in pairs:
        registry.target(pair.profile.spec.runtime, f"DeviceProfile {pair.profile.name}: spec.runtime")
        if pair.model.spec.quality.metric:
            registry.quality_metric(pair.model.spec.quality.metric, f"Model {pair.model.name}: spec.quality.metric")
        for index, step in enumerate(pair.recipe.spec.steps if pair.recipe else ()):
            at = f"Recipe {pair.recipe.name if pair.recipe else ''}: spec.steps[{index}]"
            strategy = registry.strategy(step.strategy, f"{at}.strategy")
            decode(strategy.Params, step.params, f"{at}.params")


def _scratch(folder: Path) -> Path:
    """An empty scratch folder; what a killed run left in it goes."""
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


def _check_files(engine: Engine, model: Model) -> None:
    try:
        engine.check_data(model)
    except InvalidInput as error:
        raise error.located(f"Model {model.name}") from error


def _with_files(model: Model, root: Path, store: Store) -> Model:
    refs = []
    for field, name in model.spec.paths().items():
        path = root / name
        if not path.is_file():
            raise NotFound("file", f"{name} ({field} of Model {model.name})")
        sha256 = _put_model(model.name, name, path, store) if path.suffix == ".onnx" else store.blobs.put_file(path)
        refs.append(FileRef(name, sha256, store.blobs.size(sha256)))
    return replace(model, spec=replace(model.spec, files=tuple(dict.fromkeys(refs))))


def _put_model(model: str, name: str, path: Path, store: Store) -> str:
    """Keep an ONNX file, the tensors that lie beside it put inside, as an upload would."""
    try:
        return store.blobs.put_bytes(inline_external_data(path))
    except InvalidModel as error:
        raise error.within("spec.source", name).located(f"Model {model}") from error


def _run(
    engine: Engine,
    pair: Pair,
    models: Mapping[str, Model],
    seed: int,
    stop: threading.Event,
    budget_seconds: float | None,
    progress: Progress,
) -> PairResult:
    request = PairRequest(models[pair.model.name], pair.profile, pair.recipe, pair.objective, seed)
    return engine.run(
        request,
        progress=lambda fraction, message: progress(pair.model.name, pair.profile.name, fraction, message),
        cancelled=stop,
        budget_seconds=budget_seconds,
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
