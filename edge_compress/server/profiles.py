"""ProfileService: device profiles. Translates and delegates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from edge_compress import wire
from edge_compress.api.v1 import common_pb2, profiles_pb2, profiles_pb2_grpc
from edge_compress.server.declarations import Declarations, Terms
from edge_compress.server.resources import Reader, required

KIND = "DeviceProfile"


class ProfileService(profiles_pb2_grpc.ProfileServiceServicer):
    """See ``profiles.proto``."""

    def __init__(self, declarations: Declarations, reader: Reader) -> None:
        self._declarations, self._reader = declarations, reader

    async def ApplyProfile(self, request: profiles_pb2.ApplyProfileRequest, context: Any) -> profiles_pb2.ApplyProfileResponse:
        """Create or replace."""
        resource = wire.resource_from_wire(request.profile)
        record, outcome = await self._declarations.apply(resource, Terms.of(request))
        return profiles_pb2.ApplyProfileResponse(profile=wire.record_to_wire(record), outcome=wire.outcome_to_wire(outcome.value))

    async def GetProfile(self, request: common_pb2.GetRequest, context: Any) -> profiles_pb2.Profile:
        """One profile."""
        profile: profiles_pb2.Profile = await self._reader.get(request)
        return profile

    async def ListProfiles(self, request: common_pb2.ListRequest, context: Any) -> profiles_pb2.ListProfilesResponse:
        """A page."""
        profiles, token = await self._reader.list(request)
        return profiles_pb2.ListProfilesResponse(profiles=profiles, next_page_token=token)

    async def WatchProfiles(
        self, request: common_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[profiles_pb2.WatchProfilesResponse]:
        """Changes as they happen."""
        async for change, profile in self._reader.watch(request):
            yield profiles_pb2.WatchProfilesResponse(type=change, profile=profile)

    async def DeleteProfile(self, request: common_pb2.DeleteRequest, context: Any) -> common_pb2.DeleteResponse:
        """Remove a profile that no deployment and no device needs."""
        await self._declarations.delete(KIND, required(request.name, "name"))
        return common_pb2.DeleteResponse()
