"""A channel finds its server again, whatever became of the connection before."""

import asyncio
import gc
import socket
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from klamm.http2 import frames
from klamm.rpc.calls import ClientLink
from klamm.rpc.channel import Channel
from klamm.rpc.status import NEVER_SENT
from tests.unit.rpc.test_interop import SERVICE, Echo, ours, path

DEADLINE_S = 20.0


async def test_a_server_that_greets_and_leaves_at_once_is_connected_to_again() -> None:
    """Both come in one read: the connection is over before anybody could use it."""
    loop = asyncio.get_running_loop()
    met: list[int] = []

    class Leaves(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            met.append(1)
            transport.write(frames.settings({}) + frames.goaway(0, 0))
            transport.close()

    server = await loop.create_server(Leaves, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Channel(f"127.0.0.1:{port}") as channel:
        one = channel.unary_unary(path("One"))
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await asyncio.wait_for(one(b"ab"), DEADLINE_S)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                async with asyncio.timeout(DEADLINE_S):
                    await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
        server.close()
        assert met
        echo = Echo()
        real = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(SERVICE, echo.handlers())
        real.add_generic_rpc_handlers((handler,))
        real.add_insecure_port(f"127.0.0.1:{port}")
        await real.start()
        async with asyncio.timeout(DEADLINE_S):
            await channel.channel_ready()
        assert await one(b"ab", timeout=DEADLINE_S) == b"ba"
        await real.stop(0)


async def test_a_connection_that_is_over_before_its_channel_has_it_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server spoke and left while the loop was still about to hand the connection over."""
    made: list[ClientLink] = []

    async def create_connection(make: Any, *_: object, **__: object) -> tuple[None, ClientLink]:
        link: ClientLink = make()
        link.data_received(frames.settings({}))
        link.connection_lost(None)
        made.append(link)
        return None, link

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", create_connection)
    async with Channel("127.0.0.1:1") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(channel.unary_unary(path("One"))(b"ab"), DEADLINE_S)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (caught.value.details() or "").startswith(NEVER_SENT)
        assert made
        assert not channel._links, "what is over is not kept"


class Meets(asyncio.Protocol):
    """A server that greets, and tells when its callers are gone."""

    def __init__(self, gone: asyncio.Event) -> None:
        self.gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(frames.settings({}))

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()


async def test_a_channel_that_is_dropped_takes_its_connection_with_it() -> None:
    gone = asyncio.Event()
    server = await asyncio.get_running_loop().create_server(lambda: Meets(gone), "127.0.0.1", 0)
    async with server:
        channel = Channel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await asyncio.wait_for(channel.channel_ready(), DEADLINE_S)
        call = channel.unary_unary(path("One"))(b"")
        call.cancel()
        del channel, call
        await _collected(gone.is_set)


async def test_a_channel_that_is_dropped_tries_no_more() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    channel = Channel(f"127.0.0.1:{port}")
    failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE
    async with asyncio.timeout(DEADLINE_S):
        while channel.get_state(try_to_connect=True) is not failing:
            await channel.wait_for_state_change(channel.get_state())
    del channel
    await _collected(lambda: not _attempts())


async def test_a_call_keeps_its_channel_until_it_is_over() -> None:
    echo = Echo()
    async with ours(echo) as address:
        call = Channel(address).unary_unary(path("One"))(b"ab")  # Before it is connected,
        gc.collect()
        assert await asyncio.wait_for(call, DEADLINE_S) == b"ba"
        call = Channel(address).unary_unary(path("One"))(b"wait")
        await asyncio.wait_for(echo.asked.wait(), DEADLINE_S)  # and after that.
        gc.collect()
        await asyncio.sleep(0)
        assert not call.done()
        assert not echo.left.is_set()
        call.cancel()
        await asyncio.wait_for(echo.left.wait(), DEADLINE_S)


def _attempts() -> list[asyncio.Task[Any]]:
    return [each for each in asyncio.all_tasks() if each.get_name().startswith("connect ")]


async def _collected(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            gc.collect()
            await asyncio.sleep(0.001)
