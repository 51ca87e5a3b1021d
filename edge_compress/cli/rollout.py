"""``edge-compress rollout``: how far a rollout is, why, and what to do with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_compress.cli.options import InsecureOption, ServerOption, TimeoutOption, connected

if TYPE_CHECKING:
    from edge_compress.client import Client
    from edge_compress.domain.resource import Stored

_NAME_HELP = "Name of a rollout, or of a deployment: its newest rollout."
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help=_NAME_HELP)]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Told to whoever asks why.")]
_ENDED = ("Completed", "Aborted", "Superseded")
_LOOK_SECONDS = 1.0
_METERED = {
    "differences": "the new version differs too much from what they run, or that is not here; `metered: whole` sends it all",
    "wait": "the deployment says `metered: wait`",
    "whole": "they are about to be offered it",
}
"""why they do, by the policy's word"""
_MOST_DEVICES = 20

group = typer.Typer(name="rollout", no_args_is_help=True, help="See why a rollout is where it is, and steer it.")


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.add_typer(group)


@group.command()
def status(
    name: NameArgument,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Follow it to its end; exit 1 when it ends badly.")] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show in one line how far a rollout is."""
    from edge_compress.cli.printing import say

    with connected(server, timeout, insecure) as client:
        told = ""
        while True:
            rollout = found(client, name)
            if told != (told := headline(rollout)):
                say(told)
            if not watch or rollout.status.state in _ENDED:
                break
            time.sleep(_LOOK_SECONDS)
    raise typer.Exit(1 if rollout.status.state in ("Aborted", "Superseded") else 0)


@group.command()
def why(name: NameArgument, server: ServerOption = None, timeout: TimeoutOption = None, insecure: InsecureOption = False) -> None:
    """Explain the verdict on a rollout, with the figures and the devices behind it."""
    from edge_compress.cli.printing import say

    with connected(server, timeout, insecure) as client:
        rollout = found(client, name)
        policy = _policy(client, rollout)
        devices = [device for device in client.list("Device") if _is_about(device, rollout.name)]
        drifted = _drifted(client, rollout)
    say("\n".join([*explained(rollout, policy, devices, time.time()), *drifted]))


def _command(name: str, command: str, reason: str, server: str | None, timeout: str | None, insecure: bool) -> None:
    from edge_compress.cli.printing import say

    with connected(server, timeout, insecure) as client:
        say(headline(client.command_rollout(name.removeprefix("rollout/").removeprefix("deployment/"), command, reason)))


def _steering(command: str, said: str) -> None:
    """Register a verb that sends a command with a reason."""

    def verb(
        name: NameArgument,
        reason: ReasonOption = "",
        server: ServerOption = None,
        timeout: TimeoutOption = None,
        insecure: InsecureOption = False,
    ) -> None:
        _command(name, command, reason, server, timeout, insecure)

    group.command(command, help=said)(verb)


_steering("pause", "Let no further device have it; those that have it go on.")


@group.command()
def resume(
    name: NameArgument, server: ServerOption = None, timeout: TimeoutOption = None, insecure: InsecureOption = False
) -> None:
    """Go on where it was paused."""
    _command(name, "resume", "", server, timeout, insecure)


_steering("promote", "Begin the next step now, without soaking.")
_steering("abort", "End it. Devices that have it go back to the last version that reached everybody.")
_steering("undo", "Send every device back to the last version before, also from a rollout that is completed.")


def found(client: Client, name: str) -> Stored:
    """The rollout that a name means. Raises NotFound."""
    return client.rollout(name.removeprefix("rollout/").removeprefix("deployment/"))


def headline(rollout: Stored) -> str:
    """What it is and how far, in one line."""
    told: Any = rollout.status
    return f"rollout/{rollout.name} {told.state}: {told.message or 'it has not begun'}"


def explained(rollout: Stored, policy: Any, devices: list[Stored], now: float) -> list[str]:
    """The verdict in words: the rules, the figures, the devices that failed or are late, and what may be done."""
    from edge_compress.cli.kinds import duration
    from edge_compress.cli.printing import table

    told, spec = rollout.status, rollout.spec
    lines = [headline(rollout)]
    if policy is not None and told.step_started_at:
        share, ago = f"{told.share:.0%}", duration(max(0.0, now - told.step_started_at))
        lines.append(f"  step {told.step + 1} of {len(policy.steps)} is for {share} of the devices and began {ago} ago")
        lines.append(f"  {_rules(policy)}")
    if told.devices:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(told.devices.items()))
        lines.append(f"  devices: {counts}")
    lines += [f"  gate {item.metric}: {item.verdict}, {item.message}" for item in told.gates]
    late = bool(told.devices.get("TimedOut"))
    if metered := told.devices.get("Metered"):
        lines.append(f"  {metered} on metered links wait: {_METERED[policy.metered if policy is not None else 'differences']}")
    bad = [item for item in devices if _is_worth_telling(item) or (late and _is_busy(item))]
    if bad:
        rows = [(item.name, item.status.state, item.status.message or "said nothing more") for item in bad[:_MOST_DEVICES]]
        lines += [f"  {line}" for line in table(("DEVICE", "STATE", "WHY"), rows)]
        lines += [f"  and {len(bad) - _MOST_DEVICES} more"] if len(bad) > _MOST_DEVICES else []
    lines.append(f"  {_next(told, spec)}")
    return lines


def _rules(policy: Any) -> str:
    goes_on = f"it goes on when {policy.advance_at:.0%} of a step are good for {policy.soak:g} s"
    stops = f"it stops when {policy.abort_at:.0%} of those that tried failed, once {policy.min_executed} have tried"
    return f"{goes_on}; {stops}; {policy.device_deadline:g} s of silence count as failed"


def _next(told: Any, spec: Any) -> str:
    back = f"devices go back to {spec.base_rollout}" if spec.base_rollout else "there is no earlier version to go back to"
    if told.state == "Aborted":
        return f"{back}; change the model, its data or its limits and apply again"
    if told.state == "Paused" and told.waits_for_gates:
        return "it goes on by itself once every gate holds; `edge-compress rollout promote` goes on without them"
    if told.state == "Paused":
        return f"it is held: {told.held}; go on with `edge-compress rollout resume`, or end it with `abort`"
    if told.state == "Superseded":
        return "a newer rollout took its place"
    return f"if it fails, {back}"


def _is_about(device: Stored, rollout: str) -> bool:
    status: Any = device.status
    return rollout in (status.assignment.rpartition(".")[0], status.offered.rpartition(".")[0])


def _is_worth_telling(device: Stored) -> bool:
    """It failed, it waits, or it took another artifact than the best."""
    status: Any = device.status
    return status.state in ("RolledBack", "RollingBack") or bool(status.message and (status.waits or status.state == "Committed"))


def _is_busy(device: Stored) -> bool:
    status: Any = device.status
    return status.state not in ("Committed", "RolledBack")


def _drifted(client: Client, rollout: Stored) -> list[str]:
    """What its deployment says of classes that miss their goals, and what is proposed; empty where none does."""
    from edge_compress.errors import NotFound

    try:
        status: Any = client.get("Deployment", rollout.spec.deployment).status
    except NotFound:
        return []
    return [f"Drifted: {one.message}" for one in status.conditions if one.type == "Drifted" and one.status == "True"]


def _policy(client: Client, rollout: Stored) -> Any:
    from edge_compress.errors import NotFound

    try:
        spec: Any = client.get("Deployment", rollout.spec.deployment).spec
    except NotFound:
        return None
    return spec.rollout
