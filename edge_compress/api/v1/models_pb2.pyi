from edge_compress.api.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Model(_message.Message):
    __slots__ = ("metadata", "spec", "status")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: ModelSpec
    status: _common_pb2.ResourceStatus
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[ModelSpec, _Mapping]] = ..., status: _Optional[_Union[_common_pb2.ResourceStatus, _Mapping]] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("source", "data", "quality", "files")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    source: str
    data: ModelData
    quality: QualityGoal
    files: _containers.RepeatedCompositeFieldContainer[FileRef]
    def __init__(self, source: _Optional[str] = ..., data: _Optional[_Union[ModelData, _Mapping]] = ..., quality: _Optional[_Union[QualityGoal, _Mapping]] = ..., files: _Optional[_Iterable[_Union[FileRef, _Mapping]]] = ...) -> None: ...

class FileRef(_message.Message):
    __slots__ = ("path", "sha256", "bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., bytes: _Optional[int] = ...) -> None: ...

class ModelData(_message.Message):
    __slots__ = ("calibration", "evaluation", "training", "preprocess")
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    TRAINING_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    calibration: str
    evaluation: str
    training: str
    preprocess: Preprocess
    def __init__(self, calibration: _Optional[str] = ..., evaluation: _Optional[str] = ..., training: _Optional[str] = ..., preprocess: _Optional[_Union[Preprocess, _Mapping]] = ...) -> None: ...

class Preprocess(_message.Message):
    __slots__ = ("layout", "mean", "std")
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    layout: str
    mean: _containers.RepeatedScalarFieldContainer[float]
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, layout: _Optional[str] = ..., mean: _Optional[_Iterable[float]] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class QualityGoal(_message.Message):
    __slots__ = ("metric", "max_drop")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    MAX_DROP_FIELD_NUMBER: _ClassVar[int]
    metric: str
    max_drop: float
    def __init__(self, metric: _Optional[str] = ..., max_drop: _Optional[float] = ...) -> None: ...

class ApplyModelRequest(_message.Message):
    __slots__ = ("model", "expected_generation", "validate_only")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    model: Model
    expected_generation: int
    validate_only: bool
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., expected_generation: _Optional[int] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class ApplyModelResponse(_message.Message):
    __slots__ = ("model", "outcome")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    model: Model
    outcome: _common_pb2.ApplyOutcome
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ..., outcome: _Optional[_Union[_common_pb2.ApplyOutcome, str]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchModelsResponse(_message.Message):
    __slots__ = ("type", "model")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    model: Model
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...
