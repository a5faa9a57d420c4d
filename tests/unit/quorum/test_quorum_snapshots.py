"""Three voters with real sockets and files, snapshots, and one that was away for too long."""

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from controller.quorum import downloads
from controller.quorum.store import LogStore
from controller.raft import download
from klamm.errors import CommitUnknownError, DefiniteError, StartError
from klamm.ids import Offset
from klamm.log.snapshot import format_name
from klamm.rpc.channel import open_channel
from klamm.rpc.status import CompactedError
from klamm.v1 import quorum_pb2 as pb
from klamm.v1 import quorum_pb2_grpc as pb_grpc
from tests.unit.quorum.nodes import CLUSTER, DEADLINE_S, Member, Members, members


async def filled(group: Members, active: Member, rounds: int = 4) -> None:
    """Batches enough for several segments of a few KiB, through `active` or who leads after it."""
    for each in range(rounds):
        values = [f"{active.machine.end}.{each}.{at}".ljust(200).encode() for at in range(20)]
        async with asyncio.timeout(60):
            while True:
                if active.machine.epoch is None:
                    active = await group.active()
                try:
                    await group.write(active, *values)
                    break
                except (CommitUnknownError, DefiniteError):
                    active = await group.active()


async def everywhere(group: Members, end: Offset) -> None:
    for each in group.all:
        if each.running:
            await each.machine.until(lambda each=each: each.machine.end >= end)  # type: ignore[misc]


def small_segments(group: Members) -> None:
    for each in group.all:
        each.segment_bytes = 8 * 1024


async def restart_all(group: Members) -> Member:
    for each in group.all:
        if each.running:
            await each.kill()
    for each in group.all:
        await each.restart(group.ports)
    return await group.active()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CHUNK_BYTES_FIRST", 5_000)
    monkeypatch.setattr(download, "CHUNK_BYTES_MAX", 5_000)


@pytest.fixture
def unheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for a download before snapshots go."""
    monkeypatch.setattr(downloads, "HELD_AFTER_CHUNK_MS", 0)


@pytest.mark.usefixtures("unheld")
async def test_a_laggard_of_any_age_catches_up_while_writes_go_on(tmp_path: Path) -> None:
    """Rows 102, 105, 106; scenario 22 in small: snapshot and tail say what the whole log says."""
    async with members(tmp_path) as group:
        small_segments(group)
        active = await restart_all(group)
        await filled(group, active)
        laggard = next(each for each in group.all if each is not active)
        await laggard.kill()
        for _ in range(3):
            await filled(group, active)
            await active.trim(await active.snapshot())
        names = {path.name for path in active.directory.rglob("*.log")}
        assert "00000000000000000000.log" not in names, "whole segments below went"
        await laggard.restart(group.ports)
        writing = asyncio.create_task(filled(group, active, rounds=20))
        await laggard.machine.until(lambda: laggard.node.log_start_offset > 0)
        await writing
        await everywhere(group, active.machine.end)
        assert laggard.machine.values == active.machine.values
        assert laggard.machine.turns[0].startswith("load ")
        assert laggard.node.log_start_offset == active.node.log_start_offset
        # Twice, since what it fell behind once it may fall behind again (row 102).
        await laggard.kill()
        await filled(group, active)
        await active.trim(await active.snapshot())
        await laggard.restart(group.ports)
        await everywhere(group, active.machine.end)
        assert laggard.machine.values == active.machine.values


async def test_a_download_that_is_over_does_not_hold_the_log(tmp_path: Path) -> None:
    """Who downloaded and follows again needs nothing old: the log may begin later at once."""
    async with members(tmp_path) as group:
        small_segments(group)
        active = await restart_all(group)
        laggard = next(each for each in group.all if each is not active)
        await laggard.kill()
        await filled(group, active)
        await active.trim(await active.snapshot())
        await laggard.restart(group.ports)
        await laggard.machine.until(lambda: laggard.node.log_start_offset > 0)
        await filled(group, active)
        await everywhere(group, active.machine.end)
        newer = await active.snapshot()
        async with asyncio.timeout(DEADLINE_S):
            while not active.node.trim(newer):
                await asyncio.sleep(0.001)  # Its fetch from the end is on its way.


async def test_all_restart_from_their_snapshots(tmp_path: Path) -> None:
    """Base epochs, voters and high watermarks come from the snapshots."""
    async with members(tmp_path) as group:
        small_segments(group)
        active = await restart_all(group)
        await filled(group, active)
        await everywhere(group, active.machine.end)
        for each in group.all:
            await each.trim(await each.snapshot())
        expected, start = list(active.machine.values), active.node.log_start_offset
        voters = active.node.snapshots
        active = await restart_all(group)
        assert active.machine.values == expected
        assert active.machine.turns[0] == f"load {start}"
        assert active.node.log_start_offset == start
        assert [each.snapshot_id for each in active.node.snapshots] == [
            each.snapshot_id for each in voters
        ]
        await filled(group, active)
        await everywhere(group, active.machine.end)
        with pytest.raises(CompactedError):
            await active.node.read_committed(Offset(0), 1_000)


async def test_snapshots_are_of_whole_committed_batches(tmp_path: Path) -> None:
    """Rows 95, 110: not aligned, not committed; and none is needed twice."""
    async with members(tmp_path) as group:
        active = await group.active()
        end = await group.write(active, b"a", b"b")
        with pytest.raises(ValueError, match="within a batch"):
            active.node.snapshot_point(Offset(end - 1))
        with pytest.raises(ValueError, match="not committed"):
            active.node.snapshot_point(Offset(end + 1))
        point = active.node.snapshot_point(end)
        assert point is not None
        assert point.voters.ids == (1, 2, 3)
        assert all(each.directory_id is not None for each in point.voters.voters)
        await active.snapshot()
        assert active.node.snapshot_point(end) is None


async def test_a_snapshot_that_is_downloaded_is_not_taken_away(tmp_path: Path) -> None:
    async with members(tmp_path, count=1) as group:
        active = await group.active()
        await group.write(active, b"a")
        first = await active.snapshot()
        await group.write(active, b"b")
        second = await active.snapshot()
        answer = await ask(active, first.offset, first.epoch, observer=True)
        size = active.node.snapshot_files.size(first)
        assert (answer.error, answer.size_bytes, len(answer.chunk)) == (0, size, size)
        assert answer.chunk == active.node.snapshot_files.read(first, 0, 1 << 20)
        assert not active.node.trim(second)
        assert active.node.trim(first)


@pytest.mark.parametrize(
    ("offset", "position", "error"),
    [
        (7, 0, pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND),
        (0, 0, pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND),
        (4, 1 << 20, pb.QUORUM_ERROR_POSITION_OUT_OF_RANGE),
    ],
)
@pytest.mark.parametrize("observer", [True, False])
async def test_chunks_are_refused_by_name(
    tmp_path: Path, offset: int, position: int, error: int, observer: bool
) -> None:
    """Row 104, over the wire."""
    async with members(tmp_path, count=1) as group:
        active = await group.active()
        assert await group.write(active, b"a", b"b") == 4
        await active.snapshot()
        epoch = active.node.epoch
        assert (await ask(active, offset, epoch, position, observer=observer)).error == error


async def test_downloads_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.quorum.service.DOWNLOADS_MAX", 0)
    assert downloads.DOWNLOADS_MAX > 0
    async with members(tmp_path, count=1) as group:
        active = await group.active()
        assert (await ask(active, 4, 1, observer=True)).error == pb.QUORUM_ERROR_OVERLOADED


async def test_an_observer_at_nothing_is_told_of_a_snapshot(tmp_path: Path) -> None:
    """Row 103, by any controller."""
    async with members(tmp_path, count=1) as group:
        active = await group.active()
        await group.write(active, b"a", b"b")
        snapshot_id = await active.snapshot()
        channel = open_channel(f"127.0.0.1:{active.port}")
        try:
            call = pb_grpc.QuorumServiceStub(channel).Fetch()
            caller = pb.Caller(cluster_id=CLUSTER, node_id=9, receiver_id=active.node_id)
            end = pb.OffsetAndEpoch(offset=0, epoch=-1)
            await call.write(pb.FetchRequest(caller=caller, log_end=end, observer=True))
            answer = await call.read()
            assert isinstance(answer, pb.FetchResponse)
            told = (answer.snapshot_id.offset, answer.snapshot_id.epoch)
            assert told == (snapshot_id.offset, snapshot_id.epoch)
            assert not answer.batches
            call.cancel()
        finally:
            await channel.close()


async def test_a_log_without_its_beginning_does_not_start(tmp_path: Path) -> None:
    """Row 98 (KAFKA-14240)."""
    async with members(tmp_path, count=1) as group:
        small_segments(group)
        active = await restart_all(group)
        await filled(group, active)
        snapshot_id = await active.snapshot()
        await filled(group, active)
        await active.trim(snapshot_id)
        await active.kill()
        (path,) = active.directory.rglob(format_name(snapshot_id))
        path.rename(path.with_name(path.name + ".deleted"))
        with pytest.raises(StartError, match="no sound snapshot of what was before"):
            active.open(group.ports)


async def test_peers_give_back_a_damaged_beginning(tmp_path: Path) -> None:
    """Scenarios 29, 62: the snapshot that a log begins with, damaged while the node was down."""
    async with members(tmp_path) as group:
        small_segments(group)
        active = await restart_all(group)
        victim, other = (each for each in group.all if each is not active)
        await filled(group, active)
        await everywhere(group, active.machine.end)
        snapshot_id = await victim.snapshot()
        await victim.trim(snapshot_id)
        await victim.kill()
        (path,) = victim.directory.rglob(format_name(snapshot_id))
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        path.write_bytes(damaged)
        await victim.restart(group.ports)
        assert "no sound snapshot" in victim.node.recovering
        assert path.with_name(path.name + ".damaged").exists()
        active = await group.active()
        await group.write(active, b"meanwhile")
        await everywhere(group, active.machine.end)
        assert victim.machine.values == active.machine.values
        async with asyncio.timeout(DEADLINE_S):
            while victim.node.recovering:
                await asyncio.sleep(0)
        # And it is a voter as any other: without it there is no majority now.
        await other.kill()
        await filled(group, await group.active(), 1)


async def test_a_damaged_snapshot_is_not_handed_out(tmp_path: Path) -> None:
    """Scenario 29: whoever needs it waits for the next one."""
    async with members(tmp_path, count=1) as group:
        active = await group.active()
        await group.write(active, b"a")
        first = await active.snapshot()
        (path,) = active.directory.rglob(format_name(first))
        damaged = bytearray(path.read_bytes())
        damaged[-9] ^= 1
        path.write_bytes(damaged)
        for observer in (True, False):
            answer = await ask(active, first.offset, first.epoch, observer=observer)
            assert (answer.error, answer.chunk) == (pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND, b"")
        await group.write(active, b"b")
        second = await active.snapshot()
        answer = await ask(active, second.offset, second.epoch, observer=True)
        assert answer.chunk == active.node.snapshot_files.read(second, 0, 1 << 20)


async def test_a_damaged_download_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 29: a bit that flips on its way is found before anything is believed."""
    async with members(tmp_path) as group:
        active = await group.active()
        laggard = next(each for each in group.all if each is not active)
        await laggard.kill()
        await filled(group, active)
        await active.snapshot()
        honest, flips = LogStore.read_chunk, [True]

        def read_chunk(self: LogStore, *args: object) -> bytes:
            data = bytearray(honest(self, *args))  # type: ignore[arg-type]
            if flips and len(data) > 4_000:
                flips.pop()
                data[3_000] ^= 16
            return bytes(data)

        monkeypatch.setattr(LogStore, "read_chunk", read_chunk)
        for path in laggard.directory.rglob("*"):
            if path.is_file():
                path.unlink()
        await laggard.restart(group.ports)
        await everywhere(group, active.machine.end)
        assert not flips
        assert laggard.machine.values == active.machine.values


@pytest.mark.usefixtures("unheld")
async def test_two_snapshots_in_quick_succession(tmp_path: Path) -> None:
    """Scenario 21 (etcd #18055): the older one goes while its laggard has just begun."""
    async with members(tmp_path) as group:
        active = await group.active()
        laggard = next(each for each in group.all if each is not active)
        await laggard.kill()
        await filled(group, active)
        await active.trim(await active.snapshot())
        await laggard.restart(group.ports)
        for _ in range(5):
            await filled(group, active, rounds=1)
            snapshot_id = await active.snapshot()
            await active.trim(snapshot_id)
        await everywhere(group, active.machine.end)
        assert laggard.machine.values == active.machine.values


async def ask(
    member: Member, offset: int, epoch: int, position: int = 0, *, observer: bool
) -> pb.FetchSnapshotResponse:
    """For one chunk."""
    channel: grpc.aio.Channel = open_channel(f"127.0.0.1:{member.port}")
    try:
        call = pb_grpc.QuorumServiceStub(channel).FetchSnapshot()
        request = pb.FetchSnapshotRequest(
            caller=pb.Caller(cluster_id=CLUSTER, node_id=9, receiver_id=member.node_id),
            epoch=member.node.epoch,
            snapshot_id=pb.OffsetAndEpoch(offset=offset, epoch=epoch),
            position=position,
            max_bytes=1 << 20,
            observer=observer,
        )
        await call.write(request)
        answer = await call.read()
        assert isinstance(answer, pb.FetchSnapshotResponse)
        await call.done_writing()
        return answer
    finally:
        await channel.close()
