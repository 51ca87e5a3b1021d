"""What files take on the link, reckoned once for each: packing a large file takes a while."""

from __future__ import annotations

from edge_compress import encoding
from edge_compress.store.interface import Store
from edge_compress.worker.steps import StepRunner, digest, version_of


class Sending:
    """See the module. Files are blobs of the store, named by their sha256."""

    def __init__(self, store: Store, steps: StepRunner) -> None:
        self._store, self._steps = store, steps

    def download(self, sha256: str) -> int:
        """Bytes for a device that has nothing like it. Raises NotFound, Corrupt."""
        return self._packed("packed", sha256)

    def update(self, sha256: str, previous: str) -> int:
        """Bytes for a device that runs ``previous``. Raises as ``download``."""
        return 0 if sha256 == previous else self._packed("update", sha256, previous)

    def _packed(self, kind: str, *files: str) -> int:
        key = f"{kind}/{digest([*files, encoding.REVISION, version_of('edge-compress')])}"
        value = self._steps.cached(key)
        if value is None:
            value = {"bytes": encoding.packed_bytes(*map(self._store.blobs.path, files))}
            self._store.put_step(key, value)
        return int(value["bytes"])
