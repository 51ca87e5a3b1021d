"""The agent's own process: ``python -m edge_compress.agent SETUP``, where SETUP is the JSON line that ``loop.run`` makes."""

from __future__ import annotations

import sys


def main(arguments: list[str]) -> int:
    """Run an agent; an error is one line and exit code 1."""
    keep_openssl_out()
    from edge_compress.agent.loop import start
    from edge_compress.agent.setup import from_line
    from edge_compress.errors import EdgeCompressError

    try:
        return start(from_line(arguments[0]))
    except EdgeCompressError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def keep_openssl_out() -> None:
    """Save 4 MB: asyncio and hashlib load OpenSSL where they can, but grpc brings its own TLS and Python its own sha256."""
    sys.modules["ssl"] = sys.modules["_hashlib"] = None  # type: ignore[assignment]  # how Python spells "not to be imported"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
