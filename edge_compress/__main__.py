"""Entry point of the ``edge-compress`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. A plainly written ``agent`` starts without the parts that only people at a terminal need."""
    if sys.argv[1:2] == ["agent"]:
        from edge_compress.agent.__main__ import plain

        if (code := plain(sys.argv[2:])) is not None:
            sys.exit(code)
    from edge_compress.cli.app import run

    run()


if __name__ == "__main__":
    main()
