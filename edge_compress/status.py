"""How each domain error travels: its gRPC code and rich details one way, the same error back on the other side.

One table says it all; a test proves that no class is missing. Errors the product did not raise on purpose become INTERNAL with a
request id and nothing of their text. Who logs what is left to the server's interceptors.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from edge_compress import errors
from edge_compress.errors import EdgeCompressError, InUse, NotFound, StepFailed, Violation

DOMAIN = "edge-compress"
"""``ErrorInfo.domain`` of everything this product raises"""
_DETAILS_KEY = "grpc-status-details-bin"
_LONGEST_MESSAGE = 900
_LONGEST_TEXT = 300
_DETAILS_BYTES = 2500
"""in bytes. gRPC refuses trailers beyond 8 KiB, where the message is once percent-encoded (threefold) and once, with the details,
in base64: a refusal must not be lost because it is long"""

CODES: dict[type[EdgeCompressError], grpc.StatusCode] = {
    errors.EdgeCompressError: grpc.StatusCode.UNKNOWN,
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidSpec: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidModel: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidData: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.InUse: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.Infeasible: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StepFailed: grpc.StatusCode.INTERNAL,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.PluginError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Corrupt: grpc.StatusCode.DATA_LOSS,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StartupError: grpc.StatusCode.FAILED_PRECONDITION,
}
"""Every class of the tree. A subclass that is not listed (a servicer's own) travels as its nearest listed parent."""

_FOREIGN: dict[grpc.StatusCode, type[EdgeCompressError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidInput,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.TooLarge,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.OUT_OF_RANGE: errors.Conflict,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.DATA_LOSS: errors.Corrupt,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
}
"""What a status means that no server of ours sent: gRPC itself, or a proxy"""
_BY_NAME = {cls.__name__: cls for cls in CODES}


@dataclass(frozen=True)
class _Told:
    """The rich details of a status, by what they are."""

    info: error_details_pb2.ErrorInfo
    violations: tuple[Violation, ...]
    users: tuple[str, ...]
    log: tuple[str, ...]


def to_status(error: BaseException, *, request_id: str = "", code: grpc.StatusCode | None = None) -> Any:
    """The ``grpc.Status`` (code, details, trailing_metadata) of an error.

    ``request_id`` is what the client is given to quote for an error that is not ours; ``code`` replaces the table's where a call
    promises another (an error's own ``code`` attribute does the same).
    """
    if not isinstance(error, EdgeCompressError):
        return _internal(request_id or uuid.uuid4().hex)
    listed = _listed(type(error))
    code = code or getattr(error, "code", None) or CODES[listed]
    message = _short(error.message, _LONGEST_MESSAGE)
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in _within_budget(_details(error, listed)):
        status.details.append(detail)
    return rpc_status.to_status(status)


def from_rpc_error(error: grpc.RpcError) -> EdgeCompressError:
    """The error a status speaks of: the very class, message and violations where our server raised it, else by its code."""
    call: Any = error
    code, message = call.code(), " ".join((call.details() or "").split())
    told = _told(call.trailing_metadata())
    known = _BY_NAME.get(told.info.reason) if told and told.info.domain == DOMAIN else None
    if told is None or known is None:
        return _foreign(code, message, told)
    rebuilt = _rebuild(known, message, told)
    rebuilt.message = message  # the constructors of NotFound and InUse word their own, which may have been shortened on the way
    return rebuilt


def _listed(cls: type[EdgeCompressError]) -> type[EdgeCompressError]:
    return next(parent for parent in cls.__mro__ if parent in CODES)


def _internal(request_id: str) -> Any:
    message = f"the server failed on this request; its log tells why under request id {request_id}"
    status = status_pb2.Status(code=code_pb2.INTERNAL, message=message)
    status.details.append(_packed(error_details_pb2.RequestInfo(request_id=request_id)))
    return rpc_status.to_status(status)


def _details(error: EdgeCompressError, listed: type[EdgeCompressError]) -> Iterator[any_pb2.Any]:
    """Details in falling order of worth: what does not fit is left out from the end."""
    info = error_details_pb2.ErrorInfo(reason=listed.__name__, domain=DOMAIN)
    if isinstance(error, (NotFound, InUse)):
        info.metadata.update({"kind": _short(error.kind), "name": _short(error.name)})
    if isinstance(error, StepFailed):
        info.metadata["step_failed"] = _short(error.reason)
    yield _packed(info)
    if isinstance(error, NotFound):
        yield _packed(error_details_pb2.ResourceInfo(resource_type=_short(error.kind), resource_name=_short(error.name)))
    for violation in error.violations:
        yield _packed(_bad_request(violation))
    if isinstance(error, InUse):
        for user in error.users:
            yield _packed(_precondition(user, error))
    if isinstance(error, StepFailed):
        for line in error.log:
            yield _packed(error_details_pb2.DebugInfo(detail=_short(line)))


def _bad_request(violation: Violation) -> error_details_pb2.BadRequest:
    request = error_details_pb2.BadRequest()
    request.field_violations.add(field=_short(violation.field), description=_short(violation.description))
    return request


def _precondition(user: str, error: InUse) -> error_details_pb2.PreconditionFailure:
    failure = error_details_pb2.PreconditionFailure()
    failure.violations.add(type="IN_USE", subject=_short(user), description=f"needs {error.kind} {_short(error.name)}")
    return failure


def _within_budget(details: Iterator[any_pb2.Any]) -> Iterator[any_pb2.Any]:
    left = _DETAILS_BYTES
    for detail in details:
        left -= detail.ByteSize()
        if left < 0:
            return
        yield detail


def _told(metadata: Any) -> _Told | None:
    raw = next((value for key, value in metadata or () if key == _DETAILS_KEY), None)
    if raw is None:
        return None
    info, violations, users, log = error_details_pb2.ErrorInfo(), [], [], []
    for detail in status_pb2.Status.FromString(raw).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif part := _unpacked(detail, error_details_pb2.BadRequest):
            violations += [Violation(one.field, one.description) for one in part.field_violations]
        elif part := _unpacked(detail, error_details_pb2.PreconditionFailure):
            users += [one.subject for one in part.violations]
        elif part := _unpacked(detail, error_details_pb2.DebugInfo):
            log.append(part.detail)
    return _Told(info, tuple(violations), tuple(users), tuple(log))


def _rebuild(cls: type[EdgeCompressError], message: str, told: _Told) -> EdgeCompressError:
    about = told.info.metadata
    if cls is NotFound:
        return NotFound(about["kind"], about["name"])
    if cls is InUse:
        return InUse(about["kind"], about["name"], told.users)
    if cls is StepFailed:
        return StepFailed(message, reason=about["step_failed"], log=told.log)
    return cls(message, violations=told.violations)


def _foreign(code: grpc.StatusCode, message: str, told: _Told | None) -> EdgeCompressError:
    violations = told.violations if told else ()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = "the server did not answer in time; it may be busy: try again, or allow more time"
    return _FOREIGN.get(code, EdgeCompressError)(message or code.name.lower(), violations=violations)


def _unpacked(detail: any_pb2.Any, message_class: Any) -> Any:
    if not detail.Is(message_class.DESCRIPTOR):
        return None
    message = message_class()
    detail.Unpack(message)
    return message


def _packed(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _short(text: str, limit: int = _LONGEST_TEXT) -> str:
    """``text`` as the wire takes it: within ``limit`` bytes of UTF-8, and without lone surrogates."""
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode("utf-8", "ignore") + "…"
