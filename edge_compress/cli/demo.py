"""The ``demo`` verb: the whole story with real processes, shown as it goes.

What happens is ``demo.story``'s business, how it looks ``demo.view``'s.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from edge_compress.cli.progress import bars
from edge_compress.client import Client
from edge_compress.demo import scene, story, view
from edge_compress.demo.cast import Cast
from edge_compress.errors import EdgeCompressError, StartupError


def run(out: Path, keep: bool) -> int:
    """Play the demo; results go to ``out``. ``keep`` leaves the server's state and the logs. 0: all went as it should; else 1."""
    began, screen = time.monotonic(), view.console()
    try:
        with _stoppable(), _folder(keep, screen) as folder:
            _play(out, folder, screen)
    except (EdgeCompressError, OSError) as error:
        sys.stderr.write(f"error: the demo failed: {error}\n")
        return 1
    screen.print(f"\nDone in {time.monotonic() - began:.0f} s; no process is left.")
    _where_next(out, screen)
    return 0


def _play(out: Path, folder: Path, screen: Console) -> None:
    cast = Cast(folder)
    with cast:
        screen.print("[bold]Setting the scene[/]: 5,000 images of handwritten digits, a trained network, four unlike devices")
        fleet = scene.set_up(out / "fleet")
        server = story.start_server(cast, folder / "server")
        screen.print(f"[bold]Server[/] on {server.address}, metrics on http://{server.metrics}/metrics")
        with Client(server.address) as client:
            client.apply(fleet)
            screen.print(f"[bold]Compressing[/] {scene.MODEL} for {len(story.EXPECTED)} profiles ({fleet} applied)")
            _show_jobs(client, cast, screen)
            screen.print("[bold]Delivering[/] to one agent process per profile that can be served")
            devices = _show_agents(client, cast, server, folder, screen)
            metrics, seen = story.scrape(server, [device.spec.profile for device in devices.values()])
            report = story.write_results(client, metrics, out)
        _show_results(report, devices, seen, screen)
        story.check_verdicts(report)
    if cast.strays:
        raise StartupError(f"{len(cast.strays)} processes had to be killed at the end")


def _show_jobs(client: Client, cast: Cast, screen: Console) -> None:
    with bars() as shown:
        for jobs in story.follow_jobs(client, cast):
            for job in jobs:
                status = job.status
                moving = sys.stderr.isatty() and status.state == "Running" and status.step
                done = 1.0 if status.state in story.FINAL_JOBS else status.progress
                shown.show(job.spec.profile, done, status.step if moving else status.state)


def _show_agents(client: Client, cast: Cast, server: story.Server, folder: Path, screen: Console) -> dict[str, Any]:
    served = [profile for profile, verdict in story.EXPECTED.items() if verdict == "FEASIBLE"]
    names = story.start_agents(cast, server, folder / "agents", served)
    devices: dict[str, Any] = {}
    with bars() as shown:
        for devices in story.follow_devices(client, cast, names):
            for name, device in devices.items():
                shown.show(name, story.journey(device), device.status.state)
    return devices


def _show_results(report: dict[str, Any], devices: dict[str, Any], seen: story.Scrape, screen: Console) -> None:
    screen.print("\n[bold]What the devices say[/]")
    for name, device in sorted(devices.items()):
        profile = device.spec.profile
        line = view.device_line(name, device.status, seen.inferences[profile], seen.joules[profile])
        screen.print(f"  {line}", markup=False)
    shown = ", ".join(f"{name} ({seen.samples[name]})" for name in story.SHOWN_SERIES)
    screen.print(f"[bold]On /metrics[/], prefix edge_compress_, with samples: {shown}\n")
    screen.print(view.results(report))
    for line in view.shortfalls(report):
        screen.print(line, markup=False)


def _where_next(out: Path, screen: Console) -> None:
    fleet = out / "fleet" / "fleet.yaml"
    lines = (
        ("the report, in a browser", out / "report.html"),
        ("the artifacts, the figures, the metrics", f"{out}/{scene.MODEL}/*/model.onnx  {out}/report.json  {out}/metrics.txt"),
        ("the same by hand, in three terminals", "edge-compress server"),
        ("", f"edge-compress apply -f {fleet} && edge-compress get devices -o wide --watch"),
        ("", "edge-compress agent --profile cam --name cam-01"),
        ("without a server", f"edge-compress compress -f {fleet} --out compressed"),
    )
    screen.print("Where to look next:")
    for what, where in lines:
        screen.print(f"  {what:<40} {where}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def _folder(keep: bool, screen: Console) -> Iterator[Path]:
    """A folder for state and logs, removed at the end unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="edge-compress-demo-"))
    try:
        yield folder
    finally:
        if keep:
            screen.print(f"State and logs are kept in {folder}", markup=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does: tidily."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
