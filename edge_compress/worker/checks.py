"""Tasks that check what users upload: a model, and the data that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_compress.domain.model import ModelFacts
from edge_compress.domain.schema import encode
from edge_compress.graph.check import load_checked
from edge_compress.graph.facts import facts_of
from edge_compress.worker.frame import DataSource, Frame


def facts(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Check an untrusted model and tell its facts."""
    path = Path(arguments["path"])
    load_checked(path, max_bytes=arguments["max_bytes"])
    plain: dict[str, Any] = facts_of(path).to_json()
    return plain


def data(arguments: Mapping[str, Any], frame: Frame) -> dict[str, Any]:
    """Check a data file against the model that it goes with."""
    source = DataSource.read(arguments["source"])
    outputs = ModelFacts.from_json(arguments["model"]).outputs
    plain: dict[str, Any] = encode(source.open().facts(metric_needs_labels=arguments["needs_labels"], outputs=outputs))
    return plain
