"""Who could give back what a disk has lost: by the latest voters that it names (scenario 30)."""

import pytest

from controller.quorum.bounds import Bounds
from controller.quorum.control import build_control_batch
from controller.quorum.known_voters import latest_voters, nobody, others_than
from controller.quorum.opening import Opened, open_disk
from controller.quorum.quorum_state import format_state
from controller.raft.effects import AppendVoters
from controller.raft.voters import Voter, VoterSet
from klamm.errors import StartError
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.log import Log
from klamm.log.snapshot import format_name
from tests.sim.disk import SimFiles
from tests.unit.quorum.test_installs import DIRECTORY, VOTERS, put
from tests.unit.quorum.test_opening import (
    BOUNDS,
    CEILING,
    ROOT,
    SMALL,
    VOTE,
    VOTED,
    batch,
    segments,
)

ME = NodeId(1)
ALONE = VoterSet((Voter(node_id=ME),))
BOTH = VoterSet((Voter(node_id=ME), Voter(node_id=NodeId(2))))


def voters(offset: int, named: VoterSet) -> bytes:
    effect = AppendVoters(base_offset=Offset(offset), epoch=Epoch(7), voters=named)
    return build_control_batch(effect, timestamp_ms=1)


def disk(*named: VoterSet) -> SimFiles:
    """A log of several segments in which these followed each other, nine records apart."""
    files = SimFiles()
    files.make_directory(DIRECTORY)
    log = Log.open(files, DIRECTORY, SMALL)
    for each in named:
        log.append(voters(log.end_offset, each))
        for _ in range(8):
            log.append(batch(log.end_offset))
    log.close()
    files.replace_content(VOTE, format_state(VOTED))
    bounds = Bounds(end_offset=log.end_offset, epoch=Epoch(7), epoch_ceiling=CEILING)
    files.replace_content(BOUNDS, bounds.encode())
    return files


def latest(files: SimFiles) -> VoterSet | None:
    return latest_voters(files, DIRECTORY)


def test_nothing_is_known_of_nothing() -> None:
    assert latest(SimFiles()) is None
    assert latest(disk()) is None


def test_the_last_record_counts() -> None:
    assert latest(disk(ALONE, BOTH)) == BOTH
    assert latest(disk(BOTH, ALONE)) == ALONE


def test_a_snapshot_counts_for_what_was_before_its_end() -> None:
    files = disk(ALONE)
    at_end = OffsetAndEpoch(epoch=Epoch(7), offset=Offset(9))
    put(files, at_end)
    assert latest(files) == VOTERS
    files.damage(DIRECTORY / format_name(at_end), 100, 4)
    assert latest(files) == ALONE, "a damaged one says nothing"
    later = disk(ALONE, BOTH)
    put(later, at_end)
    assert latest(later) == BOTH


def test_damage_is_stepped_over() -> None:
    """Any byte of the log but the last record's own: also a length, and in the same segment."""
    whole = disk(ALONE, BOTH)
    before = whole.snapshot()
    last = voters(9, BOTH)
    for path in segments(whole):
        content = whole.content(path)
        own = content.find(last)
        for at in range(len(content)):
            files = whole.clone()
            files.damage(path, at, 128)
            inside = 0 <= own <= at < own + len(last)
            assert latest(files) in ((ALONE, BOTH) if inside else (BOTH,)), (path, at)
            assert {each: files.content(each) for each in before if each != path} == {
                each: data for each, data in before.items() if each != path
            }, "read only"


def opened(files: SimFiles, *, configured: bool) -> Opened:
    return open_disk(files, ROOT, SMALL, has_peers=others_than(ME, configured=configured))


@pytest.mark.parametrize("configured", [False, True], ids=["alone by file", "many by file"])
def test_the_log_knows_better_than_the_configuration(configured: bool) -> None:
    damaged = disk(ALONE, BOTH)
    damaged.damage(segments(damaged)[1], 70, 1)
    assert opened(damaged, configured=configured).distrust is not None
    alone = disk(BOTH, ALONE)
    alone.damage(segments(alone)[1], 70, 1)
    with pytest.raises(StartError, match="No other voter can give it back"):
        opened(alone, configured=configured)


def test_the_configuration_counts_where_the_disk_names_nobody() -> None:
    files = disk()
    assert others_than(ME, configured=True)(latest(files))
    assert not others_than(ME, configured=False)(latest(files))
    assert not nobody(BOTH)
