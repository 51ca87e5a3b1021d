"""``edge-compress simulate``: hollow agents against a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_compress.cli.options import InsecureOption, ServerOption

if TYPE_CHECKING:
    from edge_compress.simulation.hollow import Conduct

_SHARE_HELP = "Share of the devices, such as 5%."


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    app.command()(simulate)


def simulate(
    profile: Annotated[str, typer.Option(help="Name of the device profile that they join with.")],
    agents: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 100,
    processes: Annotated[int, typer.Option(min=1, max=64, help="In how many processes.")] = 1,
    prefix: Annotated[str, typer.Option(help="They are called PREFIX-0, PREFIX-1, …")] = "sim",
    labels: Annotated[str, typer.Option(metavar="KEY=VALUE,…", help="Labels that selectors match.")] = "",
    ramp: Annotated[str, typer.Option(metavar="TIME", help="Time over which they join.")] = "0s",
    latency: Annotated[str, typer.Option(metavar="TIME", help="What an inference takes.")] = "10ms",
    rate: Annotated[str, typer.Option(metavar="RATE", help="Inferences of each device.")] = "5/s",
    energy: Annotated[str, typer.Option(metavar="ENERGY", help="Of an inference, such as 2mJ. Default: none is reported.")] = "",
    slower: Annotated[float, typer.Option(min=0.01, help="Factor of an update's latency.")] = 1.0,
    failing: Annotated[str, typer.Option(metavar="SHARE", help=f"On which every update fails. {_SHARE_HELP}")] = "0%",
    silent: Annotated[str, typer.Option(metavar="SHARE", help=f"Silent once an update begins. {_SHARE_HELP}")] = "0%",
    install: Annotated[str, typer.Option(metavar="TIME", help="What an update takes beside its download.")] = "500ms",
    download: Annotated[bool, typer.Option("--download/--no-download", help="Whether updates are really downloaded.")] = True,
    seconds: Annotated[str, typer.Option(metavar="TIME", help="How long. Default: until interrupted.")] = "",
    seed: Annotated[int, typer.Option(help="Decides which devices fail.")] = 0,
    heartbeat: Annotated[str, typer.Option(metavar="TIME", help="Time between heartbeats. Default: the server's.")] = "",
    report: Annotated[str, typer.Option(metavar="TIME", help="Time between reports. Default: the server's.")] = "",
    batch: Annotated[int, typer.Option(min=1, max=200, help="Reports sent together, each as another cohort's.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON each second.")] = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Join a server with many devices that run no model: to try its size, and rollouts before they are real.

    They speak the agents' protocol, each over a connection of its own, report made-up inferences and move through updates.
    """
    from edge_compress.calls import check_address
    from edge_compress.config import ClientSettings, load, parse_labels
    from edge_compress.domain import quantity as q
    from edge_compress.simulation.crowd import Crowd, as_line, write_line
    from edge_compress.simulation.crowd import simulate as run
    from edge_compress.simulation.hollow import Conduct

    address = load(ClientSettings, {"server": server}).server
    check_address(address, insecure=insecure)

    def read(quantity: Any, text: str, flag: str) -> float:
        return float(quantity.parse(text, flag))

    conduct: Conduct = Conduct(
        profile,
        dict(parse_labels(labels, "--labels")),
        latency=read(q.SECONDS, latency, "--latency"),
        rate=read(q.RATE, rate, "--rate"),
        joules=read(q.JOULES, energy, "--energy") if energy else None,
        slower=slower,
        failing=read(q.SHARE, failing, "--failing"),
        silent=read(q.SHARE, silent, "--silent"),
        install=read(q.SECONDS, install, "--install"),
        download=download,
        heartbeat=read(q.SECONDS, heartbeat, "--heartbeat") if heartbeat else None,
        report=read(q.SECONDS, report, "--report") if report else None,
        batch=batch,
    )
    left = read(q.SECONDS, seconds, "--seconds") if seconds else float("inf")
    crowd = Crowd(address, conduct, agents, prefix, min(processes, agents), read(q.SECONDS, ramp, "--ramp"), seed)

    def told(tally: dict[str, Any]) -> bool:
        nonlocal left
        write_line(as_line(tally, plain_json=as_json))
        left -= 1
        return left > 0

    run(crowd, told)
