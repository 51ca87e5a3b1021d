"""Blobs to and from a server: hashed once, resumed where they broke off, verified before they count.

The files that a Model names are found here, its external tensors put inside. How calls are repeated is ``calls``' business.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import grpc

from edge_compress import encoding
from edge_compress.api.v1 import artifacts_pb2, artifacts_pb2_grpc
from edge_compress.calls import Calls
from edge_compress.domain.spec import FileRef, Model
from edge_compress.errors import Conflict, Corrupt, InvalidInput, InvalidModel, InvalidSpec, StorageFull, TooLarge, Unavailable

Progress = Callable[[str, int, int], None]
"""called with the path as declared, bytes done, bytes in all"""
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
_READ_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Prepared:
    """A model whose files are known by digest, and where each digest's bytes lie."""

    model: Model
    sources: dict[str, tuple[str, Path]]
    """sha256 -> (path as declared, file to read)"""


class Transfer:
    """Uploads and downloads over ``calls``. Close it: it may keep scratch files of models that were put into one piece."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        stub: Any = artifacts_pb2_grpc.ArtifactServiceStub
        self._stub = stub(calls.channel)
        self._hashed: dict[tuple[Path, int, int], str] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove scratch files."""
        if self._scratch is not None:
            self._scratch.cleanup()

    def prepare(self, model: Model, root: Path) -> Prepared:
        """Digest every file that ``model`` names, relative to ``root``; one that is not there keeps the digest it came with.

        Raises InvalidSpec naming the field of a missing file, InvalidModel for external tensors outside the model's folder.
        """
        refs, sources = [], {}
        for field, declared in model.spec.paths().items():
            known = model.spec.file(declared)
            if not (root / declared).is_file() and known is not None and known.sha256:
                refs.append(known)
                continue
            file = self._in_one_piece(root / declared, field, declared)
            digest = self._digest(file)
            refs.append(FileRef(declared, digest, file.stat().st_size))
            sources[digest] = (declared, file)
        spec = replace(model.spec, files=tuple(dict.fromkeys(refs)))
        return Prepared(replace(model, spec=spec), sources)

    def upload_all(self, prepared: Prepared, progress: Progress) -> None:
        """Send what the server does not hold yet. Raises TooLarge, StorageFull, Unavailable, and Corrupt when a file changed."""
        fields = {path: field for field, path in prepared.model.spec.paths().items()}
        for digest, (declared, file) in prepared.sources.items():
            try:
                self.upload(digest, file, functools.partial(progress, declared))
            except (TooLarge, StorageFull) as error:
                raise type(error)(f"{fields[declared]}: {declared}: {error}") from error

    def held(self, sha256: str) -> artifacts_pb2.BlobState:
        """How much of a blob the server holds."""
        state: artifacts_pb2.BlobState = self._calls.unary(self._stub.GetBlob, artifacts_pb2.GetBlobRequest(sha256=sha256))
        return state

    def upload_file(self, file: Path, progress: Callable[[int, int], None]) -> str:
        """Send a file; returns its digest."""
        digest = self._digest(file)
        self.upload(digest, file, progress)
        return digest

    def upload(self, sha256: str, file: Path, progress: Callable[[int, int], None]) -> None:
        """Send a file, however often the link breaks; each piece that arrives renews the patience."""
        size = file.stat().st_size
        best, backoff = -1, self._calls.backoff(time.monotonic() + self._calls.timeout)
        while True:
            state = self.held(sha256)
            if state.complete:
                return
            progress(state.offset_bytes, size)
            if state.offset_bytes > best:
                best, backoff = state.offset_bytes, self._calls.backoff(time.monotonic() + self._calls.timeout)
            try:
                self._send(sha256, file, size, state.offset_bytes, progress)
            except grpc.RpcError as failure:
                error = self._calls.translated(failure)
                if not _worth_repeating(failure, error) or not backoff.wait():
                    raise error from failure

    def download(self, sha256: str, path: Path, progress: Callable[[int], None] = lambda done: None) -> None:
        """Fetch a blob to ``path``, which appears only when whole and verified; a broken download goes on where it stopped.

        Raises NotFound, Corrupt (here or there), Unavailable.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{sha256[:16]}.partial")
        with partial.open("ab") as file:
            self._fetch_rest(sha256, file, progress)
            file.flush()
            os.fsync(file.fileno())
        if (read := _sha256(partial)) != sha256:
            partial.unlink()
            raise Corrupt(f"blob {sha256[:12]}: read bytes with sha256 {read[:12]}, expected {sha256[:12]}; fetch it again")
        partial.replace(path)

    def _fetch_rest(self, sha256: str, file: IO[bytes], progress: Callable[[int], None]) -> None:
        """Append what is missing; a break after some progress renews the patience."""
        while True:
            before = file.tell()
            try:
                return self._calls.repeat(lambda left: self._receive(sha256, file, progress))
            except Unavailable:
                if file.tell() == before:
                    raise
            except InvalidInput:  # the server has fewer bytes than lie here: they are of no use
                if before == 0:
                    raise
                file.seek(0)
                file.truncate()

    def _receive(self, sha256: str, file: IO[bytes], progress: Callable[[int], None]) -> None:
        request = artifacts_pb2.DownloadBlobRequest(
            sha256=sha256, offset_bytes=file.tell(), accept=[artifacts_pb2.ENCODING_IDENTITY, artifacts_pb2.ENCODING_ZSTD]
        )
        call = self._stub.DownloadBlob(request, timeout=24 * 3600)
        try:
            for chunk in call:
                if chunk.offset != file.tell():
                    raise Corrupt(f"blob {sha256[:12]}: read a chunk at byte {chunk.offset}, expected {file.tell()}")
                file.write(_unpacked(chunk, sha256))
                progress(file.tell())
        finally:
            call.cancel()

    def _send(self, sha256: str, file: Path, size: int, offset: int, progress: Callable[[int, int], None]) -> None:
        seconds = self._calls.timeout + (size - offset) / _SLOWEST_BYTES_PER_SECOND
        self._stub.UploadBlob(_parts(sha256, file, size, offset, progress), timeout=seconds)
        self._calls.reached = True

    def _digest(self, file: Path) -> str:
        status = file.stat()
        key = (file.resolve(), status.st_size, status.st_mtime_ns)
        if key not in self._hashed:
            self._hashed[key] = _sha256(file)
        return self._hashed[key]

    def _in_one_piece(self, path: Path, field: str, declared: str) -> Path:
        """``path``, or a scratch copy with the external tensors of an ONNX model put inside."""
        if not path.is_file():
            raise InvalidSpec.at(field, declared, "a file", f"{path} does not exist")
        if path.suffix != ".onnx":
            return path
        from edge_compress.graph.external import inline_external_data

        try:
            data = inline_external_data(path)
        except InvalidModel as error:
            raise error.within(field, declared) from error
        if hashlib.sha256(data).hexdigest() == self._digest(path):
            return path
        self._scratch = self._scratch or tempfile.TemporaryDirectory(prefix="edge-compress-")
        whole = Path(self._scratch.name) / hashlib.sha256(data).hexdigest()
        whole.write_bytes(data)
        return whole


def _parts(
    sha256: str, file: Path, size: int, offset: int, progress: Callable[[int, int], None]
) -> Iterator[artifacts_pb2.UploadBlobRequest]:
    header = artifacts_pb2.UploadHeader(sha256=sha256, size_bytes=size, offset_bytes=offset)
    yield artifacts_pb2.UploadBlobRequest(header=header)
    with file.open("rb") as source:
        source.seek(offset)
        while offset < size and (data := source.read(min(encoding.CHUNK_BYTES, size - offset))):
            yield artifacts_pb2.UploadBlobRequest(chunk=artifacts_pb2.Chunk(offset=offset, data=data))
            offset += len(data)
            progress(offset, size)


def _worth_repeating(failure: grpc.RpcError, error: Exception) -> bool:
    """The server is away, somebody else sends the same bytes, or it stands elsewhere than it said."""
    call: Any = failure
    moved = isinstance(error, InvalidInput) and call.code() is grpc.StatusCode.OUT_OF_RANGE
    return moved or isinstance(error, (Unavailable, Conflict))


def _unpacked(chunk: artifacts_pb2.Chunk, sha256: str) -> bytes:
    if chunk.encoding != artifacts_pb2.ENCODING_ZSTD:
        return chunk.data
    try:
        return encoding.unpack(chunk.data, 2 * encoding.CHUNK_BYTES)
    except ValueError as error:
        raise Corrupt(f"blob {sha256[:12]}: read a chunk that does not unpack ({error}), expected one zstd frame") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
