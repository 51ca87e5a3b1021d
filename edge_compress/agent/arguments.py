"""The agent's flags, read without the command line's libraries: those take as long to load as the model.

Flags and their meaning come from ``config.AgentSettings``; help and every mistake are left to ``edge-compress agent``.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_compress.agent.setup import Setup
from edge_compress.config import AgentSettings, load
from edge_compress.domain.schema import fields_of

_SWITCHES = ("insecure",)


def read(arguments: Sequence[str]) -> Setup | None:
    """The setup that plain ``--flag value`` and ``--flag=value`` words describe; the environment and the defaults fill in.

    None for anything else, which only the full command line can answer. Raises InvalidSpec for a value that is wrong.
    """
    given = _given(arguments)
    return None if given is None else setup_of(load(AgentSettings, given))


def setup_of(settings: AgentSettings) -> Setup:
    """What an agent takes over of its settings."""
    return Setup(
        server=settings.server,
        profile=settings.profile,
        name=settings.name,
        state=str(settings.state.absolute()),
        labels=dict(settings.labels),
        insecure=settings.insecure,
        self_test_rate=settings.self_test_rate,
        heartbeat=settings.heartbeat,
        report=settings.report,
        log_format=settings.log_format,
        memory_budget=settings.memory_budget,
        min_battery=settings.min_battery,
        maintenance_window=settings.maintenance_window,
        meter=settings.meter,
        meter_command=settings.meter_command,
        meter_url=settings.meter_url,
    )


def _given(arguments: Sequence[str]) -> dict[str, str | bool] | None:
    known = {"--" + item.name.replace("_", "-"): item.name for item in fields_of(AgentSettings)}
    given: dict[str, str | bool] = {}
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        name = known.get(flag)
        if name is None or name in given:
            return None
        if name in _SWITCHES:
            if equals:
                return None
            given[name] = True
            continue
        text = value if equals else next(words, None)
        if text is None or (text.startswith("-") and not equals):
            return None
        given[name] = text
    return given
