"""Makes the log durable: group commit without linger.

An append while no fsync is out begins one at once; what is appended while one is out shares the
next. It begins where the append is done, before anything else has its turn: what is committed meets
the disk's latency once, and not that of the loop on top.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from controller.quorum.outside import Store
from controller.raft.events import LogFlushed
from klamm.errors import NoSpaceError, StorageError
from klamm.ids import Offset
from klamm.telemetry import metrics
from klamm.telemetry.logs import logger

_log = logger("controller.quorum")

RETRY_S = 0.1
"""Until the next attempt where no open file was left for one."""


class Flusher:
    """One fsync at a time."""

    def __init__(
        self,
        store: Store,
        done: Callable[[LogFlushed], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.failure: BaseException | None = None
        """Of the disk: nothing goes on."""
        self.truncations = 0
        """How many were carried out; the core counts what it orders."""
        self._store = store
        self._done = done
        self._failed = failed
        self._unflushed = False
        self._flushing = False
        self._idle: asyncio.Future[None] | None = None
        """Somebody waits until nothing is under way."""
        self._stopped = False
        self._held = False
        self._short = False
        """Of open files, at the last attempt."""

    def appended(self) -> None:
        """There is something to be made durable."""
        if self._flushing or self._stopped or self._held:
            self._unflushed = True
            return
        self._unflushed, self._flushing = False, True
        self._store.flush(partial(self._on_flushed, time.perf_counter(), self.truncations))

    def _try_again(self, error: NoSpaceError) -> None:
        """No open file was left: nothing is durable that was not, and nothing is lost."""
        if not self._short:
            _log.warning("the log is not durable yet", why=str(error))
        self._short = self._unflushed = True
        asyncio.get_running_loop().call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        if not self._flushing and self._unflushed:
            self._go_on()

    def _go_on(self) -> None:
        """From the loop, where nobody catches what a log raises that has failed meanwhile."""
        try:
            self.appended()
        except StorageError as error:
            self._flushing = False
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self._failed(error)

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Within, no fsync is under way, and none begins: of what is cut, none may say anything."""
        while self._flushing:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._unflushed:
            self.appended()

    def stop(self) -> None:
        """Begin no more."""
        self._stopped = True

    def _on_flushed(self, began_s: float, truncations: int, end: Offset | BaseException) -> None:
        """In the stack of whoever brings it: the core is stepped before the loop's next turn."""
        self._flushing = False
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        if isinstance(end, NoSpaceError):
            self._try_again(end)
            return
        if isinstance(end, BaseException):
            self._fail(end)
            return
        self._short = False
        metrics.RAFT_FSYNC.observe(time.perf_counter() - began_s)
        if self._unflushed:
            self._go_on()
        self._done(LogFlushed(end, truncations))
