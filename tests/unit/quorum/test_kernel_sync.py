"""The log made durable by the kernel's workers: as certain as by a thread, and as loud."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.quorum import kernel_sync, store
from controller.quorum.kernel_sync import Done, error_of, open_kernel_sync
from controller.quorum.store import LogStore
from controller.raft.effects import AppendRecords
from klamm.clock import SystemClock
from klamm.errors import StorageError
from klamm.ids import Epoch, Offset
from klamm.log.files import SystemFile, SystemFiles
from klamm.log.log import Log, LogConfig
from klamm.log.records import NewRecord

DEADLINE_S = 30


class FakeKernel:
    """Its workers are done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, Done]] = []
        self.takes = True
        self.closed = False

    def sync(self, fd: int, done: Done) -> bool:
        if self.takes:
            self.begun.append((fd, done))
        return self.takes

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    fake = FakeKernel()
    monkeypatch.setattr(store, "open_kernel_sync", lambda: fake)
    return fake


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[LogStore]:
    log_store = LogStore.open(
        SystemFiles(), directory, SystemClock(), LogConfig(), has_peers=lambda *_: False
    )
    log_store._log.flush()  # With the names of the files, which is more than one sync.
    yield log_store
    if not log_store._log.has_failed:
        log_store.close()


def append(log_store: LogStore, base: int) -> None:
    records = (NewRecord(value=b"x"),)
    log_store.append_records(
        AppendRecords(base_offset=Offset(base), epoch=Epoch(1), records=records)
    )


async def test_a_real_kernel_syncs_a_real_file(tmp_path: Path) -> None:
    kernel = open_kernel_sync()
    file = SystemFile(tmp_path / "file")
    file.append(b"data")
    done: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    if not kernel.sync(file.fileno(), done.set_result):
        pytest.skip("this kernel has no asynchronous I/O for us")
    async with asyncio.timeout(DEADLINE_S):
        assert await done is None
    file.close()
    kernel.close()


async def test_what_cannot_be_synced_is_not_begun(tmp_path: Path) -> None:
    kernel = open_kernel_sync()
    reading, writing = os.pipe()
    called: list[OSError | None] = []
    assert not kernel.sync(writing, called.append)
    os.close(reading)
    os.close(writing)
    assert not kernel.sync(writing, called.append), "no such file"
    assert called == []
    kernel.close()


def test_an_error_comes_as_if_it_were_unsigned() -> None:
    failed = error_of(2**64 - errno.EIO)
    assert failed is not None
    assert failed.errno == errno.EIO
    assert error_of(0) is None


async def test_a_flush_is_durable_when_the_kernel_says_so(
    tmp_path: Path, kernel: FakeKernel
) -> None:
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        flush = log_store.flush()
        append(log_store, 1)
        ((fd, done),) = kernel.begun
        assert os.fstat(fd).st_ino == log_store._log._active.path.stat().st_ino
        await asyncio.sleep(0)
        assert not flush.done()
        done(None)
        assert await flush == 1, "what was appended meanwhile is the next one's"
        assert log_store._log._durable_end == 1
    assert kernel.closed


async def test_a_failed_sync_poisons_the_log(tmp_path: Path, kernel: FakeKernel) -> None:
    """Scenario 32, fsyncgate: never retried as if it had worked."""
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        flush = log_store.flush()
        kernel.begun[0][1](OSError(errno.EIO, "Input/output error"))
        with pytest.raises(StorageError, match="Input/output error"):
            await flush
        with pytest.raises(StorageError):
            append(log_store, 1)
        assert log_store._log._durable_end == 0


async def test_threads_do_it_where_the_kernel_does_not(tmp_path: Path, kernel: FakeKernel) -> None:
    kernel.takes = False
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        assert await log_store.flush() == 1


async def test_threads_do_it_without_asynchronous_io(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another system, or where a sandbox forbids the calls."""

    def forbidden(loop: object) -> None:
        raise SystemError("Function not implemented")

    monkeypatch.setattr(kernel_sync, "_LinuxSync", forbidden)
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        assert await log_store.flush() == 1


async def test_a_flush_of_more_than_one_file_is_a_threads(
    tmp_path: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new segment: its name is made durable too."""
    async with opened(tmp_path) as log_store:
        monkeypatch.setattr(Log, "_fits", lambda *_: False)
        append(log_store, 0)
        assert await log_store.flush() == 1
        assert kernel.begun == []
