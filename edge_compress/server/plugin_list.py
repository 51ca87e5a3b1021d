"""The plugins that were found, as a list for people: what each offers, with the parameters of its strategies."""

from __future__ import annotations

import inspect
import json
from typing import Any

from edge_compress.domain.resource import Plugin, PluginOffer, PluginParameter
from edge_compress.domain.schema import FieldFacts, encode, fields_of
from edge_compress.plugin.registry import PluginRecord, Registry


def plugins_of(registry: Registry) -> tuple[Plugin, ...]:
    """Every plugin, those that failed to load with their error."""
    return tuple(
        Plugin(record.name, record.distribution, record.version, record.error, _offers(registry, record))
        for record in sorted(registry.records, key=lambda record: record.name)
    )


def _offers(registry: Registry, record: PluginRecord) -> tuple[PluginOffer, ...]:
    if record.error:
        return ()
    strategies = [registry.strategies[name] for name in record.strategies]
    return (
        *(PluginOffer("strategy", item.name, summary_of(item), parameters_of(item.Params)) for item in strategies),
        *(PluginOffer("target", name, summary_of(registry.targets[name])) for name in record.targets),
        *(PluginOffer("quality_metric", name, summary_of(registry.quality_metrics[name])) for name in record.quality_metrics),
        *(PluginOffer("gate_metric", name, summary_of(registry.gate_metrics[name])) for name in record.gate_metrics),
        *(PluginOffer("energy_meter", name, summary_of(registry.energy_meters[name])) for name in record.energy_meters),
        *(PluginOffer("architecture", name, summary_of(registry.architectures[name])) for name in record.architectures),
    )


def summary_of(offered: object) -> str:
    """First sentence of its class's documentation, on one line."""
    text = " ".join((inspect.getdoc(type(offered)) or "").split())
    sentence, stop, _ = text.partition(". ")
    return sentence + "." if stop else text


def parameters_of(params: type[Any]) -> tuple[PluginParameter, ...]:
    """The parameters of a strategy, in the order of their declaration."""
    return tuple(PluginParameter(item.name, _type(item), item.unit, _default(item), item.doc) for item in fields_of(params))


def _type(item: FieldFacts) -> str:
    choices = item.meta.get("choices")
    if choices:
        return "|".join(choices)
    return item.type.__name__ if inspect.isclass(item.type) else str(item.type).replace("typing.", "")


def _default(item: FieldFacts) -> str:
    if item.required:
        return ""
    quantity = item.meta.get("quantity")
    plain = quantity.format(item.default) if quantity and item.default is not None else encode(item.default)
    return json.dumps(plain)
