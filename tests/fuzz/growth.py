"""Valid inputs to begin with: protobuf messages by their descriptors, and record batches."""

from random import Random
from typing import TypeVar

from crc32c import crc32c
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

from klamm.ids import Epoch, Offset
from klamm.log.compression import Compression
from klamm.log.record_batch import (
    HEADER_BYTES,
    LENGTH_END,
    BatchHeader,
    build_batch,
    read_header,
)
from klamm.log.records import ControlType, CorruptBatchError, NewRecord, control_key

REPEATED_MAX = 4
DEPTH_MAX = 4
INTEGERS = (0, 1, 2, 3, 5, 100, 2**31 - 2, 2**31 - 1)
WIDE_INTEGERS = (*INTEGERS, 2**62, 2**63 - 1)
NEGATIVES = (-1, -(2**31))

M = TypeVar("M", bound=Message)


def random_message(kind: type[M], random: Random, depth: int = 0) -> M:
    """A message of `kind`, most of its fields set to something that is often allowed."""
    message = kind()
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.25:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[random_text(random)] = random_text(random)
        elif field.is_repeated:
            for _ in range(random.randint(0, REPEATED_MAX)):
                _add(getattr(message, field.name), field, random, depth)
        elif field.message_type is not None:
            if depth < DEPTH_MAX:
                inner = getattr(message, field.name)
                inner.CopyFrom(random_message(type(inner), random, depth + 1))
        else:
            setattr(message, field.name, _scalar(field, random))
    return message


def _add(values: object, field: Field, random: Random, depth: int) -> None:
    if field.message_type is None:
        values.append(_scalar(field, random))  # type: ignore[attr-defined]
    elif depth < DEPTH_MAX:
        inner = values.add()  # type: ignore[attr-defined]
        inner.CopyFrom(random_message(type(inner), random, depth + 1))


def _scalar(field: Field, random: Random) -> object:
    match field.cpp_type:
        case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
            return random.randbytes(random.choice((0, 1, 16, 16, 16, 16)))
        case Field.CPPTYPE_STRING:
            return random_text(random)
        case Field.CPPTYPE_BOOL:
            return random.random() < 0.5
        case Field.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return random.choice([each.number for each in field.enum_type.values])
        case Field.CPPTYPE_INT32:
            return random.choice(INTEGERS + NEGATIVES)
        case Field.CPPTYPE_INT64:
            return random.choice(WIDE_INTEGERS + NEGATIVES)
        case Field.CPPTYPE_UINT32:
            return random.choice(INTEGERS)
        case Field.CPPTYPE_UINT64:
            return random.choice(WIDE_INTEGERS)
    raise AssertionError(f"{field.full_name}: no such field in klamm.v1")


def random_text(random: Random) -> str:
    return random.choice(("", "a", "orders", "retention.ms", "127.0.0.1", "ü" * 3, "x" * 300))


def random_batch(
    random: Random, base: int = 0, epoch: int = 1, *, control: bool | None = None
) -> bytes:
    """One batch of one to four records; a control batch now and then."""
    if control if control is not None else random.random() < 0.3:
        records = [
            NewRecord(key=control_key(random.choice(tuple(ControlType))), value=random.randbytes(9))
        ]
        return build_batch(
            records,
            base_offset=Offset(base),
            leader_epoch=Epoch(epoch),
            timestamp_ms=random.choice((-1, 0, 1_700_000_000_000)),
            control=True,
            base_sequence=epoch,
        )
    records = [
        NewRecord(
            key=random.choice((None, b"", b"key")),
            value=random.choice((None, b"", random.randbytes(20), bytes(500))),
            headers=tuple((random_text(random), b"v") for _ in range(random.randint(0, 2))),
            timestamp_ms=random.choice((None, 5)),
        )
        for _ in range(random.randint(1, 4))
    ]
    return build_batch(
        records,
        base_offset=Offset(base),
        leader_epoch=Epoch(epoch),
        timestamp_ms=random.choice((-1, 0, 1_700_000_000_000)),
        compression=random.choice(tuple(Compression)),
        base_sequence=random.choice((-1, epoch)),
    )


def random_batches(random: Random, base: int = 0, epoch: int = 1, count_max: int = 5) -> bytes:
    """Batches that follow on each other."""
    parts: list[bytes] = []
    for _ in range(random.randint(0, count_max)):
        parts.append(random_batch(random, base, epoch))
        base += header_of(parts[-1]).last_offset_delta + 1
        epoch += random.randint(0, 1)
    return b"".join(parts)


def header_of(batch: bytes) -> BatchHeader:
    header = read_header(batch)
    assert header is not None
    return header


def sealed(data: bytes, *, length_too: bool = False) -> bytes:
    """The same bytes, each batch with the checksum that it should have.

    A mutation would else never get further than the checksum. With `length_too` the last batch
    ends where the data does.
    """
    out = bytearray(data)
    start = 0
    while len(out) - start >= HEADER_BYTES:
        try:
            header = read_header(out, start)
        except CorruptBatchError:
            break
        if header is None:
            if not length_too:
                break
            length = len(out) - start - LENGTH_END
            out[start + 8 : start + LENGTH_END] = length.to_bytes(4)
            continue
        end = start + header.size_bytes
        out[start + 17 : start + 21] = crc32c(out[start + 21 : end]).to_bytes(4)
        start = end
    return bytes(out)
