"""Peers that make a call cost more than it should: what is unread, unsent or begun is counted."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from klamm.http2 import frames
from klamm.http2.connection import Connection
from klamm.http2.events import DataReceived
from klamm.http2.frames import Code
from klamm.http2.limits import FRAME_BYTES_MAX, STREAM_WINDOW_BYTES
from klamm.rpc import admission, framing, link
from klamm.rpc.admission import Calls
from klamm.rpc.channel import Channel
from klamm.rpc.framing import FramingError, MessageReader
from klamm.rpc.served import ServerLink
from klamm.rpc.status import NEVER_SENT
from tests.unit.rpc.test_interop import Echo, grpcio_channel, ours, path

DEADLINE_S = 30.0


class Sink(asyncio.Transport):
    """Takes what is written, and drops it."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """None."""

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Gone."""

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        """Nobody is there."""


def serve(name: str, handler: Any) -> tuple[ServerLink, Connection, int]:
    """A server's end, and a client's that has begun a call of the method."""
    calls = Calls()
    calls.methods[path(name)] = handler
    end = ServerLink(calls)
    end.connection_made(Sink())
    client = Connection(client=True)
    stream_id = client.open_stream(framing.request_block("a:1", path(name), None, ()))
    end.data_received(client.take())
    return end, client, stream_id


async def test_messages_of_nothing_fill_the_room_of_their_call() -> None:
    """They have no bytes; a million of them wait for a handler all the same."""
    handler = Echo().handlers()["Talk"]
    end, _, stream_id = serve("Talk", handler)
    sent = frames.head(FRAME_BYTES_MAX - 4, frames.DATA, 0, stream_id)
    sent += framing.prefixed(b"") * ((FRAME_BYTES_MAX - 4) // framing.PREFIX_BYTES)
    while not end.closed and end.calls.unread_bytes < 1 << 30:
        end.data_received(sent)
    assert end.calls.unread_bytes <= 2 * STREAM_WINDOW_BYTES * framing.MESSAGE_COST_BYTES
    end.close("")


async def test_two_requests_in_a_call_of_one_are_one_too_many() -> None:
    end, client, stream_id = serve("One", Echo().handlers()["One"])
    client.send_data(stream_id, framing.prefixed(b"a") * 2)
    end.data_received(client.take())
    assert end.calls.count == 0
    end.close("")


async def test_a_call_given_up_before_its_handler_has_begun_leaves_nothing() -> None:
    """A handler says itself that it has ended; one that never begins cannot."""
    end, client, stream_id = serve("One", Echo().handlers()["One"])
    client.send_data(stream_id, framing.prefixed(b"a"))
    client.end(stream_id)
    client.reset(stream_id, Code.CANCEL)
    end.data_received(client.take())
    assert len(end.calls.running) == 1, "it is about to begin"
    assert end.calls.count == 0
    async with asyncio.timeout(DEADLINE_S):
        while end.calls.running:
            await asyncio.sleep(0)
    end.close("")


async def test_a_request_in_two_pieces_is_the_same_as_a_whole_one() -> None:
    """Held meanwhile and counted; and nothing is held of one that comes at once."""
    message = framing.prefixed(b"abc")
    for pieces in ([message], [message[:3], message[3:]], [message, b""], [b"", message]):
        end, _, stream_id = serve("One", Echo().handlers()["One"])
        for each in pieces[:-1]:
            end.data_received(frames.head(len(each), frames.DATA, 0, stream_id) + each)
            assert not end.calls.running
        last = pieces[-1]
        end.data_received(frames.head(len(last), frames.DATA, frames.END_STREAM, stream_id) + last)
        assert len(end.calls.running) == 1
        assert end.calls.unread_bytes == 0
        async with asyncio.timeout(DEADLINE_S):
            while end.calls.running:
                await asyncio.sleep(0)
        assert end.calls.count == 0
        end.close("")


async def test_a_request_that_does_not_end_gives_its_place_back() -> None:
    end, _, _ = serve("One", Echo().handlers()["One"])
    for _ in range(admission.REQUEST_LOOKS_MAX):
        end.on_look()
    assert end.calls.count == 1
    end.on_look()
    assert end.calls.count == 0
    end.close("")


async def test_a_stream_that_turns_into_no_grpc_ends_its_handler() -> None:
    left = asyncio.Event()

    async def waits(_: object, context: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            left.set()

    end, client, stream_id = serve("Talk", grpc.stream_stream_rpc_method_handler(waits))
    await asyncio.sleep(0)
    client.send_data(stream_id, b"\0\xff\xff\xff\xff")
    end.data_received(client.take())
    await asyncio.wait_for(left.wait(), DEADLINE_S)
    end.close("")


async def test_answers_that_nobody_takes_are_counted_and_the_next_is_reset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "UNSENT_BYTES_MAX", 100_000)
    handler = Echo().handlers()["One"]
    end, client, stream_id = serve("One", handler)
    end.data_received(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 0}))
    streams = [stream_id]
    for _ in range(9):
        streams.append(client.open_stream(framing.request_block("a:1", path("One"), None, ())))
    for each in streams:
        client.send_data(each, framing.prefixed(b"x" * 10_000))
        client.end(each)
    end.data_received(client.take() + frames.window_update(0, 1))
    while end.calls.running:
        await asyncio.sleep(0)
    assert 40_000 < end.calls.unsent_bytes <= 50_000
    end.close("")
    assert end.calls.unsent_bytes == 0


def test_what_unfolds_at_once_is_no_more_than_a_message() -> None:
    bomb = gzip.compress(bytes(900_000))
    data = b"\1" + len(bomb).to_bytes(4) + bomb
    assert len(MessageReader(1_000_000, "gzip").read(data)) == 1
    with pytest.raises(FramingError, match="1000000 are allowed"):
        MessageReader(1_000_000, "gzip").read(data * 2)


def test_a_message_in_small_pieces_is_whole_at_the_last() -> None:
    data = framing.prefixed(b"x" * 5_000) + framing.prefixed(b"yz")
    reader = MessageReader(10_000)
    whole = [each for at in range(len(data)) for each in reader.read(data[at : at + 1])]
    assert whole == [b"x" * 5_000, b"yz"]
    assert reader.rest_bytes == 0


async def test_calls_beyond_what_a_server_takes_wait_for_the_others() -> None:
    async with ours(Echo()) as address, Channel(address) as channel:
        one = channel.unary_unary(path("One"))
        assert await one(b"ab") == b"ba"
        assert channel._link is not None
        channel._link.connection.peer_streams_max = 3
        answers = await asyncio.gather(*(one(b"%d" % each) for each in range(10, 99)))
        assert answers == [(b"%d" % each)[::-1] for each in range(10, 99)]
        waiting = [asyncio.ensure_future(one(b"wait")) for _ in range(3)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await one(b"ab", timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (caught.value.details() or "").startswith(NEVER_SENT)
        for each in waiting:
            each.cancel()
        assert await one(b"ab", timeout=DEADLINE_S) == b"ba"
        assert not channel._waiting


async def test_a_connection_whose_streams_are_used_up_is_replaced() -> None:
    async with ours(Echo()) as address, Channel(address) as channel:
        one = channel.unary_unary(path("One"))
        assert await one(b"ab") == b"ba"
        first = channel._link
        assert first is not None
        first.connection._next_stream_id = 2**31 - 1
        assert await asyncio.gather(*(one(b"ab") for _ in range(3))) == [b"ba"] * 3
        assert channel._link is not first
        assert list(channel._links) == [channel._link]


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:99999", "127.0.0.1:", ".:1", "a" * 70])
async def test_an_address_that_is_none_fails_and_never_sends(address: str) -> None:
    async with Channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(path("One"))(b"", timeout=DEADLINE_S)
        assert (caught.value.details() or "").startswith(NEVER_SENT)


@contextlib.asynccontextmanager
async def mute(greeting: bytes) -> AsyncIterator[str]:
    """Accepts, says its greeting and never reads or says anything more, as one that is stopped."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(greeting)
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for each in held:
        each.transport.abort()


async def test_a_peer_that_fell_silent_is_found_by_keepalive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scenario: a paused machine or a cut cable. What ran is lost; the next was never sent."""
    monkeypatch.setattr(link, "KEEPALIVE_TIME_MS", 50)
    monkeypatch.setattr(link, "KEEPALIVE_TIMEOUT_MS", 50)
    async with mute(frames.settings({})) as address, Channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(channel.unary_unary(path("One"))(b""), DEADLINE_S)
        assert "no sign of life for 100 ms" in (caught.value.details() or "")
        assert not channel._links or channel._link is None


async def test_a_peer_that_accepts_and_never_speaks_was_never_sent_anything() -> None:
    async with mute(b"") as address, Channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(channel.unary_unary(path("One"))(b""), DEADLINE_S)
        assert (caught.value.details() or "").startswith(NEVER_SENT)


@pytest.mark.parametrize("said", [b"", frames.PREFACE[:9], b"\x16\x03\x01"], ids=repr)
async def test_a_connection_that_does_not_greet_is_closed(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(link, "KEEPALIVE_TIME_MS", 30)
    monkeypatch.setattr(link, "KEEPALIVE_TIMEOUT_MS", 30)
    async with ours(Echo()) as address:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(said)
        await asyncio.wait_for(reader.read(), DEADLINE_S)
        writer.close()


async def test_initial_metadata_is_there_before_the_first_answer() -> None:
    async def waits(_: object, context: Any) -> None:
        await context.send_initial_metadata((("a", "b"),))
        await context.read()

    handlers = {"Talk": grpc.stream_stream_rpc_method_handler(waits)}
    echo = Echo()
    echo.handlers = lambda: handlers  # type: ignore[method-assign]
    connects: tuple[Callable[[str], grpc.aio.Channel], ...] = (Channel, grpcio_channel)
    for connect in connects:
        async with ours(echo) as address, connect(address) as channel:
            call = channel.stream_stream(path("Talk"))()
            said = await asyncio.wait_for(call.initial_metadata(), DEADLINE_S)
            assert ("a", "b") in [(str(key), value) for key, value in said]
            call.cancel()


def test_a_reader_of_events_is_given_all_bytes_of_a_large_frame() -> None:
    """In 64 KiB pieces, as a socket gives them."""
    server = Connection(client=False)
    client = Connection(client=True)
    stream_id = client.open_stream(framing.request_block("a:1", path("One"), None, ()))
    server.receive(client.take())
    sent = frames.head(FRAME_BYTES_MAX, frames.DATA, 0, stream_id) + bytes(FRAME_BYTES_MAX)
    events = [
        event
        for at in range(0, len(sent), 65_536)
        for event in server.receive(sent[at : at + 65_536])
    ]
    assert [len(each.data) for each in events if isinstance(each, DataReceived)] == [
        FRAME_BYTES_MAX
    ]
