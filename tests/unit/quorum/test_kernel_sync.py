"""The log made durable by the kernel's workers: as certain as by a thread, and as loud."""

import asyncio
import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controller.quorum import bounds, kernel_sync, store
from controller.quorum.kernel_sync import Done, KernelSync, error_of, open_kernel_sync
from controller.quorum.store import LogStore
from controller.raft.effects import AppendRecords
from klamm.clock import SystemClock
from klamm.errors import StorageError
from klamm.ids import Epoch, Offset
from klamm.log.files import SystemFile, SystemFiles
from klamm.log.log import Log, LogConfig
from klamm.log.records import NewRecord
from tests.unit.quorum.flushes import flushed

DEADLINE_S = 30
EXT4_IOC_SHUTDOWN = 0x8004587D
EXT4_GOING_FLAGS_NOLOGFLUSH = 2


class FakeKernel:
    """Its workers are done when the test says so."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, Done]] = []
        self.takes = True
        self.closed = False
        self.at_the_close: OSError | None = None

    def sync(self, fd: int, done: Done) -> bool:
        if self.takes:
            self.begun.append((fd, done))
        return self.takes

    def close(self) -> None:
        self.closed = True
        for _, done in self.begun:
            done(self.at_the_close)


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


@pytest.fixture
async def ring() -> AsyncIterator[KernelSync]:
    kernel = open_kernel_sync()
    if isinstance(kernel, kernel_sync._NoSync):
        pytest.skip("this kernel has no io_uring for us")
    yield kernel
    kernel.close()


async def synced(kernel: KernelSync, fd: int) -> OSError | None:
    done: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()
    assert kernel.sync(fd, done.set_result)
    async with asyncio.timeout(DEADLINE_S):
        return await done


async def test_a_real_kernel_syncs_a_real_file(tmp_path: Path, ring: KernelSync) -> None:
    file = SystemFile(tmp_path / "file")
    file.append(b"data")
    assert await synced(ring, file.fileno()) is None
    file.close()


async def test_what_cannot_be_synced_fails(ring: KernelSync) -> None:
    reading, writing = os.pipe()
    failed = await synced(ring, writing)
    assert failed is not None
    assert failed.errno == errno.EINVAL
    os.close(reading)
    os.close(writing)
    failed = await synced(ring, writing)
    assert failed is not None
    assert failed.errno == errno.EBADF


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; whoever shuts it down takes its disk away."""
    image, place = tmp_path / "image", tmp_path / "mounted"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 * 1024 * 1024)
    mounted = [["mkfs.ext4", "-q", "-F", str(image)], ["mount", "-o", "loop", image, place]]
    try:
        for command in mounted:
            subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root, mkfs.ext4 and a loop device")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


async def test_a_disk_that_is_gone_is_an_error_and_no_success(
    dying: Path, ring: KernelSync
) -> None:
    """Scenario 32 with a real EIO: what the library hands on is not taken for 0."""
    file = SystemFile(dying / "file")
    file.append(b"before")
    assert await synced(ring, file.fileno()) is None
    file.append(b"after")
    root = os.open(dying, os.O_RDONLY)
    fcntl.ioctl(root, EXT4_IOC_SHUTDOWN, struct.pack("I", EXT4_GOING_FLAGS_NOLOGFLUSH))
    os.close(root)
    failed = await synced(ring, file.fileno())
    assert failed is not None
    assert failed.errno == errno.EIO
    file.close()


@pytest.mark.parametrize("call", ["submit", "flush"])
@pytest.mark.parametrize("kind", [BlockingIOError, OverflowError, SystemError, ValueError])
async def test_what_the_kernel_does_not_take_is_to_be_done_otherwise(
    tmp_path: Path,
    ring: KernelSync,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    kind: type[Exception],
) -> None:
    """Else nobody would ever hear of it."""
    assert isinstance(ring, kernel_sync._RingSync)

    class Refusing:
        def __getattr__(self, name: str) -> object:
            if name == call and refusals:
                raise refusals.pop()
            return getattr(context, name)

    refusals, context = [kind()], ring._context
    monkeypatch.setattr(ring, "_context", Refusing())
    file = SystemFile(tmp_path / "file")
    file.append(b"data")
    told: list[OSError | None] = []
    assert not ring.sync(file.fileno(), told.append)
    assert told == []
    assert await synced(ring, file.fileno()) is None
    file.close()


async def test_what_is_under_way_at_the_close_is_told(tmp_path: Path) -> None:
    kernel = open_kernel_sync()
    file = SystemFile(tmp_path / "file")
    file.append(b"data")
    told: list[OSError | None] = []
    begun = kernel.sync(file.fileno(), told.append)
    kernel.close()
    if isinstance(kernel, kernel_sync._RingSync):
        fd = kernel._context.fileno
        assert not asyncio.get_running_loop().remove_reader(fd), "nobody looks at it any more"
    assert told == ([None] if begun else [])
    file.close()


async def test_a_disk_that_does_not_answer_at_the_close_is_a_broken_one(
    monkeypatch: pytest.MonkeyPatch, ring: KernelSync
) -> None:
    monkeypatch.setattr(kernel_sync, "CLOSE_S", 0)
    reading, writing = os.pipe()
    told: list[OSError | None] = []
    assert ring.sync(writing, told.append)
    ring.close()
    assert [each and each.errno for each in told] in ([errno.ETIMEDOUT], [errno.EINVAL])
    os.close(reading)
    os.close(writing)


def test_all_but_zero_is_an_error() -> None:
    assert error_of(0) is None
    assert error_of(1) is not None
    failed = error_of(-errno.EIO)
    assert failed is not None
    assert failed.errno == errno.EIO


async def test_a_flush_is_durable_when_the_kernel_says_so(
    tmp_path: Path, kernel: FakeKernel
) -> None:
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        flush = flushed(log_store)
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
        flush = flushed(log_store)
        kernel.begun[0][1](OSError(errno.EIO, "Input/output error"))
        with pytest.raises(StorageError, match="Input/output error"):
            await flush
        with pytest.raises(StorageError):
            append(log_store, 1)
        assert log_store._log._durable_end == 0


@pytest.mark.parametrize("by_the_kernel", [True, False])
async def test_what_is_durable_gets_into_the_bounds(
    tmp_path: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, by_the_kernel: bool
) -> None:
    """Scenario 30: or a loss of it would be taken for a torn end for ever."""
    monkeypatch.setattr(bounds, "BOUNDS_EVERY_MS", 1)
    kernel.takes = by_the_kernel
    async with opened(tmp_path) as log_store:
        keeping = asyncio.create_task(log_store.keep_bounds())
        append(log_store, 0)
        flush = flushed(log_store)
        append(log_store, 1)
        for _, done in kernel.begun:
            done(None)
        assert await flush >= 1
        async with asyncio.timeout(DEADLINE_S):
            while (
                not (known := bounds.read_bounds(SystemFiles(), tmp_path)) or not known.end_offset
            ):
                await asyncio.sleep(0.001)
        assert known.end_offset == await flush
        keeping.cancel()


async def test_a_sync_that_fails_while_the_log_is_closed_makes_it_no_clean_close(
    tmp_path: Path, kernel: FakeKernel
) -> None:
    """The disk tells its error once: the close's own sync would hear of success."""
    kernel.at_the_close = OSError(errno.EIO, "Input/output error")
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        flushed(log_store)
        log_store.close()
        assert log_store._log.has_failed


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "Input/output error")])
async def test_a_segment_is_rolled_while_a_sync_is_out(
    tmp_path: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    """The roll syncs the segment too; the disk may have told its error to the other one."""
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        flush = flushed(log_store)
        with monkeypatch.context() as patched:
            patched.setattr(Log, "_fits", lambda *_: False)
            append(log_store, 1)
        kernel.begun.pop()[1](error)
        if error is not None:
            with pytest.raises(StorageError):
                await flush
            assert log_store._log.has_failed
            return
        assert await flush == 1
        assert log_store._log._durable_end == 1
        assert await flushed(log_store) == 2
        assert kernel.begun == [], "a new name, and two files"
        append(log_store, 2)
        flush = flushed(log_store)
        ((fd, done),) = kernel.begun
        assert os.fstat(fd).st_ino == log_store._log._active.path.stat().st_ino
        done(None)
        assert await flush == 3


async def test_threads_do_it_where_the_kernel_does_not(tmp_path: Path, kernel: FakeKernel) -> None:
    kernel.takes = False
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        assert await flushed(log_store) == 1


@pytest.mark.parametrize("error", [None, OSError(errno.EIO, "Input/output error")])
async def test_a_word_that_comes_late_is_believed_and_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError | None
) -> None:
    """The kernel said that it would not do it, and does: a disk tells an error once."""
    late: list[Done] = []

    class Hesitant(FakeKernel):
        def sync(self, fd: int, done: Done) -> bool:
            late.append(done)
            return False

        def close(self) -> None:
            pass

    monkeypatch.setattr(store, "open_kernel_sync", Hesitant)
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        told: list[Offset | BaseException] = []
        log_store.flush(told.append)
        late[0](error)
        await asyncio.get_running_loop().shutdown_default_executor()
        await asyncio.sleep(0)
        assert len(told) == 1
        assert log_store._log.has_failed == (error is not None)
        assert (told[0] == 1) or error is not None


async def test_a_sync_that_a_loop_gives_up_at_its_end_says_nothing(
    tmp_path: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.takes = False
    loop = asyncio.get_running_loop()
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        thread: asyncio.Future[Offset] = loop.create_future()
        told: list[object] = []
        loop.set_exception_handler(lambda _, context: told.append(context))
        with monkeypatch.context() as patched:
            patched.setattr(loop, "run_in_executor", lambda *_: thread)
            log_store.flush(told.append)
        thread.cancel()
        await asyncio.sleep(0)
        assert told == []


async def test_threads_do_it_without_asynchronous_io(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on another system, or where a sandbox forbids the calls."""

    def forbidden(loop: object) -> None:
        raise SystemError("Function not implemented")

    monkeypatch.setattr(kernel_sync, "_RingSync", forbidden)
    async with opened(tmp_path) as log_store:
        append(log_store, 0)
        assert await flushed(log_store) == 1


async def test_a_flush_of_more_than_one_file_is_a_threads(
    tmp_path: Path, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new segment: its name is made durable too."""
    async with opened(tmp_path) as log_store:
        monkeypatch.setattr(Log, "_fits", lambda *_: False)
        append(log_store, 0)
        assert await flushed(log_store) == 1
        assert kernel.begun == []
