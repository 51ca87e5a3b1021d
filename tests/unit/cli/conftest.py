"""A real server for the module's tests, and the command line called as a shell would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from edge_compress.cli.app import run
from tests.unit.cli.server_process import ServerProcess


@dataclass(frozen=True)
class Shown:
    """What a command did."""

    code: int
    out: str
    err: str


Command = Callable[[Sequence[str]], Shown]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process."""

    def called(arguments: Sequence[str]) -> Shown:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(arguments)
        shown = capsys.readouterr()
        return Shown(int(ended.value.code or 0), shown.out, shown.err)

    return called


@pytest.fixture
def cli(command: Command, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command line against the server."""
    monkeypatch.setenv("EDGE_COMPRESS_SERVER", server.address)
    return command
