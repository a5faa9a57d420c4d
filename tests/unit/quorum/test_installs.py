"""Snapshots on a voter's disk: what stands there after any crash (kraft 1.11, rows 95-101, 111).

log        epoch 7, one record a batch, offsets 0 to 9; a few batches a segment
snapshot   of an end, with one value for each record below it
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from controller.quorum.bounds import QUORUM_BOUNDS, Bounds, read_bounds
from controller.quorum.known_voters import HasPeers, nobody, others_than
from controller.quorum.opening import METADATA_LOG
from controller.quorum.port import SnapshotPoint
from controller.quorum.quorum_state import QUORUM_STATE, format_state
from controller.quorum.store import Loaded, LogStore
from controller.raft.effects import AppendChunk, AppendControl
from controller.raft.state import SavedState
from controller.raft.voters import Voter, VoterSet
from klamm.clock import SystemClock
from klamm.errors import StartError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from klamm.log.log import LogConfig
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles, format_name, parse_name
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.quorum.flushes import flushed
from tests.unit.quorum.nodes import snapshot_bytes
from tests.unit.quorum.test_opening import batch

ROOT = Path("/metadata")
DIRECTORY = ROOT / METADATA_LOG
SMALL = LogConfig(segment_bytes=250)
VOTERS = VoterSet(
    tuple(
        Voter(node_id=NodeId(each), directory_id=DirectoryId(UUID(int=each))) for each in (1, 2, 3)
    )
)
OTHERS = others_than(NodeId(1), configured=True)


def at(offset: int, epoch: int = 7) -> OffsetAndEpoch:
    return OffsetAndEpoch(epoch=Epoch(epoch), offset=Offset(offset))


def data_of(snapshot_id: OffsetAndEpoch) -> bytes:
    values = [b"value %d" % each for each in range(snapshot_id.offset)]
    return snapshot_bytes(SnapshotPoint(snapshot_id=snapshot_id, voters=VOTERS), values)


def opened(files: SimFiles, has_peers: HasPeers = OTHERS) -> LogStore:
    return LogStore.open(files, ROOT, SystemClock(), SMALL, has_peers=has_peers)


def load(files: SimFiles) -> Loaded:
    store = opened(files)
    loaded = store.load()
    store.close()
    return loaded


def disk(records: int = 10, epoch: int = 7) -> SimFiles:
    """With so many records, and a vote of epoch 9."""
    files = SimFiles()
    store = opened(files)
    for each in range(records):
        store.append_fetched(Offset(each), batch(each, epoch))
    store.close()
    files.replace_content(DIRECTORY / QUORUM_STATE, format_state(SavedState(epoch=Epoch(9))))
    return files


def put(files: SimFiles, *ids: OffsetAndEpoch) -> None:
    """Snapshots, as an earlier process left them."""
    for each in ids:
        files.replace_content(DIRECTORY / format_name(each), data_of(each))


def names(files: SimFiles) -> list[str]:
    return [each for each in files.list(DIRECTORY) if "checkpoint" in each and "leader" not in each]


def held(loaded: Loaded) -> list[OffsetAndEpoch]:
    return [each.snapshot_id for each in loaded.snapshots]


async def download(store: LogStore, snapshot_id: OffsetAndEpoch, chunk: int = 100) -> None:
    data = data_of(snapshot_id)
    for position in range(0, len(data), chunk):
        part = data[position : position + chunk]
        store.append_chunk(AppendChunk(snapshot_id=snapshot_id, position=position, data=part))
    assert await store.verify(snapshot_id) == VOTERS


# ── installing ───────────────────────────────────────────────────────────────────────────────

NEWER, WITHIN = at(25, 8), at(6, 8)
"""Beyond the log; and below the end of a log of other records than the leader's."""


@pytest.mark.parametrize("snapshot_id", [NEWER, WITHIN], ids=["beyond the end", "within"])
@pytest.mark.parametrize("older", [False, True], ids=["first", "second"])
async def test_an_install_leaves_old_or_new(snapshot_id: OffsetAndEpoch, older: bool) -> None:
    """Scenario 21: the power goes at any operation, and anything unsynced may be lost."""
    before = disk()
    if older:
        put(before, at(3))
    old = load(before)
    outcomes = set()
    for operation in range(1_000):
        files = before.clone()
        store = opened(files)
        start = files.operations
        files.crash_at_operation = start + operation
        try:
            await download(store, snapshot_id)
            await store.install(snapshot_id)
        except PowerCutError:
            pass
        else:
            break
        files.crash(Random(operation))
        found = load(files)
        assert found.distrust is None, found.distrust
        if found.log.start == snapshot_id:
            outcomes.add("new")
            assert found.log == EpochChain().begin_at(snapshot_id)
            assert held(found) == [snapshot_id]
            assert found.voters == ((snapshot_id.offset - 1, VOTERS),)
        else:
            outcomes.add("old")
            assert (found.log, held(found)) == (old.log, held(old))
        assert load(files) == found, "it is the same the next time"
        assert not [each for each in names(files) if each.endswith((".part", ".deleted"))]
    assert outcomes == {"old", "new"}
    files.crash_at_operation = None
    store.close()
    found = load(files)
    assert (found.log.start, held(found)) == (snapshot_id, [snapshot_id])


async def test_the_log_goes_on_behind_an_installed_snapshot() -> None:
    """And knows over restarts which epoch was before its first record."""
    files = disk()
    store = opened(files)
    await download(store, NEWER)
    await store.install(NEWER)
    store.append_fetched(Offset(25), batch(25, 8))
    assert await flushed(store) == 26
    assert store.read(Offset(25), 1_000, Offset(26)) == batch(25, 8)
    files.crash(Random(1))
    found = load(files)
    assert found.log == EpochChain().begin_at(NEWER).append(Epoch(8), 1)
    assert found.log.holds(NEWER)


async def test_the_bounds_vouch_for_an_installed_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scenario 30: a new replica that loses it, and all else, has lost something."""
    monkeypatch.setattr("controller.quorum.bounds.BOUNDS_EVERY_MS", 0)
    files = SimFiles()
    store = opened(files)
    await download(store, NEWER)
    await store.install(NEWER)
    keeping = asyncio.create_task(store.keep_bounds())
    async with asyncio.timeout(30):
        while (known := read_bounds(files, ROOT)) is None or known.end_offset < NEWER.offset:
            await asyncio.sleep(0.001)
    keeping.cancel()
    assert known.end_offset == NEWER.offset


async def test_what_is_not_whole_is_not_installed() -> None:
    """Every bit of a small snapshot, flipped; and every shorter one (scenario 29)."""
    snapshot_id = at(2)
    data = data_of(snapshot_id)
    store = opened(disk())

    async def verdict(damaged: bytes) -> object:
        store.append_chunk(AppendChunk(snapshot_id=snapshot_id, position=0, data=damaged))
        return await store.verify(snapshot_id)

    assert await verdict(data) == VOTERS
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        # The base offset and the epoch are under no checksum of Kafka's: they are held otherwise.
        assert await verdict(bytes(damaged)) is None, position
    for size in range(len(data)):  # Also where the footer would begin.
        assert await verdict(data[:size]) is None, size
    assert await verdict(data + data) is None


async def test_no_room_for_a_download_ends_it_and_nothing_else() -> None:
    """Scenario 34: the log goes on, and the download begins again when there is room."""
    files = disk()
    store = opened(files)
    chunk = AppendChunk(snapshot_id=NEWER, position=0, data=data_of(NEWER))
    files.capacity = sum(map(len, files.snapshot().values())) + 100
    assert not store.append_chunk(chunk)
    assert not store.append_chunk(replace(chunk, position=100)), "one that was on its way"
    assert await store.verify(NEWER) is None
    assert names(files) == []
    files.capacity = None
    store.append_fetched(Offset(10), batch(10))
    assert await flushed(store) == 11
    await download(store, NEWER)
    await store.install(NEWER)
    assert load(files).log.start == NEWER


async def test_an_abandoned_download_is_no_error_of_the_disk() -> None:
    files = disk()
    store = opened(files)
    data = data_of(NEWER)
    store.append_chunk(AppendChunk(snapshot_id=NEWER, position=0, data=data))
    verifying = asyncio.create_task(store.verify(NEWER))
    store.abandon(NEWER)
    assert await verifying is None
    assert await store.verify(NEWER) is None
    store.abandon(NEWER)
    assert names(files) == []
    # Begun anew, the first chunk forgets what was before.
    for _ in range(2):
        await download(store, NEWER)
    await store.install(NEWER)
    assert names(files) == [format_name(NEWER)]


# ── starting ─────────────────────────────────────────────────────────────────────────────────


def test_what_was_left_over_goes() -> None:
    """Row 99: parts, deleted ones, and snapshots below the log's start."""
    files = disk()
    put(files, at(3))
    for name in (format_name(at(8)) + ".part", format_name(at(2)) + ".deleted"):
        files.replace_content(DIRECTORY / name, b"left over")
    store = opened(files)
    store.trim(at(3))
    store.close()
    put(files, at(1))
    assert held(load(files)) == [at(3)]
    assert names(files) == [format_name(at(3))]


@pytest.mark.parametrize("left", [0, 5])
def test_a_snapshot_beyond_the_log_takes_its_place(left: int) -> None:
    """Row 97: older ones go with it. So too after a crash that took the log's unsynced end."""
    files = disk(left)
    put(files, at(3), NEWER)
    found = load(files)
    assert (found.log, held(found)) == (EpochChain().begin_at(NEWER), [NEWER])
    assert names(files) == [format_name(NEWER)]
    assert found.voters == ((24, VOTERS),)


def test_snapshots_within_the_log_leave_it_alone() -> None:
    """Row 97: testDoesntTruncateFully."""
    files = disk()
    whole = load(files).log
    put(files, at(3), at(10))
    found = load(files)
    assert (found.log, held(found)) == (whole, [at(3), at(10)])


def test_a_snapshot_of_other_records_than_the_logs_wins() -> None:
    """It is of what is committed; the log's own end never was."""
    files = disk()
    put(files, WITHIN)
    assert load(files).log == EpochChain().begin_at(WITHIN)


def without_base(what: str) -> SimFiles:
    """A log that begins at 8, or a little lower, and nothing sound to begin with."""
    files = disk()
    put(files, at(8))
    store = opened(files)
    store.trim(at(8))
    store.close()
    path = DIRECTORY / format_name(at(8))
    match what:
        case "deleted":
            files.rename(path, path.with_name(path.name + ".deleted"))
        case "damaged":
            files.damage(path, 100, 4)
        case _:
            files.remove(path)
    if what == "below":
        put(files, at(1))
    files.sync_directory(DIRECTORY)
    return files


WITHOUT_BASE = pytest.mark.parametrize("what", ["none", "below", "deleted", "damaged"])


@WITHOUT_BASE
def test_a_log_that_begins_in_the_middle_needs_a_snapshot(what: str) -> None:
    """Row 98 (KAFKA-14240): alone, no start; and nothing is moved."""
    files = without_base(what)
    before = names(files)
    with pytest.raises(StartError, match=r"begins at offset .* no sound snapshot.*No other voter"):
        opened(files, nobody)
    assert names(files) == before, "not what was on its way out either"
    assert "restore" in told_alone(files)


def told_alone(files: SimFiles) -> str:
    with pytest.raises(StartError) as refused:
        opened(files, nobody)
    return str(refused.value)


@WITHOUT_BASE
def test_peers_give_back_what_a_log_begins_with(what: str) -> None:
    """Scenarios 29, 62: it is said, set aside, and fetched anew by a voter without a vote."""
    files = without_base(what)
    store = opened(files)
    found = store.load()
    assert "no sound snapshot" in (found.distrust or "")
    assert store.damaged
    assert [each for each in store.notices if "no say until it has fetched it again" in each]
    start = EpochChain() if what != "below" else EpochChain().begin_at(at(1))
    assert found.log == start
    assert held(found) == ([at(1)] if what == "below" else [])
    kept = {"below": [format_name(at(1))], "damaged": [format_name(at(8)) + ".damaged"]}
    assert names(files) == kept.get(what, [])
    store.close()
    again = load(files)
    assert (again.distrust, again.log) == (found.distrust, found.log), "until it is whole"


@WITHOUT_BASE
def test_it_distrusts_itself_before_anything_is_moved(what: str) -> None:
    """Scenario 38: a crash at any operation, and it never comes to look whole or new."""
    before = without_base(what)
    for operation in range(200):
        files = before.clone()
        files.crash_at_operation = files.operations + operation
        try:
            opened(files)
        except PowerCutError:
            files.crash(Random(operation))
            assert "no sound snapshot" in (load(files).distrust or ""), operation
        else:
            break
    assert operation > 10


def test_a_damaged_snapshot_that_nothing_rests_on_is_set_aside() -> None:
    files = disk()
    put(files, at(3), at(6))
    files.damage(DIRECTORY / format_name(at(6)), 200, 1)
    store = opened(files)
    assert [each for each in store.notices if format_name(at(6)) in each]
    assert held(store.load()) == [at(3)]


def test_the_voters_are_the_snapshots_and_what_followed() -> None:
    """Row 111. The log below the snapshot is not read for them."""
    files = disk()
    put(files, at(6))
    fewer = VoterSet(VOTERS.voters[:2])
    store = opened(files)
    change = AppendControl(
        base_offset=Offset(10),
        epoch=Epoch(8),
        leader=NodeId(1),
        voter_ids=VOTERS.ids,
        granting_voters=VOTERS.ids,
        voters=fewer,
    )
    store.append_control(change)
    store.close()
    assert load(files).voters == ((5, VOTERS), (11, fewer))


# ── cleaning ─────────────────────────────────────────────────────────────────────────────────


def test_only_whole_segments_below_a_snapshot_go() -> None:
    """Row 101: testSegmentsLessThanLatestSnapshot."""
    files = disk()
    bases = [int(each[:20]) for each in files.list(DIRECTORY) if each.endswith(".log")]
    put(files, *(at(each) for each in range(1, 11)))
    for end in range(1, 11):
        copy = files.clone()
        store = opened(copy)
        store.trim(at(end))
        left = [int(each[:20]) for each in copy.list(DIRECTORY) if each.endswith(".log")]
        assert left == [each for each in bases if each >= max(b for b in bases if b <= end)]
        assert store.snapshots.list() == tuple(at(each) for each in range(end, 11))
        store.append_fetched(Offset(10), batch(10))
        assert store.read(Offset(end), 10_000, Offset(11)).endswith(batch(10)) or end < bases[-1]
        store.close()
        found = load(copy)
        assert found.log.end == at(11)
        assert found.log.start_offset in (0, end)
        assert found.log.start_offset == 0 or left[0] > 0


@pytest.mark.parametrize("end", [4, 9])
def test_a_trim_leaves_a_log_that_begins_at_a_snapshot(end: int) -> None:
    """Invariant 12, whenever the power goes."""
    before = disk()
    put(before, at(2), at(4), at(9))
    for operation in range(200):
        files = before.clone()
        store = opened(files)
        files.crash_at_operation = files.operations + operation
        try:
            store.trim(at(end))
        except PowerCutError:
            pass
        else:
            break
        files.crash(Random(operation))
        found = load(files)
        assert found.log.end == at(10)
        assert found.log.start_offset == 0 or found.log.start in held(found)
    assert operation > 3


def test_bounds_are_lowered_before_a_log_gives_way_to_a_shorter_one() -> None:
    """Else the voter would take what it gave up for lost, and be silent."""
    files = disk()
    bounds = Bounds(end_offset=Offset(10), epoch=Epoch(9), epoch_ceiling=Epoch(1_000))
    files.replace_content(ROOT / QUORUM_BOUNDS, bounds.encode())

    async def install() -> None:
        store = opened(files)
        await download(store, WITHIN)
        await store.install(WITHIN)

    asyncio.run(install())
    files.crash(Random(3))
    assert load(files).distrust is None
    lost = disk()
    lost.replace_content(ROOT / QUORUM_BOUNDS, replace(bounds, end_offset=Offset(30)).encode())
    put(lost, NEWER)
    assert "ends at offset 25, and was durable up to 30" in (load(lost).distrust or "")


# ── files ────────────────────────────────────────────────────────────────────────────────────


def test_names_are_kafkas() -> None:
    assert format_name(at(4711)) == "00000000000000004711-0000000007.checkpoint"
    assert parse_name(format_name(at(4711))) == at(4711)
    for name in ("1-1.checkpoint", format_name(at(1)) + ".part", "leader-epoch-checkpoint"):
        assert parse_name(name) is None


def test_a_file_is_read_in_chunks_and_a_missing_one_is_not_made() -> None:
    """Row 105."""
    files = disk(0)
    put(files, at(9))
    snapshots = SnapshotFiles(files, DIRECTORY)
    data, read = data_of(at(9)), b""
    while chunk := snapshots.read(at(9), len(read), 33):
        read += chunk
    assert read == data
    assert snapshots.size(at(9)) == len(data)
    assert (snapshots.read(at(8), 0, 9), snapshots.size(at(8))) == (b"", 0)
    with pytest.raises(CorruptSnapshotError, match="is not there"):
        snapshots.verify(at(8))
    snapshots.delete(at(8))
    assert snapshots.list() == (at(9),)


def test_a_part_is_resumed_where_it_ended() -> None:
    files = disk(0)
    snapshots = SnapshotFiles(files, DIRECTORY)
    assert snapshots.resume(at(5)) is None
    part = snapshots.create(at(5))
    part.append(data_of(at(5))[:100])
    again = snapshots.resume(at(5))
    assert again is not None
    assert again.position == 100
    again.append(data_of(at(5))[100:])
    assert snapshots.list() == ()
    again.finish()
    snapshots.verify(at(5))
    assert snapshots.list() == (at(5),)
