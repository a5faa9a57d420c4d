"""A name server that is silent costs one thread a name, and none that is needed elsewhere."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest

from klamm import names
from klamm.rpc.channel import Channel
from klamm.rpc.status import NEVER_SENT

DEADLINE_S = 20.0


class Resolver:
    """Knows every name but those that begin with `silent`: those it keeps waiting."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.let_go = threading.Event()
        self.daemons: list[bool] = []

    def __call__(self, host: str, port: int, *rest: int) -> list[tuple[Any, ...]]:
        self.asked[host] += 1
        self.daemons.append(threading.current_thread().daemon)
        if host.startswith("silent"):
            self.let_go.wait()
        if host.startswith("unknown"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.let_go.set()


def test_attempts_at_a_silent_name_leave_threads_for_the_disk_and_for_other_names(
    resolver: Resolver,
) -> None:
    async def attempts() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3 * names.THREADS_MAX):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await loop.getaddrinfo("silent.example", 9092)
        async with asyncio.timeout(DEADLINE_S):
            assert await loop.run_in_executor(None, lambda: "synced") == "synced"
            found = await loop.getaddrinfo("other.example", 9092)
            assert found[0][4] == ("127.0.0.1", 9092)

    names.run(attempts())
    assert resolver.asked == {"silent.example": 1, "other.example": 1}
    assert all(resolver.daemons), "the end of the process would wait for them"


def test_a_channel_to_a_silent_name_fails_its_calls_and_tries_again_without_another_thread(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("klamm.rpc.channel.CONNECT_MS", (1, 1))
    failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def attempts() -> None:
        async with Channel("silent.example:9093") as channel, asyncio.timeout(DEADLINE_S):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/a/b")(b"")
            assert (caught.value.details() or "").startswith(NEVER_SENT)
            for _ in range(5):
                await channel.wait_for_state_change(failing)
                await channel.wait_for_state_change(channel.get_state())

    names.run(attempts())
    assert resolver.asked == {"silent.example": 1}


def test_a_name_that_is_not_known_is_looked_up_again_when_it_is_asked_for_again(
    resolver: Resolver,
) -> None:
    async def ask() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            both = [loop.getaddrinfo("unknown.example", 1) for _ in range(3)]
            answers = await asyncio.gather(*both, return_exceptions=True)
            assert [type(each) for each in answers] == [socket.gaierror] * 3

    names.run(ask())
    assert resolver.asked == {"unknown.example": 2}


def test_names_beyond_the_threads_wait_for_their_turn_and_beyond_that_are_refused(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "THREADS_MAX", 2)
    monkeypatch.setattr(names, "WAITING_MAX", 3)

    async def ask() -> None:
        loop = asyncio.get_running_loop()
        asked = [
            asyncio.ensure_future(loop.getaddrinfo(f"silent-{each}.example", 1))
            for each in range(5)
        ]
        await asyncio.sleep(0)
        with pytest.raises(socket.gaierror, match="5 names are being looked up"):
            await loop.getaddrinfo("silent-6.example", 1)
        async with asyncio.timeout(DEADLINE_S):
            while resolver.asked.total() < 2:
                await asyncio.sleep(0.001)
            assert resolver.asked.total() == 2, "no thread more"
            resolver.let_go.set()
            assert len(await asyncio.gather(*asked)) == 5

    names.run(ask())


def test_a_loop_that_ends_does_not_wait_for_a_silent_name(resolver: Resolver) -> None:
    async def ask() -> None:
        lookup = asyncio.ensure_future(
            asyncio.get_running_loop().getaddrinfo("silent.example", 9092)
        )
        await asyncio.sleep(0)
        lookup.cancel()

    names.run(ask())  # And what comes later finds no loop, which is no error.
    resolver.let_go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("lookup"):
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
