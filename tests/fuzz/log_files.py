"""The directory of a log, in whatever state it is: recovered and usable, or refused by name.

input    how │ files, each: which │ its length, two bytes │ its bytes
"""

from contextlib import suppress
from dataclasses import replace
from random import Random

from controller.quorum.known_voters import latest_voters
from klamm.errors import ApiError, StorageError
from klamm.ids import NO_EPOCH, Epoch, Offset
from klamm.log.checkpoint import CLEAN_SHUTDOWN, LEADER_EPOCH_CHECKPOINT
from klamm.log.found import UnreadableRecordsError
from klamm.log.index import CorruptIndexError, OffsetIndex, TimeIndex
from klamm.log.log import Log, LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import CorruptBatchError, NewRecord
from klamm.log.recovery import OnCorruption
from klamm.log.unwritten import SECTOR_BYTES
from tests.fuzz.growth import random_batch, sealed
from tests.fuzz.target import Choice, Target
from tests.sim.disk import SimFiles
from tests.unit.log.logs import DIRECTORY, NOW_MS, SMALL

NAMES = (
    f"{0:020d}.log",
    f"{0:020d}.index",
    f"{0:020d}.timeindex",
    LEADER_EPOCH_CHECKPOINT,
    f"{4:020d}.log",
    f"{4:020d}.index",
    f"{4:020d}.timeindex",
    f"{2**63 - 1:020d}.log",
    "9" * 20 + ".log",
    "²" * 20 + ".log",
    "quorum-state.tmp",
    CLEAN_SHUTDOWN,
)
FILE_BYTES_MAX = 2**16 - 1


def grow(random: Random) -> bytes:
    """A log of a few small segments, as `close` leaves it."""
    files = SimFiles()
    log = Log.open(files, DIRECTORY, SMALL)
    epoch = 0
    for _ in range(random.randint(0, 6)):
        log.append(random_batch(random, log.end_offset, epoch))
        epoch += random.randint(0, 1)
    log.close()
    parts = [bytes((random.randrange(256),))]
    for path, content in files.snapshot().items():
        if path.suffix == ".log":
            content = _as_a_crash_leaves_it(random, content)
        if path.name in NAMES and len(content) <= FILE_BYTES_MAX:
            parts += (bytes((NAMES.index(path.name),)), len(content).to_bytes(2), content)
    return b"".join(parts)


def _as_a_crash_leaves_it(random: Random, content: bytes) -> bytes:
    """At times with zeros behind, and with a sector that was not written."""
    data = bytearray(content + bytes(random.choice((0, 0, 0, 1, 400))))
    if random.random() < 0.2:
        start = random.choice((0, SECTOR_BYTES))
        data[start : start + SECTOR_BYTES] = bytes(len(data[start : start + SECTOR_BYTES]))
    return bytes(data)


def check(data: bytes) -> bool:
    choice = Choice(data)
    how = choice.one_of(128)
    files = _files(choice.rest, seal=bool(how & 1))
    config = replace(
        SMALL,
        on_corruption=OnCorruption.REFUSE if how & 2 else OnCorruption.TRUNCATE,
        epochs_sealed=bool(how & 4),
        preallocate_bytes=100 if how & 32 else 0,
    )
    latest_voters(files, DIRECTORY)  # Asked before a damaged log is cut; has no error of its own.
    options = {
        "recovery_point": Offset(how & 8),
        "clean_shutdown": bool(how & 16),
        "known_durable": Offset(how & 8) if how & 64 else None,
    }
    try:
        log = Log.open(files, DIRECTORY, config, **options)  # type: ignore[arg-type]
    except StorageError:
        return False
    checked = not how & 24
    return _use(files, log, config, checked=checked)


def _files(data: bytes, *, seal: bool) -> SimFiles:
    files = SimFiles()
    files.make_directory(DIRECTORY)
    at = 0
    while at + 3 <= len(data):
        name = NAMES[data[at] % len(NAMES)]
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3])
        content = data[at + 3 : end]
        if name.endswith(".log") and seal:
            content = sealed(content)
        files.replace_content(DIRECTORY / name, content)
        _decode_index(name, content)
        at = end
    return files


def _decode_index(name: str, content: bytes) -> None:
    try:
        if name.endswith(".index"):
            index = OffsetIndex.decode(Offset(0), content, 2**31)
            assert index.encode() == content
        elif name.endswith(".timeindex"):
            assert TimeIndex.decode(Offset(0), content).encode() == content
    except CorruptIndexError:
        return


def _use(files: SimFiles, log: Log, config: LogConfig, *, checked: bool) -> bool:
    """What was opened can be read, appended to, cut and opened again, or fails by name.

    What was taken on trust of a clean end may be damaged further ahead; a scan finds that later.
    """
    start, end = log.log_start_offset, log.end_offset
    assert 0 <= start <= end
    assert log.epochs.end_offset == end
    try:
        log.append(_next_batch(log))
        _read_all(log, checked=checked)
        _look_up(log)
        cut = log.truncate_to(end)
        assert cut == end, "batches were whole"
        log.close()
        again = Log.open(files, DIRECTORY, config)
    except (StorageError, CorruptBatchError, ApiError):
        log.abandon()
        return False
    assert not checked or (again.log_start_offset, again.end_offset) == (start, end)
    again.abandon()
    return True


def _look_up(log: Log) -> None:
    """A batch that was made to be no good to lookups leaves the log as good as it was."""
    for look in (lambda: log.offset_for_timestamp(NOW_MS), log.youngest_record):
        with suppress(UnreadableRecordsError):
            look()


def _next_batch(log: Log) -> bytes:
    return build_batch(
        [NewRecord(value=b"next")],
        base_offset=log.end_offset,
        leader_epoch=Epoch(max(log.epochs.last_epoch, NO_EPOCH + 1)),
        timestamp_ms=NOW_MS,
    )


def _read_all(log: Log, *, checked: bool) -> None:
    offset = log.log_start_offset
    while data := log.read(offset, 300):
        for header, _ in iter_batches(data):
            assert not checked or header.base_offset == offset, "no gap, and nothing twice"
            offset = max(header.next_offset, Offset(offset + 1))
    assert not checked or offset == log.end_offset


TARGET = Target(name="log_files", grow=grow, check=check, share=5)
