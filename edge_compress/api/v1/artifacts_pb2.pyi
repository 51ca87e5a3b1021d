from edge_compress.api.v1 import common_pb2 as _common_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Encoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENCODING_UNSPECIFIED: _ClassVar[Encoding]
    ENCODING_IDENTITY: _ClassVar[Encoding]
    ENCODING_ZSTD: _ClassVar[Encoding]
    ENCODING_PLANES: _ClassVar[Encoding]
    ENCODING_DELTA: _ClassVar[Encoding]
    ENCODING_PATCH: _ClassVar[Encoding]
ENCODING_UNSPECIFIED: Encoding
ENCODING_IDENTITY: Encoding
ENCODING_ZSTD: Encoding
ENCODING_PLANES: Encoding
ENCODING_DELTA: Encoding
ENCODING_PATCH: Encoding

class Artifact(_message.Message):
    __slots__ = ("metadata", "spec")
    METADATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    metadata: _common_pb2.ObjectMeta
    spec: ArtifactSpec
    def __init__(self, metadata: _Optional[_Union[_common_pb2.ObjectMeta, _Mapping]] = ..., spec: _Optional[_Union[ArtifactSpec, _Mapping]] = ...) -> None: ...

class ArtifactSpec(_message.Message):
    __slots__ = ("model", "profile", "sha256", "size_bytes", "download_bytes", "runtime", "golden", "version", "recipe", "file_name", "expected_json")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RECIPE_FIELD_NUMBER: _ClassVar[int]
    FILE_NAME_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_JSON_FIELD_NUMBER: _ClassVar[int]
    model: str
    profile: str
    sha256: str
    size_bytes: int
    download_bytes: int
    runtime: str
    golden: GoldenVectors
    version: str
    recipe: _containers.RepeatedCompositeFieldContainer[AppliedStep]
    file_name: str
    expected_json: str
    def __init__(self, model: _Optional[str] = ..., profile: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., download_bytes: _Optional[int] = ..., runtime: _Optional[str] = ..., golden: _Optional[_Union[GoldenVectors, _Mapping]] = ..., version: _Optional[str] = ..., recipe: _Optional[_Iterable[_Union[AppliedStep, _Mapping]]] = ..., file_name: _Optional[str] = ..., expected_json: _Optional[str] = ...) -> None: ...

class AppliedStep(_message.Message):
    __slots__ = ("strategy", "version", "params")
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    strategy: str
    version: str
    params: _struct_pb2.Struct
    def __init__(self, strategy: _Optional[str] = ..., version: _Optional[str] = ..., params: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class GoldenVectors(_message.Message):
    __slots__ = ("sha256", "size_bytes", "samples", "rtol", "atol")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    RTOL_FIELD_NUMBER: _ClassVar[int]
    ATOL_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    samples: int
    rtol: float
    atol: float
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., samples: _Optional[int] = ..., rtol: _Optional[float] = ..., atol: _Optional[float] = ...) -> None: ...

class GetBlobRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class BlobState(_message.Message):
    __slots__ = ("sha256", "complete", "offset_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    complete: bool
    offset_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., complete: _Optional[bool] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class UploadBlobRequest(_message.Message):
    __slots__ = ("header", "chunk")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    chunk: Chunk
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., chunk: _Optional[_Union[Chunk, _Mapping]] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("sha256", "size_bytes", "offset_bytes")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    offset_bytes: int
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., offset_bytes: _Optional[int] = ...) -> None: ...

class DownloadBlobRequest(_message.Message):
    __slots__ = ("sha256", "offset_bytes", "accept", "base_sha256", "max_bytes_per_second")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    BASE_SHA256_FIELD_NUMBER: _ClassVar[int]
    MAX_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    offset_bytes: int
    accept: _containers.RepeatedScalarFieldContainer[Encoding]
    base_sha256: str
    max_bytes_per_second: float
    def __init__(self, sha256: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., accept: _Optional[_Iterable[_Union[Encoding, str]]] = ..., base_sha256: _Optional[str] = ..., max_bytes_per_second: _Optional[float] = ...) -> None: ...

class Chunk(_message.Message):
    __slots__ = ("offset", "data", "encoding")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    encoding: Encoding
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ..., encoding: _Optional[_Union[Encoding, str]] = ...) -> None: ...

class ListArtifactsResponse(_message.Message):
    __slots__ = ("artifacts", "next_page_token")
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    next_page_token: str
    def __init__(self, artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchArtifactsResponse(_message.Message):
    __slots__ = ("type", "artifact")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    type: _common_pb2.WatchEventType
    artifact: Artifact
    def __init__(self, type: _Optional[_Union[_common_pb2.WatchEventType, str]] = ..., artifact: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...
