"""Our transport against grpcio's, both ways: the same calls, whoever serves and whoever asks."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from klamm.errors import IndefiniteError
from klamm.rpc.admission import MESSAGE_BYTES_MAX
from klamm.rpc.channel import Channel
from klamm.rpc.server import GrpcServer
from klamm.rpc.status import ANSWER_UNREAD, NEVER_SENT, from_call

SERVICE = "test.Echo"
BIG_BYTES = 5_000_000
DEADLINE_S = 30.0

Open = Callable[[], Any]


class Echo:
    """Every shape of a call. Requests and answers are bytes."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.asked = asyncio.Event()

    async def one(self, request: bytes, context: Any) -> bytes:
        if request == b"abort":
            context.set_trailing_metadata((("why-bin", b"\x00\xff"), ("note", "so")))
            await context.abort(grpc.StatusCode.NOT_FOUND, "no % ünter")
        if request == b"bug":
            raise ZeroDivisionError
        if request == b"metadata":
            said = dict(context.invocation_metadata())
            return repr((said["plain"], said["raw-bin"])).encode()
        if request == b"much":
            return bytes(MESSAGE_BYTES_MAX + 1)
        if request == b"wait":
            self.asked.set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.left.set()
        return request[::-1]

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    async def sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        total = 0
        async for each in requests:
            total += len(each)
        return b"%d" % total

    async def talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for each in requests:
            yield each

    async def by_hand(self, _: object, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request + b"!")

    def handlers(self) -> dict[str, Any]:
        return {
            "One": grpc.unary_unary_rpc_method_handler(self.one),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "ByHand": grpc.stream_stream_rpc_method_handler(self.by_hand),
        }


@contextlib.asynccontextmanager
async def ours(echo: Echo) -> AsyncIterator[str]:
    server = GrpcServer("127.0.0.1", 0)
    server.add(SERVICE, lambda it: it.add_registered_method_handlers(SERVICE, echo.handlers()))
    await server.start()
    yield f"127.0.0.1:{server.port}"
    await server.stop(grace_ms=0)


@contextlib.asynccontextmanager
async def grpcios(echo: Echo) -> AsyncIterator[str]:
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", -1),))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, echo.handlers()),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def grpcio_channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=(("grpc.max_receive_message_length", -1),))


PAIRS = [
    pytest.param((ours, grpcio_channel), id="grpcio-asks"),
    pytest.param((grpcios, Channel), id="grpcio-serves"),
    pytest.param((ours, Channel), id="both-ours"),
]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture(params=PAIRS)
async def channel(request: pytest.FixtureRequest, echo: Echo) -> AsyncIterator[grpc.aio.Channel]:
    serve, connect = request.param
    async with serve(echo) as address, connect(address) as channel:
        yield channel


def path(name: str) -> str:
    return f"/{SERVICE}/{name}"


async def test_one_for_one(channel: grpc.aio.Channel) -> None:
    one = channel.unary_unary(path("One"))
    assert await one(b"abc", timeout=DEADLINE_S) == b"cba"
    assert await one(b"", timeout=DEADLINE_S) == b""
    answers = await asyncio.gather(*(one(b"%d" % each) for each in range(10, 300)))
    assert answers == [(b"%d" % each)[::-1] for each in range(10, 300)]


async def test_messages_larger_than_every_window(channel: grpc.aio.Channel) -> None:
    big = bytes(range(256)) * (BIG_BYTES // 256)
    answers = await asyncio.gather(
        *(channel.unary_unary(path("One"))(big, timeout=DEADLINE_S) for _ in range(4))
    )
    assert all(answer == big[::-1] for answer in answers)
    call = channel.stream_stream(path("Talk"))()
    for _ in range(3):
        await call.write(big)
        assert await call.read() == big
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_many_for_one_and_one_for_many(channel: grpc.aio.Channel) -> None:
    many = channel.unary_stream(path("Many"))
    assert [each async for each in many(b"1000")] == [b"%d" % each for each in range(1_000)]
    assert [each async for each in many(b"0")] == []
    call = channel.stream_unary(path("Sum"))()
    for _ in range(100):
        await call.write(b"x" * 1_000)
    await call.done_writing()
    assert await call == b"100000"


@pytest.mark.parametrize(("name", "mark"), [("Talk", b""), ("ByHand", b"!")])
async def test_a_conversation(channel: grpc.aio.Channel, name: str, mark: bytes) -> None:
    call = channel.stream_stream(path(name))()
    for each in (b"a", b"bb", b"x" * 70_000):
        await call.write(each)
        assert await call.read() == each + mark
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_status_with_all_that_belongs_to_it(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(path("One"))(b"abort", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no % ünter"
    trailing = dict(caught.value.trailing_metadata())
    assert trailing == {"why-bin": b"\x00\xff", "note": "so"}


async def test_metadata_of_a_caller(channel: grpc.aio.Channel) -> None:
    metadata = (("plain", "text"), ("raw-bin", b"\x00\x01\xfe"))
    answer = await channel.unary_unary(path("One"))(b"metadata", metadata=metadata)
    assert answer == repr(("text", b"\x00\x01\xfe")).encode()


async def test_a_bug_is_unknown_and_the_connection_goes_on(channel: grpc.aio.Channel) -> None:
    one = channel.unary_unary(path("One"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await one(b"bug", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNKNOWN
    assert await one(b"ab") == b"ba"


async def test_a_deadline_ends_both_ends(channel: grpc.aio.Channel, echo: Echo) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(path("One"))(b"wait", timeout=0.05)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    if echo.asked.is_set():
        await asyncio.wait_for(echo.left.wait(), DEADLINE_S)


async def test_who_leaves_cancels_the_handler(channel: grpc.aio.Channel, echo: Echo) -> None:
    call = asyncio.ensure_future(channel.unary_unary(path("One"))(b"wait"))
    await asyncio.wait_for(echo.asked.wait(), DEADLINE_S)
    call.cancel()
    await asyncio.wait_for(echo.left.wait(), DEADLINE_S)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await channel.unary_unary(path("One"))(b"ab") == b"ba"


async def test_a_method_that_nobody_has(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_unary(path("NoSuch"))(b"", timeout=DEADLINE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(echo: Echo, how: grpc.Compression) -> None:
    async with (
        ours(echo) as address,
        grpc.aio.insecure_channel(address, compression=how) as channel,
    ):
        assert await channel.unary_unary(path("One"))(b"ab" * 5_000) == b"ba" * 5_000


async def test_compressed_answers_are_read(echo: Echo) -> None:
    server = grpc.aio.server(compression=grpc.Compression.Gzip)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, echo.handlers()),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary(path("One"))(b"ab" * 5_000) == b"ba" * 5_000
    await server.stop(0)


async def test_a_message_that_is_too_large_is_refused_and_nothing_else(echo: Echo) -> None:
    async with ours(echo) as address, grpcio_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path("One"))(b"x" * (17 * 1024 * 1024), timeout=DEADLINE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "16777216 are allowed" in (caught.value.details() or "")
        assert await channel.unary_unary(path("One"))(b"ab") == b"ba"


async def test_an_answer_that_is_too_large_is_no_refusal(echo: Echo) -> None:
    """What was asked for is done: who takes it for refused does it twice, or believes it undone."""
    async with ours(echo) as address, Channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path("One"))(b"much", timeout=DEADLINE_S)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (caught.value.details() or "").startswith(ANSWER_UNREAD)
        assert isinstance(from_call(caught.value), IndefiniteError)
        assert await channel.unary_unary(path("One"))(b"ab", timeout=DEADLINE_S) == b"ba"


async def test_a_stopped_server_is_known_at_once(echo: Echo) -> None:
    """A call that runs is lost, which is indefinite; one after it was certainly never sent."""
    server = GrpcServer("127.0.0.1", 0)
    server.add(SERVICE, lambda it: it.add_registered_method_handlers(SERVICE, echo.handlers()))
    await server.start()
    async with Channel(f"127.0.0.1:{server.port}") as channel:
        running = asyncio.ensure_future(channel.unary_unary(path("One"))(b"wait"))
        await echo.asked.wait()
        await server.stop(grace_ms=0)
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await running
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        assert NEVER_SENT not in (lost.value.details() or "")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(path("One"))(b"ab")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (refused.value.details() or "").startswith(NEVER_SENT)


async def test_the_conformance_tool_of_http2_finds_nothing(echo: Echo) -> None:
    h2spec = shutil.which("h2spec") or shutil.which(Path.home() / "go/bin/h2spec")
    if h2spec is None:
        pytest.skip("h2spec is not installed (go install github.com/summerwind/h2spec/cmd/h2spec)")
    async with ours(echo) as address:
        port = address.rpartition(":")[2]
        done = await asyncio.to_thread(
            subprocess.run,
            [h2spec, "-h", "127.0.0.1", "-p", port, "-o", "5"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-3_000:]
    assert "145 passed" in done.stdout
