"""Refusals that belong to a call rather than to the domain: each is a domain error whose gRPC code differs from its class's.

The client rebuilds the domain error; the code tells generic tools (and retry policies) what kind of refusal it was.
"""

from __future__ import annotations

from typing import ClassVar

import grpc

from edge_compress.errors import Conflict, InvalidInput, InvalidSpec, Unavailable


class StaleWatch(Conflict):
    """A watch cannot go on from where it was: list again."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.OUT_OF_RANGE


class OutOfStep(InvalidInput):
    """An offset is not where the server stands."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.OUT_OF_RANGE


class MissingReference(InvalidSpec):
    """A resource names something that is not there yet: a profile, a model, a recipe, an uploaded file."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.FAILED_PRECONDITION


class Busy(Unavailable):
    """Too many at once: retry with back-off."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.RESOURCE_EXHAUSTED


class Silent(Unavailable):
    """The sender said nothing for too long."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.DEADLINE_EXCEEDED


class Late(Unavailable):
    """The call took longer than it may."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.DEADLINE_EXCEEDED


class WrongState(Conflict):
    """It is in no state for what it is told to do."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.FAILED_PRECONDITION


class AlreadyOver(Conflict):
    """It ended before it could be stopped."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.FAILED_PRECONDITION
