"""The verbs that run until they are stopped: ``server`` and ``agent``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_compress.cli.options import ServerOption

_LOG_FORMAT_HELP = "text or json. [env: EDGE_COMPRESS_LOG_FORMAT]"


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command()(server)
    app.command()(agent)


def server(
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="gRPC address. [env: EDGE_COMPRESS_LISTEN; 127.0.0.1:50551]")
    ] = None,
    metrics_listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Metrics address. [env: EDGE_COMPRESS_METRICS_LISTEN; 127.0.0.1:9464]")
    ] = None,
    device_metrics: Annotated[
        int | None,
        typer.Option(
            metavar="SERIES",
            help="Show single devices at /metrics/devices, about 7 series each, so many at most. "
            "[env: EDGE_COMPRESS_DEVICE_METRICS; 0: none]",
        ),
    ] = None,
    state: Annotated[Path | None, typer.Option(help="Folder of database and blobs. [env: EDGE_COMPRESS_STATE]")] = None,
    workers: Annotated[int | None, typer.Option(help="Jobs at the same time. [env: EDGE_COMPRESS_WORKERS; 1]")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow an address that other machines can reach.")] = False,
    strict_plugins: Annotated[bool, typer.Option("--strict-plugins", help="Refuse to start with a broken plugin.")] = False,
    allow_pt2: Annotated[
        bool, typer.Option("--allow-pt2", help="Take models as .pt2 archives too. [env: EDGE_COMPRESS_ALLOW_PT2]")
    ] = False,
    max_model: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Largest model file. [env: EDGE_COMPRESS_MAX_MODEL; 2Gi]")
    ] = None,
    max_data: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Largest data file. [env: EDGE_COMPRESS_MAX_DATA; 16Gi]")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help=_LOG_FORMAT_HELP)] = None,
) -> None:
    """Run the server.

    Resources, jobs, artifacts and agents in one process with its workers, until it is stopped.
    """
    from edge_compress.config import ServerSettings, load

    given = {
        "listen": listen,
        "metrics_listen": metrics_listen,
        "device_metrics": device_metrics,
        "state": state,
        "workers": workers,
        "insecure": insecure or None,
        "strict_plugins": strict_plugins or None,
        "allow_pt2": allow_pt2 or None,
        "max_model_bytes": max_model,
        "max_data_bytes": max_data,
        "log_format": log_format,
    }
    settings = load(ServerSettings, given)
    from edge_compress.server.app import serve

    serve(settings)


def agent(
    profile: Annotated[str | None, typer.Option(help="Name of the device profile. [env: EDGE_COMPRESS_PROFILE]")] = None,
    name: Annotated[str | None, typer.Option(help="Name of this device. [env: EDGE_COMPRESS_DEVICE_NAME; host-profile]")] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="KEY=VALUE,…", help="Labels that selectors match. [env: EDGE_COMPRESS_LABELS]")
    ] = None,
    server: ServerOption = None,
    state: Annotated[Path | None, typer.Option(help="Folder of slots and journal. [env: EDGE_COMPRESS_STATE]")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Talk to another machine without encryption.")] = False,
    self_test_rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="Inferences on own samples, such as 5/s; 0: none. Absent: the server's.")
    ] = None,
    heartbeat: Annotated[str | None, typer.Option(metavar="TIME", help="Time between heartbeats. Absent: the server's.")] = None,
    report: Annotated[str | None, typer.Option(metavar="TIME", help="Time between reports. Absent: the server's.")] = None,
    memory_budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory that agent and models may hold together. Absent: all there is.")
    ] = None,
    min_battery: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Battery below which no update begins unless it charges. [20%]")
    ] = None,
    maintenance_window: Annotated[
        str | None, typer.Option(metavar="TIMES", help="When updates may begin, such as 02:00-04:30. Absent: always.")
    ] = None,
    meter: Annotated[
        str | None, typer.Option(help="Energy meter: auto (the first that works) or a name, such as rapl or external. [auto]")
    ] = None,
    meter_command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Prints joules so far, or watts like '12.5 W': the meter `external`.")
    ] = None,
    meter_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Answers with joules so far, or watts, over http: the meter `external`.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help=_LOG_FORMAT_HELP)] = None,
) -> None:
    """Run the agent of one device.

    It fetches, verifies, tries, serves and measures what the server assigns, until it is stopped.
    """
    from edge_compress.config import AgentSettings, load

    given = {
        "profile": profile,
        "name": name,
        "labels": labels,
        "server": server,
        "state": state,
        "insecure": insecure or None,
        "self_test_rate": self_test_rate,
        "heartbeat": heartbeat,
        "report": report,
        "memory_budget": memory_budget,
        "min_battery": min_battery,
        "maintenance_window": maintenance_window,
        "meter": meter,
        "meter_command": meter_command,
        "meter_url": meter_url,
        "log_format": log_format,
    }
    settings = load(AgentSettings, given)
    from edge_compress.agent.loop import run

    raise typer.Exit(run(settings) or 0)
