"""Snapshots, as they stand on a disk or come from another controller, and their files' names.

    input    how │ a snapshot's bytes, a backup's, or a name

Half of the inputs are given the checksums that they should have. What a reader takes, the check of
whole files takes too; and its image, written again, is read as the same.
"""

from pathlib import Path
from random import Random

from controller.quorum.control import build_snapshot_footer, build_snapshot_header
from controller.quorum.installs import voters_of
from klamm.errors import UnknownRecordError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import CorruptBatchError, NewRecord
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles, format_name, parse_name
from klamm.metadata.backup import read
from klamm.metadata.image import MetadataImage
from klamm.metadata.snapshot_batches import SnapshotReader, image_batches, last_timestamp_ms
from klamm.v1.records_pb2 import BackupOrigin
from tests.fuzz.growth import header_of, random_batch, random_message, sealed
from tests.fuzz.metadata_records import IMAGE, random_value
from tests.fuzz.target import Choice, Target
from tests.sim.disk import SimFiles
from tests.unit.raft.world import voter_set

DIRECTORY = Path("/data")
BACKUP = DIRECTORY / "monday.klamm"
NAMED, BACKED_UP = (4, 5), (6, 7)
"""Ways to take an input: as a file's name, and as a backup. Odd ones have checksums that hold."""

ID = OffsetAndEpoch(epoch=IMAGE.provenance.epoch, offset=IMAGE.provenance.offset)
HEADER = build_snapshot_header(
    voter_set(3), epoch=ID.epoch, last_timestamp_ms=1_700_000_000_000, timestamp_ms=0
)
NAMES = (f"{7:020d}-{3:010d}.checkpoint", "9" * 20 + "-" + "9" * 10 + ".checkpoint", "٣.checkpoint")


def grow(random: Random) -> bytes:
    how = random.randrange(8)
    if how in NAMED:
        return bytes((how,)) + random.choice(NAMES).encode()
    header = _backup_header(random) if how in BACKED_UP else HEADER
    parts = [header]
    at = Offset(header_of(header).next_offset)
    if random.random() < 0.5:
        for data, end in image_batches(IMAGE, base_offset=at, timestamp_ms=0):
            parts.append(data)
            at = end
    else:
        for _ in range(random.randint(0, 2)):
            parts.append(_batch(random, at))
            at = header_of(parts[-1]).next_offset
    parts.append(build_snapshot_footer(at, epoch=ID.epoch, timestamp_ms=0))
    return bytes((how,)) + b"".join(parts)


def _backup_header(random: Random) -> bytes:
    """Mostly one that says what is so."""
    origin = BackupOrigin(cluster_id="orders", end_offset=ID.offset, epoch=ID.epoch)
    if random.random() < 0.2:
        origin.MergeFrom(random_message(BackupOrigin, random))
    return build_snapshot_header(
        voter_set(3), epoch=ID.epoch, last_timestamp_ms=0, timestamp_ms=0, backup=origin
    )


def _batch(random: Random, at: Offset) -> bytes:
    if random.random() < 0.2:
        return random_batch(random, at, ID.epoch)
    values = [NewRecord(value=random_value(random)) for _ in range(random.randint(1, 3))]
    return build_batch(
        values, base_offset=at, leader_epoch=ID.epoch, timestamp_ms=0, base_sequence=ID.epoch
    )


def check(data: bytes) -> bool:
    choice = Choice(data)
    how = choice.one_of(8)
    if how in NAMED:
        return _check_name(choice.rest.decode("utf-8", "replace"))
    body = sealed(choice.rest, length_too=how == 1) if how % 2 else choice.rest
    if how in BACKED_UP:
        return _check_backup(body)
    _check_header(body)
    image = _read(body)
    whole = _is_whole(body)
    if image is None:
        return False
    assert whole, "what can be read is a whole snapshot"
    _check_again(image)
    return True


def _check_name(name: str) -> bool:
    snapshot_id = parse_name(name)
    assert snapshot_id is None or format_name(snapshot_id) == name
    return snapshot_id is not None


def _check_backup(body: bytes) -> bool:
    files = SimFiles()
    files.make_directory(DIRECTORY)
    files.replace_content(BACKUP, body)
    try:
        backup = read(files, BACKUP)
    except CorruptSnapshotError as error:
        if str(BACKUP) not in str(error):
            raise AssertionError("it is refused by name") from error
        return False
    assert backup.origin is not None
    assert parse_name(format_name(backup.end)) == backup.end, "a snapshot can have that name"
    assert "\n" not in backup.origin.cluster_id
    assert _read_as(backup.end, body) == backup.image
    return True


def _read_as(end: OffsetAndEpoch, body: bytes) -> MetadataImage:
    reader = SnapshotReader(end)
    for _, batch in iter_batches(body):
        reader.take(batch)
    return reader.finish()


def _check_header(body: bytes) -> None:
    try:
        last_timestamp_ms(body)
        voters_of(lambda at, count: body[at : at + count])
    except (CorruptSnapshotError, CorruptBatchError, UnknownRecordError, ValueError):
        return


def _read(body: bytes) -> MetadataImage | None:
    reader, size = SnapshotReader(ID), 0
    try:
        for header, batch in iter_batches(body):
            reader.take(batch)
            size += header.size_bytes
        return reader.finish() if size == len(body) else None
    except (CorruptSnapshotError, CorruptBatchError, UnknownRecordError):
        return None


def _is_whole(body: bytes) -> bool:
    files = SimFiles()
    files.make_directory(DIRECTORY)
    files.replace_content(DIRECTORY / format_name(ID), body)
    snapshots = SnapshotFiles(files, DIRECTORY)
    assert snapshots.list() == (ID,)
    try:
        snapshots.verify(ID)
    except CorruptSnapshotError:
        return False
    return True


def _check_again(image: MetadataImage) -> None:
    reader = SnapshotReader(ID)
    reader.take(memoryview(HEADER))
    at = Offset(header_of(HEADER).next_offset)
    for data, end in image_batches(image, base_offset=at, timestamp_ms=0):
        at = end
        if data:
            reader.take(memoryview(data))
    reader.take(memoryview(build_snapshot_footer(at, epoch=Epoch(ID.epoch), timestamp_ms=0)))
    assert reader.finish() == image, "what was read is not what is written"


TARGET = Target(name="snapshots", grow=grow, check=check, share=15)
