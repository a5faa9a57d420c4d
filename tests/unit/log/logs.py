"""Small logs in simulated files, for the tests of this folder."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from klamm.ids import Epoch, Offset
from klamm.log.log import Log, LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import NewRecord
from klamm.log.recovery import OnCorruption
from tests.sim.disk import SimFiles

DIRECTORY = Path("/data/orders-0")
SMALL = LogConfig(segment_bytes=600, index_interval_bytes=100)
"""A few batches a segment, an index entry for every second batch."""
REFUSE = LogConfig(segment_bytes=600, index_interval_bytes=100, on_corruption=OnCorruption.REFUSE)
RESERVE = replace(REFUSE, preallocate_bytes=200)
"""Of each segment some batches ahead."""
NOW_MS = 1_700_000_000_000


def batch(base: int, count: int = 1, epoch: int = 0, size: int = 5, timestamp: int = 0) -> bytes:
    return build_batch(
        [NewRecord(value=bytes([97 + (base + at) % 26]) * size) for at in range(count)],
        base_offset=Offset(base),
        leader_epoch=Epoch(epoch),
        timestamp_ms=NOW_MS + (timestamp or base),
    )


def open_log(files: SimFiles, config: LogConfig = SMALL, **options: object) -> Log:
    return Log.open(files, DIRECTORY, config, **options)  # type: ignore[arg-type]


def fill(log: Log, counts: Iterable[int], epoch: int = 0) -> list[bytes]:
    """Append a batch for each of `counts`, of so many records."""
    batches: list[bytes] = []
    for count in counts:
        batches.append(batch(log.end_offset, count, epoch))
        log.append(batches[-1])
    return batches


def everything(log: Log, max_bytes: int = 300) -> list[bytes]:
    """All batches, read bit by bit."""
    batches: list[bytes] = []
    offset = log.log_start_offset
    while data := log.read(offset, max_bytes):
        for header, view in iter_batches(data):
            assert header.base_offset == offset
            batches.append(bytes(view))
            offset = header.next_offset
    assert offset == log.end_offset
    return batches
