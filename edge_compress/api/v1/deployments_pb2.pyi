from edge_compress.api.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RolloutCommand(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLLOUT_COMMAND_UNSPECIFIED: _ClassVar[RolloutCommand]
    ROLLOUT_COMMAND_PAUSE: _ClassVar[RolloutCommand]
    ROLLOUT_COMMAND_RESUME: _ClassVar[RolloutCommand]
    ROLLOUT_COMMAND_PROMOTE: _ClassVar[RolloutCommand]
    ROLLOUT_COMMAND_ABORT: _ClassVar[RolloutCommand]
    ROLLOUT_COMMAND_UNDO: _ClassVar[RolloutCommand]
ROLLOUT_COMMAND_UNSPECIFIED: RolloutCommand
ROLLOUT_COMMAND_PAUSE: RolloutCommand
ROLLOUT_COMMAND_RESUME: RolloutCommand
ROLLOUT_COMMAND_PROMOTE: RolloutCommand
ROLLOUT_COMMAND_ABORT: RolloutCommand
ROLLOUT_COMMAND_UNDO: RolloutCommand

class Deployment(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: DeploymentSpec
    status: _common_pb2.ResourceStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[DeploymentSpec, _Mapping]] = ..., status: _Optional[_Union[_common_pb2.ResourceStatus, _Mapping]] = ...) -> None: ...

class DeploymentSpec(_message.Message):
    __slots__ = ("model", "recipe", "objective", "selector", "rollout")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    model: str
    recipe: str
    objective: str
    selector: Selector
    rollout: RolloutPolicy
    def __init__(self, model: _Optional[str] = ..., recipe: _Optional[str] = ..., objective: _Optional[str] = ..., selector: _Optional[_Union[Selector, _Mapping]] = ..., rollout: _Optional[_Union[RolloutPolicy, _Mapping]] = ...) -> None: ...

class Selector(_message.Message):
    __slots__ = ("profiles", "labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROFILES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    profiles: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    def __init__(self, profiles: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RolloutPolicy(_message.Message):
    __slots__ = ("steps_ratio", "advance_at_ratio", "abort_at_ratio", "min_executed", "soak_seconds", "device_deadline_seconds", "gates", "metered", "on_drift")
    STEPS_RATIO_FIELD_NUMBER: _ClassVar[int]
    ADVANCE_AT_RATIO_FIELD_NUMBER: _ClassVar[int]
    ABORT_AT_RATIO_FIELD_NUMBER: _ClassVar[int]
    MIN_EXECUTED_FIELD_NUMBER: _ClassVar[int]
    SOAK_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    METERED_FIELD_NUMBER: _ClassVar[int]
    ON_DRIFT_FIELD_NUMBER: _ClassVar[int]
    steps_ratio: _containers.RepeatedScalarFieldContainer[float]
    advance_at_ratio: float
    abort_at_ratio: float
    min_executed: int
    soak_seconds: float
    device_deadline_seconds: float
    gates: _containers.RepeatedCompositeFieldContainer[Gate]
    metered: str
    on_drift: str
    def __init__(self, steps_ratio: _Optional[_Iterable[float]] = ..., advance_at_ratio: _Optional[float] = ..., abort_at_ratio: _Optional[float] = ..., min_executed: _Optional[int] = ..., soak_seconds: _Optional[float] = ..., device_deadline_seconds: _Optional[float] = ..., gates: _Optional[_Iterable[_Union[Gate, _Mapping]]] = ..., metered: _Optional[str] = ..., on_drift: _Optional[str] = ...) -> None: ...

class Gate(_message.Message):
    __slots__ = ("metric", "max_increase", "against", "require")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    MAX_INCREASE_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_FIELD_NUMBER: _ClassVar[int]
    metric: str
    max_increase: float
    against: str
    require: str
    def __init__(self, metric: _Optional[str] = ..., max_increase: _Optional[float] = ..., against: _Optional[str] = ..., require: _Optional[str] = ...) -> None: ...

class Rollout(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: RolloutSpec
    status: RolloutStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[RolloutSpec, _Mapping]] = ..., status: _Optional[_Union[RolloutStatus, _Mapping]] = ...) -> None: ...

class RolloutSpec(_message.Message):
    __slots__ = ("deployment", "model", "artifacts", "base", "base_rollout", "ladders")
    class ArtifactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class BaseEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    BASE_ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    LADDERS_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    model: str
    artifacts: _containers.ScalarMap[str, str]
    base: _containers.ScalarMap[str, str]
    base_rollout: str
    ladders: _containers.RepeatedCompositeFieldContainer[Ladder]
    def __init__(self, deployment: _Optional[str] = ..., model: _Optional[str] = ..., artifacts: _Optional[_Mapping[str, str]] = ..., base: _Optional[_Mapping[str, str]] = ..., base_rollout: _Optional[str] = ..., ladders: _Optional[_Iterable[_Union[Ladder, _Mapping]]] = ...) -> None: ...

class Ladder(_message.Message):
    __slots__ = ("profile", "artifacts")
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    profile: str
    artifacts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, profile: _Optional[str] = ..., artifacts: _Optional[_Iterable[str]] = ...) -> None: ...

class RolloutStatus(_message.Message):
    __slots__ = ("state", "step", "share_ratio", "message", "devices", "step_started_at", "held", "promoted", "completed", "waits_for_gates", "gates", "began_at")
    class DevicesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SHARE_RATIO_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    STEP_STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    PROMOTED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_GATES_FIELD_NUMBER: _ClassVar[int]
    GATES_FIELD_NUMBER: _ClassVar[int]
    BEGAN_AT_FIELD_NUMBER: _ClassVar[int]
    state: str
    step: int
    share_ratio: float
    message: str
    devices: _containers.ScalarMap[str, int]
    step_started_at: float
    held: str
    promoted: bool
    completed: bool
    waits_for_gates: bool
    gates: _containers.RepeatedCompositeFieldContainer[GateFinding]
    began_at: float
    def __init__(self, state: _Optional[str] = ..., step: _Optional[int] = ..., share_ratio: _Optional[float] = ..., message: _Optional[str] = ..., devices: _Optional[_Mapping[str, int]] = ..., step_started_at: _Optional[float] = ..., held: _Optional[str] = ..., promoted: _Optional[bool] = ..., completed: _Optional[bool] = ..., waits_for_gates: _Optional[bool] = ..., gates: _Optional[_Iterable[_Union[GateFinding, _Mapping]]] = ..., began_at: _Optional[float] = ...) -> None: ...

class GateFinding(_message.Message):
    __slots__ = ("metric", "verdict", "message", "canary", "control")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    metric: str
    verdict: str
    message: str
    canary: float
    control: float
    def __init__(self, metric: _Optional[str] = ..., verdict: _Optional[str] = ..., message: _Optional[str] = ..., canary: _Optional[float] = ..., control: _Optional[float] = ...) -> None: ...

class CommandRolloutRequest(_message.Message):
    __slots__ = ("name", "command", "reason", "step")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    name: str
    command: RolloutCommand
    reason: str
    step: int
    def __init__(self, name: _Optional[str] = ..., command: _Optional[_Union[RolloutCommand, str]] = ..., reason: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...

class ApplyDeploymentRequest(_message.Message):
    __slots__ = ("deployment", "expected_generation", "validate_only", "alongside")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    ALONGSIDE_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    expected_generation: int
    validate_only: bool
    alongside: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ..., expected_generation: _Optional[int] = ..., validate_only: _Optional[bool] = ..., alongside: _Optional[_Iterable[str]] = ...) -> None: ...

class ApplyDeploymentResponse(_message.Message):
    __slots__ = ("deployment", "outcome")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    deployment: Deployment
    outcome: _common_pb2.ApplyOutcome
    def __init__(self, deployment: _Optional[_Union[Deployment, _Mapping]] = ..., outcome: _Optional[_Union[_common_pb2.ApplyOutcome, str]] = ...) -> None: ...

class ListDeploymentsResponse(_message.Message):
    __slots__ = ("deployments", "next_page_token")
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    next_page_token: str
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchDeploymentsResponse(_message.Message):
    __slots__ = ("type", "deployment")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    deployment: Deployment
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., deployment: _Optional[_Union[Deployment, _Mapping]] = ...) -> None: ...

class ListRolloutsResponse(_message.Message):
    __slots__ = ("rollouts", "next_page_token")
    ROLLOUTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    rollouts: _containers.RepeatedCompositeFieldContainer[Rollout]
    next_page_token: str
    def __init__(self, rollouts: _Optional[_Iterable[_Union[Rollout, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRolloutsResponse(_message.Message):
    __slots__ = ("type", "rollout")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    rollout: Rollout
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., rollout: _Optional[_Union[Rollout, _Mapping]] = ...) -> None: ...
