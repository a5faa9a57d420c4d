"""A controller's directory as one version wrote it, byte for byte: tests/golden/disk.

A change in what is written is a change of a format: it needs a directory of its own there, beside
those of before, which must be read for ever (scenarios 44, 63).
`python -m tests.unit.quorum.test_golden_disk` writes the latest one, and only that one, anew.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from controller.quorum.bounds import QUORUM_BOUNDS, Bounds
from controller.quorum.control import build_control_batch, snapshot_pieces
from controller.quorum.known_voters import others_than
from controller.quorum.opening import METADATA_LOG
from controller.quorum.quorum_state import QUORUM_STATE, format_state
from controller.quorum.store import LogStore
from controller.raft.effects import AppendControl
from controller.raft.state import SavedState
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from klamm.clock import SystemClock
from klamm.directory import META_PROPERTIES, DataDirectory, MetaProperties
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.log.files import SystemFiles
from klamm.log.log import LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.recovery import OnCorruption
from klamm.log.snapshot import format_name
from klamm.metadata.agreement import Agreement
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.codec import encode
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.features import Supported, SupportedFeature
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    Cause,
    ConfigRecord,
    ConfigsRecord,
    Endpoint,
    FeatureLevelRecord,
    MetadataRecord,
    NewPartition,
    NoOpRecord,
    PartitionChange,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    ResourceType,
    StateChecksumRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)

DISKS = Path(__file__).resolve().parents[2] / "golden" / "disk"
LATEST = "4"
SEGMENT = f"{0:020}.log"

EPOCH = Epoch(3)
TIMESTAMP_MS = 1_700_000_000_000
CLUSTER = "5L6g3nShT-eMCtK--X86sw"
NODE = NodeId(2)
DISK = DirectoryId(UUID(int=0x0123456789ABCDEF0123456789ABCDEF))
CAUSE = Cause(principal="User:ada", request="CreateTopics", request_id="r-1")
KEPT, GONE = (TopicId(UUID(int=each)) for each in (0xA, 0xB))
VOTERS = VoterSet(
    (
        Voter(
            node_id=NODE,
            directory_id=DISK,
            endpoint=Endpoint(name="CONTROLLER", host="two.example", port=9_093),
        ),
        Voter(node_id=NodeId(3)),
    ),
    (ReplicaKey(node_id=NodeId(1), directory_id=DirectoryId(UUID(int=0xC))),),
)
SAVED = SavedState(epoch=EPOCH, voted_for=ReplicaKey(node_id=NODE, directory_id=DISK), leader=NODE)
BOUNDS = Bounds(end_offset=Offset(2), epoch=EPOCH, epoch_ceiling=Epoch(1_000))


def register(broker: int, features: Supported = ()) -> RegisterBrokerRecord:
    return RegisterBrokerRecord(
        broker_id=NodeId(broker),
        incarnation_id=UUID(int=broker),
        endpoints=(Endpoint(name="PLAINTEXT", host="h", port=9_092),),
        rack="r" if broker == 101 else None,
        log_dirs=(DISK,),
        features=features,
    )


def partitions(topic: TopicId) -> PartitionRecord:
    replicas = (NodeId(101), NodeId(102))
    new = NewPartition(partition=0, replicas=replicas, isr=replicas, leader=NodeId(101))
    return PartitionRecord(topic_id=topic, partitions=(new,))


FEATURES = {"1": 22, "2": 23, "3": 23, LATEST: 23}
"""Version → metadata.version, which says what is in its log."""

FIRST: tuple[MetadataRecord, ...] = (
    BrokerRegistrationChangeRecord(
        broker_id=NodeId(101), broker_epoch=Offset(3), fenced=False, in_controlled_shutdown=None
    ),
    TopicRecord(topic_id=KEPT, name="kept"),
    partitions(KEPT),
    TopicRecord(topic_id=GONE, name="gone"),
    partitions(GONE),
    ConfigRecord(
        resource_type=ResourceType.TOPIC, resource_name="kept", key="retention.ms", value="1"
    ),
)
SECOND: tuple[MetadataRecord, ...] = (
    PartitionChangeRecord(
        topic_id=KEPT,
        changes=(PartitionChange(partition=0, isr=(NodeId(102),), leader=NodeId(102)),),
    ),
    RemoveTopicRecord(topic_id=GONE),
    ConfigRecord(resource_type=ResourceType.BROKER, resource_name="", key="k", value=""),
    ProducerIdsRecord(broker_id=NodeId(101), broker_epoch=Offset(3), next_producer_id=1_000),
    UnregisterBrokerRecord(broker_id=NodeId(102), broker_epoch=Offset(4)),
    NoOpRecord(),
)
OF_CONFIGS: tuple[MetadataRecord, ...] = (
    ConfigsRecord(ResourceType.BROKER, "l", ("", "101"), ("1", "2")),
    ConfigsRecord(ResourceType.BROKER, "k", ("", "101"), ("3",)),
    ConfigsRecord(ResourceType.BROKER, "l", ("101",), ()),
)
ADDED = {"1": (), "2": OF_CONFIGS, "3": OF_CONFIGS, LATEST: OF_CONFIGS}
"""Version → what is behind those, of the records that were not there from the first one on.

Between 2 and 3 the state's checksum has become another one, and nothing else.
"""
SAID: dict[str, Supported] = {LATEST: (SupportedFeature("metadata.version", 22, 23),)}
"""Version → what a broker says with its registration that it can work with."""


def replayed(image: MetadataImage, records: tuple[MetadataRecord, ...]) -> MetadataImage:
    """With them behind it."""
    delta, at = MetadataDelta(image), image.provenance.offset
    for each in records:
        delta.replay(each, at)
        at = Offset(at + 1)
    return delta.apply(OffsetAndEpoch(EPOCH, at))


@dataclass(frozen=True)
class History:
    """What stands in a version's log behind the voters, and what comes of it."""

    first: tuple[MetadataRecord, ...]
    second: tuple[MetadataRecord, ...]
    middle: MetadataImage
    end: MetadataImage


def history(version: str) -> History:
    begun = MetadataDelta(EMPTY).apply(OffsetAndEpoch(EPOCH, Offset(2)))
    level = FeatureLevelRecord(name="metadata.version", level=FEATURES[version])
    first = (level, register(101, SAID.get(version, ())), register(102), *FIRST)
    middle = replayed(begun, first)
    stated = StateChecksumRecord(
        offset=middle.provenance.offset, checksum=middle.checksum, format=CHECKSUM_FORMAT
    )
    second = (stated, *SECOND, *ADDED[version])
    return History(first, second, middle, replayed(middle, second))


def segment() -> Iterator[bytes]:
    voter_ids = tuple(each.node_id for each in VOTERS.voters)
    begin = AppendControl(
        base_offset=Offset(0),
        epoch=EPOCH,
        leader=NODE,
        voter_ids=voter_ids,
        granting_voters=(NODE,),
        voters=VOTERS,
    )
    yield build_control_batch(begin, TIMESTAMP_MS)
    at = Offset(2)
    written = history(LATEST)
    for records in (written.first, written.second):
        yield build_batch(
            encode(records, CAUSE),
            base_offset=at,
            leader_epoch=EPOCH,
            timestamp_ms=TIMESTAMP_MS,
            base_sequence=EPOCH,
        )
        at = Offset(at + len(records))


def directory() -> dict[Path, bytes]:
    """What this version writes."""
    middle = history(LATEST).middle
    pieces = snapshot_pieces(
        middle, VOTERS, last_timestamp_ms=TIMESTAMP_MS, timestamp_ms=TIMESTAMP_MS
    )
    meta = MetaProperties(cluster_id=CLUSTER, node_id=NODE, directory_id=DISK)
    log = Path(METADATA_LOG)
    return {
        Path(META_PROPERTIES): meta.encode(),
        Path(QUORUM_BOUNDS): BOUNDS.encode(),
        log / QUORUM_STATE: format_state(SAVED),
        log / SEGMENT: b"".join(segment()),
        log / format_name(middle.provenance): b"".join(piece for piece, _ in pieces),
    }


@pytest.mark.parametrize("name", sorted(map(str, directory())))
def test_this_version_writes_the_latest_format(name: str) -> None:
    assert directory()[Path(name)] == (DISKS / LATEST / name).read_bytes()


@pytest.mark.parametrize("version", sorted(each.name for each in DISKS.iterdir()))
async def test_every_format_is_read(version: str, tmp_path: Path) -> None:
    """Vote, bounds, voters; the log from its beginning, and from the snapshot on."""
    disk, written = tmp_path / "disk", history(version)
    shutil.copytree(DISKS / version, disk)
    owner = DataDirectory.open(disk, CLUSTER, NODE)
    assert owner.directory_id == DISK
    owner.close()
    store = LogStore.open(
        SystemFiles(),
        disk,
        SystemClock(),
        LogConfig(on_corruption=OnCorruption.REFUSE),
        has_peers=others_than(NODE, configured=True),
    )
    try:
        assert store.notices == ()
        found = store.load()
        assert (found.saved, found.log.end_offset, found.distrust) == (
            SAVED,
            written.end.provenance.offset,
            None,
        )
        assert found.voters[-1][1] == VOTERS
        (held,) = found.snapshots
        assert held.snapshot_id == written.middle.provenance
        log = store.read(Offset(0), 1 << 20, written.end.provenance.offset)
        snapshot = store.read_chunk(held.snapshot_id, 0, held.size_bytes)
    finally:
        store.close()
    whole, tail = (MetadataLoader((Agreement(),)) for _ in range(2))
    whole.load(log, written.end.provenance.offset)
    await tail.load_snapshot(held.snapshot_id, (batch for _, batch in iter_batches(snapshot)))
    assert tail.image == written.middle
    tail.load(log, written.end.provenance.offset)
    assert whole.image == tail.image == written.end


if __name__ == "__main__":
    for where, content in directory().items():
        target = DISKS / LATEST / where
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
