"""Each domain error keeps its class, message and details over a real gRPC call; others leak nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from edge_compress import errors, status
from edge_compress.errors import EdgeCompressError, InUse, NotFound, StepFailed, Violation


def every_class(root: type[EdgeCompressError] = EdgeCompressError) -> list[type[EdgeCompressError]]:
    own = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(found for child in own for found in every_class(child))]


def example(cls: type[EdgeCompressError]) -> EdgeCompressError:
    if cls is NotFound:
        return NotFound("model", "vision")
    if cls is InUse:
        return InUse("profile", "cam", ("deployment vision", "device cam-01"))
    if cls is StepFailed:
        return StepFailed("the child was killed", reason="memory", log=("line one", "line two"))
    return cls("spec.memory: no – 5 µs", violations=(Violation("spec.memory", "read '5', expected more"),))


@contextmanager
def answering(make: Callable[[], BaseException]) -> Iterator[Callable[[], grpc.RpcError]]:
    """A real server that answers every call with the status of ``make()``."""

    def refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort_with_status(status.to_status(make(), request_id="r-17"))
        raise AssertionError("abort returned")

    class Everything(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([Everything()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = channel.unary_unary("/any/Method")

            def refused() -> grpc.RpcError:
                with pytest.raises(grpc.RpcError) as caught:
                    call(b"", timeout=10)
                return caught.value

            yield refused
    finally:
        server.stop(None).wait(5)


def over_the_wire(error: BaseException) -> EdgeCompressError:
    with answering(lambda: error) as refused:
        return status.from_rpc_error(refused())


def test_every_class_of_the_tree_is_in_the_table() -> None:
    assert set(every_class()) == set(status.CODES)
    assert grpc.StatusCode.OK not in status.CODES.values()


@pytest.mark.parametrize("cls", every_class(), ids=lambda cls: cls.__name__)
def test_every_class_comes_back_as_itself(cls: type[EdgeCompressError]) -> None:
    sent = example(cls)
    back = over_the_wire(sent)
    assert type(back) is cls
    assert (back.message, back.violations, vars(back)) == (sent.message, sent.violations, vars(sent))


def details_of(error: BaseException) -> dict[str, Any]:
    with answering(lambda: error) as refused:
        received = rpc_status.from_call(refused())
    assert received is not None
    kinds = (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.PreconditionFailure)
    kinds = (*kinds, error_details_pb2.ResourceInfo, error_details_pb2.RequestInfo)
    found = {}
    for kind in kinds:
        for detail in received.details:
            message = kind()
            if detail.Unpack(message):
                found[kind.__name__] = message
    return found


def test_standard_details_are_there_for_other_clients() -> None:
    violation = details_of(example(errors.InvalidSpec))["BadRequest"].field_violations[0]
    assert (violation.field, violation.description) == ("spec.memory", "read '5', expected more")
    missing = details_of(NotFound("model", "vision"))["ResourceInfo"]
    assert (missing.resource_type, missing.resource_name) == ("model", "vision")
    used = details_of(InUse("profile", "cam", ("deployment vision",)))["PreconditionFailure"].violations[0]
    assert (used.type, used.subject) == ("IN_USE", "deployment vision")
    assert details_of(errors.Conflict("no"))["ErrorInfo"].reason == "Conflict"


def test_an_error_that_is_not_ours_says_nothing_but_its_request_id() -> None:
    with answering(lambda: KeyError("password=hunter2 /srv/secret")) as refused:
        received = refused()
    call: Any = received
    assert call.code() is grpc.StatusCode.INTERNAL
    assert "r-17" in call.details()
    everything = repr(call) + repr(list(call.trailing_metadata()))
    assert "hunter2" not in everything
    assert "KeyError" not in everything
    assert type(status.from_rpc_error(received)) is EdgeCompressError


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidSpec("x" * 100_000, violations=tuple(Violation(f"spec.f{n}", "é" * 400) for n in range(500))),
        InUse("profile", "cam", tuple(f"device d{n}" for n in range(10_000))),
        errors.InvalidData("漢" * 5000, violations=(Violation("漢" * 5000, "漢" * 5000),) * 5),
        StepFailed("ü" * 5000, reason="crash", log=("l" * 1000,) * 200),
    ],
    ids=["violations", "users", "wide", "log"],
)
def test_an_enormous_error_still_arrives(error: EdgeCompressError) -> None:
    back = over_the_wire(error)
    assert type(back) is type(error)
    assert back.message.startswith(error.message[:250])


def test_a_text_that_is_not_unicode_still_arrives() -> None:
    assert type(over_the_wire(errors.InvalidSpec("name \udcff"))) is errors.InvalidSpec


def test_a_servicers_own_refusal_travels_as_its_parent_under_its_code() -> None:
    class Stale(errors.Conflict):
        code = grpc.StatusCode.OUT_OF_RANGE

    with answering(lambda: Stale("list again")) as refused:
        received: Any = refused()
    assert received.code() is grpc.StatusCode.OUT_OF_RANGE
    assert type(status.from_rpc_error(received)) is errors.Conflict
    assert status.to_status(errors.Conflict("x"), code=grpc.StatusCode.OUT_OF_RANGE).code is grpc.StatusCode.OUT_OF_RANGE


def test_what_grpc_itself_says_becomes_a_domain_error() -> None:
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/any/Method")(b"", timeout=10)
    assert type(status.from_rpc_error(caught.value)) is errors.Unavailable
