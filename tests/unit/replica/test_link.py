"""The link to a leader over real TCP, and what the fetcher does when it breaks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from broker.api import fetch
from broker.kafka import codec, header
from broker.kafka.api import ApiKey
from broker.kafka.messages.fetch import FetchRequest
from broker.replica.fetcher import Fetcher
from broker.replica.link import FETCH_VERSION, FRAME_BYTES_MAX, Link, tcp_connector
from klamm.ids import NodeId
from tests.unit.api.worlds import (
    EPOCHS,
    ME,
    TOPIC,
    TWO,
    FakeClock,
    Replicas,
    batch,
    context,
    partition_image,
)

Answer = Callable[[int, memoryview], Awaitable[bytes]]
"""Correlation id and body of a request → the whole response frame, size first."""


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[int]:
    """A server that answers frames; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                request = header.read_request_header(memoryview(await reader.readexactly(size)))
                frame = await answer(request.correlation_id, request.body)
                if not frame:
                    break
                writer.write(frame)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answering_for(leader: Replicas) -> Answer:
    async def answer(correlation_id: int, body: memoryview) -> bytes:
        request = codec.decode_request(ApiKey.FETCH, FETCH_VERSION, body)
        response = fetch.handle(leader.services, context(ApiKey.FETCH, FETCH_VERSION), request)
        if isinstance(response, Awaitable):
            response = await response
        encoded = codec.encode_response(ApiKey.FETCH, FETCH_VERSION, response)
        return b"".join(header.response_frame(ApiKey.FETCH, FETCH_VERSION, correlation_id, encoded))

    return answer


async def connected(port: int) -> Link:
    return await tcp_connector("broker-2-fetcher", 1_000)("127.0.0.1", port)


async def hang_up(correlation_id: int, body: memoryview) -> bytes:
    return b""


async def never(correlation_id: int, body: memoryview) -> bytes:
    await asyncio.get_running_loop().create_future()
    return b""


async def too_large(correlation_id: int, body: memoryview) -> bytes:
    return (FRAME_BYTES_MAX + 1).to_bytes(4)


async def to_another_request(correlation_id: int, body: memoryview) -> bytes:
    return b"".join(
        header.response_frame(ApiKey.FETCH, FETCH_VERSION, correlation_id + 1, [b"\0" * 20])
    )


async def nonsense(correlation_id: int, body: memoryview) -> bytes:
    return b"".join(
        header.response_frame(ApiKey.FETCH, FETCH_VERSION, correlation_id, [b"\xff" * 20])
    )


@pytest.mark.parametrize("answer", [hang_up, never, too_large, to_another_request, nonsense])
async def test_every_failure_is_an_oserror(answer: Answer) -> None:
    async with listening(answer) as port:
        link = await connected(port)
        with pytest.raises(OSError, match=r".+"):
            await link.fetch(FetchRequest(), timeout_ms=50)
        with pytest.raises(OSError, match="closed"):
            await link.fetch(FetchRequest(), timeout_ms=50)


async def test_closing_ends_a_fetch_that_waits() -> None:
    async with listening(never) as port:
        link = await connected(port)
        waiting = asyncio.ensure_future(link.fetch(FetchRequest(), timeout_ms=60_000))
        await asyncio.sleep(0)
        link.close()
        with pytest.raises(OSError, match="closed"):
            await waiting


async def test_replication_over_tcp_goes_on_after_the_leader_was_away(tmp_path: Path) -> None:
    directories = (tmp_path / "1", tmp_path / "2")
    for directory in directories:
        directory.mkdir()
    one, two = Replicas(directories[0]), Replicas(directories[1], node_id="2")
    two.broker_epoch = EPOCHS[TWO]
    for each in (one, two):
        each.publish(partition_image(leader=ME, replicas=(ME, TWO)))
    leader, copy = one.manager.partition(TOPIC, 0), two.manager.partition(TOPIC, 0)
    assert leader is not None
    assert copy is not None
    ports: list[int] = []

    async def connect(host: str, port: int) -> Link:
        if not ports:
            raise ConnectionRefusedError("nobody there")
        return await connected(ports[0])

    fetcher = Fetcher(
        NodeId(1),
        "broker-1",
        9092,
        broker_epoch=lambda: EPOCHS[TWO],
        connect=connect,
        config=two.config,
        clock=FakeClock(),
    )
    fetcher.follow(copy)
    running = asyncio.create_task(fetcher.run())
    try:
        for round_number in range(3):
            leader.append_as_leader(batch(b"v" * 100_000), needs_in_sync=True)
            async with listening(answering_for(one)) as port, asyncio.timeout(5):
                ports[:] = [port]
                while leader.high_watermark <= round_number:
                    await asyncio.sleep(0)
                ports.clear()
                assert fetcher._link is not None
                fetcher._link.close()
        assert copy.log.end_offset == leader.log.end_offset == 3
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
