"""What a client can be given to apply or plan: resources, their documents, or fleet files; and what it takes from each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_compress.domain.spec import KINDS, Resource, parse_resource
from edge_compress.errors import InvalidInput
from edge_compress.fleet_file import Declared, load_path

Source = Resource | Mapping[str, Any] | Declared | str | Path
"""a resource, its document, one read from a fleet file, or the path of a fleet file or folder"""
_SINGLE = (str, Path, Mapping, Declared, *KINDS.values())


@dataclass(frozen=True)
class Given:
    """A resource, the folder that its paths are relative to, and the declaration in a fleet file that it comes from."""

    resource: Resource
    folder: Path
    declared: Declared | None = None

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return type(self.resource).__name__

    def located(self, error: InvalidInput) -> InvalidInput:
        """The error with where its field was read: file and line, or else the resource."""
        where = self.declared.where(error) if self.declared else f"{self.kind} {self.resource.name}"
        return error.located(where)


def gathered(what: Source | Iterable[Source], root: Path) -> list[Given]:
    """Every resource in ``what``, in the order in which they must be applied.

    ``root`` is what paths are relative to where ``what`` is no file. Raises InvalidSpec, NotFound, TooLarge.
    """
    single: Any = what
    items: Iterable[Source] = [single] if isinstance(what, _SINGLE) else single
    found = [given for item in items for given in _resources(item, root)]
    order = list(KINDS)
    return sorted(found, key=lambda given: order.index(given.kind))


def _resources(item: Source, root: Path) -> list[Given]:
    if isinstance(item, (str, Path)):
        return [Given(declared.resource, declared.folder, declared) for declared in load_path(Path(item))]
    if isinstance(item, Declared):
        return [Given(item.resource, item.folder, item)]
    return [Given(parse_resource(item) if isinstance(item, Mapping) else item, root)]
