"""One text for equal values, another for others."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest

from edge_compress.errors import InvalidSpec
from edge_compress.store.canonical import from_text, to_text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1, "b": {"d": 2, "c": 3}}, {"b": {"c": 3, "d": 2}, "a": 1}),
        ({"a": (1, 2)}, {"a": [1, 2]}),
        ({"a": MappingProxyType({"x": MappingProxyType({})})}, {"a": {"x": {}}}),
    ],
)
def test_equal_values_are_equal_texts(left: Any, right: Any) -> None:
    assert to_text(left, "spec") == to_text(right, "spec")


@pytest.mark.parametrize(("left", "right"), [(1, True), (1, 1.0), (0.0, -0.0), (None, ""), ([], {}), ("1", 1)])
def test_other_values_are_other_texts(left: Any, right: Any) -> None:
    assert to_text(left, "spec") != to_text(right, "spec")


@pytest.mark.parametrize("value", ["é\ud800\x00", 2**80, 0.1, [None, True, {"": []}]])
def test_values_come_back(value: Any) -> None:
    assert from_text(to_text({"x": value}, "spec")) == {"x": value}


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), -float("inf"), b"x", {1}, object, nested(100_000), {1: 2, "a": 3}])
def test_what_json_cannot_carry_names_the_field(value: Any) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.x: "):
        to_text(value, "spec.x")
