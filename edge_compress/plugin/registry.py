"""Finds plugins, loads them one by one, and keeps what they register under unique names.

A plugin that fails to load is kept with its error; the rest load. Two plugins that claim one name are a loud error of the
second one that names both distributions.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pluggy

from edge_compress.domain.schema import unknown_name
from edge_compress.domain.session import ENERGY_SOURCES
from edge_compress.errors import NotFound, PluginError
from edge_compress.plugin import hookspecs
from edge_compress.plugin.architecture import Architecture
from edge_compress.plugin.gate import GateMetric
from edge_compress.plugin.meter import EnergyMeter
from edge_compress.plugin.quality import QualityMetric
from edge_compress.plugin.strategy import STAGES, Strategy
from edge_compress.plugin.target import Target

GROUP = "edge_compress"
_KINDS: dict[str, tuple[str, type[Any]]] = {
    "strategy": ("strategies", Strategy),
    "target": ("targets", Target),
    "quality metric": ("quality_metrics", QualityMetric),
    "architecture": ("architectures", Architecture),
    "gate metric": ("gate_metrics", GateMetric),
    "energy meter": ("energy_meters", EnergyMeter),
}
"""kind -> the attribute that lists it, which is also the end of its hook's name, and its class"""


@dataclass
class PluginRecord:
    """One plugin and how its load went. ``error`` is empty when it loaded."""

    name: str
    distribution: str
    version: str
    strategies: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    quality_metrics: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    gate_metrics: tuple[str, ...] = ()
    energy_meters: tuple[str, ...] = ()
    error: str = ""
    traceback: str = ""


@dataclass
class Registry:
    """What the loaded plugins offer, by name."""

    records: list[PluginRecord] = field(default_factory=list)
    strategies: dict[str, Strategy[Any]] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    quality_metrics: dict[str, QualityMetric] = field(default_factory=dict)
    architectures: dict[str, Architecture] = field(default_factory=dict)
    gate_metrics: dict[str, GateMetric] = field(default_factory=dict)
    energy_meters: dict[str, EnergyMeter] = field(default_factory=dict)
    _owners: dict[tuple[str, str], str] = field(default_factory=dict)
    _manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(hookspecs.PROJECT))

    def __post_init__(self) -> None:
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def load(cls, *, only: Iterable[str] | None = None, strict: bool = False) -> Registry:
        """Load every installed plugin, or those whose entry point names are in ``only``.

        Raises PluginError with ``strict`` when any fails; otherwise failures are in ``records``.
        """
        wanted = None if only is None else set(only)
        registry = cls()
        for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda item: item.name):
            if wanted is not None and entry.name not in wanted:
                continue
            registry._load(entry)
        broken = [record for record in registry.records if record.error]
        if strict and broken:
            raise PluginError("; ".join(f"plugin {record.name} ({record.distribution}): {record.error}" for record in broken))
        return registry

    def register(self, plugin: object, *, name: str, distribution: str = "", version: str = "") -> PluginRecord:
        """Register an already imported plugin module or object. Raises PluginError when it breaks the rules."""
        _refuse_unknown_hooks(plugin, self._manager)
        record = PluginRecord(name, distribution, version)
        try:
            self._manager.register(plugin, name=name)
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name}: {error}") from error
        try:
            offered = {
                kind: self._offers(plugin, f"edge_compress_register_{attribute}", cls)
                for kind, (attribute, cls) in _KINDS.items()
            }
            self._claim(offered, distribution or name)
        except BaseException:
            self._manager.unregister(plugin)
            raise
        for kind, (attribute, _) in _KINDS.items():
            setattr(record, attribute, tuple(offered[kind]))
            getattr(self, attribute).update(offered[kind])
        self.records.append(record)
        return record

    def strategy(self, name: str, field_path: str = "strategy") -> Strategy[Any]:
        """The strategy called ``name``. Raises InvalidSpec with the nearest known name."""
        if name not in self.strategies:
            raise unknown_name(field_path, name, self.strategies, "strategy")
        return self.strategies[name]

    def target(self, name: str, field_path: str = "spec.runtime") -> Target:
        """The target called ``name``. Raises InvalidSpec with the nearest known name."""
        if name not in self.targets:
            raise unknown_name(field_path, name, self.targets, "runtime")
        return self.targets[name]

    def quality_metric(self, name: str, field_path: str = "spec.quality.metric") -> QualityMetric:
        """The metric called ``name``. Raises InvalidSpec with the nearest known name."""
        if name not in self.quality_metrics:
            raise unknown_name(field_path, name, self.quality_metrics, "quality metric")
        return self.quality_metrics[name]

    def gate_metric(self, name: str, field_path: str = "spec.rollout.gates.metric") -> GateMetric:
        """The gate metric called ``name``. Raises InvalidSpec with the nearest known name."""
        if name not in self.gate_metrics:
            raise unknown_name(field_path, name, self.gate_metrics, "gate metric")
        return self.gate_metrics[name]

    def plugin_of(self, kind: str, name: str) -> str:
        """Entry point name of the plugin that offers ``name``; ``kind`` is strategy, target, quality metric, architecture,
        gate metric or energy meter."""
        attribute, _ = _KINDS[kind]
        for record in self.records:
            if not record.error and name in getattr(record, attribute):
                return record.name
        raise NotFound(kind, name)

    def fire(self, hook: str, **arguments: Any) -> list[str]:
        """Call an event hook on every plugin; returns the errors, one line each, and never raises."""
        errors = []
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                implementation.function(*[arguments[name] for name in implementation.argnames])
            except Exception as error:
                errors.append(f"{implementation.plugin_name}: {type(error).__name__}: {error}")
        return errors

    def _load(self, entry: importlib.metadata.EntryPoint) -> None:
        distribution = entry.dist.name if entry.dist else ""
        version = entry.dist.version if entry.dist else ""
        try:
            self.register(entry.load(), name=entry.name, distribution=distribution, version=version)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything on import, SystemExit included; the host must live
            record = PluginRecord(entry.name, distribution, version)
            record.error = f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
            record.traceback = traceback.format_exc()
            self.records.append(record)

    def _offers(self, plugin: object, hook: str, kind: type[Any]) -> dict[str, Any]:
        function = getattr(plugin, hook, None)
        if function is None:
            return {}
        offered: dict[str, Any] = {}
        for item in function():
            if inspect.isclass(item) or not isinstance(item, kind):
                raise PluginError(f"{hook} must return instances of {kind.__name__}, got {item!r}")
            _check_declaration(item)
            if item.name in offered:
                raise PluginError(f"{hook} returns {item.name!r} twice")
            offered[item.name] = item
        return offered

    def _claim(self, offered: Mapping[str, Mapping[str, Any]], owner: str) -> None:
        for kind, items in offered.items():
            for name in items:
                if (kind, name) in self._owners:
                    raise PluginError(f"{kind} {name!r} is claimed by both {self._owners[kind, name]} and {owner}")
        for kind, items in offered.items():
            for name in items:
                self._owners[kind, name] = owner


@functools.cache
def architectures() -> Mapping[str, Architecture]:
    """Every architecture of the installed plugins by name, for strategies that build students: those of other plugins too."""
    return types.MappingProxyType(Registry.load().architectures)


def _refuse_unknown_hooks(plugin: object, manager: pluggy.PluginManager) -> None:
    known = {name for name in dir(hookspecs) if name.startswith("edge_compress_")}
    for name in dir(plugin):
        marked = manager.parse_hookimpl_opts(plugin, name) is not None
        if (marked or name.startswith("edge_compress_register")) and name not in known:
            raise PluginError(str(unknown_name(name, name, known, "hook")))
        if name in known and not marked and callable(getattr(plugin, name)):
            raise PluginError(f"{name} is not marked with @hookimpl")


def _check_declaration(item: Any) -> None:
    if not isinstance(getattr(item, "name", None), str) or not item.name:
        raise PluginError(f"{type(item).__name__}.name must be a non-empty string")
    if isinstance(item, EnergyMeter) and getattr(item, "source", None) not in ENERGY_SOURCES:
        raise PluginError(f"{item.name}: source must be one of {', '.join(sorted(ENERGY_SOURCES))}")
    if isinstance(item, Strategy):
        if item.stage not in STAGES:
            raise PluginError(f"{item.name}: stage {item.stage!r} is not one of {', '.join(STAGES)}")
        params = getattr(item, "Params", None)
        if not (inspect.isclass(params) and hasattr(params, "__dataclass_fields__")):
            raise PluginError(f"{item.name}: Params must be a frozen dataclass")
