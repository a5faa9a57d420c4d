"""Unsynced pages reach a disk in any order: what is lost then is told from damage.

Scenarios 27, 28, 30, 37: a torn end is cut and said, with whole batches behind it too; damage to
what was durable is not cut.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from klamm.errors import CorruptLogError
from klamm.ids import LOG_START, Epoch, Offset
from klamm.log.log import Log
from klamm.log.record_batch import HEADER_BYTES, MAGIC_AT, build_batch
from klamm.log.records import NewRecord
from klamm.log.segment import log_path
from klamm.log.unwritten import SECTOR_BYTES, was_not_written
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.log.logs import DIRECTORY, NOW_MS, REFUSE, SMALL, everything, open_log

FIRST = log_path(DIRECTORY, LOG_START)
LARGE = replace(REFUSE, segment_bytes=16 * 1024)
RESERVES = pytest.mark.parametrize("preallocate_bytes", [0, 700, 8_000], ids=str)


def batch(base: int, size: int = 300) -> bytes:
    value = bytes(1 + (base + at) % 255 for at in range(size))
    return build_batch(
        [NewRecord(value=value)],
        base_offset=Offset(base),
        leader_epoch=Epoch(0),
        timestamp_ms=NOW_MS + base,
    )


def whole(count: int, size: int = 300) -> list[bytes]:
    return [batch(each, size) for each in range(count)]


def holed(batches: list[bytes], durable: int, sectors: set[int], behind: int = 0) -> bytes:
    """What is there if these sectors still have what was there with the first `durable` batches."""
    before = b"".join(batches[:durable])
    data = bytearray(b"".join(batches) + bytes(behind))
    for sector in sectors:
        start, end = sector * SECTOR_BYTES, min((sector + 1) * SECTOR_BYTES, len(data))
        data[start:end] = before[start:end].ljust(end - start, b"\0")
    return bytes(data)


def stands(content: bytes) -> SimFiles:
    files = SimFiles()
    open_log(files, LARGE).close()
    files.replace_content(FIRST, content)
    return files


def holes(batches: list[bytes], durable: int) -> Iterator[tuple[set[int], int]]:
    """Sectors that may be lost, some, and how many batches are left before the first of them."""
    size = len(b"".join(batches))
    first = len(b"".join(batches[:durable])) // SECTOR_BYTES
    for low in range(first, -(-size // SECTOR_BYTES)):
        for high in (low, low + 1, low + 4):
            sectors = set(range(low, high + 1))
            data = holed(batches, durable, sectors)
            kept = durable
            while data.startswith(b"".join(batches[: kept + 1])) and kept < len(batches):
                kept += 1
            yield sectors, kept


@pytest.mark.parametrize("size", [20, 100, 300, 437, 451, 900, 2_000])
@pytest.mark.parametrize("durable", [0, 1, 5])
def test_any_sector_lost_of_what_nobody_knew_to_be_durable(durable: int, size: int) -> None:
    """Wherever batches begin in their sectors: cut, told, and the rest is there."""
    batches = whole(20, size)
    behind_whole_ones = 0
    for sectors, kept in holes(batches, durable):
        files = stands(holed(batches, durable, sectors, behind=1_000))
        log = open_log(files, LARGE, known_durable=Offset(durable))
        assert everything(log) == batches[:kept]
        left = log.recovery.cuts
        if any(each.followed_by is not None for each in left):
            behind_whole_ones += 1
            assert "never written" in str(left[0])
        assert files.durable()[FIRST] == b"".join(batches[:kept])
    assert behind_whole_ones > 2


def test_the_same_below_what_was_known_is_damage() -> None:
    """Scenario 30: also where nobody knows anything."""
    batches = whole(20)
    for sectors, kept in holes(batches, 2):
        content = holed(batches, 2, sectors, behind=1_000)
        for known in (None, Offset(kept + 1)):
            files = stands(content)
            try:
                log = open_log(files, LARGE, known_durable=known)
            except CorruptLogError:
                assert files.content(FIRST) == content, "nothing is cut"
            else:
                assert all(each.followed_by is None for each in log.recovery.cuts)
                assert everything(log) == batches[:kept]


def test_the_offset_that_is_known_is_exclusive() -> None:
    batches = whole(20)
    content = holed(batches, 5, {7})
    kept = 7 * SECTOR_BYTES // len(batches[0])
    log = open_log(stands(content), LARGE, known_durable=Offset(kept))
    assert everything(log) == batches[:kept]
    with pytest.raises(CorruptLogError):
        open_log(stands(content), LARGE, known_durable=Offset(kept + 1))


def test_a_bit_that_flips_is_damage_wherever_it_stands() -> None:
    """It leaves no sector of zeros, whatever is known."""
    batches = whole(8)
    content = b"".join(batches) + bytes(900)
    last = len(content) - 900 - len(batches[-1])
    for at in range(last):
        if at % len(batches[0]) in range(12, 16):
            continue  # The epoch's, which is not under this log's checksums.
        for bit in (0, 7) if at % len(batches[0]) >= HEADER_BYTES else range(8):
            damaged = bytearray(content)
            damaged[at] ^= 1 << bit
            files = stands(bytes(damaged))
            with pytest.raises(CorruptLogError, match="whole batches follow"):
                open_log(files, LARGE, known_durable=Offset(0))


def test_a_hole_in_a_segment_that_another_follows_is_damage() -> None:
    """It was made durable before the next one began."""
    files = SimFiles()
    log = open_log(files, replace(LARGE, segment_bytes=3_000))
    batches = whole(20)
    for each in batches:
        log.append(each)
    log.close()
    content = bytearray(files.content(FIRST))
    content[SECTOR_BYTES : 2 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    files.replace_content(FIRST, bytes(content))
    with pytest.raises(CorruptLogError):
        open_log(files, LARGE, known_durable=Offset(0))


def test_a_partition_cuts_as_ever() -> None:
    files = stands(holed(whole(20), 2, {7}))
    assert open_log(files, SMALL).recovery.cuts[0].followed_by is not None


def test_the_bytes_of_a_batch_that_may_be_zeros_prove_nothing() -> None:
    """Its offset begins with zeros; so may its length, and what stands in it."""
    at = SECTOR_BYTES - 7
    data = bytearray(batch(200, 900))
    data[100] ^= 1
    assert not was_not_written(bytes(data), at, Offset(200))
    data[7] = 0  # What a sector's end of eight zeros would leave.
    assert was_not_written(bytes(data), SECTOR_BYTES - 8, Offset(200))
    assert not was_not_written(bytes(data), SECTOR_BYTES - 7, Offset(200))


@pytest.mark.parametrize("at", [0, 6, 7, MAGIC_AT, 30], ids=str)
def test_zeros_of_its_own_prove_nothing_where_the_header_is_damaged(at: int) -> None:
    """A sector that was lost there would have taken more of it than a bit."""
    record = NewRecord(value=bytes(3 * SECTOR_BYTES))
    data = bytearray(
        build_batch([record], base_offset=Offset(9), leader_epoch=Epoch(0), timestamp_ms=NOW_MS)
    )
    data[at] ^= 0x80
    for position in (0, SECTOR_BYTES - 5, SECTOR_BYTES - 100):
        # All of its header is good but for what is under the checksum: its zeros may be a loss.
        assert was_not_written(bytes(data), position, Offset(9)) == (at == 30)


def test_what_was_lost_behind_a_damaged_batch_excuses_nothing() -> None:
    """A bit of it has flipped: it was there."""
    data = bytearray(b"".join(whole(3, 700)))
    data[200] ^= 1
    size = len(batch(0, 700))
    data[size : 2 * size] = bytes(size)
    assert not was_not_written(bytes(data), 0, Offset(0))
    data[100:size] = bytes(size - 100)
    assert was_not_written(bytes(data), 0, Offset(0))


def test_zeros_behind_the_damaged_batch_are_not_its_own() -> None:
    """A length that has grown by a bit reaches into what is reserved."""
    data = bytearray(batch(3))
    data[9] ^= 1
    assert not was_not_written(bytes(data), 0, Offset(3))
    grown = bytes(data) + bytes(4 * SECTOR_BYTES)
    assert was_not_written(grown, 0, Offset(3)), "so only what stands before the next is given"


@RESERVES
@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_at_every_operation_of_a_disk_that_scatters(
    preallocate_bytes: int, seed: int
) -> None:
    """What was flushed is there, what is there was written, and nothing is taken for damage."""
    config = replace(LARGE, segment_bytes=8_000, preallocate_bytes=preallocate_bytes)
    operation = behind_whole_ones = 0
    while True:
        files = SimFiles()
        files.scatters = True
        log = open_log(files, config)
        files.crash_at_operation = files.operations + operation
        durable = known = Offset(0)
        try:
            for _ in range(6):
                append(log, 4)
                known, durable = durable, log.flush()
            log.truncate_to(durable := Offset(durable - 3))
            known = min(known, durable)
            append(log, 9)
            log.close()
            ended, durable = True, log.end_offset
        except PowerCutError:
            ended = False
        files.crash(Random(100 * operation + seed))
        again = open_log(files, config, known_durable=known)
        kept = everything(again)
        behind_whole_ones += any(each.followed_by for each in again.recovery.cuts)
        assert durable <= len(kept) <= 30
        assert kept == [batch(at) for at in range(len(kept))]
        if ended:
            break
        operation += 1
    assert operation > 20
    assert behind_whole_ones or seed > 0


def append(log: Log, count: int) -> None:
    for _ in range(count):
        log.append(batch(log.end_offset))
