"""The controller's own state in snapshots on a real disk: written, loaded, cleaned, refused."""

import asyncio
import errno
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count, pairwise
from pathlib import Path

import pytest

from controller import snapshots
from controller.active import ActiveController
from controller.plan.decision import Decision
from controller.quorum import scrub
from controller.quorum.downloads import Downloads
from controller.snapshots import Snapshots
from klamm.clock import SystemClock
from klamm.config.controller import ControllerConfig
from klamm.ids import Offset, OffsetAndEpoch
from klamm.log.snapshot import PartFile, format_name
from klamm.metadata.image import MetadataImage
from klamm.metadata.records import Cause, MetadataRecord
from klamm.telemetry import metrics
from tests.unit.metadata.histories import history
from tests.unit.quorum.nodes import DEADLINE_S, Member

CAUSE = Cause(principal="User:a", request="x")


class World:
    """A quorum of one, with the active controller's real state on it."""

    def __init__(self, directory: Path, **keys: str) -> None:
        self.member = Member(1, directory)
        self.member.segment_bytes = 4 * 1024
        self.node = self.member.open({self.member.node_id: self.member.port})
        config, clock = ControllerConfig.for_tests(**keys), SystemClock()
        self.active = ActiveController(self.node, config, clock, random.Random(1))
        self.snapshots = Snapshots(self.node, self.active.log, config, clock, random.Random(1))
        self.rng = random.Random(5)

    @property
    def image(self) -> MetadataImage:
        return self.active.log.image

    async def write(self, count: int) -> None:
        records, _ = history(self.rng, count, self.image)
        for each in records:
            await self.decide(each)

    async def decide(self, record: MetadataRecord) -> None:
        await self.active.log.decide(lambda *_: Decision((record,), None), CAUSE, 10_000)


@asynccontextmanager
async def world(directory: Path, **keys: str) -> AsyncIterator[World]:
    it = World(directory, **keys)
    task = asyncio.create_task(it.node.run(it.active.log))
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not it.active.log.active:
                assert not task.done(), task
                await asyncio.sleep(0.001)
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await it.node.close()


def parts(directory: Path) -> list[Path]:
    return list(directory.rglob("*.part"))


async def held(it: World, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(it.node.snapshots) != count:
            await asyncio.sleep(0.001)


async def test_what_was_written_is_the_state_after_the_next_start(tmp_path: Path) -> None:
    """Row 129 and scenario 22, of the controller's own state."""
    async with world(tmp_path) as it:
        await it.write(80)
        snapshot_id = await it.snapshots.write()
        assert snapshot_id == it.image.provenance
        await held(it, 1)
        assert await it.snapshots.write() is None, "nothing is new"
        await it.write(20)
        second = await it.snapshots.write()
        assert second is not None
        await held(it, 2)
        await it.write(20)
        before = it.image
    async with world(tmp_path) as it:
        assert it.snapshots.loaded == 1
        again = it.image
        assert (again.topics, again.brokers) == (before.topics, before.brokers)
        assert (again.configs, again.features) == (before.configs, before.features)
        assert again.next_producer_id == before.next_producer_id
        view = it.active.log.pending
        assert all(view.held_by(each) is not None for each in range(5))
        await it.write(20)


async def test_writing_goes_on_while_a_snapshot_is_written(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.write(60)
        point = it.image.provenance
        writing = asyncio.create_task(it.snapshots.write())
        await asyncio.sleep(0)
        await it.write(20)
        assert await writing == point
        assert it.image.provenance.offset == point.offset + 20


class Part:
    """Of a file: how long it is, and where it was made durable."""

    def __init__(self) -> None:
        self.position = 0
        self.synced: list[int] = []

    def append(self, piece: bytes) -> None:
        self.position += len(piece)

    def sync(self) -> None:
        self.synced.append(self.position)


async def test_who_writes_one_rests_so_that_commits_do_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never longer at it than SLICE_US, if a piece takes less; and its disk never owes much."""
    it = World(tmp_path)
    rests: list[int] = []
    part, pieces_a_slice, sleep = Part(), 4, asyncio.sleep
    time_ns = count(step=snapshots.SLICE_US * 1_000 // pieces_a_slice)
    monkeypatch.setattr(it.snapshots, "_now_ns", lambda: next(time_ns))

    async def rest(delay_s: float) -> None:
        assert delay_s == snapshots.REST_MS / 1_000
        rests.append(part.position)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", rest)
    size = snapshots.SYNC_BYTES // 8
    await it.snapshots._fill(part, iter([(b"x" * size, Offset(1))] * 64))  # type: ignore[arg-type]
    gaps = [after - before for before, after in pairwise([0, *rests, part.position])]
    assert max(gaps) <= pieces_a_slice * size
    owed = [after - before for before, after in pairwise([0, *part.synced, part.position])]
    assert max(owed) <= snapshots.SYNC_BYTES
    await it.node.close()


async def test_triggers_and_retention(tmp_path: Path) -> None:
    """Rows 101, 186: by bytes; the older goes, and the log before the newer."""
    keys = {
        "metadata_log_max_record_bytes_between_snapshots": "3000",
        "metadata_max_retention_bytes": "1",
    }
    async with world(tmp_path, **keys) as it:
        await it.snapshots.look()
        assert it.node.snapshots == ()
        for _ in range(2):
            await it.write(60)
            written = it.image.provenance
            await it.snapshots.look()
            await held(it, 1)
            assert it.node.snapshots[0].snapshot_id == written, "and the one before is gone"
        assert it.node.log_start_offset == it.node.snapshots[0].snapshot_id.offset > 0
        before = it.image
    async with world(tmp_path, **keys) as it:
        assert it.image.topics == before.topics


def flip(directory: Path, snapshot_id: OffsetAndEpoch) -> Path:
    """One bit of it; its path."""
    (path,) = directory.rglob(format_name(snapshot_id))
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    return path


async def test_one_that_is_damaged_where_it_lies_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 29, of snapshots at rest: found, said, not handed out, and another one written."""
    monkeypatch.setattr(scrub, "SCRUB_EVERY_MS", 5)
    before = metrics.RAFT_LOG_DAMAGE._value.get()
    async with world(tmp_path) as it:
        await it.write(60)
        first = await it.snapshots.write()
        assert first is not None
        await held(it, 1)
        downloads = Downloads(SystemClock())
        assert await downloads.is_sound(first, it.node)
        path = flip(tmp_path, first)
        async with asyncio.timeout(DEADLINE_S):
            while it.node.damaged_snapshots != {first}:
                await asyncio.sleep(0.001)
        assert metrics.RAFT_LOG_DAMAGE._value.get() == before + 1, "once"
        assert not await downloads.is_sound(first, it.node)
        await it.snapshots.look()
        assert len(it.node.snapshots) == 1, "nothing is new, so there is none to write"
        await it.write(1)
        await it.snapshots.look()
        async with asyncio.timeout(DEADLINE_S):
            while it.node.damaged_snapshots or path.exists():
                await asyncio.sleep(0.001)
        assert it.node.log_start_offset == it.node.snapshots[0].snapshot_id.offset > first.offset
        topics = it.image.topics
    async with world(tmp_path) as it:
        assert it.image.topics == topics


async def test_a_full_disk_leaves_nothing_behind_and_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 186, testEmitterProblem; ENOSPC. Commits go on."""
    keys = {"metadata_log_max_record_bytes_between_snapshots": "1"}
    async with world(tmp_path, **keys) as it:
        await it.write(10)

        def full(self: PartFile, data: object) -> None:
            raise OSError(errno.ENOSPC, "no space")

        with monkeypatch.context() as patched:
            patched.setattr(PartFile, "append", full)
            await it.snapshots.look()
        assert not parts(tmp_path)
        await it.write(10)
        await it.snapshots.look()
        assert it.node.snapshots == (), "not at once again"
        it.snapshots._retry_ms = 0
        await it.snapshots.look()
        await held(it, 1)


async def test_a_writer_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        await it.write(30)
        task = asyncio.create_task(it.snapshots.write())
        async with asyncio.timeout(DEADLINE_S):
            while not parts(tmp_path):
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert not parts(tmp_path)
        assert Offset(0) == it.node.log_start_offset
