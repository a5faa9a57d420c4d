"""Snapshots at rest are read again: all of them, in pieces, whatever is deleted meanwhile."""

import asyncio

import pytest

from controller.quorum import scrub
from controller.quorum.scrub import SnapshotScrub
from klamm.ids import OffsetAndEpoch
from klamm.log import snapshot
from klamm.log.snapshot import SnapshotFiles, format_name
from tests.unit.quorum.nodes import DEADLINE_S
from tests.unit.quorum.test_installs import DIRECTORY, at, data_of, disk, put


class Rests:
    """The scrub goes on by as many pieces as the test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._turns = asyncio.Semaphore(0)
        self.taken = 0
        monkeypatch.setattr(scrub, "_rest", self._rest)
        monkeypatch.setattr(scrub, "SCRUB_BYTES", 1_000)
        monkeypatch.setattr(snapshot, "VERIFY_BYTES", 1_000)

    async def _rest(self) -> None:
        await self._turns.acquire()
        self.taken += 1

    async def give(self, count: int) -> None:
        goal = self.taken + count
        for _ in range(count):
            self._turns.release()
        async with asyncio.timeout(DEADLINE_S):
            while self.taken < goal:
                await asyncio.sleep(0)


LARGE = at(400)


@pytest.mark.parametrize("flip", range(0, len(data_of(LARGE)), 997))
async def test_damage_anywhere_is_found_and_told_once(
    flip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 29."""
    rests, files = Rests(monkeypatch), disk(0)
    put(files, at(3), LARGE)
    snapshots, told = SnapshotFiles(files, DIRECTORY), list[str]()
    it = SnapshotScrub(snapshots)
    task = asyncio.create_task(it.run(lambda error: told.append(str(error))))
    await rests.give(2 * len(data_of(LARGE)) // 1_000)
    assert (it.damaged, told) == (frozenset(), [])
    files.damage(DIRECTORY / format_name(LARGE), flip, 4)
    await rests.give(3 * len(data_of(LARGE)) // 1_000)
    assert it.damaged == {LARGE}
    assert len(told) == 1
    assert format_name(LARGE) in told[0]
    snapshots.delete(LARGE)
    assert it.damaged == frozenset(), "gone"
    task.cancel()


@pytest.mark.parametrize("pieces", range(6))
async def test_one_that_is_deleted_meanwhile_is_not_damaged(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests, files = Rests(monkeypatch), disk(0)
    put(files, LARGE)
    snapshots, told = SnapshotFiles(files, DIRECTORY), list[object]()
    it = SnapshotScrub(snapshots)
    task = asyncio.create_task(it.run(told.append))
    await rests.give(pieces)
    snapshots.delete(LARGE)
    await rests.give(5)
    assert (it.damaged, told, task.done()) == (frozenset[OffsetAndEpoch](), [], False)
    task.cancel()


async def test_one_that_cannot_be_read_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 33: EIO."""
    rests, files = Rests(monkeypatch), disk(0)
    put(files, LARGE)
    it = SnapshotScrub(SnapshotFiles(files, DIRECTORY))

    async def run() -> None:
        with pytest.raises(OSError, match="Input/output error"):
            await it.run(lambda error: None)

    files.fail("read", path=format_name(LARGE))
    task = asyncio.create_task(run())
    await rests.give(1)
    await task
