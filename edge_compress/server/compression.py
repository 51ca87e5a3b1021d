"""CompressionService: recipes, jobs, plans, reports and plugins. Translates and delegates."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from edge_compress import messages, wire
from edge_compress.api.v1 import common_pb2, compression_pb2, compression_pb2_grpc
from edge_compress.domain.model import ModelFacts
from edge_compress.domain.report import report_entry
from edge_compress.domain.spec import Resource, parse_resource
from edge_compress.errors import InvalidInput, InvalidSpec, NotFound
from edge_compress.plugin.registry import Registry
from edge_compress.server.declarations import Declarations, Terms
from edge_compress.server.history import newest_outcomes
from edge_compress.server.jobs import JobQueue
from edge_compress.server.plans import Planner
from edge_compress.server.plugin_list import plugins_of
from edge_compress.server.resources import Reader, required
from edge_compress.store.interface import Store

KIND = "Recipe"
_LARGEST_PLAN = 1000
"""documents in one request"""


@dataclass(frozen=True)
class Parts:
    """What the service delegates to. ``threads`` are where the engine is waited for."""

    declarations: Declarations
    recipes: Reader
    jobs: Reader
    queue: JobQueue
    planner: Planner
    registry: Registry
    store: Store
    threads: Executor


class CompressionService(compression_pb2_grpc.CompressionServiceServicer):
    """See ``compression.proto``."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def ApplyRecipe(self, request: compression_pb2.ApplyRecipeRequest, context: Any) -> compression_pb2.ApplyRecipeResponse:
        """Create or replace; strategies and parameters must be known."""
        resource = wire.resource_from_wire(request.recipe)
        record, outcome = await self._parts.declarations.apply(resource, Terms.of(request))
        return compression_pb2.ApplyRecipeResponse(
            recipe=wire.record_to_wire(record), outcome=wire.outcome_to_wire(outcome.value)
        )

    async def GetRecipe(self, request: common_pb2.GetRequest, context: Any) -> compression_pb2.Recipe:
        """One recipe."""
        recipe: compression_pb2.Recipe = await self._parts.recipes.get(request)
        return recipe

    async def ListRecipes(self, request: common_pb2.ListRequest, context: Any) -> compression_pb2.ListRecipesResponse:
        """A page."""
        recipes, token = await self._parts.recipes.list(request)
        return compression_pb2.ListRecipesResponse(recipes=recipes, next_page_token=token)

    async def WatchRecipes(
        self, request: common_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[compression_pb2.WatchRecipesResponse]:
        """Changes as they happen."""
        async for change, recipe in self._parts.recipes.watch(request):
            yield compression_pb2.WatchRecipesResponse(type=change, recipe=recipe)

    async def DeleteRecipe(self, request: common_pb2.DeleteRequest, context: Any) -> common_pb2.DeleteResponse:
        """Remove a recipe that no deployment needs."""
        await self._parts.declarations.delete(KIND, required(request.name, "name"))
        return common_pb2.DeleteResponse()

    async def GetJob(self, request: common_pb2.GetRequest, context: Any) -> compression_pb2.Job:
        """One job."""
        job: compression_pb2.Job = await self._parts.jobs.get(request)
        return job

    async def ListJobs(self, request: common_pb2.ListRequest, context: Any) -> compression_pb2.ListJobsResponse:
        """A page."""
        jobs, token = await self._parts.jobs.list(request)
        return compression_pb2.ListJobsResponse(jobs=jobs, next_page_token=token)

    async def WatchJobs(self, request: common_pb2.WatchRequest, context: Any) -> AsyncIterator[compression_pb2.WatchJobsResponse]:
        """Changes as they happen."""
        async for change, job in self._parts.jobs.watch(request):
            yield compression_pb2.WatchJobsResponse(type=change, job=job)

    async def CancelJob(self, request: compression_pb2.CancelJobRequest, context: Any) -> compression_pb2.Job:
        """Stop a job for good."""
        return wire.job_to_wire(await self._parts.queue.cancel(required(request.name, "name")))

    async def Plan(self, request: compression_pb2.PlanRequest, context: Any) -> compression_pb2.PlanResponse:
        """What would change."""
        documents = parse_documents(request.documents_json)
        facts = parse_facts(request.facts_json)
        loop = asyncio.get_running_loop()
        preview = await loop.run_in_executor(self._parts.threads, self._parts.planner.preview, documents, facts)
        return messages.to_message(preview, compression_pb2.PlanResponse)

    async def GetReport(self, request: compression_pb2.GetReportRequest, context: Any) -> compression_pb2.Report:
        """What compression yielded for a model, profile by profile."""
        entry = await asyncio.to_thread(self._report, required(request.model, "model"))
        return compression_pb2.Report(report_json=json.dumps(entry))

    async def ListPlugins(self, request: compression_pb2.ListPluginsRequest, context: Any) -> compression_pb2.ListPluginsResponse:
        """Plugins found at the start."""
        plugins = plugins_of(self._parts.registry)
        return compression_pb2.ListPluginsResponse(
            plugins=[messages.to_message(plugin, compression_pb2.Plugin) for plugin in plugins]
        )

    def _report(self, model: str) -> dict[str, Any]:
        outcomes = newest_outcomes(self._parts.store, model)
        if not outcomes:
            self._parts.store.get("Model", model)
            raise NotFound("report of model", model)
        return report_entry(outcomes)


def parse_documents(texts: Any) -> list[Resource]:
    """The resources in the documents of a plan request. Raises InvalidInput, InvalidSpec naming the document."""
    if not 0 < len(texts) <= _LARGEST_PLAN:
        raise InvalidInput.at("documents_json", len(texts), f"1 to {_LARGEST_PLAN} documents")
    return [_document(index, text) for index, text in enumerate(texts)]


def parse_facts(texts: Mapping[str, str]) -> dict[str, ModelFacts]:
    """The facts in a plan request, by sha256. Raises InvalidInput, InvalidSpec."""
    return {sha256: ModelFacts.from_json(_json(text, f"facts_json[{sha256[:12]}]")) for sha256, text in texts.items()}


def _document(index: int, text: str) -> Resource:
    at = f"documents_json[{index}]"
    try:
        return parse_resource(_json(text, at))
    except InvalidSpec as error:
        raise InvalidSpec(f"{at}: {error}", violations=error.violations) from error


def _json(text: str, at: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.at(at, text, "JSON") from error
