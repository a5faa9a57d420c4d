"""One connection: answers in the order of the requests, and no more in flight than is allowed."""

import asyncio
from typing import Any

import pytest

from broker.kafka.api import ApiKey
from broker.kafka.messages.api_versions import ApiVersionsRequest
from broker.listener.connection import REQUESTS_IN_FLIGHT_MAX
from tests.unit.listener.live import COORDINATOR, VERSION, Later, ask, connect, hosts, listening


async def test_a_slow_first_answer_holds_back_the_second() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as listeners:
        client = await connect(listeners)
        for key in ("later-1", "at once", "later-2", "at once too"):
            client.writer.write(client.frame(COORDINATOR, VERSION, ask(key)))
        while len(handler.seen) < 4:
            handler.asked.clear()
            await handler.asked.wait()
        handler.answer("later-2")
        await asyncio.sleep(0)
        handler.answer("later-1")
        assert await hosts(client, 4) == ["later-1", "at once", "later-2", "at once too"]
        await client.close()


async def test_other_connections_do_not_wait() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as listeners:
        slow, quick = await connect(listeners), await connect(listeners)
        slow.writer.write(slow.frame(COORDINATOR, VERSION, ask("later")))
        assert (await quick.ask(COORDINATOR, VERSION, ask("quick"))).host == "quick"
        handler.answer("later")
        assert await hosts(slow, 1) == ["later"]
        await slow.close()
        await quick.close()


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100, 2_000])
async def test_a_pipeline_that_is_answered_at_once(count: int) -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as listeners:
        client = await connect(listeners)
        keys = [f"{number}" for number in range(count)]
        client.writer.write(b"".join(client.frame(COORDINATOR, VERSION, ask(key)) for key in keys))
        assert await hosts(client, count) == keys
        await client.close()


async def test_requests_over_the_limit_in_flight_wait_unhandled() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as listeners:
        client = await connect(listeners)
        keys = [f"later-{number}" for number in range(REQUESTS_IN_FLIGHT_MAX * 2)]
        for key in keys:
            client.writer.write(client.frame(COORDINATOR, VERSION, ask(key)))
        # Another connection's round trip: by then the first has been read.
        other = await connect(listeners)
        for _ in range(3):
            await other.ask(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())
        assert handler.seen == keys[:REQUESTS_IN_FLIGHT_MAX]
        for key in keys[:REQUESTS_IN_FLIGHT_MAX]:
            handler.answer(key)
        while len(handler.seen) < len(keys):
            handler.asked.clear()
            await handler.asked.wait()
        for key in keys[REQUESTS_IN_FLIGHT_MAX:]:
            handler.answer(key)
        assert await hosts(client, len(keys)) == keys
        await client.close()
        await other.close()


async def test_frames_cut_at_every_byte() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as listeners:
        client = await connect(listeners)
        data = client.frame(COORDINATOR, VERSION, ask("a")) + client.frame(
            COORDINATOR, VERSION, ask("b")
        )
        for cut in range(1, len(data)):
            for piece in (data[:cut], data[cut:]):
                client.writer.write(piece)
                await client.writer.drain()
                await asyncio.sleep(0)
            assert await hosts(client, 2) == ["a", "b"]
        await client.close()


async def test_a_client_that_goes_gives_up_what_it_waited_for() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as listeners:
        client = await connect(listeners)
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("later")))
        await handler.asked.wait()
        await client.close()
        with pytest.raises(asyncio.CancelledError):
            await handler.waiting["later"]


async def test_what_came_before_a_close_is_done() -> None:
    """A producer with acks=0 sends, and goes."""
    seen: list[str] = []

    def handle(services: Any, context: Any, request: Any) -> Any:
        seen.append(request.key)

    async with listening({COORDINATOR: handle}) as listeners:
        client = await connect(listeners)
        keys = [f"{number}" for number in range(500)]
        client.writer.write(b"".join(client.frame(COORDINATOR, VERSION, ask(key)) for key in keys))
        await client.close()
        while len(seen) < len(keys):
            await asyncio.sleep(0)
        assert seen == keys
        while listeners.count:
            await asyncio.sleep(0)
