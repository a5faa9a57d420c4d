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
from typing import NamedTuple, TypeVar

from klamm.errors import DefiniteError
from klamm.ids import Offset

Header = tuple[str, bytes | None]

_CONTROL_KEY = struct.Struct(">hh")
_VARINT_BYTES_MAX = 10
RECORD_BYTES_MIN = 7
"""All its numbers in a byte each, and nothing else."""
_NULL = 0x01
"""The length -1, as it is usually written."""
HEADERS_KEPT_MAX = 256
"""Headers whose bytes are kept, and bytes whose headers are: the metadata log has the same few
again and again, who wrote and what was asked. When they are more, it begins anew."""
HEADERS_KEPT_BYTES_MAX = 256
"""Of one record's headers, as they are written; longer ones are not kept."""
_INT64_MAX = 2**63 - 1
_UINT64_MAX = 2**64 - 1


_WRITTEN: dict[tuple[Header, ...], bytes] = {}
_READ: dict[bytes, tuple[Header, ...]] = {}
"""From the count of headers to the record's end; found only where nothing is behind them."""

_K = TypeVar("_K")
_V = TypeVar("_V")


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
    small = _SMALL_VARINTS
    out: list[bytes] = []
    for delta, (value, key, headers, timestamp_ms) in enumerate(records):
        body = b"".join(
            (
                b"\0",
                b"\0" if timestamp_ms is None else _written(timestamp_ms - base_timestamp_ms),
                small[delta] if delta < _SMALL else _written(delta),
                b"\1" if key is None else _written(len(key)) + key,
                b"\1" if value is None else _written(len(value)),
                value or b"",
                _written_headers(headers) if headers else b"\0",
            )
        )
        out.append(_written(len(body)))
        out.append(body)
    return b"".join(out)


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
            record, position = _record(data, position, end, base_offset, base_timestamp_ms)
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
    data: bytes, position: int, end: int, base_offset: Offset, base_timestamp_ms: int
) -> tuple[Record, int]:
    # Most of these numbers have one byte each, and are read here: a call costs as much as five.
    byte = data[position + 1]
    if byte < 0x80:
        timestamp_delta, position = (byte >> 1) ^ -(byte & 1), position + 2
    else:
        timestamp_delta, position = _varint(data, position + 1)
    byte = data[position]
    if byte < 0x80:
        offset_delta, position = (byte >> 1) ^ -(byte & 1), position + 1
    else:
        offset_delta, position = _varint(data, position)
    if data[position] == _NULL:
        key, position = None, position + 1
    else:
        key, position = _bytes(data, position)
    value, position = _bytes(data, position)
    offset, timestamp_ms = Offset(base_offset + offset_delta), base_timestamp_ms + timestamp_delta
    if data[position] == 0:
        return Record(offset, timestamp_ms, key, value), position + 1
    written = data[position:end] if end - position <= HEADERS_KEPT_BYTES_MAX else b""
    headers = _READ.get(written)
    if headers is None:
        headers, position = _headers(data, position)
        if written and position == end:
            _keep(_READ, written, headers, len(written))
        return Record(offset, timestamp_ms, key, value, headers), position
    return Record(offset, timestamp_ms, key, value, headers), end


def _headers(data: bytes, position: int) -> tuple[tuple[Header, ...], int]:
    count, position = _varint(data, position)
    if count < 0:
        raise CorruptBatchError(f"{count} headers")
    headers: list[Header] = []
    for _ in range(count):
        name, position = _bytes(data, position)
        if name is None:
            raise CorruptBatchError("a header without a name")
        value, position = _bytes(data, position)
        headers.append((name.decode(), value))
    return tuple(headers), position


def _written_headers(headers: tuple[Header, ...]) -> bytes:
    written = _WRITTEN.get(headers)
    if written is None:
        out = bytearray(_written(len(headers)))
        for name, value in headers:
            _put_bytes(out, name.encode())
            _put_bytes(out, value)
        written = bytes(out)
        _keep(_WRITTEN, headers, written, len(written))
    return written


def _keep(kept: dict[_K, _V], key: _K, value: _V, size_bytes: int) -> None:
    if size_bytes <= HEADERS_KEPT_BYTES_MAX:
        if len(kept) >= HEADERS_KEPT_MAX:
            kept.clear()
        kept[key] = value


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


def _written(value: int) -> bytes:
    """A varint."""
    return _SMALL_VARINTS[value] if 0 <= value < _SMALL else _varint_of(value)


def _varint_of(value: int) -> bytes:
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)
    return bytes(out)


def _put_bytes(out: bytearray, value: bytes | None) -> None:
    if value is None:
        out.append(_NULL)
        return
    out += _written(len(value))
    out += value


_SMALL = 1 << 10
_SMALL_VARINTS = tuple(map(_varint_of, range(_SMALL)))
"""Of lengths and offsets, as most of them are."""
