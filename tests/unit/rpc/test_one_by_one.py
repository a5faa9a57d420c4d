"""A stream whose messages are handed over where they come in (`ServedCall.each`)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import wrappers_pb2

from klamm.rpc.channel import Channel
from tests.unit.rpc.test_interop import Echo, grpcio_channel, ours, path

DEADLINE_S = 30.0
Connect = Callable[[str], grpc.aio.Channel]


class Talk:
    """A handler that answers when the test says so."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.taken: list[bytes] = []
        self.left = asyncio.Event()
        self.context: Any = None
        self._at_once = at_once

    async def __call__(self, _: object, context: Any) -> None:
        self.context = context
        try:
            await context.each(self._take)
        finally:
            self.left.set()

    def _take(self, message: bytes) -> None:
        self.taken.append(message)
        if self._at_once:
            self.context.answer(b"answer to " + message)


@asynccontextmanager
async def talking(talk: Talk, connect: Connect, **coding: Any) -> AsyncIterator[Any]:
    echo = Echo()
    handlers = {"Talk": grpc.stream_stream_rpc_method_handler(talk, **coding)}  # type: ignore[arg-type]
    echo.handlers = lambda: handlers  # type: ignore[method-assign]
    async with (
        asyncio.timeout(DEADLINE_S),
        ours(echo) as address,
        connect(address) as channel,
    ):
        call: Any = channel.stream_stream(path("Talk"))()
        yield call
        call.cancel()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("connect", [Channel, grpcio_channel])
async def test_many_at_once_are_answered_in_order(connect: Connect) -> None:
    talk = Talk(at_once=True)
    async with talking(talk, connect) as call:
        sent = [b"%d" % number for number in range(3_000)]
        for each in sent:
            await call.write(each)
        await call.done_writing()
        assert [await call.read() for _ in sent] == [b"answer to " + each for each in sent]
        assert await call.read() is grpc.aio.EOF
        assert talk.left.is_set()


async def test_the_next_one_waits_for_the_answer() -> None:
    talk = Talk()
    async with talking(talk, Channel) as call:
        for each in (b"a", b"b"):
            await call.write(each)
        await until(lambda: talk.taken == [b"a"] and len(talk.context._inbox) == 1)
        talk.context.answer(b"1")
        assert talk.taken == [b"a", b"b"], "where the answer was given"
        assert await call.read() == b"1"
        talk.context.answer(b"2")
        assert await call.read() == b"2"


async def test_what_is_asked_last_is_answered_though_no_more_will_come() -> None:
    talk = Talk()
    async with talking(talk, Channel) as call:
        await call.write(b"a")
        await call.done_writing()
        await until(lambda: talk.context is not None and talk.context._ended)
        talk.context.answer(b"1")
        assert await call.read() == b"1"
        assert await call.read() is grpc.aio.EOF
        await talk.left.wait()


async def test_who_leaves_ends_the_handler() -> None:
    talk = Talk()
    async with talking(talk, Channel) as call:
        await call.write(b"a")
        await until(lambda: talk.taken == [b"a"])
        call.cancel()
        await asyncio.wait_for(talk.left.wait(), DEADLINE_S)
        talk.context.answer(b"late")  # Nobody hears it, and that is no error.


async def test_bytes_that_are_no_message_end_the_call_as_its_callers_fault() -> None:
    talk = Talk()
    coding = {"request_deserializer": wrappers_pb2.StringValue.FromString}
    async with talking(talk, Channel, **coding) as call:
        await call.write(b"\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await asyncio.wait_for(talk.left.wait(), DEADLINE_S)
        assert talk.taken == []
