"""Record batches, data and control, as they come from a disk, a producer or another controller.

    input    how │ batches

Half of the inputs are given the checksums that they should have.
"""

from random import Random

from controller.quorum.control import describe_batches
from klamm.ids import Epoch, Offset
from klamm.log.compression import Compression
from klamm.log.record_batch import (
    NO_PRODUCER_ID,
    BatchHeader,
    assign_offsets,
    build_batch,
    epoch_is_sealed_or_bare,
    iter_batches,
    read_records,
    verify_checksum,
)
from klamm.log.records import CorruptBatchError, NewRecord, Record
from tests.fuzz.growth import random_batches, sealed
from tests.fuzz.target import Choice, Target

DECOMPRESSED_BYTES_MAX = 256 * 1024
"""What a reader here allows, whatever a batch claims."""


def grow(random: Random) -> bytes:
    return bytes((random.randrange(256),)) + random_batches(random)


def check(data: bytes) -> bool:
    choice = Choice(data)
    how = choice.one_of(4)
    body = sealed(choice.rest, length_too=how == 1) if how % 2 else choice.rest
    _describe(body)
    try:
        batches = list(iter_batches(body))
    except CorruptBatchError:
        return False
    assert sum(header.size_bytes for header, _ in batches) <= len(body)
    return sum([_read(header, bytes(batch)) for header, batch in batches]) > 0


def _describe(body: bytes) -> None:
    try:
        described = describe_batches(body)
    except (CorruptBatchError, ValueError):
        return
    assert all(each.count >= 1 and each.base_offset >= 0 for each in described)


def _read(header: BatchHeader, batch: bytes) -> bool:
    verify_checksum(batch)
    epoch_is_sealed_or_bare(header)
    copy = bytearray(batch)
    end = assign_offsets(copy, Offset(7), Epoch(9))
    assert end == 7 + header.last_offset_delta + 1
    try:
        records = read_records(batch, DECOMPRESSED_BYTES_MAX)
    except CorruptBatchError:
        return False
    if records and not header.is_log_append_time and header.producer_id == NO_PRODUCER_ID:
        _check_again(header, records)
    return True


def _check_again(header: BatchHeader, records: list[Record]) -> None:
    """What was read can be written, and is then read the same."""
    again = build_batch(
        [
            NewRecord(
                key=each.key, value=each.value, headers=each.headers, timestamp_ms=each.timestamp_ms
            )
            for each in records
        ],
        base_offset=Offset(header.base_offset),
        leader_epoch=Epoch(header.leader_epoch),
        timestamp_ms=header.base_timestamp_ms,
        compression=Compression.NONE,
    )
    read = read_records(again)
    assert [_content(each) for each in read] == [_content(each) for each in records]


def _content(record: Record) -> tuple[object, ...]:
    return record.key, record.value, record.headers, record.timestamp_ms


TARGET = Target(name="record_batches", grow=grow, check=check, share=20)
