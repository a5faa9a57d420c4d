"""Recovery, exhaustively on small logs: torn, flipped, cut, again, and while it runs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random

import pytest

from klamm.errors import CorruptLogError
from klamm.ids import LOG_START, Epoch, Offset
from klamm.log.checkpoint import LEADER_EPOCH_CHECKPOINT
from klamm.log.log import Log, LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import NewRecord
from klamm.log.recovery import Cut
from klamm.log.segment import log_path
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.log.logs import (
    DIRECTORY,
    NOW_MS,
    REFUSE,
    RESERVE,
    SMALL,
    batch,
    everything,
    fill,
    open_log,
)

FIRST = log_path(DIRECTORY, LOG_START)
CONFIGS = pytest.mark.parametrize(
    "config", [SMALL, REFUSE, RESERVE], ids=["truncate", "refuse", "reserve"]
)


def closed_log(counts: list[int], config: LogConfig = SMALL) -> tuple[SimFiles, list[bytes]]:
    files = SimFiles()
    log = open_log(files, config)
    batches = fill(log, counts, epoch=3)
    log.close()
    return files, batches


@CONFIGS
def test_a_write_torn_at_every_byte_is_cut(config: LogConfig) -> None:
    files, batches = closed_log([1, 2, 1], config)
    whole = files.content(FIRST)
    start = len(whole) - len(batches[-1])
    tails: dict[str, Callable[[int], bytes]] = {
        "cut": lambda size: whole[:size],
        "zeros behind": lambda size: whole[:size].ljust(len(whole), b"\0"),
        "garbage behind": lambda size: whole[:size] + b"\xa5" * (len(whole) - size),
        "an older batch behind": lambda size: whole[:size] + batches[0],
    }
    for name, tail in tails.items():
        for size in range(start, len(whole)):
            torn = files.clone()
            torn.replace_content(FIRST, tail(size))
            if torn.content(FIRST).startswith(whole):
                continue  # The last byte is a zero, and what stands behind it begins so.
            log = open_log(torn, config)
            assert everything(log) == batches[:-1], (name, size)
            assert torn.content(FIRST) == whole[:start]
            # Zeros only are what the metadata log had reserved, for all that anybody can tell.
            lenient = config is SMALL
            told = any(tail(size)[start:]) or (lenient and len(tail(size)) > start)
            assert [cut.followed_by for cut in log.recovery.cuts] == [None] * told
            assert fill(log, [1], epoch=3)


def test_the_cut_is_told() -> None:
    files, batches = closed_log([1, 2, 1])
    whole = files.content(FIRST)
    files.replace_content(FIRST, whole[:-1])
    start = len(whole) - len(batches[-1])
    assert open_log(files).recovery.cuts == (
        Cut(
            path=str(FIRST),
            position=start,
            bytes_cut=len(batches[-1]) - 1,
            reason=f"a batch of {len(batches[-1])} bytes, "
            f"of which {len(batches[-1]) - 1} are there",
            followed_by=None,
        ),
    )


def batch_base(data: bytes) -> int:
    return next(iter_batches(data))[0].base_offset


def test_a_cut_in_words() -> None:
    cut = Cut(path="/d/0.log", position=7, bytes_cut=3, reason="so", followed_by=None)
    assert str(cut) == "3 bytes from byte 7 of /d/0.log, a torn tail: so"


def flips(data: bytes) -> Iterator[tuple[int, int]]:
    return ((at, 1 << bit) for at in range(len(data)) for bit in (0, 3, 7))


def opened(files: SimFiles, config: LogConfig) -> Log | CorruptLogError:
    try:
        return open_log(files, config)
    except CorruptLogError as error:
        return error


def test_a_bit_flipped_is_refused_unless_it_is_in_the_last_batch() -> None:
    """The metadata log: what was durable is never cut away in silence."""
    files, batches = closed_log([1, 1, 1, 1], REFUSE)
    whole = files.content(FIRST)
    size = len(batches[0])
    for at, mask in flips(whole):
        damaged = files.clone()
        damaged.damage(FIRST, at, mask)
        log = opened(damaged, REFUSE)
        if isinstance(log, CorruptLogError):
            assert "whole batches follow" in str(log)
            assert log.path == str(FIRST)
            # An epoch that is too high is seen at the batch after it.
            assert -size < log.position - at <= size
            continue
        if at % size in range(12, 16):
            # The epoch is under no checksum: believed where it does not fall. Nothing is cut.
            assert log.recovery.cuts == ()
            assert log.end_offset == 4
        else:
            assert at >= 3 * size
            assert everything(log) == batches[:3]


def test_an_epoch_under_the_checksum_leaves_no_byte_unseen() -> None:
    """Scenario 29, the metadata log: each byte, each bit; what is left is a true prefix."""
    config = replace(REFUSE, epochs_sealed=True)
    files = SimFiles()
    log = open_log(files, config)
    batches = [sealed_batch(at, epoch=3) for at in range(4)]
    for each in batches:
        log.append(each)
    log.close()
    size = len(batches[0])
    for at in range(4 * size):
        for bit in range(8):
            damaged = files.clone()
            damaged.damage(FIRST, at, 1 << bit)
            log_or_error = opened(damaged, config)
            if isinstance(log_or_error, CorruptLogError):
                assert 0 <= at - log_or_error.position < size
            else:
                assert at >= 3 * size
                assert everything(log_or_error) == batches[:3]


def sealed_batch(base: int, epoch: int) -> bytes:
    return build_batch(
        [NewRecord(value=b"sealed")],
        base_offset=Offset(base),
        leader_epoch=Epoch(epoch),
        timestamp_ms=NOW_MS,
        base_sequence=epoch,
    )


def test_a_bit_flipped_anywhere_is_cut_and_told() -> None:
    files, batches = closed_log([1, 1, 1, 1])
    whole = files.content(FIRST)
    size = len(batches[0])
    for at, mask in flips(whole):
        damaged = files.clone()
        damaged.damage(FIRST, at, mask)
        log = open_log(damaged)
        kept = everything(log)
        if at % size in range(12, 16) and len(kept) > at // size:
            continue  # As above.
        assert kept == batches[: at // size]
        (cut,) = log.recovery.cuts
        # Base offset and epoch are under no checksum: the batch itself is whole.
        behind = at // size + 1 if at < 3 * size else None
        assert cut.followed_by == behind or at % size in {*range(8), *range(12, 16)}


def test_damage_in_an_older_segment_is_no_torn_tail() -> None:
    files, batches = closed_log([1] * 20, REFUSE)
    size = len(batches[0])
    per_segment = len(files.content(FIRST)) // size
    # The last batch of the first segment: nothing follows it there, but a segment does.
    files.damage(FIRST, len(files.content(FIRST)) - 1, 1)
    with pytest.raises(CorruptLogError, match=f"from offset {per_segment}"):
        open_log(files.clone(), REFUSE)
    log = open_log(files, SMALL)
    assert everything(log) == batches[: per_segment - 1]
    assert [cut.followed_by for cut in log.recovery.cuts if cut.path == str(FIRST)] == [per_segment]
    assert [name for name in files.list(DIRECTORY) if name.endswith(".log")] == [FIRST.name]


@pytest.mark.parametrize("missing", [1, 2])
def test_a_segment_that_is_missing(missing: int) -> None:
    files, batches = closed_log([1] * 30, REFUSE)
    paths = [DIRECTORY / name for name in files.list(DIRECTORY) if name.endswith(".log")]
    files.remove(paths[missing])
    with pytest.raises(CorruptLogError, match="are missing after it"):
        open_log(files.clone(), REFUSE)
    log = open_log(files, SMALL)
    assert everything(log) == batches[: log.end_offset]
    assert log.end_offset == int(paths[missing].stem)


def test_a_bit_flipped_in_an_index_is_harmless() -> None:
    """Every reader of an index verifies what it says; so the answers are the same."""
    files, batches = closed_log([1, 2, 1] * 12)
    names = [each for each in files.list(DIRECTORY) if "index" in each]
    assert sum(len(files.content(DIRECTORY / name)) for name in names) > 100
    for name in names:
        for at in range(len(files.content(DIRECTORY / name))):
            damaged = files.clone()
            damaged.damage(DIRECTORY / name, at, 0x11)
            for clean in (True, False):
                log = open_log(damaged.clone(), clean_shutdown=clean)
                assert_all_there(log, batches)


def test_an_index_cut_anywhere_or_gone_is_harmless() -> None:
    files, batches = closed_log([1, 2, 1] * 6)
    for name in [each for each in files.list(DIRECTORY) if "index" in each]:
        for size in range(len(files.content(DIRECTORY / name))):
            damaged = files.clone()
            damaged.replace_content(DIRECTORY / name, files.content(DIRECTORY / name)[:size])
            assert_all_there(open_log(damaged, clean_shutdown=True), batches)
        files_without = files.clone()
        files_without.remove(DIRECTORY / name)
        assert_all_there(open_log(files_without, clean_shutdown=True), batches)


def assert_all_there(log: Log, batches: list[bytes]) -> None:
    for offset in range(0, log.end_offset, 3):
        assert log.read(Offset(offset), 0) == log.read(Offset(offset), 1)
    assert everything(log, 10_000) == batches
    assert everything(log, 200) == batches
    bases = [batch_base(each) for each in batches]
    for time in range(0, bases[-1] + 1, 5):
        found = log.offset_for_timestamp(NOW_MS + time)
        assert found is not None
        assert found.offset == min(base for base in bases if base >= time)
    youngest = log.youngest_record()
    assert youngest is not None
    assert youngest.offset == batch_base(batches[-1])


@CONFIGS
def test_recovery_is_idempotent(config: LogConfig) -> None:
    files, batches = closed_log([1] * 20, config)
    path = DIRECTORY / max(name for name in files.list(DIRECTORY) if name.endswith(".log"))
    files.replace_content(path, files.content(path)[:-3])
    first = open_log(files, config)
    assert len(first.recovery.cuts) == 1
    after = files.snapshot()
    again = open_log(files, config)
    assert again.recovery.cuts == ()
    assert again.epochs == first.epochs
    assert files.snapshot() == after
    assert everything(again) == batches[:-1]


def test_recovery_cut_off_at_every_operation_ends_the_same() -> None:
    files, batches = closed_log([1] * 30)
    paths = [DIRECTORY / name for name in files.list(DIRECTORY) if name.endswith(".log")]
    files.damage(paths[1], 5, 0xFF)  # Cuts there, and removes several segments.
    kept = batches[: int(paths[1].stem)]
    cuts_off = 0
    while True:
        disk = files.clone()
        disk.crash_at_operation = cuts_off
        try:
            assert everything(open_log(disk)) == kept
            break
        except PowerCutError:
            cuts_off += 1
        disk.crash(Random(cuts_off))
        assert everything(open_log(disk)) == kept
    assert cuts_off > 20


@pytest.mark.parametrize("recovery_point", range(0, 31, 3))
def test_a_recovery_point_spares_what_is_below_it(recovery_point: int) -> None:
    files, batches = closed_log([1] * 30)
    log = open_log(files.clone(), recovery_point=Offset(recovery_point))
    assert everything(log) == batches
    scanned = open_log(files.clone())
    assert log.epochs == scanned.epochs
    assert log.recovery.bytes_checked <= scanned.recovery.bytes_checked
    if recovery_point == 30:
        assert log.recovery.bytes_checked < scanned.recovery.bytes_checked / 2


def test_an_epoch_that_falls_is_damage() -> None:
    files = SimFiles()
    open_log(files).close()
    files.replace_content(FIRST, batch(0, epoch=3) + batch(1, epoch=2) + batch(2, epoch=3))
    with pytest.raises(CorruptLogError, match="epoch 2 after 3"):
        open_log(files, REFUSE)
    assert everything(open_log(files)) == [batch(0, epoch=3)]


@pytest.mark.parametrize("clean", [True, False])
def test_a_trusted_segment_that_lost_its_end_is_found_out(clean: bool) -> None:
    """Its data did not get to the disk before the next segment's: whole batches are gone."""
    files, batches = closed_log([1] * 30)
    files.replace_content(FIRST, files.content(FIRST)[: -len(batches[0])])
    kept = len(files.content(FIRST)) // len(batches[0])
    log = open_log(files, clean_shutdown=clean, recovery_point=Offset(30))
    assert everything(log) == batches[:kept]
    assert log.recovery.cuts[-1].followed_by == kept + 1


@pytest.mark.parametrize("clean", [True, False])
def test_a_damaged_epoch_checkpoint_is_found_out(clean: bool) -> None:
    files = SimFiles()
    log = open_log(files)
    for epoch in (1, 4, 12):
        fill(log, [1] * 8, epoch=epoch)
    log.close()
    path = DIRECTORY / LEADER_EPOCH_CHECKPOINT
    data = files.content(path)
    assert data == b"0\n3\n1 0\n4 8\n12 16\n"
    variants = [data[:size] for size in range(len(data))]
    variants += [
        data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
        for at in range(len(data))
        for bit in range(8)
    ]
    variants += [b"", b"0\n0\n", b"0\n2\n1 0\n4 8\n", b"0\n1\n12 16\n"]
    for variant in variants:
        damaged = files.clone()
        damaged.replace_content(path, variant)
        again = open_log(damaged, clean_shutdown=clean, recovery_point=Offset(20))
        assert again.epochs == log.epochs, variant
