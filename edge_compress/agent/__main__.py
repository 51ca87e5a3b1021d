"""The agent's own process: ``python -m edge_compress.agent --profile cam …``, with the flags of ``edge-compress agent``.

``loop.run`` hands over one word instead, the JSON of a setup.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_compress.agent.setup import Setup

USAGE = 2


def main(arguments: list[str]) -> int:
    """Run an agent; an error is one line and exit code 1, or 2 for the usage."""
    code = plain(arguments)
    if code is None:
        print("error: these are not the agent's flags; see edge-compress agent --help", file=sys.stderr)
        return USAGE
    return code


def plain(arguments: list[str]) -> int | None:
    """Run an agent as ``main`` does. None, with nothing done, for words that only the full command line can answer."""
    if {"-h", "--help"} & set(arguments):
        return None
    from edge_compress.agent.spawn import Spawned
    from edge_compress.errors import EdgeCompressError

    # The model process takes longest to be ready, and all but the first start of a device will need one.
    with Spawned() as spawned:
        try:
            setup = _setup(arguments)
            if setup is None:
                return None
            keep_openssl_out()
            from edge_compress.agent.loop import start

            return start(setup, spawned)
        except EdgeCompressError as error:
            print(f"error: {error}", file=sys.stderr)
            return USAGE if any(item.field.startswith("--") for item in error.violations) else 1


def keep_openssl_out() -> None:
    """Save 4 MB: asyncio and hashlib load OpenSSL where they can, but grpc brings its own TLS and Python its own sha256."""
    sys.modules["ssl"] = sys.modules["_hashlib"] = None  # type: ignore[assignment]  # how Python spells "not to be imported"


def _setup(arguments: list[str]) -> Setup | None:
    if len(arguments) == 1 and arguments[0].startswith("{"):
        from edge_compress.agent.setup import from_line

        return from_line(arguments[0])
    from edge_compress.agent.arguments import read

    return read(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
