"""Scenarios 29, 36: what is read again is what was written, or an error that says where not."""

from dataclasses import replace

import pytest

from klamm.errors import CorruptLogError, StorageError
from klamm.ids import Epoch, Offset
from klamm.log.log import Log
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.log.segment import log_path
from tests.sim.disk import SimFiles
from tests.unit.log.logs import DIRECTORY, NOW_MS, REFUSE, open_log

CONFIG = replace(REFUSE, segment_bytes=300, epochs_sealed=True)


def sealed(base: int, count: int = 2, epoch: int = 3) -> bytes:
    return build_batch(
        [NewRecord(value=b"v%d" % each) for each in range(base, base + count)],
        base_offset=Offset(base),
        leader_epoch=Epoch(epoch),
        timestamp_ms=NOW_MS,
        base_sequence=epoch,
    )


def filled() -> tuple[SimFiles, Log, bytes]:
    files = SimFiles()
    log = open_log(files, CONFIG)
    batches = [sealed(each) for each in range(0, 12, 2)]
    for each in batches:
        log.append(each)
    return files, log, b"".join(batches)


def read_all(log: Log, max_bytes: int) -> bytes:
    data, at = b"", Offset(0)
    while at < log.end_offset:
        found = log.read_verified(at, max_bytes)
        assert found
        data += found
        at = Offset(2 * (len(data) // len(sealed(0))))
    return data


@pytest.mark.parametrize("max_bytes", [1, 10_000])
def test_every_bit_under_a_log_that_is_open(max_bytes: int) -> None:
    files, log, whole = filled()
    assert read_all(log, max_bytes) == whole
    paths = [DIRECTORY / each for each in files.list(DIRECTORY) if each.endswith(".log")]
    assert len(paths) > 1
    for path in paths:
        for at in range(len(files.content(path))):
            for bit in range(8):
                files.damage(path, at, 1 << bit)
                with pytest.raises(StorageError):
                    read_all(log, max_bytes)
                files.damage(path, at, 1 << bit)
    assert read_all(log, max_bytes) == whole


def test_a_batch_of_another_place() -> None:
    """A misdirected write: a whole, sound batch, and not the one that belongs there."""
    files, log, _ = filled()
    path = log_path(DIRECTORY, Offset(0))
    content, size = files.content(path), len(sealed(0))
    files.replace_content(path, content[size : 2 * size] + content[size:])
    with pytest.raises(CorruptLogError, match=r"offset 2 where 0 should be|no batch holds"):
        log.read_verified(Offset(0), 10_000)
    files.replace_content(path, content[:size] + content[:size] + content[2 * size :])
    with pytest.raises(CorruptLogError, match=r"offset 0 where 2 should be|no batch holds"):
        log.read_verified(Offset(0), 10_000)


def test_where_it_is_damaged() -> None:
    files, log, _ = filled()
    path = log_path(DIRECTORY, Offset(0))
    size = len(sealed(0))
    files.damage(path, size + 70, 1)
    with pytest.raises(CorruptLogError) as caught:
        log.read_verified(Offset(0), 10_000)
    assert (caught.value.path, caught.value.position) == (str(path), size)


def test_an_older_epoch_behind_a_newer_one() -> None:
    files = SimFiles()
    log = open_log(files, CONFIG)
    log.append(sealed(0, epoch=3))
    log.append(sealed(2, epoch=4))
    path = log_path(DIRECTORY, Offset(0))
    files.replace_content(path, sealed(0, epoch=5) + sealed(2, epoch=4))
    with pytest.raises(CorruptLogError, match="epoch 4"):
        log.read_verified(Offset(0), 10_000)
