"""Entry point of the ``edge-compress`` command."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from edge_compress.cli.app import run

    run()


if __name__ == "__main__":
    main()
