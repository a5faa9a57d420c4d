"""What a segment is when another one follows it: durable, all of it, and nothing behind it.

Scenarios 30, 34, 37: a loss in it is never taken for a torn tail, and what was taken back from it
never for a loss.
"""

import os
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from klamm.errors import CorruptLogError, NoSpaceError
from klamm.ids import LOG_START, Offset
from klamm.log.files import SystemFiles
from klamm.log.log import Log
from klamm.log.segment import log_path
from tests.sim.disk import SimFiles
from tests.unit.log.logs import DIRECTORY, REFUSE, RESERVE, SMALL, batch, everything, fill, open_log

FIRST = log_path(DIRECTORY, LOG_START)


def rolled(files: SimFiles) -> tuple[list[bytes], bytes]:
    """What is in a first segment that is full, and in the one behind it."""
    log = open_log(files, REFUSE)
    batches: list[bytes] = []
    while len(log._segments) == 1:
        batches += fill(log, [1])
    log.close()
    return batches[:-1], batches[-1]


@pytest.mark.parametrize("behind", ["empty", "reserved", "a batch", "half a batch"])
@pytest.mark.parametrize("lost", ["zeros", "cut", "half"])
def test_a_loss_at_the_end_of_a_closed_segment_is_damage(lost: str, behind: str) -> None:
    """Whatever stands in the next one: that it is there says that the first was durable."""
    files = SimFiles()
    first, second = rolled(files)
    whole, last = b"".join(first[:-1]), first[-1]
    ends = {"zeros": bytes(len(last)), "cut": b"", "half": last[:30] + bytes(len(last) - 30)}
    files.replace_content(FIRST, whole + ends[lost])
    follows = {"empty": b"", "reserved": bytes(300), "a batch": second, "half a batch": second[:40]}
    files.replace_content(log_path(DIRECTORY, Offset(len(first))), follows[behind])
    for known in (None, Offset(0)):
        with pytest.raises(CorruptLogError):
            open_log(files.clone(), REFUSE, known_durable=known)
    lenient = open_log(files.clone(), SMALL)
    assert everything(lenient) == first[:-1]
    # One that syncs nothing before a roll may leave an empty segment behind a torn tail.
    told = [each for each in lenient.recovery.cuts if each.followed_by is not None]
    assert bool(told) == (behind != "empty")
    assert all(each.bytes_cut or each.position == 0 for each in lenient.recovery.cuts)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_full_disk_left_of_an_append_does_not_outlive_a_roll(seed: int) -> None:
    """It is cut off durably before another segment follows, or it would look like damage."""
    for config in (REFUSE, replace(RESERVE, preallocate_bytes=20)):
        files = SimFiles()
        log = open_log(files, config)
        batches = fill(log, [1] * 5)
        log.flush()
        files.capacity = sum(map(len, files.snapshot().values())) + 30
        with pytest.raises(NoSpaceError):
            log.append(batch(5, size=60))
        files.heal()
        batches.append(large(log))
        log.append(batches[-1])
        log.flush()
        files.crash(Random(seed))
        assert everything(open_log(files, config, known_durable=Offset(0))) == batches


@pytest.mark.parametrize("seed", range(20))
def test_what_a_roll_had_synced_and_was_taken_back_counts_no_more(seed: int) -> None:
    """An append rolls, which syncs its first half, and finds no room behind that: nothing of it is
    there any more, and what comes in its place was not synced (simulated shell, profile full)."""
    files = SimFiles()
    log = open_log(files, REFUSE)
    batches = fill(log, [1] * 5)
    log.flush()
    more = [batch(5 + each, size=60) for each in range(20)]
    files.capacity = sum(map(len, files.snapshot().values())) + SMALL.segment_bytes
    with pytest.raises(NoSpaceError):
        log.append(b"".join(more))
    assert everything(log) == batches
    files.heal()
    log.append(more[0])
    assert log.flush() == 6
    files.crash(Random(seed))
    found = everything(open_log(files, REFUSE, known_durable=Offset(0)))
    assert found == [*batches, more[0]], "it was said to be durable"


def large(log: Log) -> bytes:
    """More than fits into the segment."""
    return batch(log.end_offset, size=400)


def test_who_is_refused_leaves_no_file_open(tmp_path: Path) -> None:
    """Scenario 42: a start may be tried again, and a damaged log is opened anew to be cut."""
    config = replace(REFUSE, preallocate_bytes=0)
    log = Log.open(SystemFiles(), tmp_path, config)
    fill(log, [1] * 30)
    log.close()
    path = log_path(tmp_path, LOG_START)
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    before = os.listdir("/dev/fd")
    for _ in range(3):
        with pytest.raises(CorruptLogError):
            Log.open(SystemFiles(), tmp_path, config)
    assert len(os.listdir("/dev/fd")) == len(before)
