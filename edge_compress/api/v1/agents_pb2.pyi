from edge_compress.api.v1 import common_pb2 as _common_pb2
from edge_compress.api.v1 import artifacts_pb2 as _artifacts_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Device(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: DeviceSpec
    status: DeviceStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[DeviceSpec, _Mapping]] = ..., status: _Optional[_Union[DeviceStatus, _Mapping]] = ...) -> None: ...

class DeviceSpec(_message.Message):
    __slots__ = ("profile", "labels", "agent_version", "runtime_version", "machine", "facts")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    labels: _containers.ScalarMap[str, str]
    agent_version: str
    runtime_version: str
    machine: str
    facts: DeviceFacts
    def __init__(self, profile: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., agent_version: _Optional[str] = ..., runtime_version: _Optional[str] = ..., machine: _Optional[str] = ..., facts: _Optional[_Union[DeviceFacts, _Mapping]] = ...) -> None: ...

class DeviceFacts(_message.Message):
    __slots__ = ("cores", "memory_bytes", "storage_bytes", "int8_dot_product", "runtimes")
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INT8_DOT_PRODUCT_FIELD_NUMBER: _ClassVar[int]
    RUNTIMES_FIELD_NUMBER: _ClassVar[int]
    cores: int
    memory_bytes: int
    storage_bytes: int
    int8_dot_product: bool
    runtimes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cores: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., storage_bytes: _Optional[int] = ..., int8_dot_product: _Optional[bool] = ..., runtimes: _Optional[_Iterable[str]] = ...) -> None: ...

class DeviceStatus(_message.Message):
    __slots__ = ("state", "connected", "boot_id", "last_seen", "model", "artifact", "version", "assignment", "message", "p95_seconds", "joules_per_inference", "energy_source", "inferences", "offered", "news_at", "failures", "failed_at", "waits", "drift", "made_for", "bad_differences")
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOULES_PER_INFERENCE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    OFFERED_FIELD_NUMBER: _ClassVar[int]
    NEWS_AT_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    FAILED_AT_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    MADE_FOR_FIELD_NUMBER: _ClassVar[int]
    BAD_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    state: str
    connected: bool
    boot_id: str
    last_seen: float
    model: str
    artifact: str
    version: str
    assignment: str
    message: str
    p95_seconds: float
    joules_per_inference: float
    energy_source: str
    inferences: int
    offered: str
    news_at: float
    failures: int
    failed_at: float
    waits: bool
    drift: _containers.RepeatedScalarFieldContainer[str]
    made_for: str
    bad_differences: int
    def __init__(self, state: _Optional[str] = ..., connected: _Optional[bool] = ..., boot_id: _Optional[str] = ..., last_seen: _Optional[float] = ..., model: _Optional[str] = ..., artifact: _Optional[str] = ..., version: _Optional[str] = ..., assignment: _Optional[str] = ..., message: _Optional[str] = ..., p95_seconds: _Optional[float] = ..., joules_per_inference: _Optional[float] = ..., energy_source: _Optional[str] = ..., inferences: _Optional[int] = ..., offered: _Optional[str] = ..., news_at: _Optional[float] = ..., failures: _Optional[int] = ..., failed_at: _Optional[float] = ..., waits: _Optional[bool] = ..., drift: _Optional[_Iterable[str]] = ..., made_for: _Optional[str] = ..., bad_differences: _Optional[int] = ...) -> None: ...

class AgentMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "move", "reports")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    MOVE_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    move: Move
    reports: ReportBatch
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., move: _Optional[_Union[Move, _Mapping]] = ..., reports: _Optional[_Union[ReportBatch, _Mapping]] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("welcome", "assignment", "ack")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    assignment: Assignment
    ack: ReportAck
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., assignment: _Optional[_Union[Assignment, _Mapping]] = ..., ack: _Optional[_Union[ReportAck, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("device", "profile", "labels", "boot_id", "agent_version", "runtime_version", "machine", "current_sha256", "assignment", "state", "facts")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_VERSION_FIELD_NUMBER: _ClassVar[int]
    MACHINE_FIELD_NUMBER: _ClassVar[int]
    CURRENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    device: str
    profile: str
    labels: _containers.ScalarMap[str, str]
    boot_id: str
    agent_version: str
    runtime_version: str
    machine: str
    current_sha256: str
    assignment: str
    state: str
    facts: DeviceFacts
    def __init__(self, device: _Optional[str] = ..., profile: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., runtime_version: _Optional[str] = ..., machine: _Optional[str] = ..., current_sha256: _Optional[str] = ..., assignment: _Optional[str] = ..., state: _Optional[str] = ..., facts: _Optional[_Union[DeviceFacts, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("heartbeat_seconds", "report_seconds", "watts_per_core", "server_time")
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REPORT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WATTS_PER_CORE_FIELD_NUMBER: _ClassVar[int]
    SERVER_TIME_FIELD_NUMBER: _ClassVar[int]
    heartbeat_seconds: float
    report_seconds: float
    watts_per_core: float
    server_time: float
    def __init__(self, heartbeat_seconds: _Optional[float] = ..., report_seconds: _Optional[float] = ..., watts_per_core: _Optional[float] = ..., server_time: _Optional[float] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("resident_bytes",)
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    resident_bytes: int
    def __init__(self, resident_bytes: _Optional[int] = ...) -> None: ...

class Move(_message.Message):
    __slots__ = ("assignment", "state", "message", "current_sha256", "p95_seconds", "peak_memory_bytes", "waits", "bad_differences")
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CURRENT_SHA256_FIELD_NUMBER: _ClassVar[int]
    P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    BAD_DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    assignment: str
    state: str
    message: str
    current_sha256: str
    p95_seconds: float
    peak_memory_bytes: int
    waits: bool
    bad_differences: int
    def __init__(self, assignment: _Optional[str] = ..., state: _Optional[str] = ..., message: _Optional[str] = ..., current_sha256: _Optional[str] = ..., p95_seconds: _Optional[float] = ..., peak_memory_bytes: _Optional[int] = ..., waits: _Optional[bool] = ..., bad_differences: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("id", "deployment", "rollout", "artifact", "spec", "latency_p95_seconds", "memory_bytes", "threads", "self_test_per_second", "cohort", "fallbacks", "differences_only", "bytes_per_second")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    SELF_TEST_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_ONLY_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    id: str
    deployment: str
    rollout: str
    artifact: str
    spec: _artifacts_pb2.ArtifactSpec
    latency_p95_seconds: float
    memory_bytes: int
    threads: int
    self_test_per_second: float
    cohort: str
    fallbacks: _containers.RepeatedCompositeFieldContainer[Fallback]
    differences_only: bool
    bytes_per_second: float
    def __init__(self, id: _Optional[str] = ..., deployment: _Optional[str] = ..., rollout: _Optional[str] = ..., artifact: _Optional[str] = ..., spec: _Optional[_Union[_artifacts_pb2.ArtifactSpec, _Mapping]] = ..., latency_p95_seconds: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., threads: _Optional[int] = ..., self_test_per_second: _Optional[float] = ..., cohort: _Optional[str] = ..., fallbacks: _Optional[_Iterable[_Union[Fallback, _Mapping]]] = ..., differences_only: _Optional[bool] = ..., bytes_per_second: _Optional[float] = ...) -> None: ...

class Fallback(_message.Message):
    __slots__ = ("artifact", "spec")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    artifact: str
    spec: _artifacts_pb2.ArtifactSpec
    def __init__(self, artifact: _Optional[str] = ..., spec: _Optional[_Union[_artifacts_pb2.ArtifactSpec, _Mapping]] = ...) -> None: ...

class ReportBatch(_message.Message):
    __slots__ = ("sequence", "reports")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    reports: _containers.RepeatedCompositeFieldContainer[UsageReport]
    def __init__(self, sequence: _Optional[int] = ..., reports: _Optional[_Iterable[_Union[UsageReport, _Mapping]]] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("boot_id", "model", "version", "cohort", "inferences", "bucket_bounds", "bucket_counts", "duration_sum", "energy", "peak_memory_bytes", "reported_at")
    class InferencesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    COHORT_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    BUCKET_BOUNDS_FIELD_NUMBER: _ClassVar[int]
    BUCKET_COUNTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_SUM_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    REPORTED_AT_FIELD_NUMBER: _ClassVar[int]
    boot_id: str
    model: str
    version: str
    cohort: str
    inferences: _containers.ScalarMap[str, int]
    bucket_bounds: _containers.RepeatedScalarFieldContainer[float]
    bucket_counts: _containers.RepeatedScalarFieldContainer[int]
    duration_sum: float
    energy: _containers.RepeatedCompositeFieldContainer[EnergyReport]
    peak_memory_bytes: int
    reported_at: float
    def __init__(self, boot_id: _Optional[str] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., cohort: _Optional[str] = ..., inferences: _Optional[_Mapping[str, int]] = ..., bucket_bounds: _Optional[_Iterable[float]] = ..., bucket_counts: _Optional[_Iterable[int]] = ..., duration_sum: _Optional[float] = ..., energy: _Optional[_Iterable[_Union[EnergyReport, _Mapping]]] = ..., peak_memory_bytes: _Optional[int] = ..., reported_at: _Optional[float] = ...) -> None: ...

class EnergyReport(_message.Message):
    __slots__ = ("source", "scope", "joules")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    JOULES_FIELD_NUMBER: _ClassVar[int]
    source: str
    scope: str
    joules: float
    def __init__(self, source: _Optional[str] = ..., scope: _Optional[str] = ..., joules: _Optional[float] = ...) -> None: ...

class ReportAck(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class ListDevicesResponse(_message.Message):
    __slots__ = ("devices", "next_page_token")
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    next_page_token: str
    def __init__(self, devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetFleetOverviewRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FleetOverview(_message.Message):
    __slots__ = ("window_seconds", "profiles", "rollouts")
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    window_seconds: float
    profiles: _containers.RepeatedCompositeFieldContainer[ProfileOverview]
    rollouts: _containers.RepeatedCompositeFieldContainer[RolloutOverview]
    def __init__(self, window_seconds: _Optional[float] = ..., profiles: _Optional[_Iterable[_Union[ProfileOverview, _Mapping]]] = ..., rollouts: _Optional[_Iterable[_Union[RolloutOverview, _Mapping]]] = ...) -> None: ...

class Figures(_message.Message):
    __slots__ = ("inferences_per_second", "errors_per_second", "p95_seconds", "joules_per_inference", "energy_source")
    INFERENCES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ERRORS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOULES_PER_INFERENCE_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SOURCE_FIELD_NUMBER: _ClassVar[int]
    inferences_per_second: float
    errors_per_second: float
    p95_seconds: float
    joules_per_inference: float
    energy_source: str
    def __init__(self, inferences_per_second: _Optional[float] = ..., errors_per_second: _Optional[float] = ..., p95_seconds: _Optional[float] = ..., joules_per_inference: _Optional[float] = ..., energy_source: _Optional[str] = ...) -> None: ...

class ProfileOverview(_message.Message):
    __slots__ = ("profile", "devices", "recent", "versions")
    class DevicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    devices: _containers.ScalarMap[str, int]
    recent: Figures
    versions: _containers.RepeatedCompositeFieldContainer[VersionOverview]
    def __init__(self, profile: _Optional[str] = ..., devices: _Optional[_Mapping[str, int]] = ..., recent: _Optional[_Union[Figures, _Mapping]] = ..., versions: _Optional[_Iterable[_Union[VersionOverview, _Mapping]]] = ...) -> None: ...

class VersionOverview(_message.Message):
    __slots__ = ("model", "version", "devices", "recent")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    RECENT_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    devices: int
    recent: Figures
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., devices: _Optional[int] = ..., recent: _Optional[_Union[Figures, _Mapping]] = ...) -> None: ...

class RolloutOverview(_message.Message):
    __slots__ = ("name", "state", "step", "steps", "share_ratio", "verdict", "message", "devices")
    class DevicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SHARE_RATIO_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: str
    step: int
    steps: int
    share_ratio: float
    verdict: str
    message: str
    devices: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., state: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., share_ratio: _Optional[float] = ..., verdict: _Optional[str] = ..., message: _Optional[str] = ..., devices: _Optional[_Mapping[str, int]] = ...) -> None: ...

class DeviceHistory(_message.Message):
    __slots__ = ("points",)
    POINTS_FIELD_NUMBER: _ClassVar[int]
    points: _containers.RepeatedCompositeFieldContainer[HistoryPoint]
    def __init__(self, points: _Optional[_Iterable[_Union[HistoryPoint, _Mapping]]] = ...) -> None: ...

class HistoryPoint(_message.Message):
    __slots__ = ("at_seconds", "mean_seconds", "joules_per_inference")
    AT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEAN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    JOULES_PER_INFERENCE_FIELD_NUMBER: _ClassVar[int]
    at_seconds: float
    mean_seconds: float
    joules_per_inference: float
    def __init__(self, at_seconds: _Optional[float] = ..., mean_seconds: _Optional[float] = ..., joules_per_inference: _Optional[float] = ...) -> None: ...

class WatchDevicesResponse(_message.Message):
    __slots__ = ("type", "device")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    device: Device
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., device: _Optional[_Union[Device, _Mapping]] = ...) -> None: ...
