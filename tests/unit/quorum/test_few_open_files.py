"""Scenario 42: with so few open files left as one likes, a vote and a roll are refused or done, and
the store goes on once there are more. Real files, and an operating system that counts them."""

import errno
import os
from pathlib import Path

import pytest

from controller.quorum.known_voters import others_than
from controller.quorum.opening import open_disk
from controller.quorum.store import LogStore
from controller.raft.effects import AppendRecords, SaveQuorumState
from controller.raft.voters import ReplicaKey
from klamm.clock import SystemClock
from klamm.errors import NoSpaceError
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.log import files as files_module
from klamm.log.files import SystemFiles
from klamm.log.log import LogConfig
from klamm.log.records import NewRecord
from klamm.log.recovery import OnCorruption
from tests.unit.quorum.flushes import flushed

OTHERS = others_than(NodeId(1), configured=True)
CONFIG = LogConfig(segment_bytes=300, on_corruption=OnCorruption.REFUSE)
PLENTY = 1 << 20


class FewOs:
    """The operating system, but for how many files it lets be open beside those that are."""

    def __init__(self) -> None:
        self.left = PLENTY

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        if self.left <= 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        self.left -= 1
        return os.open(path, flags, mode)

    def close(self, fd: int) -> None:
        self.left += 1
        os.close(fd)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> FewOs:
    it = FewOs()
    monkeypatch.setattr(files_module, "os", it)
    return it


def opened(root: Path) -> LogStore:
    return LogStore.open(SystemFiles(), root, SystemClock(), CONFIG, has_peers=OTHERS)


def vote(epoch: int) -> SaveQuorumState:
    voted = ReplicaKey(node_id=NodeId(2))
    return SaveQuorumState(epoch=Epoch(epoch), voted_for=voted, leader=NO_NODE)


@pytest.mark.parametrize("left", range(5))
async def test_a_vote(left: int, few: FewOs, tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.save(vote(1))
    few.left = left
    if left:
        await store.save(vote(2_500))
    else:
        with pytest.raises(NoSpaceError, match="too many open files"):
            await store.save(vote(2_500))
    few.left = PLENTY
    await store.save(vote(5_000))
    store.close()
    found = open_disk(SystemFiles(), tmp_path, CONFIG, has_peers=OTHERS)
    assert found.saved.epoch == 5_000
    assert found.distrust is None


@pytest.mark.parametrize("left", range(5))
async def test_a_roll(left: int, few: FewOs, tmp_path: Path) -> None:
    store = opened(tmp_path)
    await store.save(vote(1))
    few.left, end, refused = left, 0, 0

    def append() -> None:
        records = (NewRecord(value=b"v" * 30),)
        store.append_records(
            AppendRecords(base_offset=Offset(end), epoch=Epoch(1), records=records)
        )

    for _ in range(30):
        try:
            append()
        except NoSpaceError:
            refused += 1
        else:
            end += 1
        assert await flushed(store) == end
    assert refused
    with pytest.raises(NoSpaceError, match="too many open files"):
        append()
    few.left = PLENTY
    for _ in range(20):
        append()
        end += 1
    assert await flushed(store) == end
    store.close()
    found = open_disk(SystemFiles(), tmp_path, CONFIG, has_peers=OTHERS)
    assert (found.log.end_offset, found.distrust) == (end, None)


async def test_a_look_at_the_room_that_is_left(few: FewOs, tmp_path: Path) -> None:
    """It needs open files itself, and does without."""
    store = opened(tmp_path)
    few.left = 0
    assert not store.is_full()
    few.left = PLENTY
    store.close()
