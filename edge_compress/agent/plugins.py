"""What installed plugins offer to a device: found by the text of their modules, so that those for servers are never loaded.

Entry points are read by hand: the standard library's reader costs a device more memory than all meters together. Which offers are
taken is for others to say.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

log = logging.getLogger("edge_compress.agent")

GROUP = "edge_compress"
_MARK = "edge_compress_impl"


def offered(hook: str, path: Iterable[str] | None = None) -> list[Any]:
    """Everything that plugins return for ``hook``; one that fails is named in the log and left out."""
    found: list[Any] = []
    for name, target in sorted(entry_points(sys.path if path is None else path).items()):
        try:
            if mentions(target.partition(":")[0], hook):
                found += _called(target, hook)
        except Exception as error:  # a plugin may raise anything, and a device must go on
            log.warning("plugin %s: %s: %s", name, type(error).__name__, error)
    return found


def entry_points(path: Iterable[str]) -> dict[str, str]:
    """Name -> module, or module:attribute, of every plugin on ``path``; the first of a name counts."""
    found: dict[str, str] = {}
    for folder in dict.fromkeys(path):
        for file in sorted(Path(folder or ".").glob("*.*-info/entry_points.txt")):
            for name, target in _section(file):
                found.setdefault(name, target)
    return found


def mentions(module: str, word: str) -> bool:
    """Whether the source of a module has ``word`` in it. Loads nothing."""
    names = module.split(".")
    spec = importlib.util.find_spec(names[0])
    for end in range(2, len(names) + 1):
        where = spec.submodule_search_locations if spec else None
        spec = PathFinder.find_spec(".".join(names[:end]), where) if where else None
    source = Path(spec.origin) if spec and spec.origin else None
    return source is not None and source.suffix == ".py" and word.encode() in source.read_bytes()


def _called(target: str, hook: str) -> list[Any]:
    module, _, attribute = target.partition(":")
    plugin: Any = importlib.import_module(module)
    for name in attribute.split(".") if attribute else ():
        plugin = getattr(plugin, name)
    function = getattr(plugin, hook, None)
    return list(function()) if function is not None and hasattr(function, _MARK) else []


def _section(file: Path) -> Iterator[tuple[str, str]]:
    """(name, target) of each line of our group."""
    inside = False
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("["):
            inside = line.strip() == f"[{GROUP}]"
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].strip()
