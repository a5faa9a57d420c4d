"""Small files that are replaced whole: after a power cut there is the old one or the new one.

    write NAME.tmp ─▶ sync it ─▶ rename to NAME ─▶ sync the directory

Kafka's formats, text, one entry a line:

    leader-epoch-checkpoint            0 / count / "epoch start_offset"…
    replication-offset-checkpoint,     0 / count / "topic partition offset"…
    recovery-point-offset-checkpoint,
    log-start-offset-checkpoint
    .kafka_cleanshutdown               one line of JSON, which the broker writes
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from klamm.errors import KlammError
from klamm.ids import Epoch, Offset, TopicPartition
from klamm.log.files import Files

LEADER_EPOCH_CHECKPOINT = "leader-epoch-checkpoint"
REPLICATION_OFFSET_CHECKPOINT = "replication-offset-checkpoint"
RECOVERY_POINT_CHECKPOINT = "recovery-point-offset-checkpoint"
CLEAN_SHUTDOWN = ".kafka_cleanshutdown"
TMP_SUFFIX = ".tmp"
CHECKPOINT_BYTES_MAX = 64 * 1024 * 1024

_VERSION = "0"
_DIGITS_MAX = 19
"""Of an offset, which has 63 bits."""

EpochStart = tuple[Epoch, Offset]


class CorruptCheckpointError(KlammError):
    """A checkpoint file that is not in its format."""


def write_atomically(files: Files, path: Path, data: bytes) -> None:
    """Replace `path` with a file that holds `data`. Durable once it returns.

    Raises:
        OSError: The old file is still there, or the new one; never a part of one.
    """
    write_beside(files, path, data)
    put_in_place(files, path)


def write_beside(files: Files, path: Path, data: bytes) -> None:
    """Write NAME.tmp, durably. Whatever happens, `path` is not touched.

    Raises:
        OSError: As the disk says.
    """
    file = files.open(path.with_name(path.name + TMP_SUFFIX))
    try:
        file.truncate(0)
        file.append(data)
        file.sync()
    finally:
        file.close()


def put_in_place(files: Files, path: Path) -> None:
    """Replace `path` with what `write_beside` wrote. Durable once it returns."""
    files.rename(path.with_name(path.name + TMP_SUFFIX), path)
    files.sync_directory(path.parent)


def read_whole(files: Files, path: Path) -> bytes | None:
    """All that is in a small file; None if there is none.

    Raises:
        CorruptCheckpointError: It is larger than any checkpoint.
        OSError: As the disk says.
    """
    if not files.exists(path):
        return None
    file = files.open(path)
    try:
        if file.size > CHECKPOINT_BYTES_MAX:
            raise CorruptCheckpointError(
                f"{path} has {file.size} bytes, at most {CHECKPOINT_BYTES_MAX} make sense"
            )
        return file.read_at(0, file.size)
    finally:
        file.close()


def write_epochs(files: Files, directory: Path, starts: Iterable[EpochStart]) -> None:
    """Write a log's leader-epoch-checkpoint."""
    lines = [f"{epoch} {offset}" for epoch, offset in starts]
    write_atomically(files, directory / LEADER_EPOCH_CHECKPOINT, _encode(lines))


def read_epochs(files: Files, directory: Path) -> tuple[EpochStart, ...] | None:
    """Read a log's leader-epoch-checkpoint; None if there is none.

    Raises:
        CorruptCheckpointError: It is damaged, or epochs or offsets do not ascend.
    """
    path = directory / LEADER_EPOCH_CHECKPOINT
    rows = _rows(files, path, 2)
    if rows is None:
        return None
    starts = tuple((Epoch(_number(path, a)), Offset(_number(path, b))) for a, b in rows)
    for (epoch, offset), (next_epoch, next_offset) in pairwise(starts):
        if epoch >= next_epoch or offset >= next_offset:
            raise CorruptCheckpointError(f"{path}: epochs do not ascend at {next_epoch}")
    return starts


def write_offsets(files: Files, path: Path, offsets: Mapping[TopicPartition, Offset]) -> None:
    """Write one of the checkpoints that hold an offset for each partition."""
    lines = [f"{at.topic} {at.partition} {offset}" for at, offset in sorted(offsets.items())]
    write_atomically(files, path, _encode(lines))


def read_offsets(files: Files, path: Path) -> dict[TopicPartition, Offset]:
    """Read what `write_offsets` wrote; nothing if there is no file.

    Raises:
        CorruptCheckpointError: It is damaged. Kafka's format has no checksum: a digit that
            turned into another is not seen, so a reader holds the offset within its log.
    """
    return {
        TopicPartition(topic, _number(path, partition)): Offset(_number(path, offset))
        for topic, partition, offset in _rows(files, path, 3) or ()
    }


def _encode(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in (_VERSION, len(lines), *lines)).encode()


def _rows(files: Files, path: Path, columns: int) -> list[list[str]] | None:
    data = read_whole(files, path)
    if data is None:
        return None
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise CorruptCheckpointError(f"{path} is not text") from error
    if lines[-1] != "" or lines[0] != _VERSION or len(lines) < 3:
        raise CorruptCheckpointError(f"{path} is cut short, or not of version {_VERSION}")
    rows = [line.split(" ") for line in lines[2:-1]]
    if _number(path, lines[1]) != len(rows):
        raise CorruptCheckpointError(f"{path} has {len(rows)} entries, not {lines[1]!r}")
    for row in rows:
        if len(row) != columns:
            raise CorruptCheckpointError(f"{path}: {' '.join(row)!r} has not {columns} words")
    return rows


def _number(path: Path, text: str) -> int:
    # int() alone would take "1_0", "+1" and the digits of other scripts, and not 5,000 digits.
    if not (text.isdigit() and text.isascii() and len(text) <= _DIGITS_MAX):
        raise CorruptCheckpointError(f"{path}: {text[:40]!r} is not a number")
    return int(text)
