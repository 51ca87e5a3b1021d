"""Around every call: a request id, a deadline, domain errors turned into gRPC statuses once, one log line; and the end of all
calls when the server stops. What the calls do is the servicers' business, what an error becomes is decided in ``status``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from edge_compress import status
from edge_compress.errors import EdgeCompressError, Unavailable
from edge_compress.server import refusals

_log = logging.getLogger(__name__)
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
REQUEST_ID = "x-request-id"

DEFAULT_SECONDS = 60.0
_SECONDS = {"ApplyModel": 900.0, "Plan": 300.0, "UploadBlob": 6 * 3600.0, "DownloadBlob": 6 * 3600.0}
"""deadlines of calls whose client set none, in seconds; streams that are not named here are followed for as long as they last"""
_QUIET = {"Check"}
"""calls that probes make every few seconds: logged only when somebody asks for debug output"""
_LOUD = {"DATA_LOSS"}
"""what somebody has to look after"""


@dataclass(eq=False)
class _Call:
    """One call under way."""

    method: str
    request_id: str
    peer: str
    task: asyncio.Task[Any]
    inside: bool = False
    """the servicer has the turn: elsewhere, a cancelled task would leave the call without any status"""
    began: float = field(default_factory=time.monotonic)
    messages: int = 0
    said: dict[str, str] = field(default_factory=dict)
    """what the servicer adds to its log line"""


_CURRENT: contextvars.ContextVar[_Call | None] = contextvars.ContextVar("call", default=None)


def note_call(**fields: str) -> None:
    """Have the log line of the call under way say this, too: whose device it is about, for example."""
    if (call := _CURRENT.get()) is not None:
        call.said.update(fields)


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc ships no types
    """Wraps every handler of the server. ``stop`` ends the streams with UNAVAILABLE and lets no new call in."""

    def __init__(self, *, default_seconds: float = DEFAULT_SECONDS) -> None:
        self._default = default_seconds
        self._streams: set[_Call] = set()
        self._stopping = False

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """The handler that does all of the above around the one that was found; None where the method does not exist."""
        handler = await continuation(details)
        if handler is None:
            return None
        make = _factory(handler)
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        wrap = self._stream if handler.response_streaming else self._unary
        return make(
            wrap(behaviour, details, handler.request_streaming), handler.request_deserializer, handler.response_serializer
        )

    def stop(self) -> None:
        """End what would not end by itself."""
        self._stopping = True
        for call in self._streams:
            if call.inside:
                call.task.cancel()

    def _unary(self, behaviour: Any, details: Any, streaming: bool) -> Any:
        async def handle(request: Any, context: Any) -> Any:
            call = self._begin(details, context, endless=streaming)
            limit = asyncio.timeout(self._seconds(call.method, context, endless=False))
            try:
                self._refuse_when_stopping()
                async with limit:
                    call.inside = True
                    response = await behaviour(request, context)
                call.inside = False
            except BaseException as error:
                await self._fail(call, context, error, expired=limit.expired())
            self._note(call, "OK", messages=1)
            return response

        return handle

    def _stream(self, behaviour: Any, details: Any, streaming: bool) -> Any:
        async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
            call = self._begin(details, context, endless=True)
            limit = asyncio.timeout(self._seconds(call.method, context, endless=True))
            try:
                self._refuse_when_stopping()
                # At once, so that who follows a quiet stream knows that it is being followed.
                await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
                async with limit, aclosing(behaviour(request, context)) as responses:
                    call.inside = True
                    async for response in responses:
                        call.inside = False
                        call.messages += 1
                        yield response
                        self._refuse_when_stopping()
                        call.inside = True
                call.inside = False
            except GeneratorExit:
                self._note(call, "CANCELLED", call.messages)
                raise
            except BaseException as error:
                await self._fail(call, context, error, expired=limit.expired())
            self._note(call, "OK", call.messages)

        return handle

    def _begin(self, details: Any, context: Any, *, endless: bool) -> _Call:
        wanted = next((value for key, value in details.invocation_metadata or () if key == REQUEST_ID), "")
        request_id = wanted if isinstance(wanted, str) and _REQUEST_ID.match(wanted) else uuid.uuid4().hex[:16]
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        task = asyncio.current_task()
        assert task is not None
        call = _Call(details.method.rpartition("/")[2], request_id, context.peer(), task)
        _CURRENT.set(call)
        if endless:
            self._streams.add(call)
            task.add_done_callback(lambda _: self._streams.discard(call))
        return call

    def _seconds(self, method: str, context: Any, *, endless: bool) -> float | None:
        """How long the call may take; None: for ever, or for as long as its client said, which gRPC itself sees to."""
        if context.time_remaining() is not None:
            return None
        return _SECONDS.get(method, None if endless else self._default)

    def _refuse_when_stopping(self) -> None:
        if self._stopping:
            raise Unavailable("the server is stopping; try again soon")

    async def _fail(self, call: _Call, context: Any, error: BaseException, *, expired: bool) -> NoReturn:
        """End the call with the status that ``error`` stands for."""
        call.inside = False
        if isinstance(error, asyncio.CancelledError) and self._stopping:
            call.task.uncancel()
            error = Unavailable("the server is stopping; try again soon")
        if isinstance(error, TimeoutError) and expired:
            error = refusals.Late("the call took longer than it may; try again, or give it a longer deadline")
        if isinstance(error, (grpc.aio.AbortError, asyncio.CancelledError)) or not isinstance(error, Exception):
            self._note(call, _code_name(context) if isinstance(error, grpc.aio.AbortError) else "CANCELLED", call.messages)
            raise error
        if not isinstance(error, EdgeCompressError):
            _log.error("call %s (%s) broke", call.method, call.request_id, exc_info=error)
        answer = status.to_status(error, request_id=call.request_id)
        self._note(call, answer.code.name, call.messages, answer.details)
        await context.abort(answer.code, answer.details, ((REQUEST_ID, call.request_id), *answer.trailing_metadata))
        raise AssertionError("abort raises")

    def _note(self, call: _Call, code: str, messages: int, message: str = "") -> None:
        fields = {
            "method": call.method,
            "code": code,
            "seconds": round(time.monotonic() - call.began, 4),
            "messages": messages,
            "request_id": call.request_id,
            "peer": call.peer,
            **call.said,
        }
        if message:
            fields["message"] = message
        level = logging.ERROR if code in _LOUD else logging.DEBUG if call.method in _QUIET else logging.INFO
        _log.log(level, "call", extra={"fields": fields})


def _factory(handler: grpc.RpcMethodHandler) -> Any:
    return {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]


def _code_name(context: Any) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else str(code)
