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
from klamm.ids import Offset
from klamm.telemetry import metrics


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

    def appended(self) -> None:
        """There is something to be made durable."""
        if self._flushing is not None or self._stopped:
            self._unflushed = True
            return
        self._unflushed = False
        began_s, truncations = time.perf_counter(), self.truncations
        self._flushing = asyncio.ensure_future(self._store.flush())
        self._flushing.add_done_callback(partial(self._on_flushed, began_s, truncations))

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
        if (error := flush.exception()) is not None:
            self.failure = error
            self._failed(error)
            return
        metrics.RAFT_FSYNC.observe(time.perf_counter() - began_s)
        if self._unflushed:
            self.appended()
        self._done(LogFlushed(flush.result(), truncations))
