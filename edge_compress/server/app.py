"""The server: the one place where its objects are joined, started in order and stopped in the reverse one.

Everything it needs is in this process, its child processes and one folder. What any part does is that part's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edge_compress.config import ServerSettings
from edge_compress.delivery.calibrator import Calibrator
from edge_compress.delivery.fleet import Fleet, FleetSettings
from edge_compress.delivery.observed import DeviceBoard, sources
from edge_compress.delivery.overview import Overview
from edge_compress.delivery.reconcile import Reconciler, ReconcileSettings
from edge_compress.delivery.usage import UsageLedger
from edge_compress.device_metrics import DeviceMetrics
from edge_compress.domain.artifact import Artifact
from edge_compress.errors import StartupError
from edge_compress.metrics import Metrics
from edge_compress.metrics_http import MetricsServer
from edge_compress.plugin.registry import Registry
from edge_compress.server import logs
from edge_compress.server.address import Address, check_free, check_reachable
from edge_compress.server.admission import SizeLimits
from edge_compress.server.declarations import Declarations
from edge_compress.server.downloads import Downloads
from edge_compress.server.feed import Feed
from edge_compress.server.garbage import BlobUse, GarbageCollector
from edge_compress.server.interceptors import CallInterceptor
from edge_compress.server.jobs import JobQueue, QueueSettings
from edge_compress.server.services import SERVICES, Core, add_services
from edge_compress.server.update_sizes import UpdateSizes
from edge_compress.store.interface import Store
from edge_compress.store.state import open_state
from edge_compress.worker.costing import precisions_of
from edge_compress.worker.engine import Engine, PairRequest, WorkerSettings

_log = logging.getLogger(__name__)
_GRACE_SECONDS = 1.0
_STORE_THREADS = 16
_OPTIONS = [
    ("grpc.so_reuseport", 0),  # a second server must not silently share the port
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
]


class MakeEngine(Protocol):
    """How the engine is made; tests of the server alone give one that computes nothing."""

    def __call__(
        self,
        *,
        store: Store,
        registry: Registry,
        scratch: Path,
        settings: WorkerSettings,
        observe: Callable[[str, str, float], None],
    ) -> Engine:
        """As ``Engine``."""


@dataclass(frozen=True)
class Pace:
    """How often things happen and how engines are made: what tests set otherwise than a server that is started by a person."""

    fleet: FleetSettings = FleetSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    progress_seconds: float = 0.5
    deadline_seconds: float = 60.0
    sweep_seconds: float = 3600.0
    learn_seconds: float = 30.0
    make_engine: MakeEngine = Engine


class App:
    """A server that can be started and stopped. Raises StartupError, or PluginError where plugins must be sound, in ``start``."""

    def __init__(self, settings: ServerSettings, pace: Pace = Pace()) -> None:
        self._settings, self._pace = settings, pace
        self._listen = Address.parse(settings.listen, "--listen")
        self._metrics_listen = Address.parse(settings.metrics_listen, "--metrics-listen") if settings.metrics_listen else None
        self._stack = contextlib.AsyncExitStack()
        self.address = ""
        """HOST:PORT of the gRPC services, once started"""
        self.metrics_address = ""
        """HOST:PORT of the metrics, once started; empty: none"""

    async def start(self) -> None:
        """Start everything; when something cannot start, what did is stopped again."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Stop within a few seconds: calls end with UNAVAILABLE, running jobs go on after the next start."""
        _log.info("stopping")
        await self._stack.aclose()

    async def _start(self) -> None:
        for address, flag in ((self._listen, "--listen"), (self._metrics_listen, "--metrics-listen")):
            if address is not None:
                check_reachable(address, flag, insecure=self._settings.insecure)
                check_free(address, flag)
        store = await asyncio.to_thread(open_state, self._settings.state)
        self._stack.push_async_callback(asyncio.to_thread, store.close)
        core = await self._join(store)
        interceptor = CallInterceptor(default_seconds=self._pace.deadline_seconds)
        server = grpc.aio.server(interceptors=[interceptor], options=_OPTIONS)
        port = self._bind(server)
        await self._work(core)
        self._serve_metrics(core.metrics, core.device_metrics)
        add_services(server, core, SizeLimits(self._settings.max_model_bytes, self._settings.max_data_bytes))
        status = _add_health(server)
        self._stack.push_async_callback(server.stop, _GRACE_SECONDS)
        await server.start()
        self._stack.callback(interceptor.stop)
        self.address = str(self._listen.with_port(port))
        for name in ("", *SERVICES):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._stack.push_async_callback(status.enter_graceful_shutdown)
        _log.info(
            "serving", extra={"fields": {"address": self.address, "metrics": self.metrics_address, "state": self._settings.state}}
        )

    async def _join(self, store: Store) -> Core:
        """Make the objects; nothing runs yet."""
        registry = await asyncio.to_thread(Registry.load, strict=self._settings.strict_plugins)
        for record in registry.records:
            if record.error:
                _log.warning("plugin did not load", extra={"fields": {"plugin": record.name, "error": record.error}})
        metrics = Metrics()
        engine = self._pace.make_engine(
            store=store,
            registry=registry,
            scratch=await asyncio.to_thread(_empty_scratch, self._settings.state),
            settings=WorkerSettings(max_model_bytes=self._settings.max_model_bytes, allow_pt2=self._settings.allow_pt2),
            observe=metrics.step,
        )
        self._stack.callback(engine.close)
        devices = DeviceMetrics(self._settings.device_metrics) if self._settings.device_metrics else None
        board = DeviceBoard(devices) if devices is not None else None
        ledger = UsageLedger(store, dropped=metrics.dropped, by_device=board.totals if board is not None else None)
        await asyncio.to_thread(ledger.load)
        fleet = Fleet(store, ledger, self._pace.fleet, wrong=metrics.wrong_differences, clock=store.clock)
        calibrator = Calibrator(
            store,
            ledger.of_devices,
            fleet.made_for,
            precisions_of(registry),
            every_seconds=self._pace.learn_seconds,
            clock=store.clock,
        )
        await asyncio.to_thread(calibrator.load)
        metrics.sources = sources(store, fleet, ledger, calibrator.errors)
        if board is not None:
            board.follow(fleet)
        blob_use = BlobUse()
        queue = JobQueue(
            store,
            engine,
            blob_use,
            QueueSettings(self._settings.workers, self._pace.progress_seconds),
            published=lambda artifact: _tell_published(registry, artifact),
            clock=store.clock,
        )
        declarations, sizes = Declarations(store, registry, clock=store.clock), UpdateSizes(engine.update_bytes)
        self._stack.callback(sizes.close)
        downloads = Downloads(store.blobs, sent=metrics.sent)
        self._stack.callback(downloads.close)
        core = Core(
            store,
            registry,
            engine,
            metrics,
            devices,
            Feed(store),
            fleet,
            queue,
            Overview(store, fleet.census, ledger),
            blob_use,
            declarations,
            sizes,
            downloads,
            calibrator,
        )
        self._stack.callback(core.threads.shutdown, wait=False, cancel_futures=True)
        return core

    def _bind(self, server: Any) -> int:
        try:
            return int(server.add_insecure_port(str(self._listen)))
        except RuntimeError as error:
            raise StartupError(f"--listen: cannot listen on {self._listen}; stop what uses it or choose another port") from error

    async def _work(self, core: Core) -> None:
        """Let the parts that act by themselves begin."""
        core.feed.start()
        self._stack.callback(core.feed.close)
        await core.fleet.start()
        self._stack.push_async_callback(core.fleet.close)
        await core.queue.start()
        self._stack.push_async_callback(core.queue.close)
        engine = core.engine
        reconciler = Reconciler(
            core.store,
            core.fleet,
            core.registry,
            lambda model, profile, recipe, objective, corrections: engine.key(
                PairRequest(model, profile, recipe, objective, corrections=corrections)
            ),
            self._pace.reconcile,
            sizes=core.sizes,
            clock=core.store.clock,
        )
        loop = asyncio.get_running_loop()

        def look_again() -> None:
            loop.call_soon_threadsafe(core.fleet.changed)

        core.sizes.found = look_again
        collector = GarbageCollector(core.store, core.blob_use, every_seconds=self._pace.sweep_seconds)
        for work in (reconciler.run(), collector.run(), core.overview.run(), core.calibrator.run()):
            self._stack.push_async_callback(_cancelled, asyncio.create_task(work))

    def _serve_metrics(self, metrics: Metrics, devices: DeviceMetrics | None) -> None:
        if self._metrics_listen is not None:
            server = MetricsServer(metrics, self._metrics_listen.host, self._metrics_listen.port, devices)
            self._stack.push_async_callback(asyncio.to_thread, server.close)
            self.metrics_address = str(self._metrics_listen.with_port(server.port))


def serve(settings: ServerSettings) -> None:
    """Run a server until SIGTERM or SIGINT. Raises StartupError, PluginError and what opening the state raises."""
    logs.configure(settings.log_format)
    asyncio.run(_serve(settings))


async def _serve(settings: ServerSettings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(_STORE_THREADS, thread_name_prefix="store"))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    app = App(settings)
    await app.start()
    await stopped.wait()
    await app.stop()


def _tell_published(registry: Registry, artifact: Artifact) -> None:
    for error in registry.fire("edge_compress_artifact_published", artifact=artifact):
        _log.warning("a plugin failed when told of artifact %s: %s", artifact.name, error)


def _empty_scratch(state: Path) -> Path:
    """An empty scratch folder; what a killed server left in it goes."""
    scratch = state / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch


async def _cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _add_health(server: Any) -> Any:
    """Add health and reflection; returns the health service, which says NOT_SERVING so far."""
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return status
