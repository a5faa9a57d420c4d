"""Records are the same bytes whatever is remembered of those before, and are read as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.ids import Offset
from klamm.log import records
from klamm.log.records import CorruptBatchError, NewRecord, Record, encode_records, iter_records

TIME_MS = 1_700_000_000_000


def varint(value: int) -> bytes:
    """By the letter of the format."""
    zigzag, out = (value << 1) ^ (value >> 63), b""
    while zigzag > 127:
        out, zigzag = out + bytes([zigzag & 127 | 128]), zigzag >> 7
    return out + bytes([zigzag])


def sized(value: bytes | None) -> bytes:
    return varint(-1) if value is None else varint(len(value)) + value


def written(delta: int, record: NewRecord) -> bytes:
    time_delta = 0 if record.timestamp_ms is None else record.timestamp_ms - TIME_MS
    body = b"\0" + varint(time_delta) + varint(delta) + sized(record.key) + sized(record.value)
    body += varint(len(record.headers))
    body += b"".join(sized(name.encode()) + sized(value) for name, value in record.headers)
    return varint(len(body)) + body


def read(data: bytes, count: int) -> list[Record]:
    return list(
        iter_records(
            data,
            count=count,
            base_offset=Offset(7),
            last_offset_delta=count - 1,
            base_timestamp_ms=TIME_MS,
        )
    )


VALUES = st.none() | st.binary(max_size=5) | st.integers(60, 9_000).map(bytes)
HEADERS = st.sampled_from(
    [
        (),
        (("principal", b"Broker:1"), ("request", b"CreateTopics")),
        (("principal", b"Broker:1"), ("request", None)),
        (("größe", bytes(records.HEADERS_KEPT_BYTES_MAX)),),
    ]
) | st.lists(st.tuples(st.text(max_size=3), VALUES), max_size=3).map(tuple)
RECORDS = st.builds(
    NewRecord,
    value=VALUES,
    key=VALUES,
    headers=HEADERS,
    timestamp_ms=st.none() | st.integers(TIME_MS - 10_000, TIME_MS + 10_000) | st.just(0),
)


@given(st.lists(RECORDS, max_size=20))
def test_written_to_the_letter_and_read_back(made: list[NewRecord]) -> None:
    data = encode_records(made, TIME_MS)
    assert data == b"".join(written(delta, each) for delta, each in enumerate(made))
    expected = [
        Record(
            Offset(7 + delta),
            TIME_MS if each.timestamp_ms is None else each.timestamp_ms,
            each.key,
            each.value,
            each.headers,
        )
        for delta, each in enumerate(made)
    ]
    assert read(data, len(made)) == expected
    assert read(data, len(made)) == expected, "the same when the headers are known"


def test_many_records() -> None:
    made = [NewRecord(b"v")] * 3_000
    data = encode_records(made, TIME_MS)
    assert data == b"".join(written(delta, each) for delta, each in enumerate(made))
    assert [each.offset for each in read(data, len(made))] == list(range(7, 3_007))


def test_what_is_kept_is_bounded() -> None:
    for each in range(2 * records.HEADERS_KEPT_MAX + 3):
        one = NewRecord(b"", headers=((f"{each}", b"x" * each),))
        (back,) = read(encode_records([one], TIME_MS), 1)
        assert back.headers == one.headers
    for kept in (records._READ, records._WRITTEN):
        assert 0 < len(kept) <= records.HEADERS_KEPT_MAX
    assert max(map(len, records._READ)) <= records.HEADERS_KEPT_BYTES_MAX
    assert max(map(len, records._WRITTEN.values())) <= records.HEADERS_KEPT_BYTES_MAX


def test_headers_that_are_known_end_with_their_record() -> None:
    """Known bytes with others behind them, or cut short, are not what is known."""
    record = NewRecord(b"v", headers=(("a", b"1"), ("b", b"2")))
    body = written(0, record)[1:]
    read(varint(len(body)) + body, 1)
    for wrong in (body + b"\0", body[:-1]):
        with pytest.raises(CorruptBatchError):
            read(varint(len(wrong)) + wrong, 1)
    with pytest.raises(CorruptBatchError):
        read(varint(len(body) - 1) + body, 1)
