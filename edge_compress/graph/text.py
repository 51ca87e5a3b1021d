"""Whether every name and text in a model is UTF-8. ONNX says so, but protobuf does not check it and hands out bytes for text."""

from __future__ import annotations

from google.protobuf.message import Message
from onnx import TensorProto

from edge_compress.errors import InvalidModel

_TENSOR_TEXT = ("name", "doc_string", "external_data", "metadata_props")
"""fields of a tensor that hold text; the others can be gigabytes"""


def check_text(message: Message) -> None:
    """Raise InvalidModel where a string field, at any depth, is not UTF-8. The depth is bounded by protobuf's own limit."""
    if isinstance(message, TensorProto):
        values = [getattr(message, name) for name in _TENSOR_TEXT]
    else:
        values = [value for field, value in message.ListFields() if field.type in (field.TYPE_STRING, field.TYPE_MESSAGE)]
    for value in values:
        several = not isinstance(value, (str, bytes, Message))
        for item in value if several else [value]:
            if isinstance(item, Message):
                check_text(item)
            elif isinstance(item, bytes):
                raise InvalidModel(f"read the name or text {item[:40]!r}, expected UTF-8")
