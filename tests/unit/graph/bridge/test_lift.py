"""Programs of torch.export, lifted to ONNX and held to what the module that was exported answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edge_compress.errors import EdgeCompressError, Unsupported
from edge_compress.graph.archive import read_archive
from edge_compress.graph.bridge.lift import lift
from edge_compress.graph.facts import facts_of_model
from edge_compress.graph.program import read_program
from tests.unit.graph.archives import BATCH, Convolutions, Gated, Transformer, rewritten, save, save_linear

LIMIT = 10**7


def test_a_convolutional_network_keeps_its_answers_names_and_free_batch(tmp_path: Path) -> None:
    module = Convolutions().eval()
    module.body[1].running_mean.uniform_(-1, 1)
    free = {"image": {0: BATCH}, "shift": {0: BATCH}}
    model = lift(save(tmp_path / "c.pt2", module, (torch.randn(2, 3, 8, 8), torch.randn(2, 8)), free), LIMIT)
    facts = facts_of_model(model, "0" * 64, model.ByteSize())
    assert [item.name for item in facts.inputs] == ["image", "shift"]
    assert facts.inputs[0].shape[1:] == (3, 8, 8)
    assert not isinstance(facts.inputs[0].shape[0], int)
    assert {"body.0.weight", "head.weight"} <= {item.name for item in model.graph.initializer}
    assert facts.macs == 8 * 64 * 27 + 8 * 5
    _same(model, module, torch.randn(5, 3, 8, 8), torch.randn(5, 8))


def test_a_transformer_takes_any_length(tmp_path: Path) -> None:
    module = Transformer().eval()
    free = {"tokens": {0: BATCH, 1: torch.export.Dim("length", min=2, max=32)}}
    model = lift(save(tmp_path / "t.pt2", module, (torch.randint(0, 20, (2, 7)),), free), LIMIT)
    for shape in ((1, 3), (4, 31)):
        _same(model, module, torch.randint(0, 20, shape))


def test_outputs_keep_their_names_whatever_values_inside_are_called(tmp_path: Path) -> None:
    """The program calls its output what torch calls the first result of another operator when it traces the program again."""

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.adaptive_max_pool1d(torch.relu(self.norm(x)), 2)

    module = Named().eval()
    path = save(tmp_path / "n.pt2", module, (torch.randn(2, 10, 8),), {"x": {0: BATCH}})
    model = lift(path, LIMIT)
    assert [item.name for item in model.graph.output] == [
        item.name for item in read_program(read_archive(path, LIMIT).program).outputs
    ]
    _same(model, module, torch.randn(3, 10, 8))


def test_parts_without_gradients_and_shared_weights(tmp_path: Path) -> None:
    module = Gated().eval()
    model = lift(save(tmp_path / "g.pt2", module, (torch.randn(2, 4),), {"x": {0: BATCH}}), LIMIT)
    _same(model, module, torch.randn(3, 4))
    assert sum(item.data_type == 1 and list(item.dims) == [4, 4] for item in model.graph.initializer) == 1
    again = lift(tmp_path / "g.pt2", LIMIT)
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_a_program_in_core_operators_is_taken_as_well(tmp_path: Path) -> None:
    module = Convolutions().eval()
    inputs = (torch.randn(2, 3, 8, 8), torch.randn(2, 8))
    path = save(tmp_path / "core.pt2", module, inputs, core=True)
    targets = {step.target.split(".")[3] for step in read_program(read_archive(path, LIMIT).program).steps}
    assert {"_native_batch_norm_legit_no_training", "_softmax"} <= targets
    _same(lift(path, LIMIT), module, *inputs)


def test_a_model_that_was_exported_while_training_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = save(tmp_path / "d.pt2", nn.Sequential(nn.Linear(4, 3), nn.Dropout()).train(), (torch.ones(2, 4),))
    with pytest.raises(EdgeCompressError, match=r"call eval\(\)"):
        lift(path, LIMIT)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (
            {"target": "torch.ops.aten.from_file.default", "inputs": [{"filename": "as_string"}, {"shared": "as_bool"}]},
            "no operator",
        ),
        ({"target": "torch.ops.aten.__class__.mro", "inputs": []}, "no operator"),
        ({"target": "torch.ops.aten.no_such.default", "inputs": []}, "no operator"),
        ({"target": "torch.ops.aten._reshape_alias.default", "inputs": []}, "no operator"),
        ({"target": "torch.ops.aten.segment_reduce.default", "inputs": [{"unsafe": "as_bool"}]}, "checks its arguments"),
        ({"target": "_operator.attrgetter", "inputs": []}, "no such arithmetic"),
        ({"target": "math.perm", "inputs": []}, "no such arithmetic"),
        ({"target": "torch.ops.aten.relu.default", "inputs": [{"note": "as_string"}]}, "read a text as 'note'"),
        ({"target": "torch.ops.aten.relu.default", "inputs": []}, "does not run"),
        ({"target": "torch.ops.aten.as_strided.default", "inputs": [{"size": "far"}]}, "does not run"),
    ],
)
def test_operators_that_could_do_harm_or_do_not_fit_are_refused(tmp_path: Path, node: Any, said: str) -> None:
    mark = tmp_path / "mark"
    values = {"as_string": {"as_string": str(mark)}, "as_bool": {"as_bool": True}, "far": {"as_ints": [2**40]}}

    def change(program: Any) -> None:
        inputs = [{"name": name, "arg": values[kind]} for item in node["inputs"] for name, kind in item.items()]
        program["graph_module"]["graph"]["nodes"][0] |= {"target": node["target"], "inputs": inputs}

    with pytest.raises(EdgeCompressError, match=said):
        lift(rewritten(save_linear(tmp_path / "l.pt2"), tmp_path / "bad.pt2", change), LIMIT)
    assert not mark.exists()


def test_what_answers_otherwise_as_onnx_is_refused(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(Unsupported, match="random"):
        lift(save(tmp_path / "n.pt2", Noisy(), (torch.ones(2, 4),)), LIMIT)


def _same(model: Any, module: nn.Module, *feeds: torch.Tensor) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(None, {item.name: feed.numpy() for item, feed in zip(session.get_inputs(), feeds, strict=True)})
    with torch.no_grad():
        want = module(*feeds)
    for one, other in zip(want if isinstance(want, tuple) else (want,), got, strict=True):
        np.testing.assert_allclose(other, one.numpy(), rtol=1e-4, atol=1e-5)
