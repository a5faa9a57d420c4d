"""A channel finds its server again, whatever became of the connection before."""

import asyncio
from typing import Any

import grpc.aio
import pytest

from klamm.http2 import frames
from klamm.rpc.calls import ClientLink
from klamm.rpc.channel import Channel
from klamm.rpc.status import NEVER_SENT
from tests.unit.rpc.test_interop import SERVICE, Echo, path

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
