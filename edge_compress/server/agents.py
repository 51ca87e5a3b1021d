"""AgentService: the session of each agent, and the devices they speak for. Translates and delegates to the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from edge_compress.api.v1 import agents_pb2, agents_pb2_grpc, common_pb2
from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.overview import Overview
from edge_compress.delivery.sessions import Session as LiveSession
from edge_compress.domain.overview import DeviceHistory
from edge_compress.errors import EdgeCompressError, InvalidInput, NotFound
from edge_compress.messages import to_message
from edge_compress.server.interceptors import note_call
from edge_compress.server.refusals import MissingReference, Silent
from edge_compress.server.resources import Reader, required
from edge_compress.server.session_wire import ServerMessages, hello_from_wire, move_from_wire, reports_from_wire, welcome_to_wire

_log = logging.getLogger(__name__)
_HELLO_SECONDS = 20.0


class AgentServicer(agents_pb2_grpc.AgentServiceServicer):
    """``reader`` answers about devices, ``overview`` about all of them; ``dropped`` hears of messages that made no sense, as
    ``Metrics.dropped`` does."""

    def __init__(self, fleet: Fleet, reader: Reader, dropped: Callable[[str, int], None], overview: Overview) -> None:
        self._fleet, self._reader, self._dropped, self._overview = fleet, reader, dropped, overview
        self._messages = ServerMessages()

    async def GetDevice(self, request: common_pb2.GetRequest, context: Any) -> agents_pb2.Device:
        """See the service's definition."""
        device: agents_pb2.Device = await self._reader.get(request)
        return device

    async def ListDevices(self, request: common_pb2.ListRequest, context: Any) -> agents_pb2.ListDevicesResponse:
        """See the service's definition."""
        devices, token = await self._reader.list(request)
        return agents_pb2.ListDevicesResponse(devices=devices, next_page_token=token)

    async def WatchDevices(
        self, request: common_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[agents_pb2.WatchDevicesResponse]:
        """See the service's definition."""
        async for change, device in self._reader.watch(request):
            yield agents_pb2.WatchDevicesResponse(type=change, device=device)

    async def DeleteDevice(self, request: common_pb2.DeleteRequest, context: Any) -> common_pb2.DeleteResponse:
        """See the service's definition."""
        await self._fleet.forget(required(request.name, "name"))
        return common_pb2.DeleteResponse()

    async def GetFleetOverview(self, request: agents_pb2.GetFleetOverviewRequest, context: Any) -> agents_pb2.FleetOverview:
        """See the service's definition."""
        return to_message(await asyncio.to_thread(self._overview.read), agents_pb2.FleetOverview)

    async def GetDeviceHistory(self, request: common_pb2.GetRequest, context: Any) -> agents_pb2.DeviceHistory:
        """See the service's definition."""
        history = DeviceHistory(self._fleet.history(required(request.name, "name")))
        return to_message(history, agents_pb2.DeviceHistory)

    async def Session(
        self, messages: AsyncIterator[agents_pb2.AgentMessage], context: Any
    ) -> AsyncIterator[agents_pb2.ServerMessage]:
        """See the service's definition."""
        session = await self._begin(messages)
        listening = asyncio.create_task(self._listen(messages, session))
        try:
            yield welcome_to_wire(session.welcome)
            async for message in session.outgoing():
                yield self._messages.message(message)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await self._fleet.leave(session)

    async def _begin(self, messages: AsyncIterator[agents_pb2.AgentMessage]) -> LiveSession:
        try:
            async with asyncio.timeout(_HELLO_SECONDS):
                first = await anext(messages, None)
        except TimeoutError:
            raise Silent(f"no hello within {_HELLO_SECONDS:g} s; an agent speaks first") from None
        if first is None or not first.HasField("hello"):
            read = first.WhichOneof("message") if first is not None else None
            raise InvalidInput.at("message", read, "hello as the first message of a session")
        note_call(device=first.hello.device[:64])
        try:
            return await self._fleet.join(hello_from_wire(first.hello))
        except NotFound as error:
            raise MissingReference.at(
                "hello.profile", first.hello.profile, f"an existing {error.kind}", "apply it first"
            ) from error

    async def _listen(self, messages: AsyncIterator[agents_pb2.AgentMessage], session: LiveSession) -> None:
        """Take what the agent says until it stops or the session ends."""
        try:
            async for message in messages:
                await self._take(session, message)
                if session.ended:
                    return
            session.end()
        except EdgeCompressError as error:
            session.end(error)
        except Exception:
            _log.exception("the session of device %s broke", session.device)
            raise
        finally:
            session.end()

    async def _take(self, session: LiveSession, message: agents_pb2.AgentMessage) -> None:
        kind = message.WhichOneof("message")
        if kind == "heartbeat":
            await self._fleet.heard(session)
        elif kind == "move":
            with self._forgiving(session):
                await self._fleet.moved(session, move_from_wire(message.move))
        elif kind == "reports":
            reports = list(reports_from_wire(message.reports.reports, lambda error: self._refused(session, error)))
            await self._fleet.reported(session, message.reports.sequence, reports)
        else:
            self._refused(session, InvalidInput.at("message", kind, "heartbeat, move or reports within a session"))

    @contextlib.contextmanager
    def _forgiving(self, session: LiveSession) -> Iterator[None]:
        """A message that makes no sense is dropped and counted; the session lives."""
        try:
            yield
        except InvalidInput as error:
            self._refused(session, error)

    def _refused(self, session: LiveSession, error: InvalidInput) -> None:
        self._dropped("invalid", 1)
        _log.debug("device %s sent what makes no sense: %s", session.device, error)
