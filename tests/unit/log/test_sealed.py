"""Scenario 29: no byte of a small file changes unseen, its checksum's own among them."""

import pytest

from klamm.log.sealed import open_json, open_lines, seal_json, seal_lines

FIELDS: dict[str, object] = {"leaderId": 2, "leaderEpoch": 7}
KEYS = frozenset(FIELDS)
LINES = b"version=1\nnode.id=3\n"


def test_there_and_back() -> None:
    sealed = seal_json(FIELDS)
    assert sealed.startswith(b'{"leaderId":2,"leaderEpoch":7,"crc32c":"')
    assert open_json(sealed, KEYS) == FIELDS
    assert open_lines(seal_lines(LINES)) == LINES


def test_a_file_from_before_there_were_checksums() -> None:
    assert open_json(b'{"leaderEpoch": 7, "leaderId": 2}', KEYS) == FIELDS
    assert open_lines(LINES) == LINES


def test_every_byte_to_every_value() -> None:
    for data, opened in ((seal_json(FIELDS), open_json), (seal_lines(LINES), open_lines)):
        for at in range(len(data)):
            for value in range(256):
                if value == data[at]:
                    continue
                damaged = data[:at] + bytes([value]) + data[at + 1 :]
                with pytest.raises(ValueError, match="it"):
                    opened(damaged, KEYS) if opened is open_json else open_lines(damaged)


def test_cut_short_or_doubled() -> None:
    sealed = seal_json(FIELDS)
    for size in range(len(sealed)):
        with pytest.raises(ValueError, match="it"):
            open_json(sealed[:size], KEYS)
    with pytest.raises(ValueError, match="it"):
        open_json(sealed + sealed, KEYS)
    lines = seal_lines(LINES)
    for size in range(len(LINES) + len(b"checksum"), len(lines)):
        with pytest.raises(ValueError, match="it"):
            open_lines(lines[:size])
    with pytest.raises(ValueError, match="it"):
        open_lines(lines + b"node.id=4\n")


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{}", b"\xff", b"[" * 100_000, b"1" * 5_000])
def test_garbage(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"it|limit"):
        open_json(data, KEYS)
