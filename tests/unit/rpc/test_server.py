"""What every gRPC server of a node offers beside its services."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import NoReturn

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from klamm.errors import StartError
from klamm.rpc.channel import Channel, open_channel
from klamm.rpc.server import GrpcServer, look_up
from klamm.v1 import metadata_pb2
from klamm.v1.metadata_pb2_grpc import (
    MetadataServiceServicer,
    MetadataServiceStub,
    add_MetadataServiceServicer_to_server,
)

DEADLINE_S = 20.0
BIG_BYTES = 12_000_000
METADATA = "klamm.v1.MetadataService"


class Servicer(MetadataServiceServicer):
    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def ListTopics(
        self, request: metadata_pb2.ListTopicsRequest, context: object
    ) -> metadata_pb2.ListTopicsResponse:
        self.asked.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("never answers")

    async def Watch(
        self, request: metadata_pb2.WatchRequest, context: object
    ) -> AsyncIterator[metadata_pb2.WatchResponse]:
        yield metadata_pb2.WatchResponse(header={"offset": request.from_offset})


async def started(servicer: Servicer | None = None) -> GrpcServer:
    server = GrpcServer("127.0.0.1", 0)
    wanted = servicer or Servicer()
    server.add(METADATA, lambda it: add_MetadataServiceServicer_to_server(wanted, it))
    await server.start()
    return server


async def test_a_port_in_use_is_named() -> None:
    first = GrpcServer("127.0.0.1", 0)
    with pytest.raises(StartError, match=f"127.0.0.1:{first.port}.*in use"):
        GrpcServer("127.0.0.1", first.port)
    await first.stop(grace_ms=0)


def test_a_host_that_is_not_known_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(StartError, match=r"no\.such\.host:9093 .*the host is not known"):
        GrpcServer("no.such.host", 9093)


async def test_a_silent_name_server_stops_the_start_and_not_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(*_: object, **__: object) -> NoReturn:
        await asyncio.Event().wait()
        raise AssertionError("never")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
    monkeypatch.setattr("klamm.rpc.server.LOOKUP_TIMEOUT_S", 0.01)
    with pytest.raises(StartError, match=r"slow\.host:9093 .*no name server answers"):
        await look_up("slow.host", 9093)


async def test_a_host_is_looked_up_and_listened_on() -> None:
    server = GrpcServer("localhost", 0, await look_up("localhost", 0))
    assert server.port > 0
    await server.stop(grace_ms=0)


async def test_health_is_per_service_and_not_serving_until_told() -> None:
    server = await started()
    statuses = health_pb2.HealthCheckResponse
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(service: str) -> int:
            return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

        assert await status("") == statuses.SERVING
        assert await status(METADATA) == statuses.NOT_SERVING
        await server.set_serving(METADATA, serving=True)
        assert await status(METADATA) == statuses.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status("no.such.Service")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    await server.stop(grace_ms=0)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(version: str) -> None:
    server = await started()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = ask()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        names = {each.name for each in answer.list_services_response.service}
        assert {METADATA, "grpc.health.v1.Health"} <= names
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=METADATA))
        answer = await call.read()
        assert answer.file_descriptor_response.file_descriptor_proto
        call.cancel()
    await server.stop(grace_ms=0)


@pytest.mark.parametrize("method", ["ListTopics", "Watch", "NoSuchMethod"])
async def test_bytes_that_are_no_message_are_the_callers_fault(
    method: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await started()
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_stream(f"/{METADATA}/{method}")(b"\xff" * 40)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        good = metadata_pb2.WatchRequest(from_offset=7).SerializeToString()
        answer = await channel.unary_stream(f"/{METADATA}/Watch")(good).read()
        assert metadata_pb2.WatchResponse.FromString(answer).header.offset == 7
    await server.stop(grace_ms=0)
    if method == "NoSuchMethod":
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    else:
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "request" in (caught.value.details() or "")
    assert caplog.records == []


async def test_an_answer_that_is_finished_reaches_its_caller_though_the_server_stops() -> None:
    """It is larger than the caller's window and the socket's buffers: most of it still waits."""
    answer = bytes(BIG_BYTES)
    answered = asyncio.Event()

    async def big(request: bytes, context: object) -> bytes:
        answered.set()
        return answer

    server = GrpcServer("127.0.0.1", 0)
    handlers = {"Big": grpc.unary_unary_rpc_method_handler(big)}
    server.add("test.Big", lambda it: it.add_registered_method_handlers("test.Big", handlers))
    await server.start()
    async with Channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_unary("/test.Big/Big")(b"")
        await asyncio.wait_for(answered.wait(), DEADLINE_S)
        links = list(server._calls.links)
        await server.stop(grace_ms=round(DEADLINE_S * 1_000))
        for link in links:
            # The process's end lets nothing out any more.
            assert link._transport is not None
            link._transport.abort()
        assert await asyncio.wait_for(call, DEADLINE_S) == answer


async def test_a_caller_that_does_not_read_its_answer_holds_up_no_stop() -> None:
    answered = asyncio.Event()

    async def big(request: bytes, context: object) -> bytes:
        answered.set()
        return bytes(BIG_BYTES)

    server = GrpcServer("127.0.0.1", 0)
    handlers = {"Big": grpc.unary_unary_rpc_method_handler(big)}
    server.add("test.Big", lambda it: it.add_registered_method_handlers("test.Big", handlers))
    await server.start()
    async with Channel(f"127.0.0.1:{server.port}") as channel:
        await channel.channel_ready()
        assert channel._link is not None
        call = channel.unary_unary("/test.Big/Big")(b"")
        assert channel._link._transport is not None
        channel._link._transport.pause_reading()
        await asyncio.wait_for(answered.wait(), DEADLINE_S)
        await asyncio.wait_for(server.stop(grace_ms=20), DEADLINE_S)
        channel._link._transport.resume_reading()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, DEADLINE_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_call_that_is_cut_off_by_the_end_is_not_told(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A loop of its own: what is told is told as that loop ends."""

    async def serve_and_end() -> None:
        servicer = Servicer()
        server = await started(servicer)
        stub = MetadataServiceStub(open_channel(f"127.0.0.1:{server.port}"))
        call = asyncio.ensure_future(stub.ListTopics(metadata_pb2.ListTopicsRequest()))
        await servicer.asked.wait()
        call.add_done_callback(lambda it: it.cancelled() or it.exception())
        await server.stop(grace_ms=0)

    asyncio.run(serve_and_end())
    assert caplog.records == []
    assert "Traceback" not in capfd.readouterr().err


async def test_a_call_without_memory_is_told_to_whoever_runs_the_loop() -> None:
    """Scenario 61: it is no bug of one call, to be answered as such; the process has to end."""

    class Poor(Servicer):
        async def ListTopics(
            self, request: metadata_pb2.ListTopicsRequest, context: object
        ) -> metadata_pb2.ListTopicsResponse:
            raise MemoryError

    server = await started(Poor())
    told: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def tell(_: object, context: dict[str, object]) -> None:
        if not told.done():
            told.set_result(context["exception"])

    asyncio.get_running_loop().set_exception_handler(tell)
    channel = open_channel(f"127.0.0.1:{server.port}")
    call = MetadataServiceStub(channel).ListTopics(metadata_pb2.ListTopicsRequest())
    async with asyncio.timeout(DEADLINE_S):
        assert isinstance(await told, MemoryError)
    call.cancel()
    await channel.close()
    await server.stop(grace_ms=0)
