"""Frozen settings of the server, the agent and the client, each with its unit and its environment variable.

A value comes from the flag, else from the environment, else from the default. What is read as text is checked by ``load``; the
command line only parses and passes on. Whether an address is safe to use is decided where it is used.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edge_compress.domain import quantity as q
from edge_compress.domain.quantity import Quantity
from edge_compress.domain.schema import FieldFacts, decode_field, fields_of
from edge_compress.domain.spec import check_name
from edge_compress.domain.window import parse_windows
from edge_compress.errors import InvalidSpec

T = TypeVar("T")

DEFAULT_SERVER = "127.0.0.1:50551"
LOG_FORMATS = ("text", "json")
_UNSET = Path()
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def setting(
    doc: str,
    *,
    env: str,
    default: Any = dataclasses.MISSING,
    quantity: Quantity | None = None,
    choices: tuple[str, ...] = (),
    minimum: float | None = None,
) -> Any:
    """Declare a setting: its meaning, its environment variable, its default and how text is read."""
    meta = {"doc": doc, "env": env, "quantity": quantity, "choices": choices, "minimum": minimum}
    return dataclasses.field(default=default, metadata=meta)


def state_home() -> Path:
    """Folder under which the product keeps state: ``$XDG_STATE_HOME/edge-compress``, by default in ~/.local/state."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "edge-compress"


@dataclass(frozen=True)
class ServerSettings:
    """Of ``edge-compress server``."""

    listen: str = setting("HOST:PORT of the gRPC services", env="EDGE_COMPRESS_LISTEN", default=DEFAULT_SERVER)
    metrics_listen: str = setting(
        "HOST:PORT of the HTTP metrics; empty: none", env="EDGE_COMPRESS_METRICS_LISTEN", default="127.0.0.1:9464"
    )
    device_metrics: int = setting(
        "most series of single devices at /metrics/devices, about 7 a device; 0: no such page",
        env="EDGE_COMPRESS_DEVICE_METRICS",
        default=0,
        minimum=0,
    )
    state: Path = setting("folder of the database and the blobs", env="EDGE_COMPRESS_STATE", default=_UNSET)
    insecure: bool = setting("listen where other machines can connect, unprotected", env="EDGE_COMPRESS_INSECURE", default=False)
    workers: int = setting("jobs that run at the same time", env="EDGE_COMPRESS_WORKERS", default=1, minimum=1)
    allow_pt2: bool = setting(
        "take models as .pt2 archives (torch.export); reading one runs operators that its sender chose",
        env="EDGE_COMPRESS_ALLOW_PT2",
        default=False,
    )
    strict_plugins: bool = setting("refuse to start when a plugin is broken", env="EDGE_COMPRESS_STRICT_PLUGINS", default=False)
    max_model_bytes: int = setting(
        "largest model file", env="EDGE_COMPRESS_MAX_MODEL", default=2 * 1024**3, quantity=q.BYTES, minimum=1
    )
    max_data_bytes: int = setting(
        "largest data file", env="EDGE_COMPRESS_MAX_DATA", default=16 * 1024**3, quantity=q.BYTES, minimum=1
    )
    log_format: str = setting("text or json", env="EDGE_COMPRESS_LOG_FORMAT", default="text", choices=LOG_FORMATS)

    def __post_init__(self) -> None:
        if self.state == _UNSET:
            object.__setattr__(self, "state", state_home() / "server")


@dataclass(frozen=True)
class AgentSettings:
    """Of ``edge-compress agent``."""

    profile: str = setting("name of the device profile", env="EDGE_COMPRESS_PROFILE")
    server: str = setting("HOST:PORT of the server", env="EDGE_COMPRESS_SERVER", default=DEFAULT_SERVER)
    name: str = setting("name of this device", env="EDGE_COMPRESS_DEVICE_NAME", default="")
    labels: Mapping[str, str] = dataclasses.field(
        default_factory=dict, metadata={"doc": "key=value pairs that selectors match", "env": "EDGE_COMPRESS_LABELS"}
    )
    state: Path = setting("folder of the slots and the journal", env="EDGE_COMPRESS_STATE", default=_UNSET)
    insecure: bool = setting("connect to another machine, unprotected", env="EDGE_COMPRESS_INSECURE", default=False)
    self_test_rate: float | None = setting(
        "inferences on own samples, instead of what the server asks for; 0: none",
        env="EDGE_COMPRESS_SELF_TEST_RATE",
        default=None,
        quantity=q.RATE,
    )
    heartbeat: float | None = setting(
        "time between heartbeats, instead of the server's",
        env="EDGE_COMPRESS_HEARTBEAT",
        default=None,
        quantity=q.SECONDS,
        minimum=0.1,
    )
    report: float | None = setting(
        "time between reports, instead of the server's",
        env="EDGE_COMPRESS_REPORT",
        default=None,
        quantity=q.SECONDS,
        minimum=0.1,
    )
    memory_budget: int | None = setting(
        "memory that the agent and its model processes may hold together; absent: what the device has",
        env="EDGE_COMPRESS_MEMORY_BUDGET",
        default=None,
        quantity=q.BYTES,
        minimum=1,
    )
    min_battery: float = setting(
        "battery below which no update begins unless it charges", env="EDGE_COMPRESS_MIN_BATTERY", default=0.2, quantity=q.SHARE
    )
    maintenance_window: str = setting(
        "when updates may begin, in the device's own time, like 02:00-04:30,13:00-14:00; absent: always",
        env="EDGE_COMPRESS_MAINTENANCE_WINDOW",
        default="",
    )
    meter: str = setting(
        "energy meter: auto, which takes the first that works, or a name that `plugins list -o wide` shows",
        env="EDGE_COMPRESS_METER",
        default="auto",
    )
    meter_command: str = setting(
        "prints joules so far, or watts like 12.5 W, within 3 s; started without a shell: the meter external",
        env="EDGE_COMPRESS_METER_COMMAND",
        default="",
    )
    meter_url: str = setting(
        'answers over http with joules so far, as a number or {"joules": …}, or {"watts": …}: the meter external',
        env="EDGE_COMPRESS_METER_URL",
        default="",
    )
    log_format: str = setting("text or json", env="EDGE_COMPRESS_LOG_FORMAT", default="text", choices=LOG_FORMATS)

    def __post_init__(self) -> None:
        check_name(self.profile, "profile")
        parse_windows(self.maintenance_window, "--maintenance-window")
        _check_meter(self)
        if not self.name:
            object.__setattr__(self, "name", default_device_name(socket.gethostname(), self.profile))
        check_name(self.name, "name")
        if self.state == _UNSET:
            object.__setattr__(self, "state", state_home() / "agents" / self.name)


@dataclass(frozen=True)
class ClientSettings:
    """Of every command that talks to a server."""

    server: str = setting("HOST:PORT of the server", env="EDGE_COMPRESS_SERVER", default=DEFAULT_SERVER)
    timeout: float = setting(
        "longest wait for one answer", env="EDGE_COMPRESS_TIMEOUT", default=30.0, quantity=q.SECONDS, minimum=0.001
    )


def load(cls: type[T], given: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> T:
    """Settings from flags (``None``: not given), the environment and defaults. Raises InvalidSpec naming the flag or variable."""
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    for item in fields_of(cls):
        source, value = _chosen(item, given, environ)
        if value is not None:
            values[item.name] = _read(item, value, source)
        elif item.required:
            raise InvalidSpec.at(_flag(item), None, item.doc, f"give it, or set {item.meta['env']}")
    return cls(**values)


def parse_labels(text: str, field: str) -> dict[str, str]:
    """Read ``site=plant-1,line=3``. Raises InvalidSpec naming ``field``."""
    pairs = [part.strip() for part in text.split(",") if part.strip()]
    split = [part.partition("=") for part in pairs]
    for key, equals, _ in split:
        if not key or not equals:
            raise InvalidSpec.at(field, text, "key=value pairs with commas between, such as site=plant-1,line=3")
    return {key.strip(): value.strip() for key, _, value in split}


def default_device_name(host: str, profile: str) -> str:
    """A device name from the machine's name and its profile: two profiles on one machine are two devices."""
    plain = re.sub(r"[^a-z0-9-]+", "-", host.lower()).strip("-") or "device"
    return f"{plain[: max(1, 62 - len(profile))].rstrip('-')}-{profile}"[:63].rstrip("-._")


def _check_meter(settings: AgentSettings) -> None:
    """Raises InvalidSpec where the owner's own meter is asked for but not given, given twice, or beyond what the agent reads."""
    if settings.meter_command and settings.meter_url:
        raise InvalidSpec.at("--meter-url", settings.meter_url, "--meter-command or --meter-url, not both")
    if settings.meter_url and not re.match(r"http://[^/\s]+", settings.meter_url):
        raise InvalidSpec.at("--meter-url", settings.meter_url, "an address like http://192.168.1.9/energy (no https)")
    if settings.meter == "external" and not (settings.meter_command or settings.meter_url):
        raise InvalidSpec.at("--meter", settings.meter, "with --meter-command or --meter-url")


def _chosen(item: FieldFacts, given: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[str, Any]:
    if given.get(item.name) is not None:
        return _flag(item), given[item.name]
    variable = item.meta.get("env", "")
    if environ.get(variable):
        return variable, environ[variable]
    return "", None


def _read(item: FieldFacts, value: Any, source: str) -> Any:
    if item.type is Path:
        return Path(value).expanduser().absolute()
    return decode_field(item, _from_text(item, value, source) if isinstance(value, str) else value, source)


def _flag(item: FieldFacts) -> str:
    return "--" + item.name.replace("_", "-").removesuffix("-bytes")


def _from_text(item: FieldFacts, text: str, source: str) -> Any:
    if item.type is bool:
        if text.lower() not in _TRUE | _FALSE:
            raise InvalidSpec.at(source, text, "true or false")
        return text.lower() in _TRUE
    if item.type is int and not item.meta.get("quantity"):
        return int(text) if text.strip().isdecimal() else text
    if item.name == "labels":
        return parse_labels(text, source)
    return text
