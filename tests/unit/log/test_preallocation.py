"""A log whose file is longer than its batches: while it runs, when it ends, after a crash.

Scenarios 27, 29, 34, 38: zeros behind the last whole batch are no torn tail and no damage.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from klamm.errors import CorruptLogError, NoSpaceError, StorageError
from klamm.ids import LOG_START, Epoch, Offset
from klamm.log.files import RESERVE_S_MAX, SystemFiles
from klamm.log.log import Log, LogConfig
from klamm.log.preallocation import ROOM_SHARE
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.log.segment import ZEROS_BYTES, log_path
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.log.logs import DIRECTORY, NOW_MS, REFUSE, SMALL, batch, everything, fill, open_log

FIRST = log_path(DIRECTORY, LOG_START)
AHEAD = replace(REFUSE, segment_bytes=2_000, preallocate_bytes=500)
ROLLING = replace(REFUSE, preallocate_bytes=250)
CONFIGS = pytest.mark.parametrize("config", [SMALL, REFUSE, AHEAD], ids=["lenient", "refuse", "on"])
TAILS = [1, 7, 60, 61, 500, 3 << 20]
on_a_system_that_reserves = pytest.mark.skipif(
    sys.platform != "linux",
    reason="SystemFiles reserves on Linux only; elsewhere a file ends where its log does",
)


def killed(counts: list[int], config: LogConfig = AHEAD) -> tuple[SimFiles, list[bytes]]:
    """What a process leaves that did not close its log."""
    files = SimFiles()
    log = open_log(files, config)
    batches = fill(log, counts, epoch=3)
    log.flush()
    files.kill()
    return files, batches


def assert_quiet(log: Log, batches: list[bytes]) -> None:
    """It has these batches, and nothing was said."""
    assert log.recovery.cuts == ()
    assert everything(log) == batches


def assert_told(log: Log, batches: list[bytes], *, lost: bool) -> None:
    """It has these, and what was behind them was reserved, or is a torn end that is told.

    A partition's log reserves nothing: who lost unsynced appends to a power cut hears of it.
    """
    assert everything(log) == batches
    assert [each.followed_by for each in log.recovery.cuts] == ([None] if lost else [])


def zero_ended(base: int) -> bytes:
    """A batch whose last bytes are zeros."""
    record = NewRecord(value=b"ends with" + bytes(20))
    return build_batch(
        [record], base_offset=Offset(base), leader_epoch=Epoch(3), timestamp_ms=NOW_MS
    )


def test_the_file_is_longer_than_the_log_and_nobody_sees_it() -> None:
    files = SimFiles()
    log = open_log(files, AHEAD)
    batches: list[bytes] = []
    for _ in range(15):
        batches += fill(log, [1])
        size = sum(map(len, batches))
        assert log.size_bytes == size
        assert len(files.content(FIRST)) >= size
    assert len(files.content(FIRST)) > size
    assert everything(log) == batches
    assert log.offset_for_timestamp(NOW_MS + 10_000) is None
    assert log.youngest_record() is not None
    log.close()
    assert files.content(FIRST) == b"".join(batches)


def test_an_append_changes_no_size_until_the_reserve_is_used_up() -> None:
    files = SimFiles()
    log = open_log(files, AHEAD)
    sizes = []
    while log.size_bytes < 1_900:
        fill(log, [1])
        sizes.append(len(files.content(FIRST)))
    assert len(set(sizes)) <= 5
    assert max(sizes) == AHEAD.segment_bytes, "never beyond it"


@pytest.mark.parametrize("flushed", [True, False])
def test_a_roll_cuts_the_segment_before_the_next_one_is_there(flushed: bool) -> None:
    """Durably, also if all its batches were durable before."""
    files = SimFiles()
    log = open_log(files, ROLLING)
    batches: list[bytes] = []
    for _ in range(30):
        batches += fill(log, [1])
        if flushed:
            log.flush()
    paths = [DIRECTORY / each for each in files.list(DIRECTORY) if each.endswith(".log")]
    assert len(paths) > 2
    durable = files.durable()
    for path in paths[:-1]:
        assert len(durable[path]) % len(batches[0]) == 0
        assert durable[path] == files.content(path)
    assert log.size_bytes == sum(map(len, batches))


@pytest.mark.parametrize("count", range(4))
def test_what_a_killed_process_reserved_goes_without_a_word(count: int) -> None:
    files, batches = killed([1] * count)
    assert (files.content(FIRST)[-1:] == b"\0") == bool(count)
    log = open_log(files, AHEAD)
    assert_quiet(log, batches)
    assert files.content(FIRST) == files.durable()[FIRST] == b"".join(batches)
    batches += fill(log, [1, 2], epoch=3)
    log.close()
    assert_quiet(open_log(files, AHEAD), batches)


@CONFIGS
@pytest.mark.parametrize("size", TAILS)
def test_zeros_behind_whole_batches(config: LogConfig, size: int) -> None:
    """None, some, and those that end with zeros themselves: they are never stripped."""
    for batches in ([], [batch(0), batch(1)], [batch(0), zero_ended(1)]):
        files = SimFiles()
        open_log(files, config).close()
        files.replace_content(FIRST, b"".join(batches) + bytes(size))
        log = open_log(files, config)
        assert_told(log, batches, lost=config is SMALL)
        assert files.durable()[FIRST] == b"".join(batches)
        log.append(batch(log.end_offset, epoch=3))
        assert log.size_bytes == len(b"".join(batches)) + len(batch(0))


@CONFIGS
def test_a_trusted_log_with_zeros_behind_is_looked_at_whole(config: LogConfig) -> None:
    """Whoever closed it cut them; another machine's copy of the file may have them again."""
    files = SimFiles()
    log = open_log(files, config)
    batches = fill(log, [1, 1])
    log.close()
    files.replace_content(FIRST, b"".join(batches) + bytes(400))
    assert_told(open_log(files, config, clean_shutdown=True), batches, lost=config is SMALL)


def test_zeros_exactly_to_a_segments_end() -> None:
    files, batches = killed([1] * 5, replace(AHEAD, preallocate_bytes=2_000))
    assert len(files.content(FIRST)) == AHEAD.segment_bytes
    assert_quiet(open_log(files, AHEAD), batches)


def torn(size: int) -> Iterator[tuple[int, int]]:
    """Parts of something that are missing: from, to."""
    yield from ((start, size) for start in range(size))
    yield from ((start, end) for start in range(0, size, 3) for end in range(start + 1, size, 5))


@pytest.mark.parametrize("behind", [0, 1, 400])
def test_a_part_of_the_last_batch_is_zeros(behind: int) -> None:
    """Pages that did not get to the disk, at its end or within it: a torn tail, and said."""
    files, batches = killed([1, 2, 1])
    whole = b"".join(batches)
    begin = len(whole) - len(batches[-1])
    for start, end in torn(len(batches[-1])):
        content = bytearray(whole + bytes(behind))
        content[begin + start : begin + end] = bytes(end - start)
        if content.startswith(whole) or 12 <= start < end <= 16:
            continue  # They are zeros anyway; or the epoch's, which no page ends with.
        disk = files.clone()
        disk.replace_content(FIRST, bytes(content))
        log = open_log(disk, AHEAD)
        assert everything(log) == batches[:-1]
        assert len(log.recovery.cuts) == any(content[begin:]), (start, end)
        assert all(cut.followed_by is None for cut in log.recovery.cuts)
        assert disk.content(FIRST) == whole[:begin]


def test_zeros_before_whole_batches_are_damage() -> None:
    """A page lost in the middle of what was durable: never cut in silence."""
    files, batches = killed([1, 2, 1, 1])
    sizes = [len(each) for each in batches]
    for lost in range(3):
        content = bytearray(files.content(FIRST))
        begin = sum(sizes[:lost])
        content[begin : begin + sizes[lost]] = bytes(sizes[lost])
        disk = files.clone()
        disk.replace_content(FIRST, bytes(content))
        with pytest.raises(CorruptLogError, match="whole batches follow") as error:
            open_log(disk, AHEAD)
        assert error.value.position == begin
        assert disk.content(FIRST) == content, "nothing is cut"
        (cut,) = open_log(disk, SMALL).recovery.cuts
        assert cut.followed_by is not None


def test_a_bit_flipped_in_the_zeros_is_told_and_loses_nothing() -> None:
    files, batches = killed([1, 2])
    end = len(b"".join(batches))
    for at in range(end, len(files.content(FIRST)), 7):
        for bit in range(8):
            disk = files.clone()
            disk.damage(FIRST, at, 1 << bit)
            log = open_log(disk, AHEAD)
            assert everything(log) == batches
            assert [cut.followed_by for cut in log.recovery.cuts] == [None]
            assert disk.content(FIRST) == b"".join(batches)


def test_data_far_behind_the_zeros_is_told() -> None:
    """All of the file is looked at."""
    files, batches = killed([1, 2])
    whole = b"".join(batches)
    files.replace_content(FIRST, whole + bytes(ZEROS_BYTES + 1) + b"x")
    log = open_log(files, AHEAD)
    assert everything(log) == batches
    assert [cut.followed_by for cut in log.recovery.cuts] == [None]
    files.replace_content(FIRST, whole + bytes(ZEROS_BYTES) + batch(3, epoch=3))
    with pytest.raises(CorruptLogError, match="whole batches follow from offset 3"):
        open_log(files, AHEAD)


def test_zeros_in_place_of_a_segments_last_batches() -> None:
    """A segment follows that begins behind them: they are missed."""
    files, batches = killed([1] * 30, ROLLING)
    per_segment = len(files.content(FIRST)) // len(batches[0])
    kept = b"".join(batches[: per_segment - 1])
    files.replace_content(FIRST, kept.ljust(600, b"\0"))
    with pytest.raises(CorruptLogError, match=f"offsets {per_segment - 1} to {per_segment} are"):
        open_log(files, ROLLING)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("preallocate_bytes", [1, 100, 250, 600])
def test_a_power_cut_at_every_operation(preallocate_bytes: int, seed: int) -> None:
    """What was flushed is there, what is there was written, and no crash is taken for damage."""
    config = replace(REFUSE, preallocate_bytes=preallocate_bytes)
    operation = 0
    while True:
        files = SimFiles()
        log = open_log(files, config)
        files.crash_at_operation = files.operations + operation
        durable = 0
        try:
            for _ in range(8):
                fill(log, [1, 1])
                durable = log.flush()
            log.truncate_to(Offset(durable := durable - 3))
            fill(log, [1, 1])
            log.close()
            ended, durable = True, log.end_offset
        except PowerCutError:
            ended = False
        files.crash(Random(100 * operation + seed))
        again = open_log(files, config)
        kept = everything(again)
        assert durable <= len(kept) <= 18
        assert kept == [batch(at) for at in range(len(kept))]
        fill(again, [1] * 10)
        again.flush()
        files.kill()
        assert_quiet(open_log(files, config), [batch(at) for at in range(len(kept) + 10)])
        if ended:
            break
        operation += 1
    assert operation > 40


REFUSALS = (
    *("EDQUOT", "EFBIG", "EINVAL", "EMFILE", "ENODEV", "ENOSPC", "ENOSYS"),
    *("EOPNOTSUPP", "EPERM"),
)
"""Of a full disk or quota, a limit, a file system without it, an old kernel, a sandbox."""


@pytest.mark.parametrize("code", [getattr(errno, each) for each in REFUSALS], ids=REFUSALS)
def test_a_disk_that_reserves_nothing_is_no_failure(code: int) -> None:
    files = SimFiles()
    log = open_log(files, AHEAD)
    files.fail("reserve", code, once=False)
    batches = fill(log, [1] * 5)
    assert files.content(FIRST) == b"".join(batches)
    files.heal()
    while log.size_bytes < 3 * AHEAD.preallocate_bytes:
        batches += fill(log, [1])
    assert len(files.content(FIRST)) > log.size_bytes, "and it is tried again"
    assert everything(log) == batches


def test_a_disk_that_breaks_while_it_reserves() -> None:
    files = SimFiles()
    log = open_log(files, AHEAD)
    files.fail("reserve", errno.EIO)
    with pytest.raises(StorageError, match="Input/output error"):
        fill(log, [1])
    assert log.has_failed


def test_who_wants_nothing_reserved_asks_for_nothing() -> None:
    """Partitions: there are thousands."""
    files = SimFiles()
    log = open_log(files, REFUSE)
    files.fail("reserve", once=False)
    batches = fill(log, [1] * 30)
    assert everything(log) == batches


@pytest.mark.parametrize("spare", [-1, 1])
def test_a_small_disk_is_left_alone(spare: int) -> None:
    """Scenario 34."""
    needed = ROOM_SHARE * (AHEAD.preallocate_bytes + len(batch(0)))
    files = SimFiles(capacity=3 * needed + spare)
    files.replace_content(DIRECTORY / "others", bytes(2 * needed))
    log = open_log(files, AHEAD)
    fill(log, [1])
    assert (len(files.content(FIRST)) > log.size_bytes) == (spare > 0)


def test_a_full_disk_gets_back_what_was_reserved() -> None:
    files = SimFiles()
    log = open_log(files, AHEAD)
    batches = fill(log, [1])
    files.capacity = sum(map(len, files.snapshot().values()))
    assert files.room(DIRECTORY)[0] == 0
    assert log.give_back()
    assert not log.give_back()
    assert files.room(DIRECTORY)[0] > 400
    assert files.content(FIRST) == batches[0]
    batches += fill(log, [1])
    assert files.content(FIRST) == b"".join(batches), "and does without"
    with pytest.raises(NoSpaceError):
        fill(log, [1] * 40)
    assert len(files.content(FIRST)) == log.size_bytes
    files.heal()
    assert log.flush() == log.end_offset


@on_a_system_that_reserves
def test_a_real_file(tmp_path: Path) -> None:
    config = replace(REFUSE, preallocate_bytes=1 << 20, segment_bytes=4 << 20)
    path = log_path(tmp_path, LOG_START)
    log = Log.open(SystemFiles(), tmp_path, config)
    batches = fill(log, [1, 2, 1])
    log.flush()
    whole = b"".join(batches)
    assert log._active.read_some(len(whole) - 3, 100) == whole[-3:]
    assert log._active.read_some(len(whole) + 3, 100) == b""
    assert path.stat().st_size > 1 << 20
    assert path.stat().st_blocks * 512 >= 1 << 20
    assert log.size_bytes == len(whole)
    assert everything(log) == batches
    # Another process comes upon it, as after a kill.
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / path.name).write_bytes(path.read_bytes())
    again = Log.open(SystemFiles(), copy, config)
    assert_quiet(again, batches)
    again.close()
    batches += fill(log, [1])
    log.truncate_to(Offset(2))
    assert path.stat().st_size == len(batches[0])
    fill(log, [1])
    assert path.stat().st_size > 1 << 20
    log.close()
    assert path.stat().st_size == log.size_bytes
    assert path.stat().st_blocks * 512 < 1 << 20


@on_a_system_that_reserves
def test_a_real_file_reserves_as_the_simulated_one(tmp_path: Path) -> None:
    """Step by step; each is a file, its path, and what of its size anybody else sees."""
    simulated = SimFiles()
    simulated.make_directory(tmp_path)
    real, model = SystemFiles().open(tmp_path / "file"), simulated.open(tmp_path / "file")
    rng = Random(5)
    for _ in range(2_000):
        size = rng.randrange(1, 300)
        match rng.randrange(6):
            case 0:
                assert real.give_back() == model.give_back()
            case 1:
                real.truncate(min(size, real.size))
                model.truncate(min(size, model.size))
            case 2 | 3:
                real.reserve(size)
                model.reserve(size)
            case _:
                real.append(bytes([size % 256]) * (size % 40))
                model.append(bytes([size % 256]) * (size % 40))
        assert real.size == model.size
        assert real.read_at(0, 10_000) == model.read_at(0, 10_000)
        assert (tmp_path / "file").read_bytes() == simulated.content(tmp_path / "file")
    real.close()
    model.close()
    assert (tmp_path / "file").read_bytes() == simulated.content(tmp_path / "file")


def test_a_real_disk_that_is_full_while_it_reserves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it may have been given: that goes back."""
    fallocate = os.posix_fallocate

    def full(fd: int, offset: int, size: int) -> None:
        fallocate(fd, offset, size // 2)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    log = Log.open(SystemFiles(), tmp_path, AHEAD)
    batches = fill(log, [1, 1])
    assert log_path(tmp_path, LOG_START).read_bytes() == b"".join(batches)
    assert everything(log) == batches
    log.close()


@pytest.mark.parametrize("took_s", [0.9 * RESERVE_S_MAX, 1.1 * RESERVE_S_MAX])
def test_a_real_disk_that_is_slow_to_reserve_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, took_s: float
) -> None:
    """Scenario 40: an append waits for it, and the event loop does too."""
    asked: list[int] = []
    now_s = [0.0]

    def slow(fd: int, offset: int, size: int) -> None:
        asked.append(size)
        now_s[0] += took_s

    monkeypatch.setattr(os, "posix_fallocate", slow)
    monkeypatch.setattr("klamm.log.files.time.monotonic", lambda: now_s[0])
    log = Log.open(SystemFiles(), tmp_path, replace(AHEAD, segment_bytes=1_000_000))
    batches = fill(log, [1] * 40)
    assert (len(asked) == 1) == (took_s > RESERVE_S_MAX)
    assert everything(log) == batches
    log.close()
    assert log_path(tmp_path, LOG_START).read_bytes() == b"".join(batches)


LIMITED = """
import resource, sys
from pathlib import Path
from klamm.log.files import RESERVE_S_MAX, SystemFiles
from klamm.log.log import Log, LogConfig
from tests.unit.log.logs import everything, fill
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log = Log.open(SystemFiles(), Path(sys.argv[1]), LogConfig(preallocate_bytes=1 << 20))
batches = fill(log, [1] * 50)
assert everything(log) == batches
log.flush()
"""


@on_a_system_that_reserves
def test_a_limit_on_the_size_of_files_is_none_on_what_fits(tmp_path: Path) -> None:
    """EFBIG, where the signal for it is not taken."""
    subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], check=True)
    (path,) = tmp_path.glob("*.log")
    assert_quiet(Log.open(SystemFiles(), tmp_path, REFUSE), [batch(at) for at in range(50)])
    assert path.stat().st_size < 20_000
