"""When the log is synced, and when not: one fsync at a time, and none while the log is cut."""

import asyncio
import errno
from typing import cast

import pytest

from controller.quorum.flusher import Flusher
from controller.quorum.outside import Flushed, Store
from controller.raft.events import LogFlushed
from klamm.errors import NoSpaceError, StorageError
from klamm.ids import Offset


class FakeStore:
    """Its syncs end when the test says so."""

    def __init__(self) -> None:
        self.under_way: list[Flushed] = []

    def flush(self, done: Flushed) -> None:
        self.under_way.append(done)

    def end(self, outcome: Offset | BaseException) -> None:
        (done,) = self.under_way
        self.under_way.clear()
        done(outcome)


class Room:
    def __init__(self) -> None:
        self.store = FakeStore()
        self.done: list[LogFlushed] = []
        self.failed: list[BaseException] = []
        self.flusher = Flusher(cast("Store", self.store), self.done.append, self.failed.append)


@pytest.fixture
def room() -> Room:
    return Room()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_meanwhile_shares_the_next(room: Room) -> None:
    room.flusher.appended()
    room.flusher.appended()
    room.flusher.appended()
    room.store.end(Offset(1))
    assert room.done == [LogFlushed(Offset(1), 0)]
    room.store.end(Offset(3))
    assert room.store.under_way == []
    assert room.done[1:] == [LogFlushed(Offset(3), 0)]


async def test_nothing_is_cut_while_a_sync_is_out(room: Room) -> None:
    room.flusher.appended()
    cut = asyncio.ensure_future(room.flusher.still().__aenter__())
    await turns()
    assert not cut.done()
    room.store.end(Offset(1))
    await turns()
    assert cut.done()


@pytest.mark.parametrize("short", [True, False])
async def test_no_sync_begins_while_the_log_is_cut(
    room: Room, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    """Its word would be of what is not there any more; not even the one that is to be repeated."""
    monkeypatch.setattr("controller.quorum.flusher.RETRY_S", 0.0)
    room.flusher.appended()
    room.store.end(NoSpaceError("log", 0, OSError(errno.EMFILE, "")) if short else Offset(1))
    async with room.flusher.still():
        if not short:
            room.flusher.appended()
        await turns()
        assert room.store.under_way == []
        room.flusher.truncations += 1
    room.store.end(Offset(1))
    assert room.done[-1] == LogFlushed(Offset(1), 1)
    assert room.store.under_way == []


async def test_after_a_failure_nothing_begins(room: Room) -> None:
    """Scenario 32: neither what has come meanwhile, nor when the log was to be cut."""
    room.flusher.appended()
    room.flusher.appended()
    broken = StorageError("EIO")
    room.store.end(broken)
    assert (room.failed, room.done, room.store.under_way) == ([broken], [], [])
    assert room.flusher.failure is broken


async def test_a_cut_that_fails_begins_none(room: Room) -> None:
    cut = room.flusher.still()
    await cut.__aenter__()
    room.flusher.appended()
    assert not await cut.__aexit__(StorageError, StorageError("EIO"), None)
    assert room.store.under_way == []


async def test_who_has_stopped_begins_none(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.quorum.flusher.RETRY_S", 0.0)
    room.flusher.appended()
    room.store.end(NoSpaceError("log", 0, OSError(errno.EMFILE, "")))
    room.flusher.stop()
    await turns()
    room.flusher.appended()
    assert room.store.under_way == []


async def test_a_log_that_failed_while_a_sync_was_out_is_told_and_not_raised(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append fails, and then the sync before it ends: nobody stands above to catch the next."""
    room.flusher.appended()
    room.flusher.appended()

    def flush(done: Flushed) -> None:
        raise error

    error = StorageError("cannot append")
    monkeypatch.setattr(room.store, "flush", flush)
    room.store.end(Offset(1))
    assert room.failed == [error]
    assert room.flusher.failure is error
