"""What a voter, and who looks at its disk later, make of sectors that never got there.

Scenarios 27, 28, 30: above quorum-bounds nobody vouched for them, and they cost no vote; below them
they are a loss.
"""

from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

import pytest

from controller.quorum.bounds import Bounds
from controller.quorum.known_voters import HasPeers, nobody
from controller.quorum.opening import Opened, open_disk
from controller.quorum.store import LogStore
from controller.recovery.survey import Survivor, survey
from klamm.clock import SystemClock
from klamm.directory import META_PROPERTIES
from klamm.errors import StartError
from klamm.ids import Epoch, Offset
from klamm.log.checkpoint import read_whole
from klamm.log.files import Files
from klamm.log.log import LogConfig
from klamm.log.unwritten import SECTOR_BYTES
from tests.sim.disk import SimFiles
from tests.unit.quorum.test_opening import (
    BOUNDS,
    CEILING,
    OTHERS,
    ROOT,
    VOTE,
    VOTED,
    batch,
    format_state,
    records,
    segments,
)
from tests.unit.recovery.test_generation import node, path

COUNT = 40
WHOLE = b"".join(batch(each) for each in range(COUNT))
HOLE = 3
"""The sector that is lost."""
ENDS = list(accumulate(len(batch(each)) for each in range(COUNT)))
KEPT = bisect_right(ENDS, HOLE * SECTOR_BYTES)
"""Batches before it, and not in it."""
LEFT = WHOLE[: ENDS[KEPT - 1]]


def opened(files: SimFiles, has_peers: HasPeers = OTHERS) -> Opened:
    return open_disk(files, ROOT, LogConfig(), has_peers=has_peers)


def holed(known: int | None, hole: bytes = bytes(SECTOR_BYTES)) -> SimFiles:
    """A voter that knew so much to be durable, and has something else instead of a sector."""
    files = SimFiles()
    first = opened(files)
    for each in range(COUNT):
        first.log.append(batch(each))
    first.log.close()
    (segment,) = segments(files)
    content = bytearray(files.content(segment) + bytes(5_000))
    content[HOLE * SECTOR_BYTES : (HOLE + 1) * SECTOR_BYTES] = hole
    files.replace_content(segment, bytes(content))
    files.replace_content(VOTE, format_state(VOTED))
    bounds = Bounds(end_offset=Offset(known or 0), epoch=Epoch(7), epoch_ceiling=CEILING)
    files.replace_content(BOUNDS, bounds.encode() if known is not None else b"of no use")
    return files


@pytest.mark.parametrize("known", [0, 1, KEPT])
@pytest.mark.parametrize("has_peers", [OTHERS, nobody])
def test_above_the_bounds_they_are_a_torn_end(known: int, has_peers: HasPeers) -> None:
    """Cut, and said, whether or not there are others: nothing was acknowledged."""
    files = holed(known)
    found = opened(files, has_peers)
    assert (found.distrust, found.damaged) == (None, False)
    assert records(found.log) == LEFT
    (notice,) = found.notices
    assert "torn end" in notice
    assert "never written" in notice
    assert Bounds.decode(files.durable()[BOUNDS]).end_offset == KEPT
    assert files.durable()[segments(files)[0]] == records(found.log)


@pytest.mark.parametrize("known", [KEPT + 1, COUNT - 1, COUNT, None])
def test_below_them_they_are_a_loss(known: int | None) -> None:
    """Bounds that cannot be read vouch for nothing, and deny nothing."""
    found = opened(holed(known))
    assert found.distrust is not None
    assert records(found.log) == LEFT
    with pytest.raises(StartError, match="No other voter can give it back"):
        opened(holed(known), nobody)


def test_what_is_no_zeros_is_a_loss_wherever_it_stands() -> None:
    found = opened(holed(0, hole=b"\xa5" * SECTOR_BYTES))
    assert found.distrust is not None


def test_what_follows_is_whole_again() -> None:
    """Cut, filled again from a leader, and killed: the next start has nothing to say."""
    files = holed(KEPT)
    store = LogStore.open(files, ROOT, SystemClock(), LogConfig(), has_peers=OTHERS)
    for each in range(KEPT, COUNT):
        store.append_fetched(Offset(each), batch(each))
    files.kill()
    again = opened(files)
    assert (again.distrust, again.notices) == (None, ())
    assert records(again.log) == WHOLE


async def survivor(files: Files, known: int) -> Survivor:
    """Of a hole in the middle of its log."""
    whole = await node(files, 1, ((1, COUNT),))
    hole = next(each for each in whole.batches if each.position > SECTOR_BYTES)
    file = files.open(hole.segment)
    data = bytearray(file.read_at(0, file.size))
    data[SECTOR_BYTES : 2 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    file.truncate(0)
    file.append(data)
    file.close()
    where = path(1)
    at = where / BOUNDS.name
    said = read_whole(files, at)
    assert said is not None
    assert (where / META_PROPERTIES) in files.snapshot()  # type: ignore[attr-defined]
    file = files.open(at)
    file.truncate(0)
    file.append(replace(Bounds.decode(said), end_offset=Offset(known)).encode())
    file.close()
    return survey(files, where)


async def test_who_compares_survivors_judges_as_a_start_does() -> None:
    """kraft.md 7.2: what was not acknowledged makes no survivor worse than another."""
    found = await survivor(SimFiles(), 0)
    assert found.trusted
    assert found.whole
    (notice,) = found.notices
    assert "torn end" in notice
    end = found.end_offset
    assert 1 < end < COUNT
    assert (await survivor(SimFiles(), end)).whole
    worse = await survivor(SimFiles(), end + 1)
    assert not worse.whole
    assert not worse.trusted
