"""fdatasync by the kernel's own workers: asked for in one system call, answered through the loop.

    sync(fd) ─▶ io_uring ─▶ a worker of the kernel ─▶ eventfd ─▶ done(error, or None)

A thread of ours has to get the interpreter before it can begin, and to wake the loop when it is
done: 80 µs of a core, and on a busy loop 200 µs before the disk hears of anything. Where the kernel
has no io_uring for us, as on other systems or in a sandbox, threads do it as ever.

Not Linux's older asynchronous I/O (io_submit), though it is as quick: the kernel takes 35 ms to end
a process that has a context of it, before it closes the sockets, and so the others hear later that
a leader was killed.

Source: io_uring_enter(2), IORING_OP_FSYNC with IORING_FSYNC_DATASYNC.
"""

import asyncio
import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from klamm.telemetry.logs import logger

_log = logger("controller.quorum")

REQUESTS_MAX = 4
"""At once. A node has one log, and one sync of it under way."""

CLOSE_S = 10
"""A disk that has not answered by then at the close is taken for a broken one."""

_REFUSALS = (OSError, OverflowError, SystemError, ValueError)
"""What the library makes of an errno; EAGAIN is an OverflowError."""

Done = Callable[[OSError | None], None]


class KernelSync(Protocol):
    """Of one loop."""

    def sync(self, fd: int, done: Done) -> bool:
        """Begin. False: have it done otherwise; should `done` be called yet, it is to be believed.

        A disk tells an error once: who does not listen then hears of success the next time.
        """
        ...

    def close(self) -> None:
        """What is under way ends first, and `done` is called."""
        ...


def open_kernel_sync() -> KernelSync:
    """For the running loop."""
    if sys.platform == "linux":
        try:
            return _RingSync(asyncio.get_running_loop())
        except (ImportError, *_REFUSALS) as error:
            _log.info("the kernel syncs nothing for us; threads do", why=error)
    return _NoSync()


class _NoSync:
    def sync(self, fd: int, done: Done) -> bool:
        return False

    def close(self) -> None:
        pass


class _RingSync:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from caio.linux_uring import Context, Operation

        self._loop = loop
        self._operation = Operation.fdsync
        # Without SQPOLL: a thread of the kernel would turn on a core for it.
        self._context = Context(max_requests=REQUESTS_MAX, sqpoll=False)
        self._under_way: dict[object, Done] = {}
        loop.add_reader(self._context.fileno, self._completed)

    def sync(self, fd: int, done: Done) -> bool:
        operation = self._operation(fd)

        def ended(result: int) -> None:
            if self._under_way.pop(operation, None) is not None:
                done(error_of(result))

        operation.set_callback(ended)
        try:
            self._context.submit(operation)
            self._under_way[operation] = done
            self._context.flush()
        except _REFUSALS as error:
            _log.debug("the kernel does not sync this", why=error)
            return False
        return True

    def close(self) -> None:
        self._loop.remove_reader(self._context.fileno)
        for _ in range(CLOSE_S):
            if self._under_way:
                with suppress(*_REFUSALS):
                    self._context.flush()
                    self._context.process_events(min_requests=1, timeout=1)
        while self._under_way:
            _, done = self._under_way.popitem()
            done(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    def _completed(self) -> None:
        with suppress(BlockingIOError):  # Counted before, and found then.
            self._context.poll()
        while self._context.process_events():
            pass


def error_of(result: int) -> OSError | None:
    """Of an operation's result: 0 is success, and all else is an errno below zero."""
    return OSError(-result, os.strerror(-result)) if result else None
