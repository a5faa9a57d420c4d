"""kraft.md 7.2: one survivor becomes a new generation, whole or not at all; the rest is refused."""

from dataclasses import replace
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from controller.quorum.bounds import QUORUM_BOUNDS, read_bounds
from controller.quorum.control import snapshot_pieces
from controller.quorum.known_voters import nobody, others_than
from controller.quorum.opening import METADATA_LOG
from controller.quorum.store import LogStore
from controller.raft.effects import AppendRecords, AppendVoters, SaveQuorumState
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from controller.recovery.compare import EPOCH_JUMP, common_end, compare
from controller.recovery.generation import begin
from controller.recovery.raised import OFFSET_JUMP
from controller.recovery.survey import Survivor, records_from, survey
from klamm.clock import SystemClock
from klamm.directory import META_PROPERTIES, MetaProperties
from klamm.errors import StartError
from klamm.ids import NO_NODE, DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.checkpoint import write_atomically
from klamm.log.files import Files
from klamm.log.log import LogConfig
from klamm.log.records import NewRecord
from klamm.log.snapshot import format_name
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.codec import to_proto
from klamm.metadata.image import EMPTY
from klamm.metadata.records import NoOpRecord, StateChecksumRecord
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.quorum.flushes import flushed

CLUSTER = "a-cluster"
NOTHING = to_proto(NoOpRecord()).SerializeToString()
ROOT = Path("/")
VOTERS = VoterSet(
    tuple(
        Voter(node_id=NodeId(each), directory_id=DirectoryId(UUID(int=each))) for each in (1, 2, 3)
    )
)


def path(node: int, root: Path = ROOT) -> Path:
    return root / f"node-{node}"


async def node(
    files: Files,
    id_: int,
    epochs: tuple[tuple[int, int], ...],
    cluster: str = CLUSTER,
    root: Path = ROOT,
    snapshot: OffsetAndEpoch | None = None,
) -> Survivor:
    """A directory whose log has Voters, or begins at a snapshot, and then so many records of each
    epoch.
    """
    where = path(id_, root)
    meta = MetaProperties(
        cluster_id=cluster, node_id=NodeId(id_), directory_id=DirectoryId(UUID(int=id_))
    )
    files.make_directory(where)
    write_atomically(files, where / META_PROPERTIES, meta.encode())
    if snapshot is not None:
        await _install(files, where, snapshot)
    peers = others_than(NodeId(id_), configured=True)
    store = LogStore.open(files, where, SystemClock(), LogConfig(), has_peers=peers)
    first = Epoch(epochs[0][0])
    await store.save(SaveQuorumState(epoch=first, voted_for=None, leader=NO_NODE))
    end = Offset(0 if snapshot is None else snapshot.offset)
    if snapshot is None:
        store.append_control(AppendVoters(base_offset=end, epoch=first, voters=VOTERS))
        end = Offset(1)
    for epoch, count in epochs:
        saved = SaveQuorumState(epoch=Epoch(epoch), voted_for=None, leader=NO_NODE)
        await store.save(saved)
        for _ in range(count):
            records = (NewRecord(value=NOTHING),)
            effect = AppendRecords(base_offset=end, epoch=Epoch(epoch), records=records)
            store.append_records(effect)
            end = Offset(end + 1)
    await flushed(store)
    store.close()
    return survey(files, where)


async def _install(files: Files, where: Path, end: OffsetAndEpoch) -> None:
    """A snapshot, and no log: the next start begins one there."""
    store = LogStore.open(files, where, SystemClock(), LogConfig(), has_peers=nobody)
    await store.save(SaveQuorumState(epoch=end.epoch, voted_for=None, leader=NO_NODE))
    part = store.snapshots.create(end)
    image = replace(EMPTY, provenance=end)
    for data, _ in snapshot_pieces(image, VOTERS, last_timestamp_ms=0, timestamp_ms=0):
        part.append(data)
    part.finish()
    store.close()


async def test_the_best_log_is_chosen_and_the_others_part_from_it() -> None:
    files = SimFiles()
    one = await node(files, 1, ((1, 3), (2, 9)))
    two = await node(files, 2, ((1, 4), (3, 1)))
    compared = compare((one, two), None)
    assert compared.chosen is two, "a later epoch beats a longer log"
    assert (one.end_offset, two.end_offset) == (13, 6)
    assert common_end(two, one) == 4
    assert compared.common_ends == {1: 4}
    assert len(records_from(files, one, Offset(4), 100)) == 9
    assert compared.new_epoch == 3 + EPOCH_JUMP
    assert compared.has_majority, "two of three need no recovery"


async def test_what_does_not_belong_together_is_refused_by_name() -> None:
    files = SimFiles()
    one = await node(files, 1, ((1, 3),))
    two = await node(files, 2, ((2, 3),))
    other = await node(files, 3, ((2, 3),), cluster="another")
    with pytest.raises(StartError, match="different clusters: a-cluster, another"):
        compare((one, other), None)
    with pytest.raises(StartError, match="Two directories are of one node"):
        compare((one, one), None)
    with pytest.raises(StartError, match=r"Node 1 ends at offset 4 of epoch 1; node 2 at 4 of"):
        compare((one, two), 1)
    with pytest.raises(StartError, match="None of the directories is of node 7"):
        compare((one, two), 7)


SNAPSHOT = OffsetAndEpoch(epoch=Epoch(1), offset=Offset(40))


async def test_a_log_that_begins_at_a_snapshot_is_compared_and_goes_on() -> None:
    files = SimFiles()
    one = await node(files, 1, ((1, 39), (2, 3)))
    two = await node(files, 2, ((2, 5),), snapshot=SNAPSHOT)
    older = await node(files, 3, ((1, 20),))
    assert (two.start, two.end_offset, two.voters) == (40, 45, VOTERS)
    compared = compare((one, two, older), None)
    assert compared.chosen is two
    assert compared.common_ends == {1: 43, 3: 21}
    assert compare((older, replace(one, path=one.path)), None).common_ends == {3: 21}
    alone = compare((two,), None)
    assert not alone.has_majority
    await begin(files, alone, SystemClock(), "somebody")
    store = LogStore.open(files, path(2), SystemClock(), LogConfig(), has_peers=nobody)
    loaded = store.load()
    store.close()
    end = OffsetAndEpoch(epoch=Epoch(2), offset=Offset(45 + OFFSET_JUMP))
    assert (loaded.log.start_offset, loaded.log.end_offset) == (end.offset, end.offset)
    assert loaded.voters[-1][1] == alone.new_voters
    assert [each.snapshot_id for each in loaded.snapshots] == [end]


async def test_a_snapshot_alone_is_a_log_that_ends_there() -> None:
    files = SimFiles()
    one = await node(files, 1, ((1, 30),))
    two = await node(files, 2, ((1, 0),), snapshot=SNAPSHOT)
    assert (two.start, two.end_offset, two.last_epoch) == (40, 40, 1)
    compared = compare((one, two), None)
    assert compared.chosen is two
    assert compared.common_ends == {1: 31}


async def test_damage_is_told_and_not_counted() -> None:
    files = SimFiles()
    before = await node(files, 1, ((1, 5),))
    batch = before.batches[3]
    file = files.open(batch.segment)
    data = bytearray(file.read_at(0, file.size))
    data[batch.position + batch.size_bytes - 1] ^= 1
    file.truncate(0)
    file.append(bytes(data))
    file.close()
    after = survey(files, path(1))
    assert after.end_offset == 3
    assert not after.trusted
    assert not after.whole
    assert any(f"byte {batch.position}" in notice for notice in after.notices)
    compared = compare((after,), None)
    with pytest.raises(StartError):
        await begin(files, compared, SystemClock(), "somebody")


@pytest.mark.parametrize("at", ["length", "body"])
@pytest.mark.parametrize("which", [2, -1])
async def test_an_end_is_torn_if_nothing_whole_is_behind_it(which: int, at: str) -> None:
    """As a start takes it; else one would be chosen that no node can start on."""
    files = SimFiles()
    before = await node(files, 1, ((1, 5),))
    batch = before.batches[which]
    file = files.open(batch.segment)
    data = bytearray(file.read_at(0, file.size))
    file.close()
    data[batch.position + (9 if at == "length" else batch.size_bytes - 1)] ^= 0x40
    files.replace_content(batch.segment, bytes(data))
    bounds = read_bounds(files, path(1))
    assert bounds is not None
    lower = replace(bounds, end_offset=Offset(5)).encode()  # The last record was on its way.
    write_atomically(files, path(1) / QUORUM_BOUNDS, lower)
    after = survey(files, path(1))
    assert after.end_offset == batch.base_offset
    assert after.whole is after.trusted is (which == -1)
    said = "torn end" if which == -1 else "damaged, and not counted"
    assert any(said in each for each in after.notices)
    if which == -1:
        await begin(files, compare((after,), None), SystemClock(), "somebody")
        return
    with pytest.raises(StartError):
        await begin(files, compare((after,), None), SystemClock(), "somebody")


async def test_what_a_node_had_reserved_when_it_ended_is_no_torn_end() -> None:
    """Scenario 38: zeros behind the last whole batch; and without that batch, they say nothing."""
    files = SimFiles()
    before = await node(files, 1, ((1, 5),))
    last = before.batches[-1]
    data = files.content(last.segment)
    files.replace_content(last.segment, data + bytes(9_000))
    after = survey(files, path(1))
    assert (after.batches, after.whole, after.trusted) == (before.batches, True, True)
    assert after.notices == before.notices
    files.replace_content(last.segment, data[: last.position] + bytes(9_000))
    lost = survey(files, path(1))
    assert (lost.end_offset, lost.whole, lost.trusted) == (last.base_offset, False, False)
    assert any("ends at 5, and was durable up to 6" in each for each in lost.notices)
    files.replace_content(last.segment, data + bytes(9_000))
    await begin(files, compare((survey(files, path(1)),), None), SystemClock(), "somebody")


async def test_a_log_that_is_known_to_have_reached_further_is_not_whole() -> None:
    files = SimFiles()
    before = await node(files, 1, ((1, 5),))
    last = before.batches[-1]
    file = files.open(last.segment)
    file.truncate(last.position)
    file.close()
    after = survey(files, path(1))
    assert not after.whole
    assert any("ends at 5, and was durable up to 6" in each for each in after.notices)


async def test_a_whole_log_is_chosen_before_a_damaged_one_that_is_longer() -> None:
    """No node can start on the damaged one, so that nobody could go on at all."""
    files = SimFiles()
    short = await node(files, 1, ((1, 5),))
    await node(files, 2, ((2, 5),), snapshot=SNAPSHOT)
    snapshot = path(2) / METADATA_LOG / format_name(SNAPSHOT)
    files.replace_content(snapshot, bytes(100))
    damaged = survey(files, path(2))
    assert (damaged.start, damaged.end_offset) == (40, 45)
    assert any("no sound snapshot says what was before" in each for each in damaged.notices)
    assert compare((short, damaged), None).chosen is short
    with pytest.raises(StartError, match="log of node 2 is damaged; node 1's is whole"):
        compare((short, damaged), 2)
    compared = compare((damaged,), None)
    assert compared.chosen is damaged
    with pytest.raises(StartError):
        await begin(files, compared, SystemClock(), "somebody")
    assert files.exists(snapshot), "nobody can give it back: it stays where it is"
    assert not survey(files, path(2)).whole


async def test_a_log_that_states_another_state_than_it_comes_to_is_refused() -> None:
    files = SimFiles()
    await node(files, 1, ((1, 5),))
    store = LogStore.open(files, path(1), SystemClock(), LogConfig(), has_peers=nobody)
    wrong = StateChecksumRecord(offset=Offset(6), checksum=7, format=CHECKSUM_FORMAT)
    records = (NewRecord(value=to_proto(wrong).SerializeToString()),)
    store.append_records(AppendRecords(base_offset=Offset(6), epoch=Epoch(1), records=records))
    await flushed(store)
    store.close()
    compared = compare((survey(files, path(1)),), None)
    with pytest.raises(StartError, match=r"not the one that its log states: offset 6 states 0*7,"):
        await begin(files, compared, SystemClock(), "somebody")


async def test_a_crash_at_every_operation_leaves_the_old_or_the_new() -> None:
    operation, olds, news = 0, 0, 0
    while True:
        files = SimFiles()
        compared = compare((await node(files, 3, ((1, 4), (2, 2))),), None)
        assert not compared.has_majority
        files.crash_at_operation = files.operations + operation
        try:
            await begin(files, compared, SystemClock(), "somebody")
            ended = True
        except PowerCutError:
            ended = False
        files.crash(Random(operation))
        store = LogStore.open(files, path(3), SystemClock(), LogConfig(), has_peers=nobody)
        loaded = store.load()
        store.close()
        if loaded.log.end_offset == 7:
            assert loaded.voters[-1][1] == VOTERS
            olds += 1
        else:
            assert loaded.log.start_offset == loaded.log.end_offset == 7 + OFFSET_JUMP
            assert loaded.voters[-1][1] == compared.new_voters
            assert loaded.saved.epoch == compared.new_epoch == 2 + EPOCH_JUMP
            news += 1
        if ended:
            break
        operation += 1
    assert olds > 3
    assert news > 0
    assert compared.new_voters.ids == (3,)
    gone = {each.node_id: each for each in compared.new_voters.removed}
    assert gone[NodeId(1)] == ReplicaKey(
        node_id=NodeId(1), directory_id=VOTERS.voters[0].directory_id
    )
    assert set(gone) == {1, 2}
