"""One record as it stands in a batch: varints, key, value and headers.

    length            varint    of all that follows
    attributes        int8      unused, 0
    timestamp_delta   varlong   ms, from the batch's base_timestamp
    offset_delta      varint    from the batch's base_offset
    key               varint length (-1: null), bytes
    value             varint length (-1: null), bytes
    headers           varint count, each: key (varint length, UTF-8), value (as above)

Varints are zigzag, least significant seven bits first. The key of a control record is
(version int16, type int16). Source: https://kafka.apache.org/documentation/#record

Records are opened where their content matters (metadata, groups, lookups by time), never on the
way of a produced batch: this is some microseconds a record.
"""

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from klamm.errors import DefiniteError
from klamm.ids import Offset

Header = tuple[str, bytes | None]

_CONTROL_KEY = struct.Struct(">hh")
_VARINT_BYTES_MAX = 10
RECORD_BYTES_MIN = 7
"""All its numbers in a byte each, and nothing else."""
_NULL = 0x01
"""The length -1, as it is usually written."""
_INT64_MAX = 2**63 - 1
_UINT64_MAX = 2**64 - 1


class CorruptBatchError(DefiniteError):
    """Bytes that are no record batch of magic 2, or one whose records do not add up.

    Definite: what an `append` refuses so was not written.
    """


class ControlType(IntEnum):
    """What a control record says."""

    ABORT = 0
    COMMIT = 1
    LEADER_CHANGE = 2
    SNAPSHOT_HEADER = 3
    SNAPSHOT_FOOTER = 4
    KRAFT_VERSION = 5
    VOTERS = 6


class NewRecord(NamedTuple):
    """A record before it has an offset. A NamedTuple for its price, as `Record`."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[Header, ...] = ()
    timestamp_ms: int | None = None
    """None: the batch's."""


class Record(NamedTuple):
    """A record of a log. A NamedTuple, not a dataclass: a batch can have thousands."""

    offset: Offset
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()


def control_key(kind: ControlType) -> bytes:
    """The key of a control record."""
    return _CONTROL_KEY.pack(0, kind)


def control_type(key: bytes | None) -> int:
    """The type in a control record's key; see `ControlType` for the known ones."""
    if key is None or len(key) < _CONTROL_KEY.size:
        raise CorruptBatchError(f"a control record with the key {key!r}")
    kind: int = _CONTROL_KEY.unpack_from(key)[1]
    return kind


def encode_records(records: Sequence[NewRecord], base_timestamp_ms: int) -> bytes:
    """Records end to end, at offset deltas 0, 1, 2, …"""
    out = bytearray()
    for delta, (record_value, key, headers, timestamp_ms) in enumerate(records):
        body = bytearray(1)
        if timestamp_ms is None:
            body.append(0)
        else:
            _put_varint(body, timestamp_ms - base_timestamp_ms)
        _put_varint(body, delta)
        _put_bytes(body, key)
        _put_bytes(body, record_value)
        _put_varint(body, len(headers))
        for name, value in headers:
            _put_bytes(body, name.encode())
            _put_bytes(body, value)
        _put_varint(out, len(body))
        out += body
    return bytes(out)


def iter_records(
    data: bytes | memoryview,
    *,
    count: int,
    base_offset: Offset,
    last_offset_delta: int,
    base_timestamp_ms: int,
) -> Iterator[Record]:
    """Read exactly `count` records, which fill `data` exactly, one after the other.

    Raises:
        CorruptBatchError: They do not, or have offsets that do not ascend within the batch, or
            times that no int64 holds. Known of a record when its turn comes.
    """
    if not 0 <= count <= len(data) // RECORD_BYTES_MIN:
        raise CorruptBatchError(f"{count} records in {len(data)} bytes")
    data = bytes(data)
    last_offset = base_offset + last_offset_delta
    next_offset: int = base_offset
    position = 0
    try:
        for _ in range(count):
            length, position = _varint(data, position)
            end = position + length
            if length < 0 or end > len(data):
                raise CorruptBatchError(f"a record of {length} bytes at byte {position}")
            record, position = _record(data, position, base_offset, base_timestamp_ms)
            if position != end:
                raise CorruptBatchError(f"a record ends at byte {position}, not at {end}")
            if not next_offset <= record.offset <= last_offset:
                raise CorruptBatchError(f"offset {record.offset}, not {next_offset} or later")
            if not -_INT64_MAX - 1 <= record.timestamp_ms <= _INT64_MAX:
                raise CorruptBatchError(f"time {record.timestamp_ms}, which no answer can hold")
            next_offset = record.offset + 1
            yield record
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptBatchError(f"a record cut short or not UTF-8: {error}") from error
    if position != len(data):
        raise CorruptBatchError(f"{len(data) - position} bytes after the last record")


def _record(
    data: bytes, position: int, base_offset: Offset, base_timestamp_ms: int
) -> tuple[Record, int]:
    timestamp_delta, position = _varint(data, position + 1)
    offset_delta, position = _varint(data, position)
    key, position = _bytes(data, position)
    value, position = _bytes(data, position)
    headers_count, position = _varint(data, position)
    offset, timestamp_ms = Offset(base_offset + offset_delta), base_timestamp_ms + timestamp_delta
    if headers_count == 0:
        return Record(offset, timestamp_ms, key, value), position
    if headers_count < 0:
        raise CorruptBatchError(f"{headers_count} headers")
    headers: list[Header] = []
    for _ in range(headers_count):
        name, position = _bytes(data, position)
        if name is None:
            raise CorruptBatchError("a header without a name")
        header_value, position = _bytes(data, position)
        headers.append((name.decode(), header_value))
    return Record(offset, timestamp_ms, key, value, tuple(headers)), position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    byte = data[position]
    if byte < 0x80:
        return (byte >> 1) ^ -(byte & 1), position + 1
    value = byte & 0x7F
    byte = data[position + 1]
    value |= (byte & 0x7F) << 7
    if byte < 0x80:
        return (value >> 1) ^ -(value & 1), position + 2
    for at in range(2, _VARINT_BYTES_MAX):
        byte = data[position + at]
        value |= (byte & 0x7F) << (7 * at)
        if byte < 0x80 and value <= _UINT64_MAX:
            return (value >> 1) ^ -(value & 1), position + at + 1
    raise CorruptBatchError(f"a varint of more than 64 bits at byte {position}")


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    if data[position] == _NULL:
        return None, position + 1
    length, position = _varint(data, position)
    if length < 0:
        return None, position
    end = position + length
    if end > len(data):
        raise CorruptBatchError(f"{length} bytes at byte {position}, past the end")
    return data[position:end], end


def _put_varint(out: bytearray, value: int) -> None:
    zigzag = (value << 1) ^ (value >> 63)
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)


def _put_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(1)
        return
    _put_varint(out, len(value))
    out += value
