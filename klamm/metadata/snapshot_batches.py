"""A snapshot's records in batches, and its batches read back into an image.

    header batch │ batches of records │ footer batch        offsets from 0 on, without a gap
                 └── image_batches ──┘  the last record says what the image hashes to
    └──────────────── SnapshotReader ──────────────┘

Header and footer are control batches; who votes stands in the header (KIP-630, kraft.md 1.11).
"""

from collections.abc import Iterator
from itertools import chain

from google.protobuf.message import DecodeError

from klamm.errors import UnknownRecordError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import (
    HEADER_BYTES,
    build_batch,
    epoch_is_sealed_or_bare,
    peek_header,
    read_records,
    verify_checksum,
)
from klamm.log.records import ControlType, CorruptBatchError, NewRecord, control_type
from klamm.log.snapshot import CorruptSnapshotError, format_name
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.codec import (
    CONTROLS_OF_A_SNAPSHOT,
    check_controls,
    replay_record,
    to_proto,
)
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import StateChecksumRecord
from klamm.metadata.snapshot import records
from klamm.v1 import records_pb2 as pb

BATCH_BYTES = 32 * 1024
"""A batch is full from there on; a record is a few KiB at the most, so it is never much more."""

BATCH_RECORDS_MAX = 250
"""Small records fill a batch too."""


def image_batches(
    image: MetadataImage, *, base_offset: Offset, timestamp_ms: int
) -> Iterator[tuple[bytes, Offset]]:
    """Batches, and the offset behind each. An empty one is a place to rest: none is full yet."""
    epoch = image.provenance.epoch
    waiting: list[NewRecord] = []
    size_bytes, at = 0, base_offset

    def batch() -> bytes:
        return build_batch(
            waiting,
            base_offset=at,
            leader_epoch=epoch,
            timestamp_ms=timestamp_ms,
            base_sequence=epoch,
        )

    for record in chain(records(image), (_statement(image),)):
        value = to_proto(record).SerializeToString(deterministic=True)
        waiting.append(NewRecord(value=value))
        size_bytes += len(value)
        if size_bytes < BATCH_BYTES and len(waiting) < BATCH_RECORDS_MAX:
            yield b"", at
            continue
        data = batch()
        at = Offset(at + len(waiting))
        waiting, size_bytes = [], 0
        yield data, at
    if waiting:
        yield batch(), Offset(at + len(waiting))


def _statement(image: MetadataImage) -> StateChecksumRecord:
    return StateChecksumRecord(
        offset=image.provenance.offset, checksum=image.checksum, format=CHECKSUM_FORMAT
    )


class SnapshotReader:
    """Takes a snapshot's batches one after another, and has its image at the end."""

    def __init__(self, snapshot_id: OffsetAndEpoch) -> None:
        self.last_timestamp_ms = 0
        """Of the last record that the snapshot includes, once the header is taken."""
        self.header: pb.SnapshotHeaderRecord | None = None
        """Once it is taken."""
        self._id = snapshot_id
        self._delta = MetadataDelta(EMPTY)
        self._at = Offset(0)
        self._whole = False

    @property
    def stated_offset(self) -> Offset | None:
        """Of which the snapshot says that its state is; None if it does not say."""
        statements = self._delta.statements
        return statements[-1].record.offset if statements else None

    def take(self, batch: memoryview) -> None:
        """The next one.

        Raises:
            CorruptSnapshotError: It is damaged, or not what comes next.
            UnknownRecordError: A record cannot be read, or does not fit what is before it.
        """
        try:
            self._take(batch)
        except (CorruptBatchError, DecodeError) as error:
            name = format_name(self._id)
            raise CorruptSnapshotError(f"{name} is no snapshot: {error}") from error

    def finish(self) -> MetadataImage:
        """What the snapshot says.

        Raises:
            CorruptSnapshotError: There was no footer, or what was read is another state than the
                snapshot says to hold.
        """
        if not self._whole:
            raise CorruptSnapshotError(f"{format_name(self._id)} has no footer")
        for each in self._delta.statements:
            if not each.agrees:
                raise CorruptSnapshotError(
                    f"{format_name(self._id)} says to hold the state {each.record.checksum:032x}, "
                    f"and what is in it is {each.checksum:032x}"
                )
        return self._delta.apply(self._id)

    def _take(self, batch: memoryview) -> None:
        header = peek_header(batch)
        at = self._at
        if header.size_bytes != len(batch):
            raise CorruptBatchError(f"{len(batch)} bytes of a batch of {header.size_bytes}")
        if self._whole:
            raise CorruptBatchError("a footer is what a snapshot ends with")
        if header.base_offset != at:
            raise CorruptBatchError(f"offset {header.base_offset} where {at} should be")
        if not verify_checksum(batch) or not epoch_is_sealed_or_bare(header):
            raise CorruptBatchError(f"the checksum of the batch at {at} does not hold")
        if header.is_control:
            self._take_control(batch)
        elif at == 0:
            raise CorruptBatchError("a header is what a snapshot begins with")
        else:
            for record in read_records(batch, limit=len(batch)):  # Ours are not compressed.
                replay_record(self._delta, record)
        self._at = Offset(header.next_offset)

    def _take_control(self, batch: memoryview) -> None:
        records = read_records(batch, limit=len(batch))
        if not records:
            raise CorruptBatchError("a control batch without a record")
        check_controls(batch, CONTROLS_OF_A_SNAPSHOT)
        first, kind = records[0], control_type(records[0].key)
        if (kind == ControlType.SNAPSHOT_HEADER) != (self._at == 0):
            raise CorruptBatchError("a header is what a snapshot begins with")
        if kind == ControlType.SNAPSHOT_HEADER:
            header = pb.SnapshotHeaderRecord.FromString(first.value or b"")
            if header.version:
                raise UnknownRecordError(
                    f"{format_name(self._id)} is of version {header.version} of the format, which "
                    "this version does not know: start a later version"
                )
            self.header = header
            self.last_timestamp_ms = header.last_contained_log_timestamp_ms
        self._whole = kind == ControlType.SNAPSHOT_FOOTER


def last_timestamp_ms(first_batch: bytes | memoryview) -> int:
    """As a snapshot's header says it.

    Raises:
        CorruptSnapshotError: That is no header.
        CorruptBatchError: That is no batch.
    """
    return read_header(first_batch).last_contained_log_timestamp_ms


def read_header(first_batch: bytes | memoryview) -> pb.SnapshotHeaderRecord:
    """The header of a snapshot that begins so.

    Raises:
        CorruptSnapshotError: That is no header.
        CorruptBatchError: That is no batch.
    """
    if len(first_batch) < HEADER_BYTES:
        raise CorruptBatchError("nothing is there")
    reader = SnapshotReader(OffsetAndEpoch(Epoch(0), Offset(0)))
    size = peek_header(first_batch).size_bytes
    reader.take(memoryview(first_batch)[:size])
    if reader.header is None:
        raise CorruptSnapshotError("a header is what a snapshot begins with")
    return reader.header
