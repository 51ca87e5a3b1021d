"""The delivery half of a server, on a state folder: store, fleet, reconciler, AgentService and metrics. Runs in a test's own
process, or as a process of its own that a test can kill: ``python -m tests.integration.delivery_server STATE``.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path

import grpc

from edge_compress.api.v1 import agents_pb2_grpc
from edge_compress.delivery.fleet import Fleet, FleetSettings
from edge_compress.delivery.observed import sources
from edge_compress.delivery.overview import Overview
from edge_compress.delivery.reconcile import Reconciler, ReconcileSettings
from edge_compress.delivery.usage import UsageLedger
from edge_compress.domain.artifact import Artifact, GoldenVectors
from edge_compress.domain.calibration import Corrections
from edge_compress.domain.job import JobState, JobStatus
from edge_compress.domain.schema import encode
from edge_compress.domain.spec import DeviceProfile, Model, Recipe, parse_resource
from edge_compress.metrics import Metrics
from edge_compress.metrics_http import MetricsServer
from edge_compress.plugin.registry import Registry
from edge_compress.server.agents import AgentServicer
from edge_compress.server.feed import Feed
from edge_compress.server.interceptors import CallInterceptor
from edge_compress.server.resources import Reader
from edge_compress.store.interface import ResourceStore
from edge_compress.store.state import open_state

FLEET = FleetSettings(heartbeat_seconds=5.0, report_seconds=0.1, usage_seconds=0.0)


class DeliveryServer:
    """Everything that delivery needs, joined as ``server.app`` joins it."""

    def __init__(self, state: Path, settings: FleetSettings = FLEET) -> None:
        self.store = open_state(state)
        self.metrics = Metrics()
        self.ledger = UsageLedger(self.store, dropped=self.metrics.dropped)
        self.fleet = Fleet(self.store, self.ledger, settings, clock=self.store.clock)
        pace, registry = ReconcileSettings(tick_seconds=0.1), Registry.load(only=["metrics", "onnxruntime"])
        self.reconciler = Reconciler(self.store, self.fleet, registry, key_of, pace, clock=self.store.clock)
        self.metrics.sources = sources(self.store, self.fleet, self.ledger)
        self.overview = Overview(self.store, self.fleet.census, self.ledger)
        self.feed = Feed(self.store)
        self._server = grpc.aio.server(interceptors=[CallInterceptor()])

    async def start(self) -> None:
        await asyncio.to_thread(self.ledger.load)
        await self.fleet.start()
        self.feed.start()
        servicer = AgentServicer(self.fleet, Reader(self.store, self.feed, "Device"), self.metrics.dropped, self.overview)
        agents_pb2_grpc.add_AgentServiceServicer_to_server(servicer, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.http = MetricsServer(self.metrics, "127.0.0.1", 0)
        self._reconciling = asyncio.gather(self.reconciler.run(), self.overview.run())

    async def stop(self) -> None:
        self._reconciling.cancel()
        await asyncio.gather(self._reconciling, return_exceptions=True)
        await self.fleet.close()
        await self._server.stop(1)
        self.feed.close()
        await asyncio.to_thread(self.http.close)
        self.store.close()


def key_of(model: Model, profile: DeviceProfile, recipe: Recipe | None, objective: str, corrections: Corrections) -> str:
    """A digest of everything that decides the outcome, as the engine gives one."""
    return hashlib.sha256(f"{model.spec} {profile.spec} {recipe} {objective} {corrections}".encode()).hexdigest()


def declare(store: ResourceStore, kind: str, name: str, **spec: object) -> None:
    resource = parse_resource({"kind": kind, "metadata": {"name": name}, "spec": spec})
    store.apply(kind, name, labels={}, spec=encode(resource.spec))


def artifact_of(text: str, profile: str) -> Artifact:
    digest = hashlib.sha256(text.encode()).hexdigest()
    golden = GoldenVectors(hashlib.sha256(b"golden").hexdigest(), 100, 4, 1e-3, 1e-3)
    return Artifact(f"vision-{digest[:12]}", "vision", profile, digest, 1000, 900, "onnxruntime", golden, version=digest[:12])


def finish_jobs(store: ResourceStore, text: str = "artifact") -> int:
    """Finish every queued job with an artifact of its profile's own, as the job queue would; returns how many."""
    queued = [record for record in store.list("Job").records if record.status.get("state", "Queued") == "Queued"]
    for record in queued:
        made = artifact_of(f"{text} {record.spec['profile']}", record.spec["profile"])
        store.apply("Artifact", made.name, labels={}, spec=encode(made))
        store.set_status("Job", record.name, encode(JobStatus(JobState.SUCCEEDED.value, artifact=made.name, finished_at=1.0)))
    return len(queued)


async def main(state: Path) -> None:
    server = DeliveryServer(state)
    await server.start()
    print(server.port, server.http.port, flush=True)
    while True:
        await asyncio.to_thread(finish_jobs, server.store)
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
