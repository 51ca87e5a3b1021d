"""Which uploaded models are let in: all files here and within the limits, a sound graph, data that fits it.

The engine reads the files, in child processes; this module decides what is asked of it and in which order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass

from edge_compress.domain.spec import Model
from edge_compress.errors import InvalidSpec, TooLarge
from edge_compress.server.garbage import BlobUse
from edge_compress.server.references import check_uploaded
from edge_compress.store.interface import BlobStore
from edge_compress.worker.engine import Engine


@dataclass(frozen=True)
class SizeLimits:
    """Largest model file and largest data file, in bytes."""

    model_bytes: int
    data_bytes: int


class ModelAdmission:
    """Checks models before they are stored. ``threads`` are where the engine is waited for."""

    def __init__(self, blobs: BlobStore, engine: Engine, blob_use: BlobUse, limits: SizeLimits, threads: Executor) -> None:
        self._blobs, self._engine, self._use, self._limits, self._threads = blobs, engine, blob_use, limits, threads

    @contextlib.asynccontextmanager
    async def admitted(self, model: Model) -> AsyncIterator[None]:
        """Enter once the model is checked; its files stay until the end of the block, by when a record must name them.

        Raises InvalidSpec, MissingReference (not uploaded), TooLarge, InvalidModel, InvalidData, Corrupt.
        """
        async with self._use.hold():
            await asyncio.to_thread(self._check_files, model)
            await asyncio.get_running_loop().run_in_executor(self._threads, self._engine.check_data, model)
            yield

    def _check_files(self, model: Model) -> None:
        check_uploaded(model, self._blobs.has)
        for field, path in model.spec.paths().items():
            file = model.spec.file(path)
            assert file is not None
            size = self._blobs.size(file.sha256)
            limit = self._limits.model_bytes if field == "spec.source" else self._limits.data_bytes
            if size > limit:
                raise TooLarge(f"{field}: {path} has {size} bytes, expected at most this server's limit of {limit}")
            if file.bytes and file.bytes != size:
                raise InvalidSpec.at("spec.files", f"{path}: {file.bytes} bytes", f"the {size} bytes that were uploaded")
