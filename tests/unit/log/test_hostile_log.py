"""Bytes in a log that nobody's crash can explain: sound by their checksums, or made to look so."""

import struct

import pytest
from crc32c import crc32c

from klamm.ids import LOG_START
from klamm.log import recovery
from klamm.log.record_batch import HEADER_BYTES, LENGTH_END, read_records, verify_checksum
from klamm.log.records import CorruptBatchError
from klamm.log.segment import log_path
from tests.sim.disk import SimFiles
from tests.unit.log.logs import DIRECTORY, batch, everything, open_log

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


def huge_batch(base: int) -> bytes:
    """One record that stands for 2**31 offsets."""
    data = bytearray(batch(base))
    data[23:27] = (2**31 - 1).to_bytes(4)
    data[17:21] = crc32c(bytes(data[21:])).to_bytes(4)
    return bytes(data)
