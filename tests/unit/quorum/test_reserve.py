"""What a voter has reserved for its log on a disk that others fill (scenarios 34, 41)."""

from pathlib import Path

import pytest

from controller.quorum.known_voters import others_than
from controller.quorum.opening import METADATA_LOG
from controller.quorum.room import RESERVE_SHARE
from controller.quorum.store import LogStore
from controller.raft.effects import AppendRecords
from klamm.clock import SystemClock
from klamm.errors import NoSpaceError
from klamm.ids import LOG_START, Epoch, NodeId, Offset
from klamm.log.log import LogConfig
from klamm.log.records import NewRecord
from klamm.log.segment import log_path
from tests.sim.disk import SimFiles
from tests.unit.quorum.flushes import flushed

ROOT = Path("/metadata")
BALLAST = ROOT / "ballast"
SEGMENT = log_path(ROOT / METADATA_LOG, LOG_START)
CAPACITY = 1_000_000
AHEAD = 20_000
LARGE = 66_000
"""So much in one append has the room looked at again."""


def append(store: LogStore, offset: int, size: int) -> None:
    records = (NewRecord(value=bytes([1]) * size),)
    store.append_records(AppendRecords(base_offset=Offset(offset), epoch=Epoch(1), records=records))


@pytest.fixture
def files() -> SimFiles:
    return SimFiles(capacity=CAPACITY)


@pytest.fixture
def store(files: SimFiles) -> LogStore:
    store = LogStore.open(
        files,
        ROOT,
        SystemClock(),
        LogConfig(preallocate_bytes=AHEAD),
        has_peers=others_than(NodeId(1), configured=True),
    )
    append(store, 0, 100)
    assert len(files.content(SEGMENT)) > AHEAD > store.size_bytes
    return store


def leave(files: SimFiles, spare: int) -> None:
    """Fill the disk but for `spare` and for what the log leaves to others."""
    free = files.room(ROOT)[0] - CAPACITY // RESERVE_SHARE
    files.open(BALLAST).append(bytes(free - spare))


async def test_an_append_gets_it_rather_than_be_refused(files: SimFiles, store: LogStore) -> None:
    leave(files, LARGE - AHEAD // 2)
    append(store, 1, LARGE)
    assert len(files.content(SEGMENT)) == store.size_bytes
    with pytest.raises(NoSpaceError):
        append(store, 2, LARGE)
    files.remove(BALLAST)
    append(store, 2, LARGE)
    assert await flushed(store) == 3


def test_a_disk_is_not_full_while_something_is_reserved(files: SimFiles, store: LogStore) -> None:
    leave(files, -10)
    assert not store.is_full()
    assert len(files.content(SEGMENT)) == store.size_bytes
    leave(files, -10)
    assert store.is_full()
