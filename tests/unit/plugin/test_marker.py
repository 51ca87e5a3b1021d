"""hookimpl makes the mark that pluggy's own marker makes, without pluggy."""

from __future__ import annotations

import subprocess
import sys

import pluggy
import pytest

from edge_compress.plugin import hookimpl
from edge_compress.plugin.marker import PROJECT


@pytest.mark.parametrize("options", [{}, {"tryfirst": True}, {"trylast": True, "optionalhook": True}])
def test_the_mark_is_pluggys(options: dict[str, bool]) -> None:
    def mine() -> None: ...

    def theirs() -> None: ...

    hookimpl(**options)(mine)
    pluggy.HookimplMarker(PROJECT)(**options)(theirs)
    assert getattr(mine, f"{PROJECT}_impl") == getattr(theirs, f"{PROJECT}_impl")


def test_it_marks_without_brackets_and_refuses_unknown_options() -> None:
    @hookimpl
    def marked() -> int:
        return 3

    assert (marked(), hasattr(marked, f"{PROJECT}_impl")) == (3, True)
    with pytest.raises(TypeError, match="hookimpl has no option 'tryfrist'"):
        hookimpl(tryfrist=True)


def test_a_plugin_with_meters_loads_neither_pluggy_nor_what_strategies_need() -> None:
    heavy = {"pluggy", "importlib.metadata", "edge_compress.plugin.strategy"}
    code = f"import sys, edge_compress_meters; print(*{heavy!r} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == []
