from edge_compress.api.v1 import common_pb2 as _common_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Recipe(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: RecipeSpec
    status: _common_pb2.ResourceStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[RecipeSpec, _Mapping]] = ..., status: _Optional[_Union[_common_pb2.ResourceStatus, _Mapping]] = ...) -> None: ...

class RecipeSpec(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[RecipeStep]
    def __init__(self, steps: _Optional[_Iterable[_Union[RecipeStep, _Mapping]]] = ...) -> None: ...

class RecipeStep(_message.Message):
    __slots__ = ("strategy", "params")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    params: _struct_pb2.Struct
    def __init__(self, strategy: _Optional[str] = ..., params: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: JobSpec
    status: JobStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., status: _Optional[_Union[JobStatus, _Mapping]] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("key", "model", "profile", "recipe", "objective", "deployment", "previous")
    KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    key: str
    model: str
    profile: str
    recipe: str
    objective: str
    deployment: str
    previous: str
    def __init__(self, key: _Optional[str] = ..., model: _Optional[str] = ..., profile: _Optional[str] = ..., recipe: _Optional[str] = ..., objective: _Optional[str] = ..., deployment: _Optional[str] = ..., previous: _Optional[str] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("state", "progress", "step", "message", "artifact", "started_at", "finished_at", "fallbacks")
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    FALLBACKS_FIELD_NUMBER: _ClassVar[int]
    state: str
    progress: float
    step: str
    message: str
    artifact: str
    started_at: float
    finished_at: float
    fallbacks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, state: _Optional[str] = ..., progress: _Optional[float] = ..., step: _Optional[str] = ..., message: _Optional[str] = ..., artifact: _Optional[str] = ..., started_at: _Optional[float] = ..., finished_at: _Optional[float] = ..., fallbacks: _Optional[_Iterable[str]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("documents_json", "facts_json")
    class FactsJsonEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DOCUMENTS_JSON_FIELD_NUMBER: _ClassVar[int]
    FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
    documents_json: _containers.RepeatedScalarFieldContainer[str]
    facts_json: _containers.ScalarMap[str, str]
    def __init__(self, documents_json: _Optional[_Iterable[str]] = ..., facts_json: _Optional[_Mapping[str, str]] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("changes", "pairs")
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    changes: _containers.RepeatedCompositeFieldContainer[PlannedChange]
    pairs: _containers.RepeatedCompositeFieldContainer[PlannedPair]
    def __init__(self, changes: _Optional[_Iterable[_Union[PlannedChange, _Mapping]]] = ..., pairs: _Optional[_Iterable[_Union[PlannedPair, _Mapping]]] = ...) -> None: ...

class PlannedChange(_message.Message):
    __slots__ = ("kind", "name", "outcome")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    outcome: _common_pb2.ApplyOutcome
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., outcome: _Optional[_Union[_common_pb2.ApplyOutcome, str]] = ...) -> None: ...

class PlannedPair(_message.Message):
    __slots__ = ("model", "profile", "deployment", "devices", "candidates", "bytes_to_send", "cached", "job", "away", "unfit", "metered_bytes", "expected_seconds", "now_p95_seconds", "now_joules", "download_bytes", "update_bytes", "previous", "fresh_update_bytes", "held", "artifact")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    BYTES_TO_SEND_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    AWAY_FIELD_NUMBER: _ClassVar[int]
    UNFIT_FIELD_NUMBER: _ClassVar[int]
    METERED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOW_P95_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NOW_JOULES_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    FRESH_UPDATE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    model: str
    profile: str
    deployment: str
    devices: int
    candidates: _containers.RepeatedCompositeFieldContainer[PlannedCandidate]
    bytes_to_send: int
    cached: bool
    job: str
    away: int
    unfit: int
    metered_bytes: int
    expected_seconds: float
    now_p95_seconds: float
    now_joules: float
    download_bytes: int
    update_bytes: int
    previous: str
    fresh_update_bytes: int
    held: int
    artifact: str
    def __init__(self, model: _Optional[str] = ..., profile: _Optional[str] = ..., deployment: _Optional[str] = ..., devices: _Optional[int] = ..., candidates: _Optional[_Iterable[_Union[PlannedCandidate, _Mapping]]] = ..., bytes_to_send: _Optional[int] = ..., cached: _Optional[bool] = ..., job: _Optional[str] = ..., away: _Optional[int] = ..., unfit: _Optional[int] = ..., metered_bytes: _Optional[int] = ..., expected_seconds: _Optional[float] = ..., now_p95_seconds: _Optional[float] = ..., now_joules: _Optional[float] = ..., download_bytes: _Optional[int] = ..., update_bytes: _Optional[int] = ..., previous: _Optional[str] = ..., fresh_update_bytes: _Optional[int] = ..., held: _Optional[int] = ..., artifact: _Optional[str] = ...) -> None: ...

class PlannedCandidate(_message.Message):
    __slots__ = ("steps", "refused", "size_bytes", "download_bytes", "latency_seconds", "memory_bytes", "energy_joules")
    STEPS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    LATENCY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENERGY_JOULES_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedCompositeFieldContainer[RecipeStep]
    refused: str
    size_bytes: int
    download_bytes: int
    latency_seconds: float
    memory_bytes: int
    energy_joules: float
    def __init__(self, steps: _Optional[_Iterable[_Union[RecipeStep, _Mapping]]] = ..., refused: _Optional[str] = ..., size_bytes: _Optional[int] = ..., download_bytes: _Optional[int] = ..., latency_seconds: _Optional[float] = ..., memory_bytes: _Optional[int] = ..., energy_joules: _Optional[float] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("report_json",)
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    report_json: str
    def __init__(self, report_json: _Optional[str] = ...) -> None: ...

class ListPluginsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListPluginsResponse(_message.Message):
    __slots__ = ("plugins",)
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    plugins: _containers.RepeatedCompositeFieldContainer[Plugin]
    def __init__(self, plugins: _Optional[_Iterable[_Union[Plugin, _Mapping]]] = ...) -> None: ...

class Plugin(_message.Message):
    __slots__ = ("name", "distribution", "version", "error", "offers")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    distribution: str
    version: str
    error: str
    offers: _containers.RepeatedCompositeFieldContainer[PluginOffer]
    def __init__(self, name: _Optional[str] = ..., distribution: _Optional[str] = ..., version: _Optional[str] = ..., error: _Optional[str] = ..., offers: _Optional[_Iterable[_Union[PluginOffer, _Mapping]]] = ...) -> None: ...

class PluginOffer(_message.Message):
    __slots__ = ("kind", "name", "summary", "parameters")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    name: str
    summary: str
    parameters: _containers.RepeatedCompositeFieldContainer[Parameter]
    def __init__(self, kind: _Optional[str] = ..., name: _Optional[str] = ..., summary: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[Parameter, _Mapping]]] = ...) -> None: ...

class Parameter(_message.Message):
    __slots__ = ("name", "type", "unit", "default_json", "doc")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_JSON_FIELD_NUMBER: _ClassVar[int]
    DOC_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    unit: str
    default_json: str
    doc: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., unit: _Optional[str] = ..., default_json: _Optional[str] = ..., doc: _Optional[str] = ...) -> None: ...

class ApplyRecipeRequest(_message.Message):
    __slots__ = ("recipe", "expected_generation", "validate_only")
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    recipe: Recipe
    expected_generation: int
    validate_only: bool
    def __init__(self, recipe: _Optional[_Union[Recipe, _Mapping]] = ..., expected_generation: _Optional[int] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class ApplyRecipeResponse(_message.Message):
    __slots__ = ("recipe", "outcome")
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    recipe: Recipe
    outcome: _common_pb2.ApplyOutcome
    def __init__(self, recipe: _Optional[_Union[Recipe, _Mapping]] = ..., outcome: _Optional[_Union[_common_pb2.ApplyOutcome, str]] = ...) -> None: ...

class ListRecipesResponse(_message.Message):
    __slots__ = ("recipes", "next_page_token")
    RECIPES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    recipes: _containers.RepeatedCompositeFieldContainer[Recipe]
    next_page_token: str
    def __init__(self, recipes: _Optional[_Iterable[_Union[Recipe, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchRecipesResponse(_message.Message):
    __slots__ = ("type", "recipe")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    recipe: Recipe
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., recipe: _Optional[_Union[Recipe, _Mapping]] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchJobsResponse(_message.Message):
    __slots__ = ("type", "job")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    job: Job
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...
