"""The verbs that take a fleet file to the server: ``apply`` and ``plan``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_compress.cli.options import FileOption, InsecureOption, ServerOption, TimeoutOption, connected, declared_in

if TYPE_CHECKING:
    from edge_compress.client import Applied, Client, FactsOf
    from edge_compress.domain.resource import PlannedCandidate, PlannedPair, PlanPreview, Stored
    from edge_compress.fleet_file import Declared


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    app.command()(apply)
    app.command()(plan)


def apply(
    filename: FileOption,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the compression jobs; exit 3 when a goal cannot be met.")
    ] = False,
    wait_timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Longest wait with --wait. Default: none.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send files, check all, change nothing.")] = False,
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Create or change what a fleet file declares. Applying twice changes nothing."""
    from edge_compress.cli.printing import say

    limit = _seconds(wait_timeout, "--wait-timeout")
    declared = declared_in(filename)
    with connected(server, timeout, insecure) as client:
        for applied in _applied(client, declared, dry_run):
            say(f"{_word(applied.kind)}/{applied.name} {applied.outcome}" + (" (dry run)" if dry_run else ""))
        if wait and not dry_run:
            raise typer.Exit(_wait(client, declared, limit))


def plan(
    filename: FileOption,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="table|wide|json", help="How to print; wide: every parameter.")
    ] = "table",
    server: ServerOption = None,
    timeout: TimeoutOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show what an apply would change.

    And what would be tried for each model and profile, with predictions, and why the rest is refused. Changes nothing.
    """
    from edge_compress.cli.printing import print_json, say
    from edge_compress.domain.schema import encode_all, unknown_name

    if output not in ("table", "wide", "json"):
        raise unknown_name("--output", output, ("table", "wide", "json"), "output")
    with connected(server, timeout, insecure) as client:
        preview = client.plan(declared_in(filename), facts_of=_local_facts())
    if output == "json":
        print_json(encode_all(preview))
    else:
        say("\n".join(plan_lines(preview, wide=output == "wide")))


def plan_lines(preview: PlanPreview, *, wide: bool = False) -> list[str]:
    """A plan for people: the changes, then each pair with its candidates and refusals; ``wide``: with every parameter."""
    lines = [
        f"{_word(change.kind)}/{change.name} would be {change.outcome}".replace("be unchanged", "stay unchanged")
        for change in preview.changes
    ]
    for pair in preview.pairs:
        lines += ["", *_pair_lines(pair, wide=wide)]
    return lines


def _pair_lines(pair: PlannedPair, *, wide: bool) -> list[str]:
    from edge_compress.cli.description import recipes
    from edge_compress.cli.printing import table
    from edge_compress.report_page import figures

    head = f"{pair.model} for {pair.profile}" + (f" (deployment {pair.deployment})" if pair.deployment else "")
    state = (
        f"done already{f' ({pair.artifact})' if pair.artifact else ''}: nothing would be computed"
        if pair.cached
        else f"{sum(not item.refused for item in pair.candidates)} to try"
    )
    to_send = f"; {pair.devices} device(s), {figures.size(pair.bytes_to_send)} to send"
    told = _delivery(pair)
    titles = ("  SIZE", "DOWNLOAD", "LATENCY", "MEMORY", "ENERGY", "CANDIDATE", "")
    every = [[{"strategy": step.strategy, "params": step.params} for step in item.steps] for item in pair.candidates]
    words = recipes(every, full=wide)
    rows = [_candidate_row(item, said) for item, said in zip(pair.candidates, words, strict=True)]
    return [f"{head}: {state}{to_send}", *([f"  {told}"] if told else []), *(table(titles, rows) if rows else [])]


def _delivery(pair: PlannedPair) -> str:
    """What the rollout meets: who is away, what metered links carry, how long it takes, what runs now, who gets nothing."""
    from edge_compress.cli.kinds import duration
    from edge_compress.report_page import figures

    now = [figures.milliseconds(_thousand(pair.now_p95_seconds))] if pair.now_p95_seconds is not None else []
    now += [figures.millijoules(_thousand(pair.now_joules))] if pair.now_joules is not None else []
    parts = [
        _update(pair),
        f"{pair.away} of them away" if pair.away else "",
        f"at most {figures.size(pair.metered_bytes)} over metered links" if pair.metered_bytes else "",
        f"about {duration(pair.expected_seconds)} until all have it" if pair.expected_seconds is not None else "",
        f"now p95 and energy of an inference: {', '.join(now)}" if now else "",
        f"{pair.held} wait: metered links carry differences, which are too large here (`metered: whole` sends it all)"
        if pair.held
        else "",
        f"{pair.unfit} devices get nothing: no candidate keeps their limits" if pair.unfit else "",
    ]
    return "; ".join(part for part in parts if part)


def _update(pair: PlannedPair) -> str:
    """What a device is sent that runs the version before, beside one that has none."""
    from edge_compress.report_page import figures

    if pair.update_bytes is None:
        return f"an update from {pair.previous}; how large shows once it is made" if pair.previous else ""
    fresh = pair.fresh_update_bytes
    without = "" if fresh is None else f" ({figures.size(fresh)} had its scales not been kept)"
    update = f"{figures.size(pair.update_bytes)} as an update from {pair.previous}{without}"
    return f"a device is sent {update}, {figures.size(pair.download_bytes)} in full"


def _candidate_row(item: PlannedCandidate, recipe: str) -> tuple[str, ...]:
    from edge_compress.report_page import figures

    return (
        f"  {figures.size(item.bytes)}",
        figures.size(item.download_bytes),
        figures.milliseconds(_thousand(item.latency_seconds)),
        figures.size(item.memory_bytes),
        figures.millijoules(_thousand(item.energy_joules)),
        recipe,
        f"refused: {item.refused}" if item.refused else "would be tried",
    )


def _applied(client: Client, declared: Sequence[Declared], dry_run: bool) -> Sequence[Applied]:
    from edge_compress.cli.progress import bars

    with bars() as shown:
        return client.apply(
            declared,
            validate_only=dry_run,
            progress=lambda path, done, total: shown.show(path, done / total if total else 1.0, "upload"),
        )


def _wait(client: Client, declared: Sequence[Declared], limit: float | None) -> int:
    """Wait for the jobs behind what was applied. 0: all succeeded; 3: a goal cannot be met; 1: one failed."""
    from edge_compress.cli.progress import bars

    names = [pair.job for pair in client.plan(declared).pairs if pair.deployment and pair.job]
    with bars() as shown:

        def progress(job: Stored) -> None:
            shown.show(f"{job.spec.model}/{job.spec.profile}", *_standing(job.status))

        return exit_code(client.wait_for_jobs(names, timeout=limit, progress=progress))


def exit_code(jobs: Sequence[Stored]) -> int:
    """What some ended jobs mean for the one who waits; says on stderr what did not succeed."""
    from edge_compress.cli.printing import note

    worst = 0
    for job in jobs:
        if job.status.state != "Succeeded":
            note(f"{job.spec.model} for {job.spec.profile}: {job.status.state}: {job.status.message}")
            worst = max(worst, 2 if job.status.state == "Infeasible" else 3)
    return {0: 0, 2: 3, 3: 1}[worst]


def _standing(status: Any) -> tuple[float, str]:
    from edge_compress.domain.job import JobState

    final = JobState(status.state).final
    return (1.0, status.state) if final else (status.progress, status.step or status.state)


def _local_facts() -> FactsOf | None:
    """How to compute a model's facts here; None where onnx is not installed."""
    import importlib.util

    if importlib.util.find_spec("onnx") is None:
        return None

    def facts(path: Path) -> Mapping[str, Any]:
        from edge_compress.worker.originals import facts_of_file

        return facts_of_file(path).to_json()

    return facts


def _seconds(text: str | None, flag: str) -> float | None:
    from edge_compress.domain.quantity import SECONDS

    return None if text is None else SECONDS.parse(text, flag)


def _thousand(value: float | None) -> float | None:
    return None if value is None else 1000 * value


def _word(kind: str) -> str:
    from edge_compress.cli.kinds import singular

    return singular(kind)
