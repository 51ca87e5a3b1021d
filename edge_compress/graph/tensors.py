"""What a stored tensor really holds: its size by its own account, held against the bytes that are there.

Reading values is left to onnx; this only makes sure that doing so is safe.
"""

from __future__ import annotations

import math

from onnx import TensorProto

from edge_compress.errors import InvalidModel

BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.UINT8: 8,
    TensorProto.INT8: 8,
    TensorProto.UINT16: 16,
    TensorProto.INT16: 16,
    TensorProto.INT32: 32,
    TensorProto.INT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64,
    TensorProto.UINT32: 32,
    TensorProto.UINT64: 64,
    TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128,
    TensorProto.BFLOAT16: 16,
    TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8,
    TensorProto.FLOAT8E5M2: 8,
    TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.UINT4: 4,
    TensorProto.INT4: 4,
    TensorProto.FLOAT4E2M1: 4,
}
"""bits of one element, by ONNX data type; strings have no size of their own"""

_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}
"""where values lie that are not raw bytes; int32_data for every other type"""


def element_count(tensor: TensorProto) -> int:
    """Elements by the tensor's dims; 1 for a scalar."""
    return math.prod(tensor.dims)


def stored_bytes(tensor: TensorProto) -> int:
    """Bytes its elements take, packed; for strings their length."""
    if tensor.data_type == TensorProto.STRING:
        return sum(len(item) for item in tensor.string_data)
    return -(-element_count(tensor) * BITS.get(tensor.data_type, 32) // 8)


def check_tensor(tensor: TensorProto) -> None:
    """Raise InvalidModel unless the tensor holds exactly what its dims and type say, in the file itself."""
    name = tensor.name or "of an attribute"
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        where = next((item.value for item in tensor.external_data if item.key == "location"), "")
        raise InvalidModel(
            f"tensor {name!r} lies in another file ({where!r}), which could be anywhere; apply the model with the edge-compress "
            "client, which packs such files into one, or save it in one file"
        )
    if tensor.HasField("segment"):
        raise InvalidModel(f"tensor {name!r} is split into segments, expected it whole")
    if any(axis < 0 for axis in tensor.dims):
        raise InvalidModel(f"tensor {name!r}: read dims {list(tensor.dims)}, expected none below zero")
    if tensor.data_type not in BITS and tensor.data_type != TensorProto.STRING:
        raise InvalidModel(f"tensor {name!r}: read data type {tensor.data_type}, expected a known one")
    _check_length(tensor, name)


def _check_length(tensor: TensorProto, name: str) -> None:
    if tensor.HasField("raw_data"):
        held, expected, unit = len(tensor.raw_data), stored_bytes(tensor), "bytes"
    else:
        field = _FIELDS.get(tensor.data_type, "int32_data")
        held, expected, unit = len(getattr(tensor, field)), _field_length(tensor), "values"
    if held != expected:
        kind = TensorProto.DataType.Name(TensorProto.DataType.ValueType(tensor.data_type))
        raise InvalidModel(f"tensor {name!r}: read {held} {unit}, expected {expected} for {kind} of dims {list(tensor.dims)}")


def _field_length(tensor: TensorProto) -> int:
    count = element_count(tensor)
    if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
        return 2 * count
    return -(-count // 2) if BITS.get(tensor.data_type) == 4 else count
