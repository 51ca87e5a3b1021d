"""What applications on the device call: inferences on the serving model, over gRPC on a Unix socket.

Leaves running and counting them to ``traffic``.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import grpc

from edge_compress.agent import framing
from edge_compress.agent.traffic import Traffic
from edge_compress.api.v1 import local_pb2, local_pb2_grpc
from edge_compress.errors import InvalidInput, Unavailable

log = logging.getLogger("edge_compress.agent")

SOCKET_NAME = "predict.sock"
_LONGEST_PATH = 100
"""of a Unix socket, in bytes; Linux takes 107"""
_MOST_BYTES = 64 << 20
_OPTIONS = (("grpc.max_receive_message_length", _MOST_BYTES), ("grpc.max_send_message_length", _MOST_BYTES))
_GRACE_SECONDS = 1.0
_AT_ONCE = 8
"""calls that wait or run; more are refused with RESOURCE_EXHAUSTED"""
_MOST_INPUTS, _LONGEST_NAME, _MOST_AXES = 256, 256, 16


class LocalServer(local_pb2_grpc.PredictServiceServicer):
    """Listens on ``<state>/predict.sock``, readable and writable for the agent's user and group."""

    def __init__(self, traffic: Traffic, state: Path) -> None:
        self._traffic, self._path = traffic, (state / SOCKET_NAME).resolve()
        self._server: Any = None

    async def start(self) -> None:
        """Begin to listen. Where that is impossible the agent does without, and says so."""
        if len(os.fsencode(self._path)) > _LONGEST_PATH:
            log.warning("no local socket: the path %s is over %d bytes", self._path, _LONGEST_PATH)
            return
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_AT_ONCE)
        local_pb2_grpc.add_PredictServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call]  # generated
        try:
            server.add_insecure_port(f"unix:{self._path}")
            await server.start()
            self._path.chmod(0o660)
        except (RuntimeError, OSError) as error:
            log.warning("no local socket at %s: %s", self._path, error)
            return
        self._server = server

    async def stop(self) -> None:
        """Answer what is under way, then no more."""
        if self._server is not None:
            await self._server.stop(_GRACE_SECONDS)
            self._path.unlink(missing_ok=True)

    async def Predict(self, request: local_pb2.PredictRequest, context: Any) -> local_pb2.PredictResponse:
        """One inference."""
        try:
            arrays = _arrays(request)
            assignment, answer = await self._traffic.predict(arrays)
        except InvalidInput as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise AssertionError from error
        except Unavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            raise AssertionError from error
        outputs = [
            local_pb2.Tensor(name=item.name, dtype=item.dtype, shape=item.shape, data=bytes(item.data)) for item in answer.arrays
        ]
        seconds = float(answer.fields["seconds"])
        return local_pb2.PredictResponse(outputs=outputs, model=assignment.model, version=assignment.version, seconds=seconds)


def _arrays(request: local_pb2.PredictRequest) -> list[framing.Array]:
    """The inputs. Raises InvalidInput for what no model has: it must not reach the process that others depend on."""
    if len(request.inputs) > _MOST_INPUTS:
        raise InvalidInput(f"inputs: read {len(request.inputs)} of them, expected at most {_MOST_INPUTS}")
    for item in request.inputs:
        if max(len(item.name), len(item.dtype)) > _LONGEST_NAME or len(item.shape) > _MOST_AXES:
            raise InvalidInput("inputs: read a name, type or shape that is too long")
    return [framing.Array(item.name, item.dtype, tuple(item.shape), item.data) for item in request.inputs]
