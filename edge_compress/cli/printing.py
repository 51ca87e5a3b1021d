"""Resources as text: tables, JSON, YAML, names. Data goes to stdout; what is said about it goes to stderr."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from edge_compress.cli.kinds import Kind
from edge_compress.domain.resource import ObjectMeta, Plugin, Stored
from edge_compress.domain.schema import encode, encode_all
from edge_compress.domain.spec import API_VERSION, KINDS


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    """Aligned lines, titles first (unless there are none). ``widths`` are the least that each column takes."""
    lines = [[str(cell) for cell in row] for row in ([titles, *rows] if titles else rows)]
    if not lines:
        return []
    least = [*widths, *[0] * len(lines[0])]
    width = [max(least[index], *(len(line[index]) for line in lines)) for index in range(len(lines[0]))]
    return ["   ".join(cell.ljust(width[index]) for index, cell in enumerate(line)).rstrip() for line in lines]


def widths(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """How wide each column of such a table is."""
    lines = [titles, *rows]
    return [max(len(line[index]) for line in lines) for index in range(len(titles))]


def cells(kind: Kind, items: Iterable[Any], *, wide: bool) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table of some resources."""
    columns = [column for column in kind.columns if wide or not column.wide]
    return [column.title for column in columns], [[column.text(item) for column in columns] for item in items]


def document(item: Stored | Plugin) -> dict[str, Any]:
    """The plain form of a resource with all the server knows; what was declared reads back with ``apply -f``."""
    if isinstance(item, Plugin):
        return {"kind": "Plugin", **encode_all(item)}
    plain: dict[str, Any] = {"apiVersion": API_VERSION, "kind": item.kind, "metadata": _metadata(item.metadata)}
    plain["spec"] = encode(item.spec)
    if item.status is not None:
        plain["status"] = _declared_status(item.status) if item.kind in KINDS else encode_all(item.status)
    return plain


def print_items(kind: Kind, items: Sequence[Any], output: str, *, single: bool) -> None:
    """Print resources on stdout; ``single``: one was asked for by name."""
    if output == "json":
        plain = [document(item) for item in items]
        print_json(plain[0] if single else {"apiVersion": API_VERSION, "kind": "List", "items": plain})
    elif output == "yaml":
        say("---\n".join(as_yaml(document(item)) for item in items).rstrip("\n"))
    elif output == "name":
        for item in items:
            say(f"{kind.singular}/{item.name}")
    elif items:
        titles, rows = cells(kind, items, wide=output == "wide")
        say("\n".join(table(titles, rows)))
    else:
        note(f"no {kind.singular}s")


def as_yaml(value: Any) -> str:
    """YAML text of a plain value, in the order it has."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def print_json(value: Any) -> None:
    """Print JSON and nothing else on stdout."""
    say(json.dumps(value, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A line of data, on stdout."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line for people, on stderr."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def timestamp(seconds: float) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC; None for never."""
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _metadata(meta: ObjectMeta) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": meta.name}
    if meta.labels:
        plain["labels"] = dict(meta.labels)
    plain |= {"uid": meta.uid, "generation": meta.generation, "revision": meta.revision}
    return plain | {"createdAt": timestamp(meta.created_at), "updatedAt": timestamp(meta.updated_at)}


def _declared_status(status: Any) -> dict[str, Any]:
    conditions = [
        {
            "type": item.type,
            "status": item.status,
            "reason": item.reason,
            "message": item.message,
            "lastTransition": timestamp(item.last_transition),
        }
        for item in status.conditions
    ]
    return {"observedGeneration": status.observed_generation, "conditions": conditions}
