"""Batches against kafka-python's builder and reader, both ways, and against damage."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from klamm.ids import Epoch, Offset
from klamm.log.compression import Compression
from klamm.log.record_batch import (
    HEADER_BYTES,
    assign_offsets,
    build_batch,
    iter_batches,
    read_header,
    read_records,
    verify_checksum,
)
from klamm.log.records import (
    ControlType,
    CorruptBatchError,
    NewRecord,
    Record,
    control_key,
    control_type,
)

NOW_MS = 1_700_000_000_000
CODECS = list(Compression)

records = st.lists(
    st.builds(
        NewRecord,
        key=st.none() | st.binary(max_size=40),
        value=st.none() | st.binary(max_size=300),
        headers=st.lists(
            st.tuples(st.text(max_size=8), st.none() | st.binary(max_size=20)), max_size=3
        ).map(tuple),
        timestamp_ms=st.integers(NOW_MS - 10**9, NOW_MS + 10**9),
    ),
    min_size=1,
    max_size=20,
)


def build(news: list[NewRecord], codec: Compression = Compression.NONE, **extra: Any) -> bytes:
    return build_batch(
        news,
        base_offset=Offset(42),
        leader_epoch=Epoch(7),
        timestamp_ms=NOW_MS,
        compression=codec,
        **extra,
    )


def placed(news: list[NewRecord]) -> list[Record]:
    return [
        Record(
            offset=Offset(42 + at),
            timestamp_ms=NOW_MS if new.timestamp_ms is None else new.timestamp_ms,
            key=new.key,
            value=new.value,
            headers=new.headers,
        )
        for at, new in enumerate(news)
    ]


@settings(max_examples=60, deadline=None)
@given(records, st.sampled_from(CODECS))
def test_kafka_python_reads_ours(news: list[NewRecord], codec: Compression) -> None:
    batch = build(news, codec, producer_id=5, producer_epoch=2, base_sequence=9)
    theirs = DefaultRecordBatch(batch)
    assert theirs.validate_crc()
    assert (theirs.base_offset, theirs.leader_epoch, theirs.magic) == (42, 7, 2)
    assert (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence) == (5, 2, 9)
    assert theirs.compression_type == codec
    assert theirs.first_timestamp == NOW_MS
    assert theirs.max_timestamp == max(new.timestamp_ms or 0 for new in news)
    read = [
        Record(
            offset=each.offset,
            timestamp_ms=each.timestamp,
            key=each.key,
            value=each.value,
            headers=tuple(each.headers),
        )
        for each in theirs
    ]
    assert read == placed(news) == read_records(batch)


@settings(max_examples=60, deadline=None)
@given(records, st.sampled_from(CODECS), st.booleans())
def test_we_read_kafka_pythons(
    news: list[NewRecord], codec: Compression, transactional: bool
) -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=int(codec),
        is_transactional=transactional,
        producer_id=5,
        producer_epoch=2,
        base_sequence=9,
        batch_size=1 << 20,
    )
    for at, new in enumerate(news):
        builder.append(at, new.timestamp_ms, new.key, new.value, list(new.headers))
    batch = bytearray(builder.build())
    assert assign_offsets(batch, Offset(42), Epoch(7)) == 42 + len(news)
    header = read_header(batch)
    assert header is not None
    assert verify_checksum(batch)
    assert (header.base_offset, header.leader_epoch) == (42, 7)
    assert (header.producer_id, header.producer_epoch, header.base_sequence) == (5, 2, 9)
    assert (header.is_transactional, header.is_control) == (transactional, False)
    assert (header.records_count, header.next_offset) == (len(news), 42 + len(news))
    assert read_records(batch) == placed(news)


def test_the_same_bytes_as_kafka_python_without_compression() -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 20,
    )
    for at in range(200):
        builder.append(at, NOW_MS + at, b"k%d" % at, b"v" * at, [("h", b"x")])
    theirs = bytearray(builder.build())
    assign_offsets(theirs, Offset(42), Epoch(7))
    news = [
        NewRecord(
            key=b"k%d" % at, value=b"v" * at, headers=(("h", b"x"),), timestamp_ms=NOW_MS + at
        )
        for at in range(200)
    ]
    assert build(news) == theirs


def test_control_records() -> None:
    new = NewRecord(key=control_key(ControlType.LEADER_CHANGE), value=b"who")
    batch = build([new], control=True)
    header = read_header(batch)
    assert header is not None
    assert header.is_control
    (record,) = read_records(batch)
    assert control_type(record.key) == ControlType.LEADER_CHANGE
    with pytest.raises(CorruptBatchError):
        control_type(b"\0")


def test_a_batch_cut_short_is_left_out_of_an_iteration() -> None:
    batch = build([NewRecord(value=b"v" * 50)])
    for cut in range(len(batch)):
        assert [len(view) for _, view in iter_batches(batch + batch[:cut])] == [len(batch)]
        assert read_header(batch[:cut]) is None


def test_offsets_are_assigned_without_touching_the_checksum() -> None:
    buffer = bytearray(build([NewRecord(value=b"a")] * 3) + build([NewRecord(value=b"b")] * 2))
    before = bytes(buffer)
    assert assign_offsets(buffer, Offset(1_000), Epoch(9)) == 1_005
    headers = [header for header, _ in iter_batches(buffer)]
    assert [(h.base_offset, h.leader_epoch) for h in headers] == [(1_000, 9), (1_003, 9)]
    assert all(verify_checksum(view) for _, view in iter_batches(buffer))
    size = headers[0].size_bytes
    changed = {at % size for at in range(size) if buffer[at] != before[at]}
    assert changed <= {*range(8), *range(12, 16)}


@pytest.mark.parametrize("codec", CODECS)
def test_a_flipped_bit_anywhere_is_seen(codec: Compression) -> None:
    batch = build([NewRecord(key=b"k", value=b"value" * 5)], codec)
    for at in range(len(batch)):
        for bit in range(8):
            damaged = bytearray(batch)
            damaged[at] ^= 1 << bit
            try:
                header = read_header(damaged)
            except CorruptBatchError:
                continue
            if header is None or header.size_bytes != len(batch):
                continue
            # Base offset and epoch are the leader's, and not under the checksum.
            assert not verify_checksum(damaged) or at in {*range(8), *range(12, 16)}


@pytest.mark.parametrize("codec", CODECS)
def test_damaged_records_are_an_error_and_nothing_else(codec: Compression) -> None:
    batch = build([NewRecord(key=b"k", value=b"value" * 5, headers=(("h", b"1"),))] * 3, codec)
    for at in range(57, len(batch)):
        for bit in range(8):
            damaged = bytearray(batch)
            damaged[at] ^= 1 << bit
            try:
                read_records(damaged)
            except CorruptBatchError:
                continue
    for end in range(HEADER_BYTES, len(batch)):
        with pytest.raises(CorruptBatchError):
            read_records(batch[:end])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(range(8)), st.integers(-3, 2**31 - 1))
def test_garbage_for_records_is_an_error_and_nothing_else(
    body: bytes, codec: int, count: int
) -> None:
    damaged = bytearray(build([NewRecord(value=b"")])[:HEADER_BYTES] + body)
    damaged[8:12] = (len(damaged) - 12).to_bytes(4, "big")
    damaged[21:23] = codec.to_bytes(2, "big")
    damaged[57:61] = count.to_bytes(4, "big", signed=True)
    try:
        assert len(read_records(damaged)) == count
    except CorruptBatchError:
        pass
