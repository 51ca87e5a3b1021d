"""What a compression strategy is: what it needs, what it promises, what it proposes, and how it changes a model.

A strategy never sees a server, a database or a device: it gets a model, parameters and a ``Context``. The host checks what
it ``requires`` before and what it ``ensures`` after, and runs ``apply`` in a child process of its own.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from edge_compress.domain.model import ModelFacts
from edge_compress.domain.spec import DeviceProfileSpec
from edge_compress.graph.batch import Batch as Batch  # part of this module too: it is what a context hands out

if TYPE_CHECKING:
    import onnx

P = TypeVar("P")

STAGES = ("graph", "structure", "sparsity", "precision")
"""The order in which strategies of different stages follow each other in one recipe that the planner composes."""


@dataclass(frozen=True)
class Requires:
    """What must be there before ``apply`` is called; where it is not, the candidate is refused with the reason."""

    calibration: bool | Literal["optional"] = False
    """unlabelled samples; "optional": lent where there are some, and ``Context.calibration`` raises InvalidData where not"""
    training: bool = False
    """samples to train on; calibration samples stand in when there are no others"""
    labels: bool = False
    """the training samples carry labels"""
    precision: tuple[str, ...] = ()
    """all of these must be in the profile's ``precisions``"""
    float_model: bool = False
    """the model must not be quantised already"""


@dataclass(frozen=True)
class Ensures:
    """What holds after ``apply``; the host checks it and a strategy that breaks its word is a failed candidate."""

    same_interface: bool = True
    """inputs and outputs keep names, types and free axes"""
    lossless: bool = False
    """outputs equal the input model's but for float rounding"""
    golden_tolerance: float = 1e-3
    """how far a device may differ on golden vectors, as a fraction of the largest output magnitude"""


@dataclass(frozen=True)
class Support:
    """Yes, or no with the reason."""

    ok: bool
    reason: str = ""

    @staticmethod
    def yes() -> Support:
        """It applies."""
        return Support(True)

    @staticmethod
    def no(reason: str) -> Support:
        """``reason`` completes the sentence "does not apply, because …"."""
        return Support(False, reason)


@dataclass(frozen=True)
class Expectation:
    """A cheap prediction of what ``apply`` does, as ratios to the model it is given (1.0: unchanged)."""

    bytes: float = 1.0
    download: float = 1.0
    latency: float = 1.0
    memory: float = 1.0


@dataclass(frozen=True)
class Limits:
    """What a step may use; the host enforces it."""

    seconds: float
    memory_bytes: int
    threads: int
    pace: float = 0.0
    """multiply-accumulates of training (the student forward and backward, and the teacher's answers) that a thread makes in
    a second, as measured on this model and machine; 0: not measured"""


class Context(Protocol):
    """What the host lends to ``apply``. Everything streams and is bounded; nothing here reaches the network."""

    seed: int
    """seed every source of randomness from this: same inputs, parameters and seed must give the same bytes"""
    scratch: Path
    """an empty folder of the step's own, removed afterwards"""
    limits: Limits

    def calibration(self, batch_size: int = 32, limit: int = 512) -> Iterator[Batch]:
        """At most ``limit`` calibration samples, in file order, ``batch_size`` at a time (1 when the batch is fixed)."""

    def training(self, batch_size: int = 64, epoch: int = 0) -> Iterator[Batch]:
        """One pass over the training samples, shuffled by (seed, epoch) within a bounded window."""

    def teacher(self) -> onnx.ModelProto:
        """The user's original model."""

    def artifact(self, sha256: str) -> Path:
        """The file of an earlier artifact that one of the step's parameters names (``param(artifact=True)``), to be read only.
        Raises InvalidData for any other digest."""

    def seconds_left(self) -> float:
        """Wall-clock seconds until the step's time ends. For keeping to it only: results must not depend on a clock otherwise."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the step is, 0 to 1. Raises Cancelled when somebody stopped the job: let it through."""

    def log(self, message: str) -> None:
        """A line for the candidate's record."""

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        """What ``make`` gives, computed once for all steps of this strategy on this model and data, whatever their parameters.

        ``key`` names everything else that it depends on: parameters it reads, in words of your own. Two steps that run at the
        same time may both compute it. What a step that fails has made is forgotten.
        """


@dataclass(frozen=True)
class Beginning:
    """What a training begins with: a strategy that trains nothing, and its parameters.

    ``repairs``: how many times the loss that is allowed a training usually makes up for.
    """

    strategy: Strategy[Any]
    params: Any
    repairs: float = 1.5


class Strategy(abc.ABC, Generic[P]):
    """Base of every strategy. Subclasses set the class variables and write ``apply``; the rest has sound defaults."""

    name: ClassVar[str]
    """dotted, unique among all plugins: ``quantize.static``"""
    version: ClassVar[str] = "1"
    """part of the cache key: change it when the same parameters give other bytes"""
    stage: ClassVar[str] = "graph"
    """one of STAGES"""
    Params: type[P]
    """a frozen dataclass whose fields are made with ``param``"""
    requires: ClassVar[Requires] = Requires()
    ensures: ClassVar[Ensures] = Ensures()
    patience: ClassVar[int] = 0
    """of a strategy that trains: how many proposals of each other one come before its first, because it needs far more training
    than they do before it is any good"""
    libraries: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "numpy")
    """distributions whose versions decide the bytes that come out; part of the cache key"""

    def supports(self, model: ModelFacts, profile: DeviceProfileSpec) -> Support:
        """Whether this applies at all, with the reason where it does not. Must be quick and read no file."""
        return Support.yes()

    def propose(self, model: ModelFacts, profile: DeviceProfileSpec) -> Sequence[P]:
        """Parameters worth trying for this model on this profile, most promising first. Default: the defaults."""
        return [self.Params()]

    def bind(self, params: P, profile: DeviceProfileSpec) -> P:
        """Fill in what only the profile knows (a parameter left at None, say), so that ``apply`` needs no profile.

        Equal bound parameters share one cached result between profiles.
        """
        return params

    def expect(self, model: ModelFacts, params: P) -> Expectation:
        """What ``apply`` will roughly do to size and cost; orders and refuses candidates before any is run."""
        return Expectation()

    def trains(self, params: P) -> bool:
        """Whether ``apply`` takes minutes with these parameters, and the step's time decides its bytes. Such proposals wait until
        the quick ones are measured. Default: where training samples are required."""
        return self.requires.training

    def begins_with(self, params: P) -> Beginning | None:
        """Of a strategy that trains: what leaves the same without training. What that loses tells the search how to set the dials
        that both have. Default: nobody knows."""
        return None

    @abc.abstractmethod
    def apply(self, model: onnx.ModelProto, params: P, context: Context) -> onnx.ModelProto:
        """The changed model. May edit ``model`` in place and return it. Raise any error to fail the candidate."""
