"""What a target is: the format a runtime loads, and how to run it where the server measures."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edge_compress.domain.model import ModelFacts
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.plugin.strategy import Context, Support

if TYPE_CHECKING:
    import numpy as np
    import onnx


class Runner(Protocol):
    """A loaded model."""

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Sequence[np.ndarray[Any, Any]]:
        """Outputs in the model's order. Not thread-safe."""


class Target(abc.ABC):
    """Base of every target. Its ``name`` is what a profile's ``runtime`` says."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    file_name: ClassVar[str]
    """file name of the artifact, such as ``model.onnx``"""
    libraries: ClassVar[tuple[str, ...]] = ()
    """distributions whose versions decide the bytes or the speed; part of cache keys"""

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Whether the runtime can take the model."""
        return Support.yes()

    def variant(self, profile: DeviceProfileSpec) -> str:
        """Which form of the file suits a profile, in a word of the target's own. Default: "", there is one form for all."""
        return ""

    @abc.abstractmethod
    def convert(self, model: onnx.ModelProto, context: Context, variant: str = "") -> bytes:
        """The artifact's bytes; deterministic. A target with one form for all may leave ``variant`` out: it is given only where
        ``variant`` tells one."""

    def warm(self) -> None:  # noqa: B027  # optional by design: a runtime without set-up has nothing to do
        """Import the runtime and let it set itself up, so that what a model adds to it can be measured. Default: nothing."""

    @abc.abstractmethod
    def open(self, path: Path, threads: int) -> Runner:
        """Load an artifact under the settings an agent uses. Imports the runtime on use, not on load of the plugin."""

    def layer_seconds(
        self, path: Path, threads: int, feeds: Sequence[Mapping[str, np.ndarray[Any, Any]]], seconds: float
    ) -> Mapping[str, float]:
        """Seconds that each layer of an artifact takes in one inference, by the name ``graph.facts`` gives it in that file; ""
        holds everything that is no layer. Runs for about ``seconds``. Default: nothing, the runtime has no profiler."""
        return {}
