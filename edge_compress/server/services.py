"""The services of the contract, made from what they share and added to a gRPC server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from edge_compress.api.v1 import (
    agents_pb2,
    agents_pb2_grpc,
    artifacts_pb2,
    compression_pb2,
    compression_pb2_grpc,
    deployments_pb2,
    deployments_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
)
from edge_compress.delivery.calibrator import Calibrator
from edge_compress.delivery.control import RolloutControl
from edge_compress.delivery.fleet import Fleet
from edge_compress.delivery.moving import Mover
from edge_compress.delivery.overview import Overview
from edge_compress.device_metrics import DeviceMetrics
from edge_compress.metrics import Metrics
from edge_compress.plugin.registry import Registry
from edge_compress.server import artifacts
from edge_compress.server.admission import ModelAdmission, SizeLimits
from edge_compress.server.agents import AgentServicer
from edge_compress.server.compression import CompressionService, Parts
from edge_compress.server.declarations import Declarations
from edge_compress.server.deployments import DeploymentService
from edge_compress.server.downloads import Downloads
from edge_compress.server.feed import Feed
from edge_compress.server.garbage import BlobUse
from edge_compress.server.jobs import JobQueue
from edge_compress.server.models import ModelService
from edge_compress.server.plans import Planner
from edge_compress.server.profiles import ProfileService
from edge_compress.server.resources import Reader
from edge_compress.server.update_sizes import UpdateSizes
from edge_compress.server.uploads import Uploads
from edge_compress.store.interface import Store
from edge_compress.worker.engine import Engine

_CHECKS_AT_ONCE = 4
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (profiles_pb2, "ProfileService"),
        (models_pb2, "ModelService"),
        (compression_pb2, "CompressionService"),
        (artifacts_pb2, "ArtifactService"),
        (deployments_pb2, "DeploymentService"),
        (agents_pb2, "AgentService"),
    )
)


@dataclass
class Core:
    """What the services share."""

    store: Store
    registry: Registry
    engine: Engine
    metrics: Metrics
    device_metrics: DeviceMetrics | None
    feed: Feed
    fleet: Fleet
    queue: JobQueue
    overview: Overview
    blob_use: BlobUse
    declarations: Declarations
    sizes: UpdateSizes
    downloads: Downloads
    calibrator: Calibrator
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_CHECKS_AT_ONCE, thread_name_prefix="check"))

    def reader(self, kind: str) -> Reader:
        """What answers about one kind."""
        return Reader(self.store, self.feed, kind)


def add_services(server: Any, core: Core, limits: SizeLimits) -> None:
    """Add every service of the contract to a gRPC server."""
    admission = ModelAdmission(core.store.blobs, core.engine, core.blob_use, limits, core.threads)
    uploads = Uploads(core.store.blobs, limit_bytes=max(limits.model_bytes, limits.data_bytes))
    profile_service = ProfileService(core.declarations, core.reader("DeviceProfile"))
    model_service = ModelService(core.declarations, core.reader("Model"), admission)
    control = RolloutControl(core.store, Mover(core.store, core.registry), clock=core.store.clock)
    deployment_service = DeploymentService(core.declarations, core.reader("Deployment"), core.reader("Rollout"), control)
    artifact_service = artifacts.ArtifactService(core.declarations, core.reader("Artifact"), uploads, core.downloads)
    agent_service = AgentServicer(core.fleet, core.reader("Device"), core.metrics.dropped, core.overview)
    profiles_pb2_grpc.add_ProfileServiceServicer_to_server(profile_service, server)  # type: ignore[no-untyped-call]  # generated
    models_pb2_grpc.add_ModelServiceServicer_to_server(model_service, server)  # type: ignore[no-untyped-call]  # generated
    compression_pb2_grpc.add_CompressionServiceServicer_to_server(_compression(core), server)  # type: ignore[no-untyped-call]  # generated
    deployments_pb2_grpc.add_DeploymentServiceServicer_to_server(deployment_service, server)  # type: ignore[no-untyped-call]  # generated
    agents_pb2_grpc.add_AgentServiceServicer_to_server(agent_service, server)  # type: ignore[no-untyped-call]  # generated
    artifacts.add_to_server(artifact_service, server)


def _compression(core: Core) -> CompressionService:
    planner = Planner(core.store, core.engine, core.declarations)
    recipes, jobs = core.reader("Recipe"), core.reader("Job")
    return CompressionService(
        Parts(core.declarations, recipes, jobs, core.queue, planner, core.registry, core.store, core.threads)
    )
