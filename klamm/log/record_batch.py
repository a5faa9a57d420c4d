"""The header of a record batch, magic 2: what a broker checks before it stores one.

A batch is the unit of everything: a producer sends whole batches, the leader appends
them as they came but for two fields, followers copy them, consumers get them whole.
The broker reads the header and the checksum, and opens the records only to look inside.

    offset  size  field                  note
         0     8  base_offset            the leader writes it; not under the checksum
         8     4  batch_length           bytes after this field, so 49 at the least
        12     4  partition_leader_epoch the leader writes it; not under the checksum
        16     1  magic                  2
        17     4  crc                    CRC-32C of all that follows
        21     2  attributes             bits 0-2 compression, 3 time type, 4 txn, 5 control
        23     4  last_offset_delta      last offset in the batch, less base_offset
        27     8  base_timestamp         ms since the Unix epoch
        35     8  max_timestamp          ms since the Unix epoch
        43     8  producer_id            -1 without idempotence
        51     2  producer_epoch
        53     4  base_sequence
        57     4  records_count
        61     -  records

Integers are big-endian and signed, except `crc`.

Source: https://kafka.apache.org/documentation/#recordbatch, and KIP-98 for the producer
fields. Held against kafka-python's record builder in tests/unit/log/.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from crc32c import crc32c

from klamm.ids import Epoch, Offset
from klamm.log.compression import (
    DECOMPRESSED_BYTES_MAX,
    Compression,
    CompressionError,
    compress,
    decompress,
)
from klamm.log.records import (
    RECORD_BYTES_MIN,
    CorruptBatchError,
    NewRecord,
    Record,
    encode_records,
    iter_records,
)

HEADER_BYTES = 61
LENGTH_END = 12
"""`batch_length` counts the bytes after itself, which is from here."""
MAGIC = 2
MAGIC_AT = 16
"""Byte of a batch."""
NO_PRODUCER_ID = -1
NO_PRODUCER_EPOCH = -1
NO_SEQUENCE = -1

COMPRESSION_BITS = 0x07
LOG_APPEND_TIME_BIT = 0x08
TRANSACTIONAL_BIT = 0x10
CONTROL_BIT = 0x20

_HEADER = struct.Struct(">qiibIhiqqqhii")
_BASE_OFFSET = struct.Struct(">q")
_LEADER_EPOCH = struct.Struct(">i")
_UNDER_CHECKSUM = struct.Struct(">hiqqqhii")
_CHECKSUM_START = 21
OFFSET_MAX = 2**63 - 1
"""No record has it: the offset after the last one must have a name too."""
_LENGTH_MIN = HEADER_BYTES - LENGTH_END

_tuple = tuple.__new__
"""What a NamedTuple's `_make` does, without its call."""

assert _HEADER.size == HEADER_BYTES


class BatchHeader(NamedTuple):
    """The fields of the header, in their order in the file.

    A NamedTuple, not a dataclass: it is made for each batch that comes in, at a fifth of the
    price.
    """

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records_count: int

    @property
    def size_bytes(self) -> int:
        """Of the whole batch, header and all."""
        return LENGTH_END + self.batch_length

    @property
    def last_offset(self) -> Offset:
        return Offset(self.base_offset + self.last_offset_delta)

    @property
    def next_offset(self) -> Offset:
        return Offset(self.base_offset + self.last_offset_delta + 1)

    @property
    def compression_bits(self) -> int:
        """0-7; see `Compression` for those that mean something."""
        return self.attributes & COMPRESSION_BITS

    @property
    def is_control(self) -> bool:
        return self.attributes & CONTROL_BIT != 0

    @property
    def is_transactional(self) -> bool:
        return self.attributes & TRANSACTIONAL_BIT != 0

    @property
    def is_log_append_time(self) -> bool:
        """Every record's time is `max_timestamp_ms`, which the broker wrote."""
        return self.attributes & LOG_APPEND_TIME_BIT != 0


LATER_MAGICS = range(MAGIC + 1, 16)
"""There were three in Kafka's first ten years."""


def read_header(data: bytes | bytearray | memoryview, start: int = 0) -> BatchHeader | None:
    """Read the header of the batch at `start`, without touching its records.

    Args:
        data: Batches end to end; the last may be cut short, as a fetch may cut it.
        start: Byte offset of the batch in `data`.

    Returns:
        The header, or None if `data` ends before the batch does.

    Raises:
        CorruptBatchError: The bytes are whole and are no batch of magic 2. The checksum
            is not looked at here; see `verify_checksum`.
    """
    if len(data) - start < HEADER_BYTES:
        return None
    header = peek_header(data, start)
    return None if len(data) - start < LENGTH_END + header.batch_length else header


def later_batch(data: bytes | bytearray | memoryview, expected: int) -> tuple[int, int] | None:
    """Magic and size in bytes of a batch of a later version, if that is how `data` begins.

    Kafka has never moved base offset, length and magic.

    Args:
        data: HEADER_BYTES or more.
        expected: The base offset that comes next.
    """
    header = BatchHeader._make(_HEADER.unpack_from(data))
    later = header.magic in LATER_MAGICS and header.base_offset == expected
    return (header.magic, header.size_bytes) if later else None


def is_whole_but_for_magic(batch: memoryview) -> bool:
    """Is it a batch of magic 2, by its checksum, of which that byte alone was damaged?"""
    whole = bytearray(batch)
    whole[MAGIC_AT] = MAGIC
    try:
        return verify_checksum(whole)
    except CorruptBatchError:
        return False


def peek_header(data: bytes | bytearray | memoryview, start: int = 0) -> BatchHeader:
    """As `read_header`, of a batch whose records need not all be in `data`.

    Args:
        data: Holds at least HEADER_BYTES from `start`.
        start: Byte offset of the batch in `data`.
    """
    header = _tuple(BatchHeader, _HEADER.unpack_from(data, start))
    offset, more = header.base_offset, header.last_offset_delta
    wrong_offsets = offset < 0 or more < 0 or offset + more >= OFFSET_MAX
    if wrong_offsets or header.magic != MAGIC or header.batch_length < _LENGTH_MIN:
        raise CorruptBatchError(_why_none(header))
    return header


def _why_none(header: BatchHeader) -> str:
    if header.magic != MAGIC:
        return f"magic {header.magic}, only {MAGIC} is known"
    if header.batch_length < _LENGTH_MIN:
        return f"a batch length of {header.batch_length}, below {_LENGTH_MIN}"
    return f"offsets {header.base_offset} and {header.last_offset_delta} more"


def verify_checksum(
    batch: bytes | bytearray | memoryview, start: int = 0, header: BatchHeader | None = None
) -> bool:
    """Does the whole batch at `start` have the checksum that its header says?

    Nothing is copied; some tens of microseconds a megabyte. Who has the header already gives it.
    """
    if header is None:
        header = peek_header(batch, start)
    end = start + header.size_bytes
    assert end <= len(batch), "a batch cut short has no checksum"
    crc: int = crc32c(memoryview(batch)[start + _CHECKSUM_START : end])
    return crc == header.crc


def epoch_is_sealed_or_bare(header: BatchHeader) -> bool:
    """Is a batch's epoch the one that it was made with, as far as the batch can tell?

    The epoch is under no checksum, since a partition's leader writes it into batches that others
    made. The metadata log's batches are made with it, and have no producer: they repeat it in
    base_sequence, which is under the checksum. Only a batch that does so can fail here.
    """
    sealed = header.producer_id == NO_PRODUCER_ID and header.base_sequence != NO_SEQUENCE
    return not sealed or header.base_sequence == header.leader_epoch


def records_fit(header: BatchHeader) -> bool:
    """Can a batch of this size have so many records? Of compressed ones nobody can tell."""
    room = header.size_bytes - HEADER_BYTES
    return header.compression_bits != 0 or header.records_count * RECORD_BYTES_MIN <= room


def iter_batches(
    data: bytes | bytearray | memoryview,
) -> Iterator[tuple[BatchHeader, memoryview]]:
    """Each whole batch of `data`, as a view; one that is cut short at the end is left out.

    Raises:
        CorruptBatchError: Something in `data` is no batch of magic 2.
    """
    view = memoryview(data)
    start, size = 0, len(view)
    while size - start >= HEADER_BYTES:
        header = peek_header(view, start)
        end = start + LENGTH_END + header.batch_length
        if end > size:
            return
        yield header, view[start:end]
        start = end


def headers_in_order(
    batches: bytes | bytearray | memoryview, offset: int, epoch: int
) -> list[BatchHeader]:
    """The batches' headers, once they prove to be whole, from `offset` on, and not before `epoch`.

    Raises:
        CorruptBatchError: They are not.
    """
    headers: list[BatchHeader] = []
    position, size = 0, len(batches)
    while position < size:
        header = read_header(batches, position)
        if header is None:
            raise CorruptBatchError(f"a batch cut short after {position} bytes")
        if header.base_offset != offset:
            raise CorruptBatchError(f"offset {header.base_offset}, {offset} comes next")
        if header.leader_epoch < epoch:
            raise CorruptBatchError(f"epoch {header.leader_epoch}, after {epoch}")
        headers.append(header)
        offset += header.last_offset_delta + 1
        epoch = header.leader_epoch
        position += header.size_bytes
    return headers


def assign_offsets(
    buffer: bytearray | memoryview, base_offset: Offset, leader_epoch: Epoch
) -> Offset:
    """Write offsets and epoch into whole batches, in place: a leader's part in them.

    Args:
        buffer: Whole batches end to end, writable. Bytes 0-7 and 12-15 of each change; neither
            is under the checksum.
        base_offset: Of the first record.
        leader_epoch: Of all of them.

    Returns:
        The offset after the last record.
    """
    start = 0
    offset: int = base_offset
    while start < len(buffer):
        header = read_header(buffer, start)
        assert header is not None, "a batch cut short gets no offsets"
        _BASE_OFFSET.pack_into(buffer, start, offset)
        _LEADER_EPOCH.pack_into(buffer, start + LENGTH_END, leader_epoch)
        offset += header.last_offset_delta + 1
        start += header.size_bytes
    return Offset(offset)


def build_batch(
    records: Sequence[NewRecord],
    *,
    base_offset: Offset,
    leader_epoch: Epoch,
    timestamp_ms: int,
    control: bool = False,
    transactional: bool = False,
    producer_id: int = NO_PRODUCER_ID,
    producer_epoch: int = NO_PRODUCER_EPOCH,
    base_sequence: int = NO_SEQUENCE,
    compression: Compression = Compression.NONE,
) -> bytes:
    """Make one batch of at least one record.

    Args:
        records: At offset deltas 0, 1, 2, …
        base_offset: Of the first record.
        leader_epoch: Of all of them.
        timestamp_ms: Of the batch, and of records that have none of their own.
        control: The records are control records; see `control_key`.
        transactional: They belong to their producer's open transaction.
        producer_id: With idempotence or a transaction.
        producer_epoch: As above.
        base_sequence: Of the first record.
        compression: Of the records together.
    """
    assert records, "a batch holds a record at least"
    body = compress(encode_records(records, timestamp_ms), compression)
    max_timestamp_ms = max(
        timestamp_ms if record.timestamp_ms is None else record.timestamp_ms for record in records
    )
    attributes = int(compression)
    attributes |= CONTROL_BIT if control else 0
    attributes |= TRANSACTIONAL_BIT if transactional else 0
    fields = _UNDER_CHECKSUM.pack(
        attributes,
        len(records) - 1,
        timestamp_ms,
        max_timestamp_ms,
        producer_id,
        producer_epoch,
        base_sequence,
        len(records),
    )
    crc = crc32c(body, crc32c(fields))
    length = _LENGTH_MIN + len(body)
    head = struct.pack(">qiibI", base_offset, length, leader_epoch, MAGIC, crc)
    return b"".join((head, fields, body))


def read_records(
    batch: bytes | bytearray | memoryview, limit: int = DECOMPRESSED_BYTES_MAX
) -> list[Record]:
    """All records of one whole batch. The checksum is the caller's to verify.

    A record is a hundred times larger than the seven bytes that it may have in the batch: only for
    batches that this project makes. What a client made is read by `walk_records`.

    Args:
        batch: One whole batch, and nothing after it.
        limit: Bytes that its records may take, decompressed.

    Raises:
        CorruptBatchError: The records are not what the header says, or exceed `limit`.
    """
    header, records = _opened(batch, limit)
    return list(_at_append_time(records, header) if header.is_log_append_time else records)


def walk_records(
    batch: bytes | bytearray | memoryview, limit: int = DECOMPRESSED_BYTES_MAX
) -> Iterator[Record]:
    """As `read_records`, one record after the other.

    Raises:
        CorruptBatchError: As there, when it comes to what is wrong.
    """
    header, records = _opened(batch, limit)
    yield from _at_append_time(records, header) if header.is_log_append_time else records


def _opened(
    batch: bytes | bytearray | memoryview, limit: int
) -> tuple[BatchHeader, Iterator[Record]]:
    header = read_header(batch)
    if header is None or header.size_bytes != len(batch):
        raise CorruptBatchError(f"{len(batch)} bytes are not one whole batch")
    body = memoryview(batch)[HEADER_BYTES:]
    if header.attributes & COMPRESSION_BITS:
        try:
            body = memoryview(decompress(body, Compression(header.compression_bits), limit))
        except (ValueError, CompressionError) as error:
            raise CorruptBatchError(f"cannot decompress: {error}") from error
    return header, iter_records(
        body,
        count=header.records_count,
        base_offset=Offset(header.base_offset),
        last_offset_delta=header.last_offset_delta,
        base_timestamp_ms=header.base_timestamp_ms,
    )


def _at_append_time(records: Iterator[Record], header: BatchHeader) -> Iterator[Record]:
    for record in records:
        yield record._replace(timestamp_ms=header.max_timestamp_ms)
