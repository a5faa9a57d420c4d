"""Scenario 35: the kernel takes and gives less than it was asked for, and may then be full."""

import errno
import os
import signal
from pathlib import Path
from random import Random

import pytest

from klamm.errors import NoSpaceError
from klamm.ids import Offset
from klamm.log import files as files_module
from klamm.log.checkpoint import read_whole, write_atomically
from klamm.log.files import Buffer, SystemFile, SystemFiles
from klamm.log.log import Log
from klamm.log.sealed import open_json, seal_json
from tests.unit.log.logs import SMALL, batch


class ShortOs:
    """The operating system, but for how much it moves at a time."""

    def __init__(self, seed: int, room_bytes: int = 1 << 40) -> None:
        self.rng = Random(seed)
        self.room_bytes = room_bytes
        self.short = 0

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, fd: int, data: Buffer) -> int:
        return os.write(fd, self._some(data))

    def pwrite(self, fd: int, data: Buffer, position: int) -> int:
        return os.pwrite(fd, self._some(data), position)

    def pread(self, fd: int, size: int, position: int) -> bytes:
        return os.pread(fd, self.rng.randint((size + 1) // 2, size), position)

    def _some(self, data: Buffer) -> memoryview:
        view = memoryview(data)
        taken = min(self.rng.randint(1, len(view)), self.room_bytes)
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= taken
        self.short += taken < len(view)
        return view[:taken]


def patched(monkeypatch: pytest.MonkeyPatch, seed: int, room_bytes: int = 1 << 40) -> ShortOs:
    it = ShortOs(seed, room_bytes)
    monkeypatch.setattr(files_module, "os", it)
    return it


def everything(log: Log) -> bytes:
    return b"".join(log.read(Offset(at), 1) for at in range(log.end_offset))


@pytest.mark.parametrize("seed", range(10))
def test_a_log_and_small_files_are_whole(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends, rolls, rewrites, small files, and what reads them back."""
    short = patched(monkeypatch, seed)
    log = Log.open(SystemFiles(), tmp_path / "log", SMALL)
    whole = b"".join(batch(at, size=70) for at in range(40))
    for at in range(40):
        log.append(batch(at, size=70))
    assert everything(log) == whole
    log.rewrite_end(Offset(20))
    log.close()
    assert everything(Log.open(SystemFiles(), tmp_path / "log", SMALL)) == whole
    write_atomically(SystemFiles(), tmp_path / "vote", seal_json({"epoch": 7, "why": "x" * 300}))
    data = read_whole(SystemFiles(), tmp_path / "vote")
    assert data is not None
    assert open_json(data, frozenset())["epoch"] == 7
    assert short.short > 40


@pytest.mark.parametrize("room_bytes", range(0, 140, 9))
def test_full_after_a_part_is_refused_whole(
    room_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 34 beside it: the part is taken back."""
    log = Log.open(SystemFiles(), tmp_path, SMALL)
    log.append(batch(0, size=70))
    patched(monkeypatch, 1, room_bytes)
    with pytest.raises(NoSpaceError):
        log.append(batch(1, size=70))
    monkeypatch.undo()
    assert (tmp_path / f"{0:020d}.log").read_bytes() == batch(0, size=70)
    log.append(batch(1, size=80))
    log.close()
    again = Log.open(SystemFiles(), tmp_path, SMALL)
    assert everything(again) == batch(0, size=70) + batch(1, size=80)


def test_signals_interrupt_nothing(tmp_path: Path) -> None:
    """EINTR: a hail of signals while megabytes are written, synced and read back."""
    seen: list[int] = []  # An event has a lock, for which a second signal would wait in vain.
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    timer = signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        file = SystemFile(tmp_path / "file")
        blocks = [bytes([at]) * 1_000_003 for at in range(8)]
        for each in blocks:
            file.append(each)
            file.sync()
        assert file.read_at(0, file.size) == b"".join(blocks)
        file.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, before)
    assert seen
