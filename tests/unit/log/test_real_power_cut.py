"""What ext4 itself leaves of unsynced appends after a power cut: holes with batches behind them.

The model of it (tests/sim/disk.py, `scatters`) is held to account by a file system of its own.
"""

import ctypes
import fcntl
import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from klamm.errors import CorruptLogError
from klamm.ids import LOG_START
from klamm.log.files import SystemFile, SystemFiles
from klamm.log.log import Log, LogConfig
from klamm.log.recovery import OnCorruption
from klamm.log.segment import log_path
from tests.unit.log.logs import everything, fill

EXT4_IOC_SHUTDOWN = 0x8004587D
EXT4_GOING_FLAGS_NOLOGFLUSH = 2
WRITE_AND_WAIT = 7
"""Of sync_file_range(2): the pages, and nothing that the journal knows of them."""
PAGE_BYTES = 4_096
CONFIG = LogConfig(preallocate_bytes=1 << 20, on_corruption=OnCorruption.REFUSE)
PLAIN = LogConfig(on_corruption=OnCorruption.REFUSE)


@pytest.fixture
def power_cut(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A directory on a file system of its own, and what takes its disk away and gives it back."""
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)

    def mount() -> None:
        command: list[str] = ["mount", "-o", "loop", str(image), str(place)]
        subprocess.run(command, check=True, capture_output=True)

    def unmount() -> None:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)

    def cut() -> None:
        root = os.open(place, os.O_RDONLY)
        fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("I", EXT4_GOING_FLAGS_NOLOGFLUSH))
        os.close(root)
        unmount()
        mount()

    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
        mount()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root, mkfs.ext4 and a loop device")
    yield place, cut
    subprocess.run(["umount", "-l", str(place)], check=True)  # What fails may have left files open.


def write_back(file: SystemFile, start: int, size: int) -> None:
    """As the kernel does it in its own time, of some pages."""
    libc = ctypes.CDLL(None, use_errno=True)
    offset, count = ctypes.c_int64(start), ctypes.c_int64(size)
    assert libc.sync_file_range(file.fileno(), offset, count, WRITE_AND_WAIT) == 0


def commit_the_journal(place: Path) -> None:
    """As a vote does that is saved."""
    file = SystemFile(place / "other")
    file.append(b"x")
    os.fsync(file.fileno())
    file.close()


@pytest.mark.parametrize("config", [CONFIG, PLAIN], ids=["reserve", "plain"])
def test_a_later_page_is_there_and_an_earlier_one_is_not(
    power_cut: tuple[Path, Callable[[], None]], config: LogConfig
) -> None:
    """Scenarios 27, 30, 37."""
    place, cut = power_cut
    directory = place / "log"
    log = Log.open(SystemFiles(), directory, config)
    batches = fill(log, [1] * 20)
    durable = log.flush()
    batches += fill(log, [30] * 100)
    file = log._active.file
    assert isinstance(file, SystemFile)
    assert file.size > 8 * PAGE_BYTES
    write_back(file, 4 * PAGE_BYTES, 3 * PAGE_BYTES)
    commit_the_journal(place)
    os.close(file._fd)  # Nothing goes back: the machine is gone.
    cut()
    content = log_path(directory, LOG_START).read_bytes()
    whole = b"".join(batches)
    if config is CONFIG:
        assert content[4 * PAGE_BYTES : 7 * PAGE_BYTES] == whole[4 * PAGE_BYTES : 7 * PAGE_BYTES]
        assert not any(content[2 * PAGE_BYTES : 4 * PAGE_BYTES])
        with pytest.raises(CorruptLogError, match="whole batches follow"):
            Log.open(SystemFiles(), directory, config)
    again = Log.open(SystemFiles(), directory, config, known_durable=durable)
    kept = everything(again)
    assert kept == batches[: len(kept)]
    assert again.end_offset >= durable
    again.close()
