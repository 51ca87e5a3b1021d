"""What a client can be given to apply or plan: resources, their documents, or fleet files; and what it takes from each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_compress.domain.spec import KINDS, Resource, parse_resource
from edge_compress.fleet_file import Declared, load_path

Source = Resource | Mapping[str, Any] | Declared | str | Path
"""a resource, its document, one read from a fleet file, or the path of a fleet file or folder"""
_SINGLE = (str, Path, Mapping, Declared, *KINDS.values())


def gathered(what: Source | Iterable[Source], root: Path) -> list[tuple[Resource, Path]]:
    """Every resource in ``what`` with the folder that its paths are relative to, in the order in which they must be applied.

    ``root`` is that folder where ``what`` is no file. Raises InvalidSpec, NotFound, TooLarge.
    """
    single: Any = what
    items: Iterable[Source] = [single] if isinstance(what, _SINGLE) else single
    found = [pair for item in items for pair in _resources(item, root)]
    order = list(KINDS)
    return sorted(found, key=lambda pair: order.index(type(pair[0]).__name__))


def _resources(item: Source, root: Path) -> list[tuple[Resource, Path]]:
    if isinstance(item, (str, Path)):
        return [(declared.resource, declared.folder) for declared in load_path(Path(item))]
    if isinstance(item, Declared):
        return [(item.resource, item.folder)]
    return [(parse_resource(item) if isinstance(item, Mapping) else item, root)]
