"""Reads fleet files: multi-document YAML into resources, with file and line in every error.

Safe against what a stranger's file may hold: tags that build objects, aliases that explode, files and nesting without end. Paths
are relative to the file; a file that is named must be there. What a resource may say is ``domain.spec``'s business.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edge_compress.domain.spec import Model, Resource, parse_resource
from edge_compress.errors import InvalidInput, InvalidSpec, NotFound, TooLarge, Violation

MAX_BYTES = 4 * 1024**2
MAX_NODES = 100_000
MAX_DEPTH = 32
SUFFIXES = (".yaml", ".yml", ".json")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""the C parser where PyYAML has it: ten times faster on a large fleet"""
_SERVER_SET = ("uid", "generation", "revision", "createdAt", "updatedAt")
"""metadata that ``get -o yaml`` shows and an apply of the same text gives back"""


@dataclass(frozen=True)
class Declared:
    """One resource with where it was read. ``folder`` is what its paths are relative to; ``document`` is its plain form."""

    resource: Resource
    file: str
    line: int
    folder: Path
    document: dict[str, Any] = dataclasses.field(hash=False)
    lines: dict[str, int] = dataclasses.field(hash=False)
    """dotted field path -> line"""

    @property
    def kind(self) -> str:
        """Name of the kind."""
        return type(self.resource).__name__

    def where(self, error: InvalidInput) -> str:
        """``file:line`` of the field that an error is about."""
        return _where(error, self.file, self.lines)


def load_path(path: Path) -> list[Declared]:
    """All resources of a file, or of a folder's YAML and JSON files in order. Raises InvalidSpec, TooLarge, NotFound."""
    if path.is_dir():
        files = sorted(item for item in path.iterdir() if item.suffix in SUFFIXES and item.is_file())
        if not files:
            raise InvalidSpec.at(str(path), "no YAML file", f"a folder with {', '.join(SUFFIXES)} files")
    elif path.exists():
        files = [path]
    else:
        raise NotFound("file", str(path))
    declared = [item for file in files for item in load_text(_read(file), file=str(file), folder=file.parent)]
    refuse_duplicates(declared)
    return declared


def load_text(text: str, *, file: str = "<text>", folder: Path | None = None) -> list[Declared]:
    """All resources of YAML text. ``file`` is what errors call it; without ``folder``, paths are left unchecked.

    Raises InvalidSpec with ``file:line``, the field, what was read and what was expected.
    """
    if len(text) > MAX_BYTES:
        raise TooLarge(f"{file}: read {len(text)} characters, expected at most {MAX_BYTES}; split the fleet over several files")
    declared = [_declare(node, file, folder) for node in _documents(text, file)]
    refuse_duplicates(declared)
    return declared


def refuse_duplicates(declared: list[Declared]) -> None:
    """Raise InvalidSpec when one kind and name is declared twice."""
    seen: dict[tuple[str, str], Declared] = {}
    for item in declared:
        first = seen.setdefault((item.kind, item.resource.name), item)
        if first is not item:
            said = f"{item.kind} {item.resource.name!r} is declared again, expected once; the first is {first.file}:{first.line}"
            where = f"{item.file}:{item.line}"
            raise InvalidSpec(f"{where}: metadata.name: {said}", violations=(Violation("metadata.name", said),))


def _read(file: Path) -> str:
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise TooLarge(f"{file}: read {size} bytes, expected at most {MAX_BYTES}; split the fleet over several files")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{file}: byte {error.start} is not UTF-8 text, expected a YAML file") from error


def _documents(text: str, file: str) -> Iterator[yaml.MappingNode]:
    try:
        _check_nesting(text, file)
        for node in yaml.compose_all(text, Loader=_LOADER):
            if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
                continue
            if not isinstance(node, yaml.MappingNode):
                raise _wrong(file, _line(node), "document", node.value, "a mapping with kind, metadata and spec")
            yield node
    except yaml.MarkedYAMLError as error:
        line = int(getattr(error.problem_mark or error.context_mark, "line", 0)) + 1
        raise InvalidSpec(f"{file}:{line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidSpec(f"{file}: not YAML: {error}") from error


def _check_nesting(text: str, file: str) -> None:
    """Refuse depth, size and aliases on the event stream, before anything recursive sees the text."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        line = int(getattr(event.start_mark, "line", 0)) + 1
        if isinstance(event, yaml.AliasEvent):
            raise _wrong(file, line, "document", f"*{event.anchor}", "no aliases", "write the value out")
        if count > MAX_NODES:
            raise TooLarge(
                f"{file}:{line}: read more than {MAX_NODES} values, expected fewer; split the fleet over several files"
            )
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > MAX_DEPTH:
                raise _wrong(file, line, "document", f"nesting deeper than {MAX_DEPTH}", "a flatter document")
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1


def _declare(node: yaml.MappingNode, file: str, folder: Path | None) -> Declared:
    lines: dict[str, int] = {"": _line(node)}
    document = _plain(node, "", lines, file)
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        document["metadata"] = {key: value for key, value in metadata.items() if key not in _SERVER_SET}
    try:
        resource = parse_resource(document)
        if isinstance(resource, Model) and folder is not None:
            _check_files(resource, folder)
    except InvalidInput as error:
        raise error.located(_where(error, file, lines)) from error
    return Declared(resource, file, lines[""], folder or Path(), document, lines)


def _check_files(model: Model, folder: Path) -> None:
    for field, path in model.spec.paths().items():
        if not (folder / path).is_file():
            found = "is a folder" if (folder / path).is_dir() else "does not exist"
            raise InvalidSpec.at(field, path, "a file", f"{folder / path} {found}; paths are relative to the fleet file")


def _plain(node: yaml.Node, at: str, lines: dict[str, int], file: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _plain_mapping(node, at, lines, file)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[f"{at}[{index}]"] = _line(item)
        return [_plain(item, f"{at}[{index}]", lines, file) for index, item in enumerate(node.value)]
    return _scalar(node, at, file)


def _plain_mapping(node: yaml.MappingNode, at: str, lines: dict[str, int], file: str) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _wrong(file, _line(key_node), at or "document", "a list or mapping as a key", "a name")
        key = key_node.value
        path = f"{at}.{key}" if at else key
        if key in plain:
            raise _wrong(file, _line(key_node), path, key, f"each field once (the first is on line {lines[path]})")
        lines[path] = _line(key_node)
        plain[key] = _plain(value_node, path, lines, file)
    return plain


def _scalar(node: yaml.Node, at: str, file: str) -> Any:
    """A plain value. Dates stay text: nothing in a fleet file is one, and a version such as 2026-11-01 should not surprise."""
    if node.tag.endswith((":timestamp", ":value", ":merge")):
        return node.value
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        expected = "plain text, a number, true or false"
        raise _wrong(file, _line(node), at or "document", f"{node.tag} {node.value}", expected) from error


def _where(error: InvalidInput, file: str, lines: dict[str, int]) -> str:
    field = error.violations[0].field if error.violations else ""
    return f"{file}:{_line_of(field, lines)}"


def _line_of(field: str, lines: dict[str, int]) -> int:
    """The line of a field, or of the nearest thing around it that the file has."""
    while field and field not in lines:
        field = re.sub(r"(\.[^.\[\]]*|\[\d+\]|^[^.\[\]]+)$", "", field)
    return lines[field] if field in lines else lines[""]


def _wrong(file: str, line: int, field: str, read: object, expected: str, do: str = "") -> InvalidSpec:
    error = InvalidSpec.at(field, read, expected, do)
    return InvalidSpec(f"{file}:{line}: {error.message}", violations=error.violations)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
