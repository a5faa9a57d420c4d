"""A backup's file: cut short anywhere, or with any bit flipped, it is refused by its name."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from controller.quorum.control import snapshot_pieces
from controller.raft.voters import Voter, VoterSet
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.snapshot import CorruptSnapshotError, format_name
from klamm.metadata.backup import Backup, Origin, read
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.v1 import records_pb2 as pb
from tests.sim.disk import SimFiles
from tests.unit.metadata.histories import history

FOLDER = Path("/backups")
PATH = FOLDER / "monday.klamm"
VOTERS = VoterSet((Voter(node_id=NodeId(1)), Voter(node_id=NodeId(2))))


def backup_of(
    image: MetadataImage,
    *,
    named: bool = True,
    cluster_id: str = "orders",
    voters: VoterSet = VOTERS,
    **other: int,
) -> bytes:
    """All bytes of one; `other` has its header say something else."""
    end = image.provenance
    said = {"end_offset": end.offset, "epoch": end.epoch, **other}
    origin = pb.BackupOrigin(cluster_id=cluster_id, taken_timestamp_ms=9, taken_by=2, **said)
    pieces = snapshot_pieces(
        image, voters, last_timestamp_ms=5, timestamp_ms=9, backup=origin if named else None
    )
    return b"".join(data for data, _ in pieces)


def read_bytes(data: bytes, path: Path = PATH) -> Backup:
    files = SimFiles()
    files.make_directory(FOLDER)
    files.replace_content(path, data)
    return read(files, path)


def small() -> MetadataImage:
    return history(random.Random(5), 8)[1]


@pytest.mark.parametrize("seed", range(10))
def test_what_was_written_is_read(seed: int) -> None:
    _, image = history(random.Random(seed), 200)
    backup = read_bytes(backup_of(image))
    assert backup.image == image
    assert backup.end == image.provenance
    assert backup.origin == Origin(
        cluster_id="orders", end=image.provenance, taken_ms=9, taken_by=NodeId(2)
    )


def test_an_empty_cluster_has_a_backup_too() -> None:
    assert read_bytes(backup_of(EMPTY)).image == EMPTY


def test_cut_anywhere_it_is_refused_by_name() -> None:
    data = backup_of(small())
    for size in range(len(data)):
        with pytest.raises(CorruptSnapshotError, match=r"/backups/monday\.klamm"):
            read_bytes(data[:size])


def test_with_any_bit_flipped_it_is_refused_by_name() -> None:
    data = bytearray(backup_of(small()))
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptSnapshotError, match=r"/backups/monday\.klamm"):
            read_bytes(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    read_bytes(bytes(data))


def test_with_anything_behind_it_is_refused_by_name() -> None:
    data = backup_of(small())
    for more in (b"\0", data[-80:], data):
        with pytest.raises(CorruptSnapshotError, match=r"/backups/monday\.klamm"):
            read_bytes(data + more)


def test_another_state_than_it_states_is_refused_by_name() -> None:
    """Each batch is sound by itself: what they come to is not what the last record says."""
    image = small()
    wrong = replace(image, checksum=image.checksum ^ 1)
    with pytest.raises(CorruptSnapshotError, match=r"monday\.klamm.*says to hold the state"):
        read_bytes(backup_of(wrong))


def test_it_says_what_it_holds() -> None:
    image = history(random.Random(1), 60)[1]
    with pytest.raises(CorruptSnapshotError, match="is the state at 60"):
        read_bytes(backup_of(image, end_offset=61))
    with pytest.raises(CorruptSnapshotError, match="of another epoch"):
        read_bytes(backup_of(image, epoch=4))


def test_it_says_nothing_that_cannot_be() -> None:
    """An epoch or an id is used to name files, and to write a configuration."""
    image = small()
    with pytest.raises(CorruptSnapshotError, match="no log ends at offset -1"):
        read_bytes(backup_of(image, end_offset=-1))
    with pytest.raises(CorruptSnapshotError, match="of epoch -1"):
        read_bytes(backup_of(image, epoch=-1))
    for cluster_id in ("", "a\nlog.dirs=/", "x" * 65, "../up"):
        with pytest.raises(CorruptSnapshotError, match="is no cluster's id"):
            read_bytes(backup_of(image, cluster_id=cluster_id))


def test_the_name_of_another_snapshot_is_refused() -> None:
    image = history(random.Random(1), 60)[1]
    other = OffsetAndEpoch(epoch=Epoch(1), offset=Offset(61))
    with pytest.raises(CorruptSnapshotError, match="by its name it is of offset 61, epoch 1, and"):
        read_bytes(backup_of(image), FOLDER / format_name(other))
    with pytest.raises(CorruptSnapshotError, match="is the state at 60"):
        read_bytes(backup_of(image, named=False), FOLDER / format_name(other))
    assert read_bytes(backup_of(image), FOLDER / format_name(image.provenance)).image == image


def test_a_snapshot_is_known_by_its_name_only() -> None:
    image = small()
    data = backup_of(image, named=False)
    backup = read_bytes(data, FOLDER / format_name(image.provenance))
    assert backup.origin is None
    assert backup.image == image
    with pytest.raises(CorruptSnapshotError, match=r"its name is not OFFSET-EPOCH\.checkpoint"):
        read_bytes(data)


def test_no_file_is_no_backup() -> None:
    files = SimFiles()
    files.make_directory(FOLDER)
    with pytest.raises(CorruptSnapshotError, match="is not there"):
        read(files, PATH)
    assert files.list(FOLDER) == ()
