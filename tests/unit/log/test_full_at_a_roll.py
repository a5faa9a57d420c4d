"""A disk that is full, or no open file, at any step of a roll: nothing is left of the append, nor
of the segment that was to be, and nothing durable is lost (scenarios 33, 34, 42)."""

import errno
from collections.abc import Iterator
from random import Random

import pytest

from klamm.errors import NoSpaceError, StorageError
from klamm.log.log import Log, LogConfig
from tests.sim.disk import OPERATIONS, SimFiles
from tests.unit.log.logs import DIRECTORY, REFUSE, RESERVE, SMALL, batch, everything, fill, open_log

WRITES = tuple(each for each in OPERATIONS if each != "read")
OPENS = ("open", "sync_directory")
STEPS_MAX = 40
"""More than an append of three segments has of any operation."""

ALL = pytest.mark.parametrize(
    ("config", "code", "operation", "once", "count"),
    [
        pytest.param(*each, once, count, id=f"{name}-{each[1]}-{each[2]}-{once}-{count}")
        for name, config in (("truncate", SMALL), ("refuse", REFUSE), ("reserve", RESERVE))
        for each in [
            *((config, errno.ENOSPC, operation) for operation in WRITES),
            *((config, errno.EMFILE, operation) for operation in OPENS),
        ]
        for once in (True, False)
        for count in (1, 20)
    ],
)


def full_segment(config: LogConfig) -> int:
    """So many batches are in the first segment when it is rolled."""
    log = open_log(SimFiles(), config)
    while len(log._segments) == 1:
        fill(log, [1])
    return log.end_offset - 1


def about_to_roll(
    config: LogConfig, code: int, operation: str, count: int, *, once: bool
) -> Iterator[tuple[SimFiles, Log, list[bytes], bool]]:
    """Logs to which an append of `count` batches that rolls has found no room, at each of its
    steps; what was in them, and whether they take more."""
    size = full_segment(config)
    more = b"".join(batch(at) for at in range(size, size + count))
    for after in range(STEPS_MAX):
        files = SimFiles()
        log = open_log(files, config)
        batches = fill(log, [1] * (size - 2))
        log.flush()
        batches += fill(log, [1, 1])
        files.fail(operation, code, after=after, once=once)
        try:
            log.append(more)
        except NoSpaceError:
            files.heal()
            yield files, log, batches, True
        except StorageError:
            files.heal()
            yield files, log, batches, False
        else:
            return
    raise AssertionError("the append never got through")


@ALL
def test_a_log_that_refused_goes_on(
    config: LogConfig, code: int, operation: str, once: bool, count: int
) -> None:
    for files, log, batches, goes_on in about_to_roll(config, code, operation, count, once=once):
        # To take a segment back opens the directory, in place of the file that it closes.
        assert goes_on or code == errno.ENOSPC or (operation != "open" and not once)
        if not goes_on:
            with pytest.raises(StorageError):
                log.flush()
            continue
        assert everything(log) == batches
        assert segments(files) == 1
        batches += fill(log, [1] * 30)
        assert log.flush() == len(batches)
        files.crash(Random(1))
        assert everything(open_log(files, config)) == batches


@ALL
@pytest.mark.parametrize("seed", range(4))
def test_what_a_restart_finds(
    config: LogConfig, code: int, operation: str, once: bool, count: int, seed: int
) -> None:
    """After the process's end, or the power's: what was durable, and no segment but its own."""
    for files, _, batches, _ in about_to_roll(config, code, operation, count, once=once):
        if seed == 0:
            files.kill()
        else:
            files.crash(Random(seed))
        log = open_log(files, config)
        kept = everything(log)
        assert len(kept) >= len(batches) - 2
        assert kept[: len(batches)] == batches[: len(kept)]
        assert not log.recovery.cuts or seed, "a process's end tears nothing"
        if seed == 0:
            assert len(kept) >= len(batches)
        kept += fill(log, [1] * 30)
        assert everything(log) == kept
        log.close()
        again = open_log(files, config, clean_shutdown=True)
        assert everything(again) == kept


def segments(files: SimFiles) -> int:
    return sum(each.endswith(".log") for each in files.list(DIRECTORY))
