"""Declared resources: what is read, what is refused and how it is said."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from edge_compress.domain.spec import (
    Deployment,
    DeviceProfile,
    Model,
    Recipe,
    document_schema,
    dump_resource,
    parse_resource,
)
from edge_compress.errors import InvalidSpec

FLEET: list[dict[str, Any]] = [
    {
        "apiVersion": "edge-compress/v1",
        "kind": "DeviceProfile",
        "metadata": {"name": "cam", "labels": {"site": "plant-1"}},
        "spec": {
            "runtime": "onnxruntime",
            "memory": "64Mi",
            "storage": "8Mi",
            "precisions": ["fp32", "int8"],
            "int8_dot_product": True,
            "power_budget": "2W",
            "rate": "5/s",
            "latency_p95": "200ms",
            "threads": 2,
            "link": {"bandwidth": "1Mbit", "metered": True},
            "compute": {"fp32": "8GFLOPS", "int8": "16GOPS", "memory_bandwidth": "4GB/s", "watts_per_core": "1.5W"},
        },
    },
    {
        "kind": "Model",
        "metadata": {"name": "vision"},
        "spec": {
            "source": "vision.onnx",
            "data": {
                "calibration": "calib.npz",
                "evaluation": "val.npz",
                "preprocess": {"layout": "NHWC", "mean": 127, "std": [128, 128, 128]},
            },
            "quality": {"metric": "top1", "max_drop": 0.02},
        },
    },
    {
        "kind": "Recipe",
        "metadata": {"name": "int8"},
        "spec": {"steps": [{"strategy": "quantize.static", "params": {"bits": 8, "nested": {"epochs": 3}}}]},
    },
    {
        "kind": "Deployment",
        "metadata": {"name": "vision"},
        "spec": {
            "model": "vision",
            "objective": "energy",
            "selector": {"profiles": ["cam"], "labels": {"site": "plant-1"}},
            "rollout": {
                "steps": ["1%", "10%", "100%"],
                "soak": "60s",
                "gates": [{"metric": "latency_p95", "max_increase": 0.1}],
            },
        },
    },
]


def changed(index: int, path: str, value: object) -> dict[str, Any]:
    import copy

    document = copy.deepcopy(FLEET[index])
    *parents, last = path.split(".")
    at = document
    for name in parents:
        at = at.setdefault(name, {})
    at[last] = value
    return document


def test_all_kinds_are_read_into_values() -> None:
    profile, model, recipe, deployment = map(parse_resource, FLEET)
    assert isinstance(profile, DeviceProfile)
    assert (profile.spec.memory, profile.spec.latency_p95, profile.spec.compute.watts_per_core) == (64 * 2**20, 0.2, 1.5)
    assert isinstance(model, Model)
    assert (model.spec.data.preprocess.mean, model.spec.data.preprocess.std) == ((127.0,), (128.0, 128.0, 128.0))
    assert isinstance(recipe, Recipe)
    assert recipe.spec.steps[0].params == {"bits": 8, "nested": {"epochs": 3}}
    assert isinstance(deployment, Deployment)
    assert deployment.spec.rollout.steps == (0.01, 0.1, 1.0)


@pytest.mark.parametrize("document", FLEET, ids=lambda item: item["kind"])
def test_what_is_shown_reads_back_equal(document: dict[str, Any]) -> None:
    resource = parse_resource(document)
    assert parse_resource(dump_resource(resource)) == resource


@pytest.mark.parametrize("document", FLEET, ids=lambda item: item["kind"])
def test_the_published_schema_accepts_what_we_accept(document: dict[str, Any]) -> None:
    jsonschema.validate({"apiVersion": "edge-compress/v1", **document}, document_schema())


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        ({"kind": "DeviceProfil", "metadata": {"name": "a"}}, "kind", "did you mean 'DeviceProfile'"),
        (changed(0, "spec.memry", 1), "spec.memry", "did you mean 'memory'"),
        (changed(0, "spec.memory", "-1Mi"), "spec.memory", "zero or more"),
        (changed(0, "spec.memory", 0), "spec.memory", "at least 1"),
        (changed(0, "spec.threads", 0), "spec.threads", "at least 1"),
        (changed(0, "spec.threads", "two"), "spec.threads", "whole number"),
        (changed(0, "spec.precisions", ["int9"]), "spec.precisions[0]", "did you mean"),
        (changed(0, "spec.precisions", []), "spec.precisions", "at least one"),
        (changed(0, "spec.rate", "0/s"), "spec.rate", "more than zero"),
        (changed(0, "spec.link.bandwith", "1Mbit"), "spec.link.bandwith", "did you mean 'bandwidth'"),
        (changed(0, "metadata.name", "../etc"), "metadata.name", "lower case"),
        (changed(0, "metadata.name", "a" * 64), "metadata.name", "at most 63"),
        (changed(0, "metadata.labels", {"k": "v v"}), "metadata.labels.k", "letters"),
        (changed(0, "apiVersion", "v2"), "apiVersion", "edge-compress/v1"),
        (changed(1, "spec.source", None), "spec.source", "required"),
        (changed(1, "spec.data.preprocess.std", [1, 0]), "spec.data.preprocess.std", "other than zero"),
        (changed(1, "spec.quality.max_drop", -0.1), "spec.quality.max_drop", "at least 0"),
        (changed(2, "spec.steps", []), "spec.steps", "at least one"),
        (changed(2, "spec.steps", [{"strategie": "x"}]), "spec.steps[0].strategie", "did you mean 'strategy'"),
        (changed(3, "spec.objective", "speed"), "spec.objective", "known value"),
        (changed(3, "spec.rollout.steps", ["10%", "5%", "100%"]), "spec.rollout.steps", "rising"),
        (changed(3, "spec.rollout.steps", ["10%"]), "spec.rollout.steps", "100% as the last"),
        ("text", "document", "mapping"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_the_field(document: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_resource(document)
    assert caught.value.violations[0].field == field
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_selector_needs_profile_and_every_label() -> None:
    selector = parse_resource(FLEET[3]).spec.selector  # type: ignore[union-attr]  # FLEET[3] is a deployment
    assert selector.matches("cam", {"site": "plant-1", "row": "3"})
    assert not selector.matches("cam", {"site": "plant-2"})
    assert not selector.matches("hub", {"site": "plant-1"})
