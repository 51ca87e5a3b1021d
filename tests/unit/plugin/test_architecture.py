"""Architectures: what one must be, how plugins register them, and that a stranger's plugin is found and really trained."""

from __future__ import annotations

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from edge_compress_distill.student import DistilStudent, StudentParams

from edge_compress.graph.bridge.parity import run_onnx
from edge_compress.plugin import Architecture, Cost, DeviceProfileSpec, ImageTask, architectures, hookimpl
from edge_compress.plugin.registry import Registry
from tests.unit.plugins.array_context import ArrayContext
from tests.unit.plugins.teachers import images, teacher

STRANGER = '''
    """A plugin as anyone may write one: plain torch, nothing of ours but the public API."""

    from edge_compress.plugin import Architecture, Cost, hookimpl


    class Tower(Architecture):
        """Two convolutions and a matrix."""

        name = "tower"
        version = "7"
        widths = (0.5, 2.0)

        def cost(self, task, width):
            inner = int(16 * width)
            macs = 9.0 * inner * (task.channels + inner) * task.height * task.width + inner * task.outputs
            return Cost(macs, macs / task.height / task.width, macs)

        def build(self, task, width, seed):
            from torch import nn, random, manual_seed

            inner = int(16 * width)
            with random.fork_rng(devices=[]):
                manual_seed(seed)
                return nn.Sequential(
                    nn.Conv2d(task.channels, inner, 3, padding=1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
                    nn.Conv2d(inner, inner, 3, padding=1), nn.LeakyReLU(0.1),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inner, task.outputs),
                )


    @hookimpl
    def edge_compress_register_architectures():
        return [Tower()]
'''


class Small(Architecture):
    """The least there can be."""

    name = "small"

    def cost(self, task: ImageTask, width: float) -> Cost:
        return Cost(1.0, 1.0, 1.0)

    def build(self, task: ImageTask, width: float, seed: int) -> object:  # type: ignore[override]  # never called here
        raise AssertionError


def plugin_of(*offered: object) -> types.ModuleType:
    module = types.ModuleType("small_plugin")

    def edge_compress_register_architectures() -> list[object]:
        return list(offered)

    module.edge_compress_register_architectures = hookimpl(edge_compress_register_architectures)  # type: ignore[attr-defined]
    return module


def test_a_plugin_registers_architectures_by_name() -> None:
    registry = Registry()
    record = registry.register(plugin_of(Small()), name="small")
    assert record.architectures == ("small",)
    assert registry.architectures["small"].widths == (0.05, 4.0)
    assert registry.plugin_of("architecture", "small") == "small"


def test_two_plugins_with_one_name_and_classes_are_refused() -> None:
    registry = Registry()
    registry.register(plugin_of(Small()), name="first")
    with pytest.raises(Exception, match="architecture 'small' is claimed by both first and second"):
        registry.register(plugin_of(Small()), name="second")
    with pytest.raises(Exception, match="must return instances of Architecture"):
        Registry().register(plugin_of(Small), name="third")


def test_a_task_without_size_is_no_task() -> None:
    with pytest.raises(ValueError, match="expected positive sizes"):
        ImageTask(3, 0, 8, 10)


def test_first_party_architectures_are_there_for_everyone() -> None:
    assert {"rep_vgg", "mobilenet_v2", "shufflenet_v2"} <= set(architectures())


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A distribution of somebody else's, installed."""
    (tmp_path / "acme_tower.py").write_text(textwrap.dedent(STRANGER))
    info = tmp_path / "acme_tower-3.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tower\nVersion: 3.0\n")
    (info / "entry_points.txt").write_text("[edge_compress]\ntower = acme_tower\n")
    monkeypatch.syspath_prepend(tmp_path)
    architectures.cache_clear()
    yield tmp_path
    architectures.cache_clear()


def test_a_strangers_architecture_is_trained_merged_and_written(stranger: Path) -> None:
    model, samples = teacher(layout="NHWC", size=8), images(64, size=8, layout="NHWC")
    context = ArrayContext({"image": samples}, scratch=stranger, teacher=model)
    wanted = StudentParams(architecture="tower", width=1.0, epochs=5, least_samples=2, batch=16)
    strategy = DistilStudent()
    bound = strategy.bind(wanted, DeviceProfileSpec())
    made = strategy.apply(model, bound, context)
    assert bound.revision == "7"
    onnx.checker.check_model(made, full_check=True)
    kinds = [node.op_type for node in made.graph.node]
    assert kinds == ["Transpose", "Conv", "Relu", "Conv", "LeakyRelu", "GlobalAveragePool", "Flatten", "Gemm"]
    assert run_onnx(made, {"image": samples})[0].shape == (64, 5)
