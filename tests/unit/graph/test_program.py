"""What the JSON of a program may say. Nothing in it is evaluated, and what could be is refused in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_compress.errors import InvalidModel
from edge_compress.graph.archive import read_archive
from edge_compress.graph.operands import Ref
from edge_compress.graph.program import read_program
from tests.unit.graph.archives import save_linear

Change = Callable[[Any], None]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The program of a linear layer."""
    return read_archive(save_linear(tmp_path_factory.mktemp("pt2") / "linear.pt2"), 10**6).program


def _size(text: Any) -> Change:
    def change(program: Any) -> None:
        program["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = {"as_expr": {"expr_str": text}}

    return change


def _node(**fields: Any) -> Change:
    return lambda program: program["graph_module"]["graph"]["nodes"][0].update(fields)


def _argument(value: Any) -> Change:
    return lambda program: program["graph_module"]["graph"]["nodes"][0]["inputs"].append({"name": "bias", "arg": value})


def _signature(name: str, value: Any) -> Change:
    return lambda program: program["graph_module"]["signature"].update({name: value})


def _mark(path: Path) -> str:
    return f"__import__('pathlib').Path({str(path)!r}).touch()"


@pytest.mark.parametrize(
    "text",
    [
        "{mark}",
        "Symbol('s0', positive=True) + {mark}",
        "Symbol('s0') if {mark} else 1",
        "lambda: {mark}",
        "Symbol('s0'); {mark}",
        "s0\n{mark}",
        "s0\n",
        "2*s0",
        "Symbol('s0', cls={mark})",
        "Symbol('__import__(1)')",
        "",
        None,
        7,
        ["s0"],
    ],
)
def test_no_expression_is_evaluated(plain: Mapping[str, Any], tmp_path: Path, text: Any) -> None:
    """torch hands sizes to sympy, which evaluates them as Python."""
    mark = tmp_path / "mark"
    written = text.replace("{mark}", _mark(mark)) if isinstance(text, str) else text
    with pytest.raises(InvalidModel, match="expressions are not read"):
        read_program(_changed(plain, _size(written)))
    assert not mark.exists()


@pytest.mark.parametrize("text", ["s77", "Symbol('s77', positive=True, integer=True)", "Symbol('batch')"])
def test_a_symbol_by_itself_is_a_free_axis(plain: Mapping[str, Any], text: str) -> None:
    assert isinstance(read_program(_changed(plain, _size(text))).inputs[0].sizes[0], str)


def test_sizes_guards_and_trees_elsewhere_are_not_read(plain: Mapping[str, Any], tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    def change(program: Any) -> None:
        graph = program["graph_module"]["graph"]
        graph["tensor_values"]["linear"]["sizes"][0] = {"as_expr": {"expr_str": _mark(mark)}}
        program["guards_code"] = [_mark(mark)]
        program["graph_module"]["module_call_graph"] = [{"fqn": "", "signature": {"in_spec": _mark(mark)}}]
        program["graph_module"]["metadata"] = {"custom": _mark(mark)}
        program["verifiers"] = [_mark(mark)]

    assert read_program(_changed(plain, change)) == read_program(plain)
    assert not mark.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.hub.load",
        "torch.ops.aten.linear.default.__class__",
        "torch.ops.aten.linear",
        "torch.ops.load_library",
        "torch.ops.quantized.linear.default",
        "torch.ops.higher_order.cond",
        "_operator.methodcaller('x')",
        "operator.attrgetter",
        "#namespace:op",
        "math.ceil\nimport os",
        "builtins.eval",
        7,
        None,
    ],
)
def test_only_arithmetic_is_an_operator(plain: Mapping[str, Any], target: Any) -> None:
    with pytest.raises(InvalidModel, match=r"expected one of torch\.ops\.aten"):
        read_program(_changed(plain, _node(target=target)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_argument({"as_custom_obj": {"name": "x", "class_fqn": "os.system"}}), "the form as_custom_obj"),
        (_argument({"as_operator": "torch.ops.aten.add"}), "the form as_operator"),
        (_argument({"as_graph": {}}), "the form as_graph"),
        (_argument({"as_tensor": {"name": "x; import os"}}), "expected letters, digits"),
        (_argument({"as_tensor": {"name": "later"}}), "which nothing made before"),
        (_argument({"as_int": "1"}), "another form"),
        (_argument({"as_int": True}), "another form"),
        (_argument({"as_int": 2**70}), "another form"),
        (_argument({"as_float": "eval"}), "another form"),
        (_argument({"as_string": "x" * 300}), "another form"),
        (_argument({"as_int": 1, "as_float": 1.0}), "another form"),
        (_argument("x"), "another form"),
        (_node(outputs=[{"as_custom_obj": {}}]), "a result of the form as_custom_obj"),
        (_node(inputs={"a": 1}), "another form"),
        (_signature("input_specs", []), "without inputs"),
        (_signature("input_specs", [{"custom_obj": {}}]), "custom objects are never opened"),
        (_signature("output_specs", [{"buffer_mutation": {}}]), "call eval()"),
        (_signature("output_specs", []), "without outputs"),
        (_signature("output_specs", [{"user_output": {"arg": {"as_tensor": {"name": "nothing"}}}}]), "made by no step"),
        (lambda program: program.update(schema_version={"major": 7, "minor": 1}), "schema 7"),
        (lambda program: program.clear(), "another form"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(plain: Mapping[str, Any], change: Change, said: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        read_program(_changed(plain, change))
    assert said in str(caught.value)


def test_a_part_without_gradients_is_written_out_where_it_stands(plain: Mapping[str, Any]) -> None:
    def change(program: Any) -> None:
        graph = program["graph_module"]["graph"]
        inner = {"target": "torch.ops.aten.relu.default", "inputs": [_named("self", "there")], "outputs": [_tensor("linear")]}
        body = {"inputs": [_tensor("there")], "outputs": [_tensor("linear")], "nodes": [inner]}
        graph["nodes"].append(
            {
                "target": "torch.ops.higher_order.wrap_with_set_grad_enabled",
                "inputs": [
                    {"name": "", "arg": item} for item in ({"as_bool": False}, {"as_graph": {"graph": body}}, _tensor("linear"))
                ],
                "outputs": [_tensor("outside")],
            }
        )
        program["graph_module"]["signature"]["output_specs"] = [{"user_output": {"arg": _tensor("outside")}}]

    program = read_program(_changed(plain, change))
    assert [step.target.split(".")[3] for step in program.steps] == ["linear", "relu"]
    assert program.steps[1].arguments == (("self", Ref("linear")),)
    assert program.outputs[0].name == "outside"
    assert program.steps[1].results == (program.outputs[0].value,)
    assert program.outputs[0].value != "linear"


def _tensor(name: str) -> dict[str, Any]:
    return {"as_tensor": {"name": name}}


def _named(argument: str, name: str) -> dict[str, Any]:
    return {"name": argument, "arg": _tensor(name)}


def _changed(plain: Mapping[str, Any], change: Change) -> Mapping[str, Any]:
    program = copy.deepcopy(dict(plain))
    change(program)
    return program
