"""ModelService: trained models with their data. Translates and delegates; the engine's child processes do the checking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from edge_compress import wire
from edge_compress.api.v1 import common_pb2, models_pb2, models_pb2_grpc
from edge_compress.domain.spec import Model
from edge_compress.server.admission import ModelAdmission
from edge_compress.server.declarations import Declarations, Terms
from edge_compress.server.resources import Reader, required

KIND = "Model"


class ModelService(models_pb2_grpc.ModelServiceServicer):
    """See ``models.proto``."""

    def __init__(self, declarations: Declarations, reader: Reader, admission: ModelAdmission) -> None:
        self._declarations, self._reader, self._admission = declarations, reader, admission

    async def ApplyModel(self, request: models_pb2.ApplyModelRequest, context: Any) -> models_pb2.ApplyModelResponse:
        """Check the uploaded files, then create or replace. Nothing is stored when they are refused."""
        model = wire.resource_from_wire(request.model)
        assert isinstance(model, Model)
        self._declarations.check(model)
        async with self._admission.admitted(model):
            record, outcome = await self._declarations.apply(model, Terms.of(request))
        return models_pb2.ApplyModelResponse(model=wire.record_to_wire(record), outcome=wire.outcome_to_wire(outcome.value))

    async def GetModel(self, request: common_pb2.GetRequest, context: Any) -> models_pb2.Model:
        """One model."""
        model: models_pb2.Model = await self._reader.get(request)
        return model

    async def ListModels(self, request: common_pb2.ListRequest, context: Any) -> models_pb2.ListModelsResponse:
        """A page."""
        models, token = await self._reader.list(request)
        return models_pb2.ListModelsResponse(models=models, next_page_token=token)

    async def WatchModels(self, request: common_pb2.WatchRequest, context: Any) -> AsyncIterator[models_pb2.WatchModelsResponse]:
        """Changes as they happen."""
        async for change, model in self._reader.watch(request):
            yield models_pb2.WatchModelsResponse(type=change, model=model)

    async def DeleteModel(self, request: common_pb2.DeleteRequest, context: Any) -> common_pb2.DeleteResponse:
        """Remove a model that no deployment needs."""
        await self._declarations.delete(KIND, required(request.name, "name"))
        return common_pb2.DeleteResponse()
