"""Handlers that begin in the moment in which their request is read, before they have a name."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from klamm.rpc import framing
from tests.unit.rpc.test_hostile_calls import DEADLINE_S, serve


async def test_a_call_that_is_over_before_its_handlers_first_turn_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first answer finds no room, since its caller reads nothing: it would answer for ever."""
    answers: list[bytes] = []

    async def endless(request: bytes, context: object) -> AsyncIterator[bytes]:
        while True:
            answers.append(request)
            yield request
            await asyncio.sleep(0)

    end, client, stream_id = serve("Many", grpc.unary_stream_rpc_method_handler(endless))
    monkeypatch.setattr(end, "may_send", lambda _: False)
    client.send_data(stream_id, framing.prefixed(b"a"))
    client.end(stream_id)
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def read() -> None:
        end.data_received(client.take())
        begun.set_result(len(answers))

    asyncio.get_running_loop().call_soon(read)  # As a transport does it, in no task.
    assert await begun == 1, "begun at once"
    assert end.calls.count == 0
    async with asyncio.timeout(DEADLINE_S):
        while end.calls.running:
            await asyncio.sleep(0)
    assert len(answers) <= 2
    end.close("")
