"""What a voter believes of its disk. Scenarios 28-32, 37, 38, 43, 44; kraft.md 7.2 (10, 11)."""

import asyncio
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from controller.quorum.bounds import EPOCH_STRIDE, QUORUM_BOUNDS, Bounds
from controller.quorum.known_voters import HasPeers, nobody, others_than
from controller.quorum.opening import METADATA_LOG, NEW_DISK, Opened, doubt_new_disk, open_disk
from controller.quorum.quorum_state import QUORUM_STATE, format_state
from controller.raft.state import SavedState
from controller.raft.voters import ReplicaKey
from klamm.errors import StartError, StorageError
from klamm.ids import Epoch, NodeId, Offset
from klamm.log.log import Log, LogConfig
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.log.sealed import seal_json
from tests.sim.disk import PowerCutError, SimFiles

ROOT = Path("/metadata")
DIRECTORY = ROOT / METADATA_LOG
BOUNDS = ROOT / QUORUM_BOUNDS
VOTE = DIRECTORY / QUORUM_STATE
SMALL = LogConfig(segment_bytes=250)
"""A handful of batches a segment."""
VOTED = SavedState(epoch=Epoch(7), voted_for=ReplicaKey(node_id=NodeId(2)))
CEILING = Epoch(7 + EPOCH_STRIDE)
RECORDS = 10
OTHERS = others_than(NodeId(1), configured=True)


def opened(files: SimFiles, *, has_peers: HasPeers = OTHERS) -> Opened:
    return open_disk(files, ROOT, SMALL, has_peers=has_peers)


def batch(offset: int, epoch: int = 7) -> bytes:
    return build_batch(
        [NewRecord(value=b"record %d" % offset)],
        base_offset=Offset(offset),
        leader_epoch=Epoch(epoch),
        timestamp_ms=1_700_000_000_000,
        base_sequence=epoch,
    )


def append(log: Log, count: int = 1) -> None:
    for _ in range(count):
        log.append(batch(log.end_offset))


def records(log: Log) -> bytes:
    data, at = b"", log.log_start_offset
    while at < log.end_offset:
        data += log.read(at, 1)
        at = Offset(at + 1)
    return data


WHOLE = b"".join(batch(each) for each in range(RECORDS))


def disk(durable: int = RECORDS) -> SimFiles:
    """A voter that voted in epoch 7, has RECORDS, and knew the first `durable` to be so."""
    files = SimFiles()
    first = opened(files)
    assert (first.saved, first.distrust, first.notices) == (SavedState(), None, ())
    append(first.log, RECORDS)
    first.log.close()
    files.replace_content(VOTE, format_state(VOTED))
    bounds = Bounds(end_offset=Offset(durable), epoch=Epoch(7), epoch_ceiling=CEILING)
    files.replace_content(BOUNDS, bounds.encode())
    return files


def segments(files: SimFiles) -> list[Path]:
    return [DIRECTORY / each for each in files.list(DIRECTORY) if each.endswith(".log")]


def test_a_sound_disk_is_believed_and_durable() -> None:
    files = disk()
    found = opened(files)
    assert (found.saved, found.distrust, found.notices) == (VOTED, None, ())
    assert records(found.log) == WHOLE
    again = files.durable()[BOUNDS]
    assert Bounds.decode(again) == replace(found.bounds.bounds, end_offset=Offset(RECORDS))


def test_every_bit_of_every_file() -> None:
    """Scenario 29: what is believed is what was written; else no vote, or no start, in words."""
    files = disk()
    assert len(segments(files)) > 2
    paths = [VOTE, BOUNDS, *(DIRECTORY / each for each in files.list(DIRECTORY))]
    outcomes = dict.fromkeys(("believed", "recovering", "vote replaced"), 0)
    for path in set(paths):
        for at in range(len(files.content(path))):
            for bit in range(8):
                damaged = files.clone()
                damaged.damage(path, at, 1 << bit)
                found = opened(damaged)
                outcomes[judge(found)] += 1
                found.log.abandon()
    assert min(outcomes.values()) > 100, outcomes


def judge(found: Opened) -> str:
    have = records(found.log)
    assert WHOLE.startswith(have)
    if found.saved != VOTED:
        assert found.saved == SavedState(epoch=Epoch(CEILING + 1))
        assert found.notices
        return "vote replaced"
    if found.distrust is not None:
        assert any(found.distrust in each for each in found.notices)
        return "recovering"
    assert have == WHOLE
    return "believed"


@pytest.mark.parametrize("durable", [0, RECORDS // 2, RECORDS])
def test_the_last_batch_torn(durable: int) -> None:
    """Scenarios 27, 28: above what was known to be durable it is a torn tail; below it is not."""
    files = disk(durable)
    last = segments(files)[-1]
    content = files.content(last)
    for cut in range(1, len(batch(RECORDS - 1)) + 1):
        for behind in (b"", b"\xa5" * 7, content[:30], bytes(200)):
            torn = files.clone()
            torn.replace_content(last, content[:-cut] + behind)
            if torn.content(last).startswith(content):
                continue  # The last byte is a zero, and what stands behind it begins so.
            found = opened(torn)
            assert records(found.log) == WHOLE[: -len(batch(RECORDS - 1))]
            assert (found.distrust is None) == (durable < RECORDS)
            # Zeros only are what was reserved, for all that anybody can tell.
            left = torn_at(content, cut) + behind
            assert any("torn end" in each for each in found.notices) == any(left)


def torn_at(content: bytes, cut: int) -> bytes:
    """What is left of the last batch."""
    return content[len(content) - len(batch(RECORDS - 1)) : -cut]


@pytest.mark.parametrize("durable", [0, RECORDS // 2, RECORDS])
@pytest.mark.parametrize("lost", range(1, RECORDS))
def test_batches_that_are_zeros_up_to_the_end(durable: int, lost: int) -> None:
    """Scenarios 27, 30: above what was known to be durable it is what was reserved; below, a loss.

    Each segment ends in zeros where its batches stood, as pages do that never got to the disk.
    """
    files = disk(durable)
    left = lost
    for path in reversed(segments(files)):
        content = files.content(path)
        count = min(left, len(content) // len(batch(0)))
        files.replace_content(path, content[: len(content) - count * len(batch(0))] + bytes(500))
        left -= count
    found = opened(files)
    assert records(found.log) == WHOLE[: -lost * len(batch(0))]
    # A segment behind the loss says that there was one, if nothing else does.
    last = len(batch(0)) * lost <= len(disk().content(segments(disk())[-1]))
    assert (found.distrust is None) == (durable <= RECORDS - lost and last)
    if found.distrust is None:
        assert found.notices == ()


@pytest.mark.parametrize("durable", [0, RECORDS])
def test_damage_in_the_middle_is_no_torn_tail(durable: int) -> None:
    """Scenario 30: cut only after it was written down, fetched again, and said."""
    files = disk(durable)
    files.damage(segments(files)[1], 70, 1)
    found = opened(files)
    assert found.distrust is not None
    assert "damaged" in found.distrust
    assert WHOLE.startswith(records(found.log))
    assert any("to be fetched again" in each for each in found.notices)
    # And it stays so over restarts, until somebody says that it is whole.
    kept = records(found.log)
    found.log.close()
    again = opened(files)
    assert again.distrust == found.distrust
    assert records(again.log) == kept


async def test_trusted_again_is_written_down() -> None:
    files = disk()
    files.damage(segments(files)[1], 70, 1)
    found = opened(files)
    append(found.log, RECORDS - found.log.end_offset)
    found.bounds.reached(found.log.flush(), Epoch(7))
    await found.bounds.trust()
    found.log.close()
    again = opened(files)
    assert (again.distrust, again.notices) == (None, ())
    assert records(again.log) == WHOLE


@pytest.mark.parametrize("cut_off", ["middle", "short", "empty"])
def test_crashes_during_the_repair(cut_off: str) -> None:
    """Scenarios 38, 43: at every operation; the log never comes to look whole."""
    files = disk()
    last = segments(files)[-1]
    if cut_off == "middle":
        files.damage(segments(files)[0], 70, 1)
    elif cut_off == "short":
        files.replace_content(last, files.content(last)[: -len(batch(9))])
    else:
        for path in segments(files):
            files.remove(path)
    operation = 0
    while True:
        crashed = files.clone()
        crashed.crash_at_operation = operation
        try:
            opened(crashed)
        except PowerCutError:
            crashed.crash(Random(operation))
            found = opened(crashed)
            assert found.distrust is not None
            assert WHOLE.startswith(records(found.log))
            assert found.saved == VOTED
        else:
            break
        operation += 1
    assert operation > 10


def test_a_log_that_is_gone_is_not_a_new_one() -> None:
    """The log's directory was removed by hand: neither log nor vote, and no amnesia."""
    files = disk()
    for name in files.list(DIRECTORY):
        files.remove(DIRECTORY / name)
    found = opened(files)
    assert found.distrust is not None
    assert "ends at offset 0, and was durable up to 10" in found.distrust
    assert found.saved == SavedState(epoch=Epoch(CEILING + 1))


LOST_VOTES: dict[str, Callable[[SimFiles], None]] = {
    "gone": lambda files: files.remove(VOTE),
    "garbage": lambda files: files.replace_content(VOTE, b"\x00" * 80),
    "empty": lambda files: files.replace_content(VOTE, b""),
    "an old copy": lambda files: files.replace_content(VOTE, format_state(SavedState())),
}


@pytest.mark.parametrize("how", LOST_VOTES)
def test_a_lost_vote_is_replaced_by_an_epoch_without_one(how: str) -> None:
    files = disk()
    LOST_VOTES[how](files)
    seen = [CEILING]
    for _ in range(3):
        found = opened(files)
        assert found.distrust is None
        assert found.saved.voted_for is None
        assert found.saved.epoch > max(seen)
        assert any("never voted" in each for each in found.notices)
        assert found.bounds.bounds.epoch_ceiling > found.saved.epoch
        seen.append(found.saved.epoch)
        found.log.close()
        assert opened(files).saved == found.saved
        LOST_VOTES[how](files)


@pytest.mark.parametrize("path", [VOTE, BOUNDS])
def test_what_a_later_version_wrote_is_left_as_it_is(path: Path) -> None:
    """Scenarios 44, 63: a version may say that nothing here can be guessed."""
    files = disk()
    fields = json.loads(files.durable()[path])
    fields.update(data_version=fields["data_version"] + 1)
    del fields["crc32c"]
    later = seal_json(fields)
    files.replace_content(path, later)
    with pytest.raises(StartError, match=f"{path.name} is of a later version"):
        opened(files)
    assert files.durable()[path] == later


def test_fields_that_are_not_known_are_passed_over() -> None:
    """Scenario 63: a later version may say more, and be taken back."""
    files = disk()
    for path in (VOTE, BOUNDS):
        fields = json.loads(files.durable()[path])
        del fields["crc32c"]
        files.replace_content(path, seal_json({**fields, "later": {"much": [1]}}))
    found = opened(files)
    assert (found.saved, found.notices, found.distrust) == (VOTED, (), None)


def test_crashes_while_a_vote_is_replaced() -> None:
    """Scenario 38: no epoch is entered above a ceiling that is not durable."""
    files = disk()
    files.remove(VOTE)
    for operation in range(200):
        crashed = files.clone()
        crashed.crash_at_operation = operation
        try:
            opened(crashed)
            break
        except PowerCutError:
            crashed.crash(Random(operation))
        content = crashed.durable()
        bounds = Bounds.decode(content[BOUNDS])
        found = opened(crashed)
        assert found.saved.voted_for is None
        assert found.saved.epoch > CEILING
        assert bounds.epoch_ceiling >= CEILING
    else:
        pytest.fail("it never ended")
    assert operation > 10


def test_a_lost_vote_that_nobody_vouches_for() -> None:
    files = disk()
    files.remove(VOTE)
    files.remove(BOUNDS)
    with pytest.raises(StartError, match="may have forgotten a vote"):
        opened(files)


def test_a_directory_from_before_there_were_bounds() -> None:
    """Scenario 44."""
    files = disk()
    files.remove(BOUNDS)
    found = opened(files)
    assert (found.saved, found.distrust, found.notices) == (VOTED, None, ())
    assert Bounds.decode(files.durable()[BOUNDS]) == Bounds(
        end_offset=Offset(RECORDS), epoch=Epoch(7), epoch_ceiling=CEILING
    )


def test_a_new_disk_is_doubted_until_it_is_known_to_be_one() -> None:
    """Scenario 19: nothing tells it from one that was wiped; see tests/unit/raft/test_first_start.

    It is written down before anything else, so that a crash at any operation leaves it so.
    """
    for operation in range(200):
        files = SimFiles()
        files.crash_at_operation = operation
        try:
            doubt_new_disk(files, ROOT)
            files.crash_at_operation = files.operations + operation
            opened(files)
        except PowerCutError:
            files.crash(Random(operation))
            if not files.exists(BOUNDS):
                assert not files.exists(DIRECTORY), "nothing came before it"
                continue
        files.crash_at_operation = None
        found = opened(files)
        assert (found.distrust, found.saved) == (NEW_DISK, SavedState())
        assert not found.damaged
        if operation == 199:
            break
    asyncio.run(found.bounds.trust())
    found.log.close()
    assert opened(files).distrust is None


def test_nobody_to_fetch_from() -> None:
    files = disk()
    short = files.clone()
    short.remove(segments(short)[-1])
    files.damage(segments(files)[0], 70, 1)
    for damaged in (files, short):
        before = damaged.snapshot()
        with pytest.raises(StartError, match="No other voter can give it back"):
            opened(damaged, has_peers=nobody)
        assert {path: damaged.content(path) for path in before if path.suffix == ".log"} == {
            path: data for path, data in before.items() if path.suffix == ".log"
        }


@pytest.mark.parametrize("seed", range(20))
def test_after_a_failed_fsync_the_end_is_written_again(seed: int) -> None:
    """Scenario 32: the next process reads the page cache; a power cut then loses nothing of it."""
    files = disk()
    found = opened(files)
    append(found.log, 3)
    files.fail("sync", errno.EIO, path=".log")
    with pytest.raises(StorageError):
        found.log.flush()
    with pytest.raises(StorageError):
        found.log.flush()
    found.log.abandon()
    files.kill()
    assert files.has_dropped_pages
    read = records(opened(files).log)
    assert len(read) > len(WHOLE)
    files.crash(Random(seed))
    assert records(opened(files).log) == read


def test_a_vote_whose_directory_was_not_synced_is_written_again() -> None:
    """Scenario 37: a rename that may be lost, read by the next process, is made durable first."""
    files = disk()
    later = replace(VOTED, epoch=Epoch(8))
    beside = VOTE.with_name("quorum-state.tmp")
    file = files.open(beside)
    file.append(format_state(later))
    file.sync()
    files.rename(beside, VOTE)
    files.kill()
    assert opened(files).saved == later
    for seed in range(10):
        crashed = files.clone()
        crashed.crash(Random(seed))
        assert opened(crashed).saved == later
    assert files.durable()[VOTE] == format_state(later)


@pytest.mark.parametrize("path", [VOTE, BOUNDS])
@pytest.mark.parametrize("operation", ["open", "read", "append", "sync", "rename"])
def test_a_disk_that_fails(path: Path, operation: str) -> None:
    """Scenario 33: no start, in a sentence; and nothing is lost by it."""
    files = disk()
    files.fail(operation, errno.EIO, path=path.name)
    with pytest.raises(StartError, match="cannot be opened"):
        opened(files)
    found = opened(files)
    assert (found.saved, found.distrust) == (VOTED, None)
    assert records(found.log) == WHOLE
