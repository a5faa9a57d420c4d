"""fdatasync by the kernel's own workers: asked for in one system call, answered through the loop.

    sync(fd) ─▶ io_submit ─▶ a worker of the kernel ─▶ eventfd ─▶ done(error, or None)

A thread of ours has to get the interpreter before it can begin, and to wake the loop when it is
done: 80 µs of a core, and on a busy loop 200 µs before the disk hears of anything. Where the kernel
has no asynchronous I/O for us, as on other systems or in a sandbox, threads do it as ever.

Source: io_submit(2), IOCB_CMD_FDSYNC.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from klamm.telemetry.logs import logger

_log = logger("controller.quorum")

REQUESTS_MAX = 4
"""At once. A node has one log, and one sync of it under way."""

_REFUSALS = (OSError, OverflowError, SystemError, ValueError)
"""What the library makes of an errno; EAGAIN is an OverflowError."""

Done = Callable[[OSError | None], None]


class KernelSync(Protocol):
    """Of one loop."""

    def sync(self, fd: int, done: Done) -> bool:
        """Begin. False: it cannot be done so now, and `done` will not be called."""
        ...

    def close(self) -> None:
        """No `done` is called any more."""
        ...


def open_kernel_sync() -> KernelSync:
    """For the running loop."""
    if sys.platform == "linux":
        try:
            return _LinuxSync(asyncio.get_running_loop())
        except (ImportError, *_REFUSALS) as error:
            _log.info("the kernel syncs nothing for us; threads do", why=error)
    return _NoSync()


class _NoSync:
    def sync(self, fd: int, done: Done) -> bool:
        return False

    def close(self) -> None:
        pass


class _LinuxSync:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from caio.linux_aio import Context, Operation

        self._loop = loop
        self._operation = Operation.fdsync
        self._context = Context(max_requests=REQUESTS_MAX)
        self._closed = False
        loop.add_reader(self._context.fileno, self._completed)

    def sync(self, fd: int, done: Done) -> bool:
        def ended(result: int) -> None:
            if not self._closed:
                done(error_of(result))

        operation = self._operation(fd)
        operation.set_callback(ended)
        try:
            return self._context.submit(operation) == 1
        except _REFUSALS as error:  # EINVAL: not on this file system.
            _log.debug("the kernel does not sync this", why=error)
            return False

    def close(self) -> None:
        self._closed = True
        self._loop.remove_reader(self._context.fileno)

    def _completed(self) -> None:
        with suppress(BlockingIOError):  # Counted before, and found then.
            self._context.poll()
        self._context.process_events()


def error_of(result: int) -> OSError | None:
    """Of an operation's result: negative is an errno, and is handed on as if it were unsigned."""
    code = (1 << 64) - result if result >= 1 << 63 else 0
    return OSError(code, os.strerror(code)) if code else None
