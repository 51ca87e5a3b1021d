"""DeploymentService: deployments, and the rollouts that delivery makes of them. Translates and delegates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from edge_compress import wire
from edge_compress.api.v1 import common_pb2, deployments_pb2, deployments_pb2_grpc
from edge_compress.delivery.control import RolloutControl
from edge_compress.errors import Conflict
from edge_compress.server.declarations import Declarations, Terms
from edge_compress.server.refusals import WrongState
from edge_compress.server.resources import Reader, required

KIND = "Deployment"


class DeploymentService(deployments_pb2_grpc.DeploymentServiceServicer):
    """See ``deployments.proto``."""

    def __init__(self, declarations: Declarations, reader: Reader, rollouts: Reader, control: RolloutControl) -> None:
        self._declarations, self._reader, self._rollouts, self._control = declarations, reader, rollouts, control

    async def ApplyDeployment(
        self, request: deployments_pb2.ApplyDeploymentRequest, context: Any
    ) -> deployments_pb2.ApplyDeploymentResponse:
        """Create or replace; what it names must exist."""
        resource = wire.resource_from_wire(request.deployment)
        record, outcome = await self._declarations.apply(resource, Terms.of(request))
        return deployments_pb2.ApplyDeploymentResponse(
            deployment=wire.record_to_wire(record), outcome=wire.outcome_to_wire(outcome.value)
        )

    async def GetDeployment(self, request: common_pb2.GetRequest, context: Any) -> deployments_pb2.Deployment:
        """One deployment."""
        deployment: deployments_pb2.Deployment = await self._reader.get(request)
        return deployment

    async def ListDeployments(self, request: common_pb2.ListRequest, context: Any) -> deployments_pb2.ListDeploymentsResponse:
        """A page."""
        deployments, token = await self._reader.list(request)
        return deployments_pb2.ListDeploymentsResponse(deployments=deployments, next_page_token=token)

    async def WatchDeployments(
        self, request: common_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[deployments_pb2.WatchDeploymentsResponse]:
        """Changes as they happen."""
        async for change, deployment in self._reader.watch(request):
            yield deployments_pb2.WatchDeploymentsResponse(type=change, deployment=deployment)

    async def DeleteDeployment(self, request: common_pb2.DeleteRequest, context: Any) -> common_pb2.DeleteResponse:
        """Remove it; devices keep what they run."""
        await self._declarations.delete(KIND, required(request.name, "name"))
        return common_pb2.DeleteResponse()

    async def GetRollout(self, request: common_pb2.GetRequest, context: Any) -> deployments_pb2.Rollout:
        """One rollout."""
        rollout: deployments_pb2.Rollout = await self._rollouts.get(request)
        return rollout

    async def ListRollouts(self, request: common_pb2.ListRequest, context: Any) -> deployments_pb2.ListRolloutsResponse:
        """A page."""
        rollouts, token = await self._rollouts.list(request)
        return deployments_pb2.ListRolloutsResponse(rollouts=rollouts, next_page_token=token)

    async def WatchRollouts(
        self, request: common_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[deployments_pb2.WatchRolloutsResponse]:
        """Changes as they happen."""
        async for change, rollout in self._rollouts.watch(request):
            yield deployments_pb2.WatchRolloutsResponse(type=change, rollout=rollout)

    async def CommandRollout(self, request: deployments_pb2.CommandRolloutRequest, context: Any) -> deployments_pb2.Rollout:
        """Pause, resume, promote, abort or undo."""
        name, told = required(request.name, "name"), wire.rollout_command_from_wire(request.command)
        step = request.step if request.HasField("step") else None
        try:
            record = await asyncio.to_thread(self._control.command, name, told, request.reason, step)
        except Conflict as error:
            raise WrongState(str(error)) from error
        return wire.rollout_to_wire(record)
