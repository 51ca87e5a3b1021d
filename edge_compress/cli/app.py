"""The ``edge-compress`` command: joins the verbs, and turns whatever goes wrong into one line and an exit code.

Exit codes: 0 done; 1 failed; 2 usage; 3 a goal cannot be met; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from edge_compress.cli import about, change, compress, fleet, look, processes, rollout, simulate, top

FAILED, USAGE, INFEASIBLE = 1, 2, 3
_SERVER_PACKAGES = {"onnx", "pluggy", "torch", "prometheus_client", "grpc_health", "grpc_reflection"}

app = typer.Typer(
    name="edge-compress",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # importing Rich's help costs more than the whole budget of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
for module in (processes, fleet, look, change, rollout, top, compress, simulate, about):
    module.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        about.version()
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from. May stand anywhere.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True, expose_value=True)
    ] = False,
) -> None:
    """Compress trained models for fleets of unlike devices, deliver them, and see what they cost there."""


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in (given[: given.index("--")] if "--" in given else given) or bool(os.environ.get("EDGE_COMPRESS_DEBUG"))
    try:
        app(args=[item for item in given if item != "--debug"], prog_name="edge-compress")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # whatever a verb may raise, its user reads one line
        if debug:
            raise
        _close_broken_pipe(error)
        _exit_with(error)


def _exit_with(error: Exception) -> None:
    """Say what went wrong on stderr, in one line, and exit."""
    message, code = explained(error)
    sys.stderr.write(f"error: {message}\n")
    sys.exit(code)


def explained(error: Exception) -> tuple[str, int]:
    """One line about an error, and the exit code that it means."""
    from edge_compress.errors import EdgeCompressError, Infeasible, InvalidInput

    if isinstance(error, EdgeCompressError):
        usage = isinstance(error, InvalidInput) and any(item.field.startswith(("--", "KIND")) for item in error.violations)
        return str(error), INFEASIBLE if isinstance(error, Infeasible) else USAGE if usage else FAILED
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _SERVER_PACKAGES:
        return f"this command needs the package {error.name}; install it with pip install 'edge-compress[server]'", FAILED
    if isinstance(error, OSError):
        return f"{error.filename or 'the system'}: {error.strerror or error}", FAILED
    said = " ".join(str(error).split())
    return f"a mistake of ours: {type(error).__name__}: {said}; run it again with --debug and report what it shows", FAILED


def _close_broken_pipe(error: Exception) -> None:
    """Exit quietly when whoever read our output is gone, as ``head`` is after ten lines."""
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
