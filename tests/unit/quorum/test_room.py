"""The log leaves room for votes and the next snapshot (scenarios 34, 41)."""

from pathlib import Path

import pytest

from controller.quorum.room import LOOK_BYTES, RESERVE_BYTES_MAX, RESERVE_SHARE, Room
from klamm.errors import NoSpaceError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.snapshot import SnapshotFiles
from tests.sim.disk import SimFiles

DIRECTORY = Path("/log")
SNAPSHOT_BYTES = 40_000


def disk(capacity: int) -> tuple[SimFiles, SnapshotFiles]:
    files = SimFiles(capacity=capacity)
    files.make_directory(DIRECTORY)
    return files, SnapshotFiles(files, DIRECTORY)


def spare(room: Room, batch_bytes: int, files: SimFiles) -> int:
    """Bytes that it takes before it is full; each is written."""
    file, taken = files.open(DIRECTORY / "log"), 0
    while True:
        try:
            room.take(batch_bytes)
        except NoSpaceError:
            return taken
        file.append(bytes(batch_bytes))
        taken += batch_bytes


@pytest.mark.parametrize("capacity", [1 << 20, 20 << 20])
def test_a_share_of_the_disk_is_left_to_others(capacity: int) -> None:
    files, snapshots = disk(capacity)
    reserve = min(RESERVE_BYTES_MAX, capacity // RESERVE_SHARE)
    batch_bytes = LOOK_BYTES // 7
    taken = spare(Room(files, DIRECTORY, snapshots), batch_bytes, files)
    assert capacity - reserve - batch_bytes < taken <= capacity - reserve


def test_and_what_the_next_snapshot_will_take() -> None:
    capacity = 1 << 20
    files, snapshots = disk(capacity)
    part = snapshots.create(OffsetAndEpoch(Epoch(1), Offset(10)))
    part.append(bytes(SNAPSHOT_BYTES))
    part.finish()
    taken = spare(Room(files, DIRECTORY, snapshots), 1_000, files)
    left = capacity - taken - SNAPSHOT_BYTES
    assert left >= capacity // RESERVE_SHARE + SNAPSHOT_BYTES * 5 // 4


def test_it_is_looked_again_whenever_there_was_none() -> None:
    """What goes makes room at once."""
    files, snapshots = disk(1 << 20)
    room = Room(files, DIRECTORY, snapshots)
    ballast = files.open(DIRECTORY / "ballast")
    ballast.append(bytes(1 << 20))
    with pytest.raises(NoSpaceError):
        room.take(1)
    assert room.is_full()
    files.remove(DIRECTORY / "ballast")
    assert not room.is_full()
    room.take(1)
