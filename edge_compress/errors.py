"""Every error the product raises on purpose, drawn as one tree.

An error is one line a person can act on: the field it is about, what was read, what was expected and what to do.
How an error becomes a gRPC status or an exit code is decided elsewhere (``status`` and ``cli``); nothing here knows of either.

    EdgeCompressError
    |-- InvalidInput            what the user declared or sent is wrong
    |   |-- InvalidSpec         a resource, a recipe or a flag
    |   |-- InvalidModel        an uploaded model
    |   `-- InvalidData         calibration, evaluation or training data
    |-- TooLarge                over a declared size limit
    |-- NotFound                the named thing does not exist
    |-- InUse                   it cannot be removed while others need it
    |-- Conflict                somebody changed it first
    |-- Unsupported             valid, but not something this build can do
    |-- Infeasible              a goal cannot be met (the nearest artifact is kept)
    |-- StepFailed              a strategy step or a measurement failed in its child process
    |-- Cancelled               a person or a shutdown stopped it
    |-- PluginError             a plugin is broken or breaks the rules
    |-- Corrupt                 bytes do not have the digest they should
    |-- StorageFull             no room left on the disk
    |-- Unavailable             the other side cannot be reached just now; trying again may help
    `-- StartupError            the process cannot start here (port in use, folder locked)
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Self

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
"""how the system says that there is no room"""


@dataclass(frozen=True)
class Violation:
    """One thing wrong with one field: ``field`` is a dotted path such as ``spec.memory``."""

    field: str
    description: str


class EdgeCompressError(Exception):
    """Root of the tree. ``message`` is one line; ``violations`` name the fields it is about."""

    def __init__(self, message: str, *, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.violations = violations

    def __str__(self) -> str:
        return self.message


class InvalidInput(EdgeCompressError):
    """What the user declared or sent is wrong."""

    @classmethod
    def at(cls, field: str, read: object, expected: str, do: str = "") -> Self:
        """Name the field, what was read, what was expected and, where it helps, what to do."""
        said = f"read {_shorten(read)}, expected {expected}" + (f"; {do}" if do else "")
        return cls(f"{field}: {said}", violations=(Violation(field, said),))

    def within(self, field: str, path: str) -> Self:
        """The same error about the file ``path`` that ``field`` names, for whoever knows the bytes' place in a declaration."""
        said = f"{path}: {self.message}"
        return type(self)(f"{field}: {said}", violations=(Violation(field, said),))

    def located(self, where: str) -> Self:
        """The same error with where it was read: a file with its line, or the resource."""
        return type(self)(f"{where}: {self.message}", violations=self.violations)


class InvalidSpec(InvalidInput):
    """A resource, a recipe or a flag is wrong."""


class InvalidModel(InvalidInput):
    """An uploaded model is wrong."""


class InvalidData(InvalidInput):
    """Calibration, evaluation or training data is wrong."""


class TooLarge(EdgeCompressError):
    """Something is over a declared size limit."""


class NotFound(EdgeCompressError):
    """The named thing does not exist."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} does not exist")
        self.kind, self.name = kind, name


class InUse(EdgeCompressError):
    """A thing cannot be removed while ``users`` need it."""

    def __init__(self, kind: str, name: str, users: tuple[str, ...]) -> None:
        super().__init__(f"{kind} {name!r} is in use by {', '.join(users)}; delete or change those first")
        self.kind, self.name, self.users = kind, name, users


class Conflict(EdgeCompressError):
    """Somebody changed the thing first; read it again and retry."""


class Unsupported(EdgeCompressError):
    """Valid, but not something this build can do."""


class Infeasible(EdgeCompressError):
    """A goal cannot be met; the nearest artifact was kept."""


class StepFailed(EdgeCompressError):
    """A step failed in its child process. ``reason`` is one of ``error crash timeout memory output``."""

    def __init__(self, message: str, *, reason: str = "error", log: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.reason, self.log = reason, log


class Cancelled(EdgeCompressError):
    """A person or a shutdown stopped it."""


class PluginError(EdgeCompressError):
    """A plugin is broken or breaks the rules."""


class Corrupt(EdgeCompressError):
    """Bytes do not have the digest they should."""


class StorageFull(EdgeCompressError):
    """No room left on the disk."""


class Unavailable(EdgeCompressError):
    """The other side cannot be reached just now; trying again may help."""


class StartupError(EdgeCompressError):
    """The process cannot start here: a port in use, a folder locked, an unsafe address."""


def _shorten(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
