"""Where models lie on the device: one folder per digest, and a ``current`` link that always points at a verified one.

    <state>/slots/<sha256>/{model.onnx,golden.npz,manifest.json}
    <state>/current -> slots/<sha256>
    <state>/partial/<sha256>          what has arrived of a file so far

The manifest is written last: a slot without one is not there. Leaves fetching to ``transfer`` and order to ``install``.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from edge_compress.agent.journal import sync_folder, write_atomically
from edge_compress.agent.machine import Assignment, assignment_from
from edge_compress.errors import Corrupt, InvalidSpec

GOLDEN_NAME = "golden.npz"
_MANIFEST_NAME = "manifest.json"
_READ_BYTES = 1 << 18


class Slots:
    """The model folders beneath one state folder."""

    def __init__(self, state: Path) -> None:
        self._state, self._slots, self._partial = state, state / "slots", state / "partial"
        for folder in (self._slots, self._partial):
            folder.mkdir(parents=True, exist_ok=True)

    def folder(self, assignment: Assignment) -> Path:
        """Where the assignment's files lie once staged."""
        return self._slots / assignment.sha256

    def model(self, assignment: Assignment) -> Path:
        """The model file of a staged assignment."""
        return self.folder(assignment) / assignment.file_name

    def golden(self, assignment: Assignment) -> Path:
        """The golden vectors of a staged assignment."""
        return self.folder(assignment) / GOLDEN_NAME

    def partial(self, sha256: str) -> Path:
        """The file that a download of ``sha256`` grows."""
        return self._partial / sha256

    def staged(self, assignment: Assignment) -> bool:
        """Whether all of the assignment's files are in their slot (not whether their bytes are still good)."""
        manifest = self._manifest(self.folder(assignment))
        if manifest is None or (manifest.golden_sha256, manifest.file_name) != (assignment.golden_sha256, assignment.file_name):
            return False
        sizes = ((self.model(assignment), assignment.bytes), (self.golden(assignment), assignment.golden_bytes))
        return all(path.is_file() and path.stat().st_size == size for path, size in sizes)

    def wanting_bytes(self, assignment: Assignment) -> int:
        """Bytes of disk that fetching still takes."""
        if self.staged(assignment):
            return 0
        files = ((assignment.sha256, assignment.bytes), (assignment.golden_sha256, assignment.golden_bytes))
        return sum(max(0, size - held_bytes(self.partial(sha256))) for sha256, size in files)

    def free_bytes(self) -> int:
        """Bytes of disk that this user may still fill."""
        facts = os.statvfs(self._state)
        return facts.f_bavail * facts.f_frsize

    def verify(self, assignment: Assignment) -> None:
        """Check both files against their digests, in the slot or as they arrived. Raises Corrupt, having removed what is bad."""
        in_slot = self.staged(assignment)
        wanted = ((assignment.sha256, self.model(assignment)), (assignment.golden_sha256, self.golden(assignment)))
        for sha256, path in wanted:
            held = path if in_slot else self.partial(sha256)
            got = digest(held)
            if got != sha256:
                (self.folder(assignment) / _MANIFEST_NAME).unlink(missing_ok=True)
                held.unlink(missing_ok=True)
                raise Corrupt(f"{held.name}: the bytes have digest {got[:12]}…, expected {sha256[:12]}…; they were thrown away")

    def stage(self, assignment: Assignment) -> None:
        """Put verified files into their slot; does nothing when they are there. Raises OSError."""
        if self.staged(assignment):
            return
        folder = self.folder(assignment)
        folder.mkdir(exist_ok=True)
        (folder / _MANIFEST_NAME).unlink(missing_ok=True)
        for sha256, path in ((assignment.sha256, self.model(assignment)), (assignment.golden_sha256, self.golden(assignment))):
            if self.partial(sha256).exists():
                os.replace(self.partial(sha256), path)
        write_atomically(folder / _MANIFEST_NAME, json.dumps(asdict(assignment), indent=1).encode())
        sync_folder(self._slots)

    def switch(self, assignment: Assignment | None) -> None:
        """Point ``current`` at the assignment's slot in one step; None removes it. Raises FileNotFoundError when not staged."""
        link = self._state / "current"
        if assignment is None:
            link.unlink(missing_ok=True)
        else:
            if not self.staged(assignment):
                raise FileNotFoundError(errno.ENOENT, "the slot is not complete", str(self.folder(assignment)))
            fresh = self._state / "current.new"
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(Path("slots") / assignment.sha256)
            os.replace(fresh, link)
        sync_folder(self._state)

    def current(self) -> str:
        """Digest that ``current`` points at; empty: none."""
        try:
            return os.readlink(self._state / "current").rpartition("/")[2]
        except FileNotFoundError:
            return ""

    def sweep(self, needed: frozenset[str]) -> None:
        """Remove every slot whose digest is not needed, but never the current one."""
        for folder in self._slots.iterdir():
            if folder.name not in needed | {self.current()}:
                _remove(folder)

    def sweep_partials(self, needed: frozenset[str] = frozenset()) -> None:
        """Remove every half-fetched file but those named."""
        for path in self._partial.iterdir():
            if path.name not in needed:
                path.unlink(missing_ok=True)

    def _manifest(self, folder: Path) -> Assignment | None:
        try:
            return assignment_from(json.loads((folder / _MANIFEST_NAME).read_bytes()))
        except (OSError, ValueError, TypeError, AttributeError, InvalidSpec):
            return None


def digest(path: Path) -> str:
    """The sha256 of a file, as 64 lower case hexadecimal digits. Raises OSError."""
    running = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(_READ_BYTES):
            running.update(data)
    return running.hexdigest()


def held_bytes(path: Path) -> int:
    """Size of a file, 0 when it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _remove(folder: Path) -> None:
    # The manifest goes first, so that a kill in the middle leaves a slot that is not there rather than a broken one.
    (folder / _MANIFEST_NAME).unlink(missing_ok=True)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
