"""What `plugins list` shows comes from the plugins' own declarations."""

import json

from edge_compress.domain.resource import Plugin
from edge_compress.plugin.registry import PluginRecord, Registry
from edge_compress.server.plugin_list import plugins_of


def test_installed_plugins_show_their_offers_and_parameters():
    found = {plugin.name: plugin for plugin in plugins_of(Registry.load())}
    offers = {offer.name: offer for offer in found["quantize"].offers}
    static = {parameter.name: parameter for parameter in offers["quantize.static"].parameters}
    assert offers["quantize.static"].kind == "strategy"
    assert offers["quantize.static"].summary
    assert json.loads(static["bits"].default_json) == 8
    assert static["bits"].type == "int"
    assert "|" in static["activation"].type
    assert all(parameter.doc for parameter in static.values())
    kinds = {offer.kind for plugin in found.values() for offer in plugin.offers}
    assert kinds == {"strategy", "target", "quality_metric", "architecture", "gate_metric", "energy_meter"}


def test_a_broken_plugin_is_listed_with_its_error():
    broken = PluginRecord("sad", "sad-dist", "1.0", error="ImportError: no")
    assert plugins_of(Registry(records=[broken])) == (Plugin("sad", "sad-dist", "1.0", "ImportError: no", ()),)
