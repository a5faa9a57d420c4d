"""What is committed is delivered, in order, and not only to who leads (row 83)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from controller.quorum.applier import Applier
from controller.raft.effects import Claim, Commit, Renounce
from klamm.errors import CommitUnknownError
from klamm.ids import Epoch, Offset
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from tests.unit.quorum.nodes import Machine

BATCHES = [
    build_batch(
        [NewRecord(value=b"%d" % at)],
        base_offset=Offset(at),
        leader_epoch=Epoch(1),
        timestamp_ms=1,
        base_sequence=1,
    )
    for at in range(4)
]


def read(start: Offset, max_bytes: int, up_to: Offset) -> bytes:
    return b"".join(BATCHES[start:up_to])


@asynccontextmanager
async def applying() -> AsyncIterator[tuple[Applier, Machine]]:
    applier, machine = Applier(read, lambda *_: b"", Offset(0)), Machine()
    task = asyncio.create_task(applier.run(machine))
    try:
        yield applier, machine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_row_83_what_is_committed_is_delivered_whoever_leads() -> None:
    async with applying() as (applier, machine):
        applier.tell(Commit(Offset(2)))
        await machine.until(lambda: machine.end == 2)
        assert (machine.values, machine.turns) == ([b"0", b"1"], [])


async def test_what_is_short_is_delivered_in_the_turn_and_what_is_long_by_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with applying() as (applier, machine):
        await asyncio.sleep(0)
        applier.tell(Commit(Offset(1)))
        applier.turn()
        assert machine.values == [b"0"]
        pieces = iter(BATCHES[1:])
        monkeypatch.setattr(applier, "_read", lambda *_: next(pieces))
        applier.tell(Commit(Offset(4)))
        applier.turn()
        assert machine.values == [b"0", b"1"], "a piece, and the rest is not the turn's"
        applier.tell(Claim(Epoch(2), Offset(4)))
        applier.turn()
        assert machine.epoch is None, "in order"
        await machine.until(lambda: machine.epoch == 2)
        assert machine.values == [b"0", b"1", b"2", b"3"]


async def test_commits_that_wait_are_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot may take long to load, and a thousand commits come each second."""
    async with applying() as (applier, machine):
        await asyncio.sleep(0)
        pieces = iter(BATCHES)
        monkeypatch.setattr(applier, "_read", lambda *_: next(pieces))
        applier.tell(Commit(Offset(2)))
        applier.turn()
        assert machine.end == 1, "half delivered"
        for end in (2, 2, 3, 3, 4, 4):
            applier.tell(Commit(Offset(end)))
        assert len(applier._todo) == 2
        await machine.until(lambda: machine.end == 4)
        assert machine.values == [b"0", b"1", b"2", b"3"]


async def test_rows_80_and_81_each_batch_once_and_the_claim_when_all_is_delivered() -> None:
    """Machine holds it against what it has seen; told to claim too early, it would not."""
    async with applying() as (applier, machine):
        for each in (Commit(Offset(1)), Commit(Offset(3)), Claim(Epoch(2), Offset(3))):
            applier.tell(each)
        applier.turn()
        await machine.until(lambda: machine.epoch == 2)
        assert machine.values == [b"0", b"1", b"2"]
        wait = asyncio.create_task(applier.wait(Epoch(2), Offset(4), 5_000))
        applier.tell(Renounce(Epoch(2)))
        applier.tell(Commit(Offset(4)))
        applier.turn()
        await machine.until(lambda: machine.end == 4)
        assert machine.turns == ["claim 2", "renounce 2"]
        with pytest.raises(CommitUnknownError):
            await wait


async def test_who_waits_is_woken_when_its_own_end_was_seen_and_not_before() -> None:
    async with applying() as (applier, machine), asyncio.timeout(30):
        await asyncio.sleep(0)
        for each in (Commit(Offset(1)), Claim(Epoch(2), Offset(1))):
            applier.tell(each)
        applier.turn()
        three = asyncio.create_task(applier.wait(Epoch(2), Offset(3), 60_000))
        two = asyncio.create_task(applier.wait(Epoch(2), Offset(2), 60_000))
        await asyncio.sleep(0)
        applier.tell(Commit(Offset(2)))
        applier.turn()
        await two
        await asyncio.sleep(0)
        assert not three.done()
        applier.tell(Commit(Offset(3)))
        applier.turn()
        await three
        await applier.wait(Epoch(2), Offset(3), 60_000)  # Nothing more comes to wake it.
        assert machine.end == 3


async def test_a_wait_has_an_end_and_its_outcome_is_unknown() -> None:
    async with applying() as (applier, _), asyncio.timeout(30):
        await asyncio.sleep(0)
        for each in (Commit(Offset(1)), Claim(Epoch(2), Offset(1))):
            applier.tell(each)
        applier.turn()
        with pytest.raises(CommitUnknownError, match="within 1 ms; it may still be"):
            await applier.wait(Epoch(2), Offset(2), 1)
