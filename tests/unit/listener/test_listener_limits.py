"""Floods, silence and slowness: each meets a limit, and the others are served."""

import asyncio
import socket
import struct
from typing import Any

import pytest

from broker.listener import sockets
from broker.listener.connection import UNSENT_BYTES_MAX
from broker.listener.listeners import Listeners
from klamm.config.broker import BrokerConfig
from klamm.errors import StartError
from tests.unit.listener.live import (
    COORDINATOR,
    VERSION,
    Later,
    answer,
    ask,
    connect,
    hosts,
    listening,
)


@pytest.mark.parametrize("key", ["max_connections", "max_connections_per_ip"])
async def test_connections_over_the_limit_are_closed(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening({COORDINATOR: Later().handle}, **{key: "2"}) as it:
        first, second, third = [await connect(it) for _ in range(3)]
        assert await third.is_closed()
        for each in (first, second):
            assert (await each.ask(COORDINATOR, VERSION, ask("in"))).host == "in"
        (line,) = [each for each in caplog.records if each.getMessage() == "connections refused"]
        assert key.replace("_", ".") in str(vars(line)["fields"]["reason"])
        # A place that is given up is free.
        await first.close()
        while True:
            again = await connect(it)
            again.writer.write(again.frame(COORDINATOR, VERSION, ask("in")))
            try:
                assert await hosts(again, 1) == ["in"]
                break
            except (asyncio.IncompleteReadError, ConnectionResetError):
                continue
        await again.close()
        await second.close()


async def test_a_flood_of_connections_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with listening({COORDINATOR: Later().handle}, max_connections="0") as it:
        for _ in range(50):
            assert await (await connect(it)).is_closed()
        lines = [each for each in caplog.records if each.getMessage() == "connections refused"]
        assert 1 <= len(lines) <= 2


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0", struct.pack(">i", 100) + b"half a frame"],
    ids=["silent", "half a size", "half a frame"],
)
async def test_silence_is_ended(data: bytes) -> None:
    async with listening({COORDINATOR: Later().handle}, connections_max_idle_ms="60") as it:
        client = await connect(it)
        client.writer.write(data)
        assert await client.is_closed()


async def test_a_byte_at_a_time_is_silence() -> None:
    async with listening({COORDINATOR: Later().handle}, connections_max_idle_ms="60") as it:
        client = await connect(it)
        client.writer.write(struct.pack(">i", 5_000))
        closed = asyncio.create_task(client.is_closed())
        while not closed.done():
            client.writer.write(b"x")
            await asyncio.wait([closed], timeout=0.005)
        assert await closed


async def test_a_long_wait_is_no_silence() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}, connections_max_idle_ms="60") as it:
        client, silent = await connect(it), await connect(it)
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("later")))
        await handler.asked.wait()
        assert await silent.is_closed()
        handler.answer("later")
        assert await hosts(client, 1) == ["later"]
        await client.close()


async def test_a_client_that_takes_nothing_costs_a_bounded_part_and_is_ended() -> None:
    big = "x" * 30_000
    handled = 0

    def handle(services: Any, context: Any, request: Any) -> Any:
        nonlocal handled
        handled += 1
        return answer(big)

    async with listening({COORDINATOR: handle}, connections_max_idle_ms="200") as it:
        client = await connect(it)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        frame = client.frame(COORDINATOR, VERSION, ask("more"))
        client.writer.write(frame * 5_000)
        while it.count:
            await asyncio.sleep(0.01)
        # What the sockets hold, and what may wait here: not the 150 MB that were asked for.
        assert handled * len(big) < UNSENT_BYTES_MAX + 16_000_000


async def test_a_large_answer_to_a_slow_client_arrives_whole() -> None:
    text = "".join(chr(ord("a") + number % 26) for number in range(32_000))

    async with listening({COORDINATOR: lambda *_: answer(text)}) as it:
        client = await connect(it)
        count = 400
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("more")) * count)
        assert await hosts(client, count) == [text] * count
        await client.close()


async def test_stop_answers_what_is_in_flight() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as it:
        busy, idle = await connect(it), await connect(it)
        busy.writer.write(busy.frame(COORDINATOR, VERSION, ask("later")))
        await handler.asked.wait()
        port = it.ports["PLAINTEXT"]
        stopping = asyncio.create_task(it.stop(timeout_ms=10_000))
        assert await idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        handler.answer("later")
        assert await hosts(busy, 1) == ["later"]
        assert await busy.is_closed()
        await stopping


async def test_stop_does_not_wait_for_ever() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as it:
        client = await connect(it)
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("later")))
        await handler.asked.wait()
        await it.stop(timeout_ms=20)
        assert await client.is_closed()


async def test_a_port_in_use_is_named_with_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = Listeners(BrokerConfig.for_tests(listeners=f"PLAINTEXT://127.0.0.1:{port}"))
        with pytest.raises(StartError, match=rf"127.0.0.1:{port}, listener PLAINTEXT.*in use"):
            await listeners.bind()


@pytest.mark.parametrize(
    ("address", "says"),
    [("192.0.2.1:0", "none of this machine's"), ("no.such.host.invalid:0", "not known")],
)
async def test_addresses_that_cannot_be_listened_on(address: str, says: str) -> None:
    listeners = Listeners(BrokerConfig.for_tests(listeners=f"PLAINTEXT://{address}"))
    with pytest.raises(StartError, match=says):
        await listeners.bind()


async def test_a_listener_that_fails_leaves_no_other_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        both = f"PLAINTEXT://127.0.0.1:0,OTHER://127.0.0.1:{port}"
        protocols = "PLAINTEXT:PLAINTEXT,OTHER:PLAINTEXT"
        config = BrokerConfig.for_tests(listeners=both, listener_security_protocol_map=protocols)
        listeners = Listeners(config)
        with pytest.raises(StartError, match="OTHER"):
            await listeners.bind()
        assert listeners.ports == {}


async def test_clients_may_come_between_bind_and_serve() -> None:
    async with listening({COORDINATOR: Later().handle}, listeners="PLAINTEXT://:0") as it:
        client = await connect(it)
        assert (await client.ask(COORDINATOR, VERSION, ask("any address"))).host == "any address"
        await client.close()


async def test_small_answers_are_not_held_back_by_nagle() -> None:
    async with listening({COORDINATOR: Later().handle}) as it:
        client = await connect(it)
        await client.ask(COORDINATOR, VERSION, ask("x"))
        (connection,) = it._connections
        assert connection._transport is not None
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await client.close()


async def test_a_name_server_that_is_silent_does_not_hold_up_the_start_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def silent(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(sockets, "LOOKUP_TIMEOUT_S", 0.01)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", silent)
    listeners = Listeners(BrokerConfig.for_tests(listeners="PLAINTEXT://db.example:0"))
    with pytest.raises(StartError, match=r"db.example:0.*no name server answers"):
        await asyncio.wait_for(listeners.bind(), 20)
