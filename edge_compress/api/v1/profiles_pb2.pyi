from edge_compress.api.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Profile(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: ProfileSpec
    status: _common_pb2.ResourceStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[ProfileSpec, _Mapping]] = ..., status: _Optional[_Union[_common_pb2.ResourceStatus, _Mapping]] = ...) -> None: ...

class ProfileSpec(_message.Message):
    __slots__ = ("runtime", "memory_bytes", "storage_bytes", "precisions", "int8_dot_product", "power_budget_watts", "rate_per_second", "latency_p95_seconds", "threads", "link", "compute")
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PRECISIONS_FIELD_NUMBER: _ClassVar[int]
    INT8_DOT_PRODUCT_FIELD_NUMBER: _ClassVar[int]
    POWER_BUDGET_WATTS_FIELD_NUMBER: _ClassVar[int]
    RATE_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    runtime: str
    memory_bytes: int
    storage_bytes: int
    precisions: _containers.RepeatedScalarFieldContainer[str]
    int8_dot_product: bool
    power_budget_watts: float
    rate_per_second: float
    latency_p95_seconds: float
    threads: int
    link: Link
    compute: Compute
    def __init__(self, runtime: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., storage_bytes: _Optional[int] = ..., precisions: _Optional[_Iterable[str]] = ..., int8_dot_product: _Optional[bool] = ..., power_budget_watts: _Optional[float] = ..., rate_per_second: _Optional[float] = ..., latency_p95_seconds: _Optional[float] = ..., threads: _Optional[int] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., compute: _Optional[_Union[Compute, _Mapping]] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("bandwidth_bits_per_second", "metered", "update_rate_bits_per_second")
    BANDWIDTH_BITS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    METERED_FIELD_NUMBER: _ClassVar[int]
    UPDATE_RATE_BITS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    bandwidth_bits_per_second: float
    metered: bool
    update_rate_bits_per_second: float
    def __init__(self, bandwidth_bits_per_second: _Optional[float] = ..., metered: _Optional[bool] = ..., update_rate_bits_per_second: _Optional[float] = ...) -> None: ...

class Compute(_message.Message):
    __slots__ = ("fp32_per_second", "int8_per_second", "memory_bandwidth_bytes_per_second", "watts_per_core")
    FP32_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    INT8_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BANDWIDTH_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    WATTS_PER_CORE_FIELD_NUMBER: _ClassVar[int]
    fp32_per_second: float
    int8_per_second: float
    memory_bandwidth_bytes_per_second: float
    watts_per_core: float
    def __init__(self, fp32_per_second: _Optional[float] = ..., int8_per_second: _Optional[float] = ..., memory_bandwidth_bytes_per_second: _Optional[float] = ..., watts_per_core: _Optional[float] = ...) -> None: ...

class ApplyProfileRequest(_message.Message):
    __slots__ = ("profile", "expected_generation", "validate_only")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    profile: Profile
    expected_generation: int
    validate_only: bool
    def __init__(self, profile: _Optional[_Union[Profile, _Mapping]] = ..., expected_generation: _Optional[int] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class ApplyProfileResponse(_message.Message):
    __slots__ = ("profile", "outcome")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    profile: Profile
    outcome: _common_pb2.ApplyOutcome
    def __init__(self, profile: _Optional[_Union[Profile, _Mapping]] = ..., outcome: _Optional[_Union[_common_pb2.ApplyOutcome, str]] = ...) -> None: ...

class ListProfilesResponse(_message.Message):
    __slots__ = ("profiles", "next_page_token")
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    profiles: _containers.RepeatedCompositeFieldContainer[Profile]
    next_page_token: str
    def __init__(self, profiles: _Optional[_Iterable[_Union[Profile, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchProfilesResponse(_message.Message):
    __slots__ = ("type", "profile")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    profile: Profile
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., profile: _Optional[_Union[Profile, _Mapping]] = ...) -> None: ...
