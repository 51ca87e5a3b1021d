"""What happens around every call, over real gRPC on loopback."""

import asyncio
import logging

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from edge_compress.errors import Corrupt, InvalidSpec
from edge_compress.server.interceptors import CallInterceptor, note_call
from edge_compress.server.refusals import StaleWatch


class Behaviours:
    """One method of each kind; what it does is told by the request."""

    def __init__(self):
        self.open = asyncio.Event()

    async def unary(self, request, context):
        if request == b"invalid":
            raise InvalidSpec.at("spec.memory", "-1", "a size")
        if request == b"broken":
            raise ZeroDivisionError("secret")
        if request == b"slow":
            await asyncio.sleep(30)
        if request == b"abort":
            await context.abort(grpc.StatusCode.NOT_FOUND, "as it says")
        return b"done"

    async def stream(self, request, context):
        yield b"first"
        if request == b"stale":
            raise StaleWatch("list again")
        if request == b"endless":
            self.open.set()
            await asyncio.Event().wait()

    async def both(self, requests, context):
        note_call(device="cam-1")
        async for request in requests:
            if request == b"corrupt":
                raise Corrupt("bytes")
            yield request


@pytest.fixture
async def served():
    """(channel, interceptor, behaviours)"""
    behaviours, interceptor = Behaviours(), CallInterceptor(default_seconds=0.3)
    server = grpc.aio.server(interceptors=[interceptor])
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(behaviours.unary),
        "Stream": grpc.unary_stream_rpc_method_handler(behaviours.stream),
        "Both": grpc.stream_stream_rpc_method_handler(behaviours.both),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, interceptor, behaviours
    await server.stop(None)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_call_gets_a_request_id_and_one_log_line(served, caplog):
    channel, _, _ = served
    with caplog.at_level(logging.INFO):
        call = channel.unary_unary("/t.S/Unary")(b"", metadata=(("x-request-id", "mine-1"),))
        assert await call == b"done"
    assert ("x-request-id", "mine-1") in [tuple(pair) for pair in await call.trailing_metadata()]
    (line,) = [one.fields for one in caplog.records if one.getMessage() == "call"]
    assert (line["method"], line["code"], line["request_id"]) == ("Unary", "OK", "mine-1")
    assert line["seconds"] >= 0


async def test_a_servicer_adds_to_the_log_line_of_its_own_call(served, caplog):
    channel, _, _ = served
    with caplog.at_level(logging.INFO):
        call = channel.stream_stream("/t.S/Both")()
        await call.write(b"x")
        await channel.unary_unary("/t.S/Unary")(b"")
        assert await call.read() == b"x"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    lines = {one.fields["method"]: one.fields for one in caplog.records if one.getMessage() == "call"}
    assert lines["Both"]["device"] == "cam-1"
    assert "device" not in lines["Unary"]


async def test_an_id_that_could_forge_log_lines_is_replaced(served, caplog):
    channel, _, _ = served
    with caplog.at_level(logging.INFO):
        await channel.unary_unary("/t.S/Unary")(b"", metadata=(("x-request-id", "a b=c"),))
    (line,) = [one.fields for one in caplog.records if one.getMessage() == "call"]
    assert line["request_id"].isalnum()


async def test_domain_errors_become_statuses_with_details(served):
    channel, _, _ = served
    error = await failure(channel.unary_unary("/t.S/Unary")(b"invalid"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "spec.memory: read '-1', expected a size"
    request = error_details_pb2.BadRequest()
    (detail,) = [one for one in rpc_status.from_call(error).details if one.Is(request.DESCRIPTOR)]
    detail.Unpack(request)
    assert request.field_violations[0].field == "spec.memory"


async def test_unknown_errors_are_internal_with_a_request_id_and_leak_nothing(served, caplog):
    channel, _, _ = served
    error = await failure(channel.unary_unary("/t.S/Unary")(b"broken", metadata=(("x-request-id", "find-me"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "find-me" in error.details()
    assert "secret" not in error.details()
    assert "find-me" in caplog.text
    assert "ZeroDivisionError: secret" in caplog.text


async def test_a_call_without_a_deadline_gets_one(served):
    channel, _, _ = served
    error = await failure(channel.unary_unary("/t.S/Unary")(b"slow"))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_clients_own_deadline_holds_instead(served):
    channel, _, _ = served
    began = asyncio.get_running_loop().time()
    error = await failure(channel.unary_unary("/t.S/Unary")(b"slow", timeout=0.8))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert asyncio.get_running_loop().time() - began > 0.6


async def test_streams_outlive_the_default_deadline(served):
    channel, _, _ = served
    stream = channel.unary_stream("/t.S/Stream")(b"endless")
    assert await stream.read() == b"first"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(stream.read())), 0.6)
    stream.cancel()


async def test_errors_in_the_middle_of_a_stream_are_mapped_too(served, caplog):
    channel, _, _ = served
    stream = channel.unary_stream("/t.S/Stream")(b"stale")
    assert await stream.read() == b"first"
    error = await failure(stream.read())
    assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "list again")
    both = channel.stream_stream("/t.S/Both")(iter([b"one", b"corrupt"]))
    assert await both.read() == b"one"
    with caplog.at_level(logging.ERROR):
        assert (await failure(both.read())).code() is grpc.StatusCode.DATA_LOSS
    assert [one.fields["code"] for one in caplog.records] == ["DATA_LOSS"], "which somebody has to look after"


async def test_a_servicers_own_abort_passes_through(served):
    channel, _, _ = served
    error = await failure(channel.unary_unary("/t.S/Unary")(b"abort"))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "as it says")


async def test_methods_that_do_not_exist_are_unimplemented(served):
    channel, _, _ = served
    assert (await failure(channel.unary_unary("/t.S/Nope")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_stopping_ends_streams_with_unavailable_and_lets_nobody_in(served):
    channel, interceptor, _ = served
    streams = [channel.unary_stream("/t.S/Stream")(b"endless"), channel.stream_stream("/t.S/Both")()]
    assert await streams[0].read() == b"first"
    await streams[1].write(b"here")
    assert await streams[1].read() == b"here"
    interceptor.stop()
    for stream in streams:
        error = await failure(stream.read())
        assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is stopping; try again soon")
    assert (await failure(channel.unary_unary("/t.S/Unary")(b""))).code() is grpc.StatusCode.UNAVAILABLE
    assert (await failure(channel.unary_stream("/t.S/Stream")(b"").read())).code() is grpc.StatusCode.UNAVAILABLE
