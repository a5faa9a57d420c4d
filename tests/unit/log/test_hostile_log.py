"""Bytes in a log that nobody's crash can explain: sound by their checksums, or made to look so."""

import struct

import pytest
from crc32c import crc32c

from broker.replica.producer_memory import ProducerMemory
from klamm.errors import CorruptLogError, StorageError
from klamm.ids import LOG_START, Offset
from klamm.log import recovery
from klamm.log.record_batch import HEADER_BYTES, LENGTH_END, read_records, verify_checksum
from klamm.log.records import CorruptBatchError
from klamm.log.segment import log_path
from tests.sim.disk import SimFiles
from tests.unit.log.logs import DIRECTORY, batch, everything, fill, open_log

FIRST = log_path(DIRECTORY, LOG_START)


def test_headers_made_up_do_not_cost_the_square_of_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client can store bytes that look like headers, each of a batch that reaches to the end."""
    count = 400
    data = b"".join(
        struct.pack(">qiibI", 0, (count - at) * HEADER_BYTES - LENGTH_END, 0, 2, 1) + bytes(40)
        for at in range(count)
    )
    files = SimFiles()
    files.make_directory(DIRECTORY)
    files.replace_content(FIRST, data)
    checked: list[int] = []

    def counting(batch: memoryview) -> bool:
        checked.append(len(batch))
        return verify_checksum(batch)

    monkeypatch.setattr(recovery, "verify_checksum", counting)
    assert open_log(files).end_offset == 0
    assert sum(checked) <= (recovery.SEARCH_PASSES_MAX + 1) * len(data)


def test_offsets_that_no_index_can_name_are_damage() -> None:
    """Sound by its checksum, and made by nobody: a segment holds 2**31 offsets at the most."""
    files = SimFiles()
    files.make_directory(DIRECTORY)
    files.replace_content(FIRST, b"".join(huge_batch(at << 31) for at in range(4)))
    log = open_log(files)
    assert log.end_offset == 1 << 31
    assert "more than a segment holds" in log.recovery.cuts[0].reason


def test_such_batches_go_into_segments_of_their_own() -> None:
    log = open_log(SimFiles())
    log.append(b"".join(huge_batch(at << 31) for at in range(4)))
    assert log.end_offset == 4 << 31
    assert len(everything(log)) == 4


def test_a_time_that_fits_into_no_answer_is_refused_by_name() -> None:
    """A client can send one: the base at the end of time, and a record a moment later."""
    data = bytearray(batch(0))
    data[27:35] = data[35:43] = (2**63 - 1).to_bytes(8)
    data[HEADER_BYTES + 2] = 2  # The record's timestamp delta: 1, zigzag.
    data[17:21] = crc32c(bytes(data[21:])).to_bytes(4)
    with pytest.raises(CorruptBatchError, match="time 9223372036854775808"):
        read_records(bytes(data))


def test_a_varint_of_more_than_64_bits_is_refused_by_name() -> None:
    body = b"\0" + b"\xff" * 9 + b"\x03" + b"\0\1\1\0"
    data = bytearray(batch(0))
    data[HEADER_BYTES:] = bytes((2 * len(body),)) + body
    data[8:12] = (len(data) - LENGTH_END).to_bytes(4)
    with pytest.raises(CorruptBatchError, match="more than 64 bits"):
        read_records(bytes(data))


def test_a_batch_that_has_grown_on_the_disk_is_damage_and_no_endless_read() -> None:
    """A reader that knows where it is was given half a batch, got no further, and asked again."""
    files = SimFiles()
    log = open_log(files)
    first = fill(log, (1, 1, 1))[0]
    assert log.read(LOG_START, len(first)) == first
    files.damage(FIRST, len(first) + LENGTH_END - 2, 0x80)
    with pytest.raises(CorruptLogError, match="no whole batch at offset 1"):
        log.read(Offset(1), 10_000)


def test_offsets_that_go_back_are_damage_and_no_endless_replay() -> None:
    """A broker that starts reads all headers for what producers have sent."""
    files = SimFiles()
    log = open_log(files)
    fill(log, (2, 2, 2))
    log.close()
    data = bytearray(files.content(FIRST))
    size = len(data) // 3
    data[size : size + 8] = bytes(8)
    files.replace_content(FIRST, bytes(data))
    log = open_log(files, clean_shutdown=True)
    with pytest.raises(StorageError, match="is damaged behind offset 2: a batch that ends at 2"):
        ProducerMemory().replay(log, LOG_START, 0)


def huge_batch(base: int) -> bytes:
    """One record that stands for 2**31 offsets."""
    data = bytearray(batch(base))
    data[23:27] = (2**31 - 1).to_bytes(4)
    data[17:21] = crc32c(bytes(data[21:])).to_bytes(4)
    return bytes(data)
