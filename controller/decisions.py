"""Decides on `pending`, proposes, and answers when it is committed.

    request ─▶ decide(pending) = records, results ─▶ pending' ─▶ propose ─▶ … committed ─▶ answer

Every controller follows the log here (`on_commit`); the one that leads has a pending view besides.
A decision that writes nothing is answered once what it saw is committed: nobody is told of a state
that may be undone. One loop runs all of it, between awaits, so there is no lock.

Who leads claims after its own LeaderChange has committed, and knows everything before it.
"""

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

from controller.plan.decision import Decision
from controller.plan.ledger import Ledger, View
from controller.quorum.port import LogMovedError, Quorum
from klamm.clock import Clock
from klamm.errors import DefiniteError, KlammError, NotControllerError, OverloadedError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.metadata.codec import encode
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import Cause
from klamm.telemetry.logs import logger

_log = logger(__name__)

Result = TypeVar("Result")

Decide = Callable[[View, Offset], Decision[Result]]
"""From the pending view, and the offset at which the first record would stand."""

RESYNC_TIMEOUT_MS = 10_000
LOG_END = Offset(1 << 62)


class DecisionLog:
    """Decisions in, committed results out: a StateMachine of the quorum's."""

    def __init__(self, quorum: Quorum, clock: Clock, rng: random.Random) -> None:
        self._quorum = quorum
        self._clock = clock
        self._rng = rng
        self._ledger = Ledger()
        self._loader = MetadataLoader((self,))
        self._epoch: Epoch | None = None
        """That this controller has claimed; None while it does not lead."""
        self._end = Offset(0)
        """Where the next decision will stand."""
        self._resyncing: asyncio.Task[None] | None = None
        self.last_write_ms = clock.monotonic_ms()
        self.on_leading: Callable[[bool], None] = lambda _: None
        """Told when this controller begins to lead, and when it ends."""

    # ── what is committed ────────────────────────────────────────────────────────────────────

    @property
    def image(self) -> MetadataImage:
        """What is committed, as far as this controller knows."""
        return self._ledger.committed.image

    @property
    def active(self) -> bool:
        return self._epoch is not None

    @property
    def pending(self) -> View:
        """What this leader decides on.

        Raises:
            NotControllerError: It does not lead.
        """
        if self._ledger.pending is None:
            raise NotControllerError(self._quorum.leader, self._quorum.epoch)
        return self._ledger.pending

    async def wait_applied(self, offset: Offset, timeout_ms: int) -> None:
        """Returns once the image includes the log up to `offset`, or the time is over."""
        try:
            await self._loader.wait_for(offset, timeout_ms)
        except TimeoutError:
            return

    def publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """The loader's: what was committed becomes the committed view."""
        self._ledger = self._ledger.commit(delta, image)

    # ── the quorum's state machine ───────────────────────────────────────────────────────────

    def on_commit(self, batches: tuple[memoryview, ...]) -> None:
        self._loader.load(b"".join(batches), LOG_END)

    def on_claim(self, epoch: Epoch, end_offset: Offset) -> None:
        assert self.image.provenance.offset == end_offset, "claimed before all was seen"
        self._epoch = epoch
        self._end = end_offset
        self._ledger = self._ledger.claim()
        _log.info("active controller", epoch=epoch, offset=end_offset)
        self.on_leading(True)

    def on_renounce(self, epoch: Epoch) -> None:
        if self._epoch is None:
            return
        self._epoch = None
        self._ledger = self._ledger.resign()
        if self._resyncing is not None:
            self._resyncing.cancel()
            self._resyncing = None
        _log.info("standby controller", epoch=epoch)
        self.on_leading(False)

    # ── decisions ────────────────────────────────────────────────────────────────────────────

    async def decide(
        self, decide: Decide[Result], cause: Cause, timeout_ms: int
    ) -> tuple[Result, Offset]:
        """Decide, propose, and wait for the commit: the results, and the offset they are of.

        Raises:
            NotControllerError: Definite: nothing was appended.
            OverloadedError: Likewise.
            CommitUnknownError: Appended; it may commit.
            ApiError: The decision refused the request as a whole.
        """
        view = self.pending
        epoch = self._epoch
        assert epoch is not None, "a pending view belongs to an epoch"
        if self._resyncing is not None:
            raise OverloadedError("the controller catches up with its own log; try again")
        decision = decide(view, self._end)
        end = self._end
        if decision.records:
            end = Offset(self._end + len(decision.records))
            records = encode(decision.records, cause)
            self._ledger = self._ledger.propose(decision.records, OffsetAndEpoch(epoch, end))
            base, self._end = self._end, end
            self.last_write_ms = self._clock.monotonic_ms()
            try:
                await self._quorum.propose(epoch, base, records)
            except DefiniteError as error:
                self._not_appended(epoch, base, error)
                raise _as_refusal(error, self._quorum) from error
        if self.image.provenance.offset < end:
            await self._quorum.wait_committed(epoch, end, timeout_ms)
        return decision.results, end

    def _not_appended(self, epoch: Epoch, base: Offset, error: DefiniteError) -> None:
        """The pending view has what the log has not: build it again from the log."""
        if self._epoch != epoch or self._resyncing is not None:
            return
        _log.warning("a decision was not appended", offset=base, why=str(error))
        end = error.end_offset if isinstance(error, LogMovedError) else base
        self._resyncing = asyncio.get_running_loop().create_task(self._resync(epoch, end))

    async def _resync(self, epoch: Epoch, end: Offset) -> None:
        """Wait until all that was appended is committed; decide on that from then on."""
        while self._epoch == epoch:
            try:
                await self._quorum.wait_committed(epoch, end, RESYNC_TIMEOUT_MS)
            except KlammError as error:
                _log.warning("still catching up with the log", offset=end, why=str(error))
                continue
            log_end = self._quorum.log_end.offset
            if log_end <= self.image.provenance.offset:
                self._ledger = self._ledger.claim()
                self._end = log_end
                self._resyncing = None
                return
            end = log_end

    # ── chance, for decisions ────────────────────────────────────────────────────────────────

    def draw(self, below: int) -> int:
        return self._rng.randrange(below)

    def new_id(self) -> UUID:
        """A random UUID (version 4) that is not all zeros, which Kafka takes for none."""
        return UUID(int=self._rng.getrandbits(128), version=4)


def _as_refusal(error: DefiniteError, quorum: Quorum) -> DefiniteError:
    """To the caller a log that moved is an election that it did not hear of."""
    if isinstance(error, LogMovedError):
        return NotControllerError(quorum.leader, quorum.epoch)
    return error
