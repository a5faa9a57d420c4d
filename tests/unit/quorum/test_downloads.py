"""How long a snapshot and the log behind it stay for whoever downloads it (rows 105, 106)."""

import errno
import uuid
from types import SimpleNamespace
from typing import cast

import pytest

from controller.quorum import downloads
from controller.quorum.downloads import HELD_AFTER_CHUNK_MS, Downloads
from controller.quorum.port import Quorum
from controller.raft.state import HeldSnapshot
from controller.raft.voters import ReplicaKey
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.snapshot import SnapshotFiles, format_name
from tests.unit.active.quorums import FakeClock
from tests.unit.quorum.test_installs import DIRECTORY, disk, put


def at(offset: int) -> OffsetAndEpoch:
    return OffsetAndEpoch(offset=Offset(offset), epoch=Epoch(1))


def key(node_id: int) -> ReplicaKey:
    return ReplicaKey(node_id=NodeId(node_id), directory_id=uuid.UUID(int=node_id))


HELD = [HeldSnapshot(snapshot_id=at(each), size_bytes=1) for each in (100, 200, 300)]
QUORUM = cast("Quorum", SimpleNamespace(snapshots=HELD))
SLOW, QUICK = key(2), key(3)
NAMELESS = ReplicaKey(node_id=NO_NODE, directory_id=None)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def held(clock: FakeClock) -> Downloads:
    return Downloads(clock)


def test_it_stays_while_it_is_downloaded_and_a_while_after(
    clock: FakeClock, held: Downloads
) -> None:
    held.asked(SLOW, at(200), QUORUM)
    clock.now_ms += HELD_AFTER_CHUNK_MS - 1
    assert held.any_before(at(300))
    assert not held.any_before(at(200)), "the log may begin with it"
    held.asked(SLOW, at(200), QUORUM)
    clock.now_ms += HELD_AFTER_CHUNK_MS - 1
    assert held.any_before(at(300)), "another chunk"
    clock.now_ms += 1
    assert not held.any_before(at(300)), "it went away"


def test_it_goes_when_all_have_read_the_log_as_far_as_it_will_begin(held: Downloads) -> None:
    held.asked(SLOW, at(200), QUORUM)
    held.asked(QUICK, at(100), QUORUM)
    held.fetched(QUICK, Offset(300))
    held.fetched(SLOW, Offset(299))
    assert held.any_before(at(300))
    held.fetched(SLOW, Offset(0))
    held.fetched(key(4), Offset(1_000))
    assert held.any_before(at(300)), "neither a step back nor somebody else's"
    held.fetched(SLOW, Offset(300))
    assert not held.any_before(at(300))
    assert held.any_before(at(301))
    held.asked(QUICK, at(100), QUORUM)
    assert held.any_before(at(200)), "it begins anew"


def test_those_without_a_name_share_the_oldest_and_wait_for_the_clock(
    clock: FakeClock, held: Downloads
) -> None:
    held.asked(NAMELESS, at(100), QUORUM)
    held.asked(NAMELESS, at(300), QUORUM)
    held.fetched(NAMELESS, Offset(1_000))
    assert held.any_before(at(101))
    clock.now_ms += HELD_AFTER_CHUNK_MS
    assert not held.any_before(at(101))


def test_one_that_is_not_there_holds_nothing(held: Downloads) -> None:
    held.asked(SLOW, at(150), QUORUM)
    assert not held.any_before(at(300))


async def test_one_that_could_not_be_read_is_looked_at_again_and_a_damaged_one_is_not(
    held: Downloads,
) -> None:
    """Scenarios 33, 42: no open file was left, or the disk erred once. Nobody else writes one."""
    files, snapshot_id = disk(0), HELD[0].snapshot_id
    put(files, snapshot_id)
    there = SimpleNamespace(
        snapshots=HELD,
        damaged_snapshots=frozenset(),
        snapshot_files=SnapshotFiles(files, DIRECTORY),
    )
    quorum = cast("Quorum", there)
    files.fail("read", errno.EMFILE, path=format_name(snapshot_id))
    assert not await held.is_sound(snapshot_id, quorum)
    assert await held.is_sound(snapshot_id, quorum)
    again = Downloads(FakeClock())
    files.damage(DIRECTORY / format_name(snapshot_id), 100, 4)
    assert not await again.is_sound(snapshot_id, quorum)
    files.damage(DIRECTORY / format_name(snapshot_id), 100, 4)
    assert not await again.is_sound(snapshot_id, quorum), "once is enough: the disk is not trusted"


def test_the_number_of_holds_has_a_limit(
    clock: FakeClock, held: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "HOLDS_MAX", 1)
    held.asked(SLOW, at(200), QUORUM)
    held.asked(QUICK, at(100), QUORUM)
    assert not held.any_before(at(200)), "the second does without"
    clock.now_ms += HELD_AFTER_CHUNK_MS
    held.asked(QUICK, at(100), QUORUM)
    assert held.any_before(at(200)), "the first has gone"
