"""What the user declares: device profiles, models, recipes and deployments. A value that makes no sense cannot be built.

Reading YAML, files and line numbers is left to ``fleet_file``; what the server knows beyond the declaration is *status* and
lives in ``status`` mappings beside these.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_compress.domain import quantity as q
from edge_compress.domain.schema import decode, encode, json_schema, spec_field, unknown_name
from edge_compress.errors import InvalidSpec

API_VERSION = "edge-compress/v1"
STANDS_IN_FOR = "edge-compress/stands-in-for"
"""label of a profile that the server made for devices that contradict another one, whose name is the value"""
_NAME = re.compile(r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$")
_LABEL = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$")
_DIGEST = re.compile(r"^[0-9a-f]{64}$")

PRECISIONS = ("fp32", "fp16", "int8", "int4")
OBJECTIVES = ("energy", "latency", "size")


@dataclass(frozen=True)
class Metadata:
    """Name and labels of any resource."""

    name: str = spec_field("unique within its kind: lower case letters, digits, '-', '_' and '.', at most 63")
    labels: Mapping[str, str] = dataclasses.field(
        default_factory=dict, metadata={"doc": "free key=value pairs that selectors match"}
    )

    def __post_init__(self) -> None:
        check_name(self.name, "metadata.name")
        for key, value in self.labels.items():
            if not _LABEL.match(key) or (value and not _LABEL.match(value)):
                raise InvalidSpec.at(f"metadata.labels.{key}", value, "letters, digits, '-', '_', '.', '/', at most 63")


@dataclass(frozen=True)
class Link:
    """The network between the server and the devices of a profile."""

    bandwidth: float | None = spec_field("usable download rate", default=None, quantity=q.BITRATE, minimum=1)
    metered: bool = spec_field("each byte costs money", default=False)
    update_rate: float | None = spec_field(
        "how much of it updates may take; absent: all", default=None, quantity=q.BITRATE, minimum=1
    )

    @property
    def usable(self) -> float | None:
        """Bits a second that an update gets at most; None: nobody says."""
        return min((rate for rate in (self.bandwidth, self.update_rate) if rate is not None), default=None)


@dataclass(frozen=True)
class Compute:
    """What the device's processor can do; learned from reports where it is not declared."""

    fp32: float | None = spec_field("sustained 32-bit float arithmetic of one thread", default=None, quantity=q.FLOPS, minimum=1)
    int8: float | None = spec_field("sustained 8-bit integer arithmetic of one thread", default=None, quantity=q.OPS, minimum=1)
    memory_bandwidth: float | None = spec_field("sustained memory bandwidth", default=None, quantity=q.BANDWIDTH, minimum=1)
    watts_per_core: float | None = spec_field(
        "power one busy core draws above idle; without it and without a meter there is no energy figure",
        default=None,
        quantity=q.WATTS,
    )


@dataclass(frozen=True)
class DeviceProfileSpec:
    """Limits and abilities that a class of devices shares."""

    runtime: str = spec_field("target plugin that runs the model", default="onnxruntime")
    memory: int | None = spec_field(
        "peak working set the model may add to the runtime's own", default=None, quantity=q.BYTES, minimum=1
    )
    storage: int | None = spec_field("largest installed artifact", default=None, quantity=q.BYTES, minimum=1)
    precisions: tuple[str, ...] = spec_field(
        "arithmetic the device runs well", default=("fp32", "fp16", "int8"), choices=PRECISIONS
    )
    int8_dot_product: bool = spec_field(
        "has VNNI or SDOT; false means 7-bit weights on x86 so that 16-bit sums cannot saturate", default=False
    )
    power_budget: float | None = spec_field("mean power the model may draw at `rate`", default=None, quantity=q.WATTS)
    rate: float | None = spec_field("inferences asked for; absent: continuous", default=None, quantity=q.RATE)
    latency_p95: float | None = spec_field("95th percentile of one inference", default=None, quantity=q.SECONDS)
    threads: int = spec_field("threads the runtime may use", default=1, minimum=1, maximum=256)
    link: Link = dataclasses.field(default=Link(), metadata={"doc": "network between the server and these devices"})
    compute: Compute = dataclasses.field(default=Compute(), metadata={"doc": "abilities of the processor"})

    def __post_init__(self) -> None:
        if not self.precisions:
            raise InvalidSpec.at("spec.precisions", [], f"at least one of {', '.join(PRECISIONS)}")
        for name in ("power_budget", "rate", "latency_p95"):
            if getattr(self, name) == 0:
                raise InvalidSpec.at(f"spec.{name}", 0, "more than zero", "leave it out to have no limit")


@dataclass(frozen=True)
class FileRef:
    """A file by name and, once it is uploaded, by the sha256 of its bytes."""

    path: str
    sha256: str = ""
    bytes: int = 0

    def __post_init__(self) -> None:
        if self.sha256 and not _DIGEST.match(self.sha256):
            raise InvalidSpec.at("sha256", self.sha256, "64 lower case hexadecimal digits")


@dataclass(frozen=True)
class Preprocess:
    """How stored samples become model inputs: value = (x - mean) / std, then to the model's layout."""

    layout: str = spec_field("axis order of the stored samples", default="", choices=("", "NHWC", "NCHW"))
    mean: tuple[float, ...] = spec_field("subtracted; one number, or one a channel", default=(0.0,), one_or_many=True)
    std: tuple[float, ...] = spec_field("divides; one number, or one a channel", default=(1.0,), one_or_many=True)

    def __post_init__(self) -> None:
        if not self.mean or not self.std:
            raise InvalidSpec.at("spec.data.preprocess", [], "at least one number for mean and for std")
        if any(value == 0 for value in self.std):
            raise InvalidSpec.at("spec.data.preprocess.std", 0, "numbers other than zero")


@dataclass(frozen=True)
class ModelData:
    """Samples that go with a model, as .npz files: arrays named by model input (or `x`), labels as `y`."""

    calibration: str = spec_field("samples to calibrate with; unlabelled is enough", default="")
    evaluation: str = spec_field("samples to measure quality on; `y` where labelled", default="")
    training: str = spec_field("samples for fine-tuning; absent: calibration, with the model as its own teacher", default="")
    preprocess: Preprocess = dataclasses.field(default=Preprocess(), metadata={"doc": "from stored samples to model inputs"})

    ROLES = ("calibration", "evaluation", "training")


@dataclass(frozen=True)
class QualityGoal:
    """How quality is measured and how much of it may be lost."""

    metric: str = spec_field(
        "top1, top5, agreement, cosine, mse, auc, or a plugin's; absent: top1 with labels, agreement without", default=""
    )
    max_drop: float = spec_field("largest absolute loss, as a fraction: 0.01 is one percentage point", default=0.01, minimum=0.0)


@dataclass(frozen=True)
class ModelSpec:
    """A trained model, the data that goes with it, and the quality it must keep."""

    source: str = spec_field("path of the model: .onnx, or .pt2 (torch.export) where the server allows it")
    data: ModelData = dataclasses.field(default=ModelData(), metadata={"doc": "samples that go with the model"})
    quality: QualityGoal = dataclasses.field(default=QualityGoal(), metadata={"doc": "quality to keep"})
    files: tuple[FileRef, ...] = dataclasses.field(
        default=(), metadata={"doc": "filled by the client: digest of each file named above"}
    )

    def file(self, path: str) -> FileRef | None:
        """The uploaded file behind a declared path, or None when it was not declared."""
        return next((ref for ref in self.files if ref.path == path), None)

    def paths(self) -> dict[str, str]:
        """Field path -> declared file path, for every file the model names."""
        named = {"spec.source": self.source}
        for role in ModelData.ROLES:
            if path := getattr(self.data, role):
                named[f"spec.data.{role}"] = path
        return named


@dataclass(frozen=True)
class RecipeStep:
    """One strategy with its parameters; what is left out takes the strategy's default."""

    strategy: str = spec_field("name of a loaded strategy, such as quantize.static")
    params: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, metadata={"doc": "parameters of the strategy", "free": True}
    )


@dataclass(frozen=True)
class RecipeSpec:
    """Steps applied in order."""

    steps: tuple[RecipeStep, ...] = spec_field("applied in this order")

    def __post_init__(self) -> None:
        if not self.steps:
            raise InvalidSpec.at("spec.steps", [], "at least one step")


@dataclass(frozen=True)
class Selector:
    """Which devices: those of any of `profiles` that carry all `labels`."""

    profiles: tuple[str, ...] = spec_field("names of device profiles; empty: every profile", default=())
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"doc": "labels a device must carry"})

    def matches(self, profile: str, labels: Mapping[str, str]) -> bool:
        """Whether a device of ``profile`` with ``labels`` is selected."""
        if self.profiles and profile not in self.profiles:
            return False
        return all(labels.get(key) == value for key, value in self.labels.items())


@dataclass(frozen=True)
class Gate:
    """A metric that must not get worse against the control group."""

    metric: str = spec_field("what is compared: latency_p95, energy_per_inference, error_ratio, or a plugin's")
    max_increase: float = spec_field("largest relative increase, as a fraction", minimum=0.0)
    against: str = spec_field("what to compare with", default="control", choices=("control",))
    require: str = spec_field("measured refuses estimates", default="any", choices=("any", "measured"))


METERED = ("differences", "whole", "wait")


@dataclass(frozen=True)
class RolloutPolicy:
    """How a new artifact spreads over the selected devices."""

    steps: tuple[float, ...] = spec_field("share of the devices that may have it, step by step", default=(1.0,), quantity=q.SHARE)
    advance_at: float = spec_field("share of a step that must be good to go on", default=0.95, quantity=q.SHARE)
    abort_at: float = spec_field("share failed of those that tried, at which to stop", default=0.05, quantity=q.SHARE)
    min_executed: int = spec_field("devices that must have tried before abort_at counts", default=3, minimum=1)
    soak: float = spec_field("time a step must stay good", default=0.0, quantity=q.SECONDS)
    device_deadline: float = spec_field("a device silent for longer is TimedOut", default=600.0, quantity=q.SECONDS, minimum=1)
    gates: tuple[Gate, ...] = dataclasses.field(default=(), metadata={"doc": "comparisons that must hold to go on"})
    metered: str = spec_field(
        "what devices on metered links get: updates as differences only (a first version comes whole), whole files, or nothing",
        default="differences",
        choices=METERED,
    )
    on_drift: str = spec_field(
        "what follows when devices report that a class misses its goals and something else would keep them: propose it, or make "
        "it and roll it out",
        default="propose",
        choices=("propose", "automatic"),
    )

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] <= 0:
            raise InvalidSpec.at("spec.rollout.steps", list(self.steps), "rising shares above zero, like [1%, 10%, 100%]")
        if self.steps[-1] != 1.0:
            raise InvalidSpec.at("spec.rollout.steps", list(self.steps), "100% as the last step")
        if self.gates and len(self.steps) == 1:
            said = "two steps or more, for at 100% nobody is left to compare with"
            raise InvalidSpec.at("spec.rollout.steps", list(self.steps), said, "like [10%, 100%], or leave gates out")


@dataclass(frozen=True)
class DeploymentSpec:
    """Which model goes to which devices, compressed for what, and how it spreads."""

    model: str = spec_field("name of a Model")
    recipe: str = spec_field("name of a Recipe, or auto: the planner decides", default="auto")
    objective: str = spec_field("what to make small among artifacts that meet every limit", default="latency", choices=OBJECTIVES)
    selector: Selector = dataclasses.field(default=Selector(), metadata={"doc": "which devices"})
    rollout: RolloutPolicy = dataclasses.field(default=RolloutPolicy(), metadata={"doc": "how it spreads"})


@dataclass(frozen=True)
class DeviceProfile:
    """A class of devices."""

    metadata: Metadata
    spec: DeviceProfileSpec = DeviceProfileSpec()

    @property
    def name(self) -> str:
        """Its name, unique within its kind."""
        return self.metadata.name


@dataclass(frozen=True)
class Model:
    """A trained model."""

    metadata: Metadata
    spec: ModelSpec

    @property
    def name(self) -> str:
        """Its name, unique within its kind."""
        return self.metadata.name


@dataclass(frozen=True)
class Recipe:
    """A named list of compression steps."""

    metadata: Metadata
    spec: RecipeSpec

    @property
    def name(self) -> str:
        """Its name, unique within its kind."""
        return self.metadata.name


@dataclass(frozen=True)
class Deployment:
    """A model on its way to devices."""

    metadata: Metadata
    spec: DeploymentSpec

    @property
    def name(self) -> str:
        """Its name, unique within its kind."""
        return self.metadata.name


Resource = DeviceProfile | Model | Recipe | Deployment
KINDS: dict[str, type[DeviceProfile] | type[Model] | type[Recipe] | type[Deployment]] = {
    "DeviceProfile": DeviceProfile,
    "Model": Model,
    "Recipe": Recipe,
    "Deployment": Deployment,
}
"""Declared kinds, in the order in which they must be applied."""


def parse_resource(document: object) -> Resource:
    """Build a resource from one parsed YAML document. Raises InvalidSpec naming the field."""
    if not isinstance(document, Mapping):
        raise InvalidSpec.at("document", document, "a mapping with kind, metadata and spec")
    fields = {"apiVersion", "kind", "metadata", "spec", "status"}
    for key in document:
        if key not in fields:
            raise unknown_name(str(key), str(key), fields, "field")
    version = document.get("apiVersion", API_VERSION)
    if version != API_VERSION:
        raise InvalidSpec.at("apiVersion", version, API_VERSION)
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise (
            unknown_name("kind", str(kind), KINDS, "kind") if kind else InvalidSpec.at("kind", None, f"one of {', '.join(KINDS)}")
        )
    body = {"metadata": document.get("metadata"), "spec": document.get("spec") or {}}
    return decode(KINDS[kind], body)


def dump_resource(resource: Resource) -> dict[str, Any]:
    """The plain document of a resource; ``parse_resource`` reads it back to an equal value."""
    return {"apiVersion": API_VERSION, "kind": type(resource).__name__, **encode(resource)}


def document_schema() -> dict[str, Any]:
    """JSON Schema of one document of a fleet file, for editors."""
    kinds = []
    for kind, cls in KINDS.items():
        schema = json_schema(cls)
        if kind == "Model":
            schema["properties"]["spec"]["properties"].pop("files")
        head = {"apiVersion": {"const": API_VERSION}, "kind": {"const": kind}}
        schema["properties"] = {**head, **schema["properties"], "status": {"type": "object"}}
        schema["required"] = ["kind", *schema["required"]]
        kinds.append({"title": kind, "description": (cls.__doc__ or "").strip(), **schema})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edge-compress fleet file", "oneOf": kinds}


def check_name(name: str, field: str) -> None:
    """Refuse a name that could not be a file name, a label value and a URL part at once."""
    if not isinstance(name, str) or not _NAME.match(name) or ".." in name:
        raise InvalidSpec.at(
            field, name, "lower case letters, digits, '-', '_', '.', starting and ending with a letter or digit, at most 63"
        )
