"""Makes the log durable: group commit without linger.

An append while no fsync is out begins one at once; what is appended while one is out shares the
next. It begins where the append is done, before anything else has its turn: what is committed meets
the disk's latency once, and not that of the loop on top.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from controller.quorum.outside import Store
from controller.raft.events import LogFlushed
from klamm.errors import NoSpaceError
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
        self._flushing: asyncio.Future[Offset] | None = None
        self._stopped = False
        self._short = False
        """Of open files, at the last attempt."""

    def appended(self) -> None:
        """There is something to be made durable."""
        if self._flushing is not None or self._stopped:
            self._unflushed = True
            return
        self._unflushed = False
        began_s, truncations = time.perf_counter(), self.truncations
        self._flushing = asyncio.ensure_future(self._store.flush())
        self._flushing.add_done_callback(partial(self._on_flushed, began_s, truncations))

    def _try_again(self, error: NoSpaceError) -> None:
        """No open file was left: nothing is durable that was not, and nothing is lost."""
        if not self._short:
            _log.warning("the log is not durable yet", why=str(error))
        self._short = self._unflushed = True
        asyncio.get_running_loop().call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        if self._flushing is None and self._unflushed:
            self.appended()

    async def idle(self) -> None:
        """Returns once no fsync is under way."""
        while self._flushing is not None:
            await asyncio.wait([self._flushing])

    def stop(self) -> None:
        """Begin no more."""
        self._stopped = True

    def _on_flushed(self, began_s: float, truncations: int, flush: asyncio.Future[Offset]) -> None:
        self._flushing = None
        if flush.cancelled():
            return
        error = flush.exception()
        if isinstance(error, NoSpaceError):
            self._try_again(error)
            return
        if error is not None:
            self.failure = error
            self._failed(error)
            return
        self._short = False
        metrics.RAFT_FSYNC.observe(time.perf_counter() - began_s)
        if self._unflushed:
            self.appended()
        self._done(LogFlushed(flush.result(), truncations))
