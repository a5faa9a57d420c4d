"""A log in use: what goes in comes out, from every offset, across segments and reopening."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klamm.errors import ApiError, ErrorCode
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.files import SystemFiles
from klamm.log.log import FoundRecord, Log, LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import CorruptBatchError, NewRecord
from tests.sim.disk import SimFiles
from tests.unit.log.logs import (
    NOW_MS,
    SMALL,
    batch,
    everything,
    fill,
    open_log,
)


@pytest.fixture(params=["simulated", "system"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Log:
    """The same on both implementations of the port."""
    if request.param == "simulated":
        return open_log(SimFiles())
    return Log.open(SystemFiles(), tmp_path / "orders-0", SMALL)


def reopen(log: Log, **options: object) -> Log:
    log.close()
    return Log.open(log._files, log.directory, log.config, **options)  # type: ignore[arg-type]


def test_an_empty_log(log: Log) -> None:
    assert (log.log_start_offset, log.end_offset) == (0, 0)
    assert log.read(Offset(0), 1_000) == b""
    assert log.flush() == 0
    assert log.offset_for_timestamp(0) is None
    assert log.youngest_record() is None
    assert reopen(log, clean_shutdown=True).end_offset == 0


def test_what_goes_in_comes_out(log: Log) -> None:
    batches = fill(log, [1, 3, 2] * 15)
    assert len(log._segments) > 5
    assert everything(log) == batches
    assert everything(reopen(log)) == batches
    assert everything(reopen(log, clean_shutdown=True)) == batches


def test_a_read_from_every_offset_begins_with_the_batch_that_holds_it(log: Log) -> None:
    batches = fill(log, [1, 3, 2] * 15)
    held = [each for each in batches for _ in range(next(iter_batches(each))[0].records_count)]
    for offset in reversed(range(log.end_offset)):
        assert log.read(Offset(offset), 10_000).startswith(held[offset])
        # The first batch gets through, however small the limit.
        assert log.read(Offset(offset), 0) == held[offset]
        assert log.read(Offset(offset), 0, min_one_batch=False) == b""


def test_every_bound_is_kept(log: Log) -> None:
    fill(log, [1, 3, 2] * 6)
    for start in range(log.end_offset + 1):
        for up_to in range(log.end_offset + 3):
            data = log.read(Offset(start), 10_000, up_to=Offset(up_to))
            headers = [header for header, _ in iter_batches(data)]
            assert sum(header.size_bytes for header in headers) == len(data)
            assert all(header.last_offset < up_to for header in headers)
    whole = log.read(Offset(0), 10_000)
    ends = [0]
    for _, view in iter_batches(whole):
        ends.append(ends[-1] + len(view))
    for max_bytes in range(len(whole) + 2):
        data = log.read(Offset(0), max_bytes, min_one_batch=False)
        assert len(data) == max(end for end in ends if end <= max_bytes)


def test_out_of_range_is_said_with_kafkas_code(log: Log) -> None:
    fill(log, [1, 1])
    log.truncate_fully_and_start_at(Offset(10))
    for offset in (9, 11):
        with pytest.raises(ApiError) as caught:
            log.read(Offset(offset), 100)
        assert caught.value.code is ErrorCode.OFFSET_OUT_OF_RANGE


def test_many_batches_in_one_append_are_split_over_segments(log: Log) -> None:
    batches, base = [], 0
    for _ in range(30):
        batches.append(batch(base, 2))
        base += 2
    assert log.append(b"".join(batches)) == 60
    assert len(log._segments) > 3
    assert all(segment.size_bytes <= SMALL.segment_bytes for segment in log._segments)
    assert everything(log) == batches


def test_a_batch_larger_than_a_segment_has_one_to_itself(log: Log) -> None:
    batches = fill(log, [1])
    batches.append(batch(1, size=2_000))
    log.append(batches[-1])
    batches += fill(log, [1])
    assert [segment.base_offset for segment in log._segments] == [0, 1, 2]
    assert everything(log) == batches


def test_a_full_index_begins_a_segment() -> None:
    log = open_log(SimFiles(), LogConfig(index_interval_bytes=1, index_bytes_max=32))
    fill(log, [1] * 20)
    assert [segment.base_offset for segment in log._segments] == [0, 5, 10, 15]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (batch(4), "offset 4, 3 comes next"),
        (batch(2), "offset 2, 3 comes next"),
        (batch(3, epoch=1), "epoch 1, after 2"),
        (batch(3, epoch=2) + batch(5, epoch=2), "offset 5, 4 comes next"),
        (batch(3, epoch=2)[:-1], "cut short"),
        (batch(3, epoch=2) + b"x", "cut short"),
        (bytes(100), "magic 0"),
    ],
)
def test_what_does_not_come_next_is_refused_and_nothing_is_written(bad: bytes, reason: str) -> None:
    """Row 94: an append anywhere else than at the end, and what else is no next batch."""
    log = open_log(SimFiles())
    batches = fill(log, [1, 2], epoch=2)
    with pytest.raises(CorruptBatchError, match=reason):
        log.append(bad)
    assert everything(log) == batches
    assert fill(log, [1], epoch=2)


def test_any_buffer_will_do(log: Log) -> None:
    log.append(bytearray(batch(0)))
    log.append(memoryview(batch(1)))
    assert everything(log) == [batch(0), batch(1)]
    assert log.append(b"") == 2


def test_epochs_are_known_and_survive(log: Log) -> None:
    fill(log, [2, 1], epoch=1)
    fill(log, [3] * 5, epoch=4)
    assert log.epochs.end == OffsetAndEpoch(epoch=Epoch(4), offset=Offset(18))
    assert log.epochs.start_of(Epoch(4)) == 3
    for clean in (False, True):
        log, before = reopen(log, clean_shutdown=clean), log.epochs
        assert log.epochs == before


@pytest.mark.parametrize("clean", [False, True])
def test_truncation_at_every_offset(clean: bool) -> None:
    whole = open_log(SimFiles())
    batches = fill(whole, [1, 3, 2] * 5, epoch=1) + fill(whole, [2, 1] * 5, epoch=2)
    end = whole.end_offset
    whole.close()
    for to in range(end + 2):
        log = open_log(whole._files.clone(), clean_shutdown=clean)  # type: ignore[attr-defined]
        kept = [each for each in batches if next(iter_batches(each))[0].next_offset <= to]
        expected = sum(next(iter_batches(each))[0].records_count for each in kept)
        assert log.truncate_to(Offset(to)) == expected == log.end_offset
        assert log.epochs.end_offset == expected
        more = fill(log, [2, 2], epoch=3)
        assert everything(log) == kept + more
        assert log.epochs.start_of(Epoch(3)) == expected
        assert log.youngest_record() == FoundRecord(
            offset=Offset(expected + 2), timestamp_ms=NOW_MS + expected + 2, leader_epoch=Epoch(3)
        )
        log = reopen(log, clean_shutdown=clean)
        assert everything(log) == kept + more


def test_start_at_another_offset(log: Log) -> None:
    fill(log, [1, 3, 2] * 6, epoch=1)
    log.truncate_fully_and_start_at(Offset(500), Epoch(7))
    assert (log.log_start_offset, log.end_offset) == (500, 500)
    assert log.epochs.end == OffsetAndEpoch(epoch=Epoch(7), offset=Offset(500))
    batches = fill(log, [1, 1], epoch=7)
    log = reopen(log)
    assert (log.log_start_offset, everything(log)) == (500, batches)


@pytest.mark.parametrize("reopened", [None, False, True])
def test_lookups_by_time(log: Log, reopened: bool | None) -> None:
    """Timestamps go up and down; the first record that is young enough is the answer."""
    times: list[int] = []
    for base in range(60):
        times.append((base * 37) % 50 + base)
        log.append(batch(base, timestamp=times[-1]))
    if reopened is not None:
        log = reopen(log, clean_shutdown=reopened)
    for target in range(max(times) + 2):
        found = log.offset_for_timestamp(NOW_MS + target)
        expected = next((at for at, each in enumerate(times) if each >= target), None)
        assert (found.offset if found else None) == expected
    youngest = log.youngest_record()
    assert youngest is not None
    assert youngest.offset == times.index(max(times))


def test_a_lookup_by_time_looks_into_the_batch(log: Log) -> None:
    records = [NewRecord(value=b"v", timestamp_ms=each) for each in (100, 300, 200)]
    log.append(build_batch(records, base_offset=Offset(0), leader_epoch=Epoch(4), timestamp_ms=100))
    expected = FoundRecord(offset=Offset(1), timestamp_ms=300, leader_epoch=Epoch(4))
    assert log.offset_for_timestamp(150) == log.youngest_record() == expected
    assert log.offset_for_timestamp(301) is None


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 900), st.integers(0, 100))),
    st.integers(1, 300),
)
def test_any_read_is_a_run_of_whole_batches(
    counts: list[int], reads: list[tuple[int, int, int]], interval: int
) -> None:
    log = open_log(SimFiles(), LogConfig(segment_bytes=600, index_interval_bytes=interval))
    bases: list[int] = []
    for count in counts:
        bases.append(log.end_offset)
        log.append(batch(log.end_offset, count))
        for start, max_bytes, up_to in reads[: len(bases)]:
            start, up_to = start % log.end_offset, up_to % (log.end_offset + 2)
            data = log.read(Offset(start), max_bytes, up_to=Offset(up_to))
            headers = [header for header, _ in iter_batches(data)]
            if not headers:
                continue
            first = max(base for base in bases if base <= start)
            assert [header.base_offset for header in headers] == bases[
                bases.index(first) : bases.index(first) + len(headers)
            ]
            assert len(data) <= max_bytes or len(headers) == 1
            assert headers[-1].last_offset < up_to
