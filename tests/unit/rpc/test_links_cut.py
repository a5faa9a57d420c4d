"""Two ends of our transport whose connection is cut anywhere: every call ends, and nothing is left.

Held: an answer, or an error that is definite only if no handler has seen the call; no task, timer
or count of a call behind it. In-memory, with seeded chunks and pauses (wires.py).
"""

import asyncio
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest

from klamm.rpc import link
from klamm.rpc.status import NEVER_SENT
from tests.unit.rpc.test_interop import SERVICE, Echo, path
from tests.unit.rpc.wires import connect, timers

DEADLINE_S = 30.0
EVERYTHING = 1 << 40


class Seen(Echo):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: set[bytes] = set()

    async def one(self, request: bytes, context: Any) -> bytes:
        self.requests.add(request)
        return await super().one(request, context)

    def by_path(self) -> dict[str, Any]:
        return {f"/{SERVICE}/{name}": each for name, each in self.handlers().items()}


async def ask(channel: grpc.aio.Channel, request: bytes, seen: Seen) -> bool:
    """Whether it was answered."""
    try:
        answer = await channel.unary_unary(path("One"))(request)
    except grpc.aio.AioRpcError as error:
        failure = error
    else:
        assert answer == request[::-1]
        return True
    assert failure.code() is grpc.StatusCode.UNAVAILABLE, failure
    if (failure.details() or "").startswith(NEVER_SENT):
        assert request not in seen.requests
    return False


async def talk(channel: grpc.aio.Channel, size_bytes: int) -> bool:
    try:
        call = channel.stream_stream(path("Talk"))()
        for number in range(3):
            await call.write(b"%d" % number * size_bytes)
            assert await call.read() == b"%d" % number * size_bytes
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    except grpc.aio.AioRpcError as error:
        return error.code() is not grpc.StatusCode.UNAVAILABLE
    return True


async def all_ends(
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    sizes: tuple[int, ...],
    *,
    cut_at: int,
    swallows: bool = False,
) -> list[bool]:
    """What became of the calls; nothing may be left of them."""
    seen = Seen()
    before = timers()
    channel, calls = connect(
        monkeypatch, seen.by_path(), Random(seed), cut_at=cut_at, swallows=swallows
    )
    async with asyncio.timeout(DEADLINE_S):
        asked = [ask(channel, bytes((65 + at,)) * size, seen) for at, size in enumerate(sizes)]
        done = await asyncio.gather(*asked, talk(channel, max(sizes)))
        await channel.close()
        await calls.idle.wait()
        while len(asyncio.all_tasks()) > 1 or calls.links:
            await asyncio.sleep(0)
    assert [each for each in timers() if each not in before] == []
    assert (calls.count, calls.unread_bytes, calls.unsent_bytes) == (0, 0, 0)
    assert not calls.running
    return done


async def test_cut_at_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, cut_at = 0, 0
    while answered < 3:
        done = await all_ends(monkeypatch, cut_at, (1, 30), cut_at=cut_at)
        answered, cut_at = sum(done), cut_at + 1
    assert cut_at > 500


@pytest.mark.parametrize("seed", range(12))
async def test_much_both_ways_over_a_wire_that_stops_and_goes(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Both ends pause; neither waits for the other for ever."""
    sizes = (40_000, 100_000, 70_000, 300_000, 5, 90_000)
    assert all(await all_ends(monkeypatch, seed, sizes, cut_at=EVERYTHING))


@pytest.mark.parametrize("seed", range(12))
async def test_cut_in_the_middle_of_much(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    cut_at = Random(seed).randrange(900_000)
    sizes = (40_000, 100_000, 70_000, 300_000, 5, 90_000)
    assert not all(await all_ends(monkeypatch, seed, sizes, cut_at=cut_at))


@pytest.mark.parametrize("cut_at", [0, 50, 200, 300, 400, 5_000, 150_000])
async def test_a_wire_that_swallows_is_found_by_keepalive(
    monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    monkeypatch.setattr(link, "KEEPALIVE_TIME_MS", 20)
    monkeypatch.setattr(link, "KEEPALIVE_TIMEOUT_MS", 20)
    sizes = (40_000, 100_000)
    assert not all(await all_ends(monkeypatch, cut_at, sizes, cut_at=cut_at, swallows=True))
