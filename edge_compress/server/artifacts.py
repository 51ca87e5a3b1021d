"""ArtifactService: artifacts and the blobs beneath them. Translates and delegates to ``uploads`` and ``downloads``."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any

import grpc

from edge_compress.api.v1 import artifacts_pb2, artifacts_pb2_grpc, common_pb2
from edge_compress.encoding import Form
from edge_compress.errors import InvalidInput
from edge_compress.server import chunks
from edge_compress.server.declarations import Declarations
from edge_compress.server.downloads import Downloads, Request
from edge_compress.server.resources import Reader, required
from edge_compress.server.uploads import Held, Uploads

KIND = "Artifact"


class ArtifactService(artifacts_pb2_grpc.ArtifactServiceServicer):
    """See ``artifacts.proto``."""

    def __init__(self, declarations: Declarations, reader: Reader, uploads: Uploads, downloads: Downloads) -> None:
        self._declarations, self._reader = declarations, reader
        self._uploads, self._downloads = uploads, downloads

    async def GetArtifact(self, request: common_pb2.GetRequest, context: Any) -> artifacts_pb2.Artifact:
        """One artifact."""
        artifact: artifacts_pb2.Artifact = await self._reader.get(request)
        return artifact

    async def ListArtifacts(self, request: common_pb2.ListRequest, context: Any) -> artifacts_pb2.ListArtifactsResponse:
        """A page."""
        artifacts, token = await self._reader.list(request)
        return artifacts_pb2.ListArtifactsResponse(artifacts=artifacts, next_page_token=token)

    async def WatchArtifacts(
        self, request: common_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[artifacts_pb2.WatchArtifactsResponse]:
        """Changes as they happen."""
        async for change, artifact in self._reader.watch(request):
            yield artifacts_pb2.WatchArtifactsResponse(type=change, artifact=artifact)

    async def DeleteArtifact(self, request: common_pb2.DeleteRequest, context: Any) -> common_pb2.DeleteResponse:
        """Remove an artifact that no device runs and no rollout delivers."""
        await self._declarations.delete(KIND, required(request.name, "name"))
        return common_pb2.DeleteResponse()

    async def GetBlob(self, request: artifacts_pb2.GetBlobRequest, context: Any) -> artifacts_pb2.BlobState:
        """How much of a blob is here."""
        return _state(await self._uploads.held(request.sha256))

    async def UploadBlob(self, requests: AsyncIterator[artifacts_pb2.UploadBlobRequest], context: Any) -> artifacts_pb2.BlobState:
        """Take a blob, from where the last upload of it broke off."""
        return _state(await self._uploads.receive(aiter(requests)))

    async def DownloadBlob(self, request: artifacts_pb2.DownloadBlobRequest, context: Any) -> AsyncIterator[chunks.Chunk]:
        """Send a blob from an offset on."""
        known = {form.value: form for form in Form}
        forms = frozenset({Form.IDENTITY, *(known[number] for number in request.accept if number in known)})
        rate = request.max_bytes_per_second
        if not 0 <= rate < math.inf:
            raise InvalidInput.at("max_bytes_per_second", rate, "0 or more")
        wanted = Request(request.sha256, request.offset_bytes, forms, request.base_sha256, rate)
        async for chunk in self._downloads.read(wanted):
            yield chunk


class _Handlers:
    """Stands in for a server to learn the handlers that the generated code would add to it."""

    def __init__(self) -> None:
        self.by_name: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Not kept: they hide the handlers that we are after."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Keep them by method name."""
        self.by_name = handlers


def add_to_server(servicer: ArtifactService, server: Any) -> None:
    """Add the service with the hand codec for downloaded chunks in place of the generated one."""
    found = _Handlers()
    artifacts_pb2_grpc.add_ArtifactServiceServicer_to_server(servicer, found)  # type: ignore[no-untyped-call]  # generated code
    download = found.by_name["DownloadBlob"]
    handlers = {
        **found.by_name,
        "DownloadBlob": grpc.unary_stream_rpc_method_handler(
            download.unary_stream, download.request_deserializer, chunks.serialize
        ),
    }
    name = artifacts_pb2.DESCRIPTOR.services_by_name["ArtifactService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _state(held: Held) -> artifacts_pb2.BlobState:
    return artifacts_pb2.BlobState(sha256=held.sha256, complete=held.complete, offset_bytes=held.offset)
