"""What sending an artifact costs one server: ``make bench-downloads``, or ``python -m tests.bench.downloads``.

The real server in a process of its own, and clients in others that ask by the real RPC, each over a connection of its own: once
taking bytes only as they are, and as an agent asks, with every form allowed. Beside them nginx and a bare ``os.sendfile`` loop
with the same file, clients and machine. Bytes are those on the link, a server's cost its own processor time. No time is too long.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc

from edge_compress.agent.session import CHANNEL_OPTIONS
from edge_compress.agent.transfer import unpack
from edge_compress.api.v1 import artifacts_pb2, artifacts_pb2_grpc
from edge_compress.client import Client
from edge_compress.encoding import CHUNK_BYTES, Form
from tests.bench.link import OverHttp, Run, measured, nginx, sendfile_server
from tests.bench.weights import MATRIX_BYTES, chain
from tests.unit.cli.server_process import ServerProcess

GOAL = 0.9
"""processor seconds of the server for each GB, bytes sent as they are"""
_AT_ONCE = (16, 64)
_METHOD = "/edge_compress.api.v1.ArtifactService/DownloadBlob"
_PLAIN = (artifacts_pb2.ENCODING_IDENTITY,)
_ALL = tuple(form.value for form in Form if form not in (Form.IDENTITY, Form.DELTA, Form.PATCH))
"""what an agent takes that has no other version yet"""


@dataclass(frozen=True)
class OverGrpc:
    """Clients that download a blob so many times. ``accept``: the forms they take; ``unpacking``: as an agent does, else the
    bytes are thrown away as they come."""

    address: str
    sha256: str
    times: int
    accept: tuple[int, ...] = _PLAIN
    unpacking: bool = False

    def __call__(self, clients: int) -> int:
        """See ``link.Fetch``."""
        return asyncio.run(self._all(clients))

    async def _all(self, clients: int) -> int:
        return sum(await asyncio.gather(*(self._one() for _ in range(clients))))

    async def _one(self) -> int:
        request = artifacts_pb2.DownloadBlobRequest(sha256=self.sha256, accept=list(self.accept))
        async with grpc.aio.insecure_channel(self.address, options=CHANNEL_OPTIONS) as channel:
            fetch = self._unpacked if self.unpacking else self._counted
            return sum([await fetch(channel, request) for _ in range(self.times)])

    async def _unpacked(self, channel: grpc.aio.Channel, request: artifacts_pb2.DownloadBlobRequest) -> int:
        stub = artifacts_pb2_grpc.ArtifactServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        got = 0
        async for chunk in stub.DownloadBlob(request):
            got += len(chunk.data)
            unpack(chunk)
        return got

    async def _counted(self, channel: grpc.aio.Channel, request: artifacts_pb2.DownloadBlobRequest) -> int:
        call = channel.unary_stream(_METHOD, artifacts_pb2.DownloadBlobRequest.SerializeToString)
        return sum([len(message) async for message in call(request)])


class Table:
    """A row for each run, with how it stands to the two yardsticks."""

    def __init__(self) -> None:
        self._yardsticks: dict[str, Run] = {}
        print(f"{'':44}{'GB':>7}{'s':>7}{'MB/s':>8}{'CPU s/GB':>10}   MB/s and CPU s/GB as multiples of")

    def clients(self, count: int) -> None:
        """What follows is with so many of them at once."""
        self._yardsticks.clear()
        print(f"\n{count} clients at once")

    def row(self, name: str, run: Run, *, yardstick: bool = False) -> None:
        """One run; a yardstick is what the rows after it are held against."""
        figures = f"{run.sent / 1e9:7.2f}{run.seconds:7.1f}{run.megabytes_a_second:8.0f}{run.processor_a_gigabyte:10.3f}"
        print(f"  {name:42}{figures}   " + ", ".join(self._ratios(run)), flush=True)
        if yardstick:
            self._yardsticks[name] = run

    def _ratios(self, run: Run) -> list[str]:
        return [
            f"{name}'s {run.megabytes_a_second / other.megabytes_a_second:.2f} and "
            f"{run.processor_a_gigabyte / other.processor_a_gigabyte:.1f}"
            for name, other in self._yardsticks.items()
        ]


def uploaded(server: ServerProcess, file: Path) -> str:
    """Put a file into the server; its digest."""
    with Client(server.address) as client:
        return client.upload(file)


def first_to_ask(server: ServerProcess, folder: Path, matrices: int, table: Table) -> None:
    """What agents cost that find nothing packed yet: each time a blob that nobody fetched before."""
    for clients in (2, _AT_ONCE[0]):
        file = folder / f"new-{clients}"
        file.write_bytes(chain(matrices, seed=clients))
        fetch = OverGrpc(server.address, uploaded(server, file), 1, _ALL, unpacking=True)
        table.row(f"ours, an agent's forms, first {clients} to ask", measured((server.pid,), fetch, clients))


def side_by_side(server: ServerProcess, folder: Path, matrices: int, amount: float, table: Table) -> None:
    """The same file from everybody, ``amount`` bytes in each run."""
    file = folder / "blob"
    file.write_bytes(chain(matrices, seed=0))
    sha256, size = uploaded(server, file), file.stat().st_size
    measured((server.pid,), OverGrpc(server.address, sha256, 1, _ALL), 2)  # packs it
    with sendfile_server(file) as bare, nginx(file, folder / "nginx") as other:
        for clients in _AT_ONCE:
            times = max(1, round(amount / size / clients))
            table.clients(clients)
            table.row("sendfile", measured(bare.pids, OverHttp(bare.port, times), clients), yardstick=True)
            if other is None:
                print("  nginx is not installed: left out")
            else:
                table.row("nginx", measured(other.pids, OverHttp(other.port, times), clients), yardstick=True)
            run = measured((server.pid,), OverGrpc(server.address, sha256, times), clients)
            table.row("ours, bytes as they are", run)
            print(f"    {run.processor_a_gigabyte / GOAL:.2f} of the goal of at most {GOAL} CPU s/GB", flush=True)
            few = OverGrpc(server.address, sha256, max(1, times // 4), _ALL, unpacking=True)
            table.row("ours, an agent's forms, packed before", measured((server.pid,), few, clients))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=64, help="MiB of the blob; default %(default)s")
    parser.add_argument("--gigabytes", type=float, default=16.0, help="of each run of bytes as they are; default %(default)s")
    arguments = parser.parse_args()
    matrices = arguments.megabytes * 2**20 // MATRIX_BYTES
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        server = ServerProcess(folder / "server")
        try:
            server.start()
            print(f"{arguments.megabytes} MiB of random float32 weights, chunks of {CHUNK_BYTES:,} bytes, {os.cpu_count()} cores")
            table = Table()
            first_to_ask(server, folder, matrices, table)
            side_by_side(server, folder, matrices, arguments.gigabytes * 1e9, table)
        finally:
            server.stop()


if __name__ == "__main__":
    main()
