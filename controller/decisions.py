"""Decides on `pending`, proposes, and answers when it is committed.

    request ─▶ decide(pending) = records, results ─▶ pending' ─▶ propose ─▶ … committed ─▶ answer

Every controller follows the log here (`on_commit`); the one that leads has a pending view besides.
A decision that writes nothing is answered once what it saw is committed: nobody is told of a state
that may be undone. One loop runs all of it, between awaits, so there is no lock.

A decision stands in one batch, by itself or with its neighbours: it is atomic. One that is too
large is refused, unless it says that it may be divided (a broker that held very many topics): then
it is several, and nobody decides in between.

Who leads claims after its own LeaderChange has committed, and knows everything before it.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from controller.plan.decision import Decision
from controller.plan.ledger import Ledger, View
from controller.quorum.port import (
    PROPOSAL_BYTES_MAX,
    PROPOSAL_RECORDS_MAX,
    LogMovedError,
    Quorum,
)
from klamm.clock import Clock
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    DefiniteError,
    ErrorCode,
    KlammError,
    NotControllerError,
    OverloadedError,
    StateDivergedError,
)
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.records import NewRecord
from klamm.log.snapshot import CorruptSnapshotError
from klamm.metadata.agreement import Agreement
from klamm.metadata.codec import encode
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import Cause
from klamm.telemetry import metrics
from klamm.telemetry.logs import logger

_log = logger(__name__)

Result = TypeVar("Result")

Decide = Callable[[View, Offset], Decision[Result]]
"""From the pending view, and the offset at which the first record would stand."""

RESYNC_TIMEOUT_MS = 10_000
RESYNC_PAUSE_MS = 20
CLAIM_WAIT_MS = 100
"""Who comes to a leader that is elected and has not claimed yet waits so long; usually 2."""
LOG_END = Offset(1 << 62)


class DecisionLog:
    """Decisions in, committed results out: a StateMachine of the quorum's."""

    def __init__(self, quorum: Quorum, clock: Clock, rng: random.Random) -> None:
        self._quorum = quorum
        self._clock = clock
        self._rng = rng
        self._ledger = Ledger()
        self.agreement = Agreement()
        """Whether the committed state is the one that the log states."""
        self._loader = MetadataLoader((self.agreement, self))
        self._epoch: Epoch | None = None
        """That this controller has claimed; None while it does not lead."""
        self.leads_from: Offset | None = None
        """Where the first of its decisions stands; None while it does not lead."""
        self._claimed = asyncio.Event()
        """Set while `_epoch` is."""
        self._end = Offset(0)
        """Where the next decision will stand."""
        self._refusals = quorum.refusals
        """All that was refused so far is not in the pending view."""
        self._resyncing: asyncio.Task[None] | None = None
        self._whole = asyncio.Event()
        """Clear while a divided decision is being appended."""
        self._whole.set()
        self.last_write_ms = clock.monotonic_ms()
        self.on_leading: Callable[[bool], None] = lambda _: None
        """Told when this controller begins to lead, and when it ends."""

    # ── what is committed ────────────────────────────────────────────────────────────────────

    @property
    def image(self) -> MetadataImage:
        """What is committed, as far as this controller knows."""
        return self._ledger.committed.image

    @property
    def last_timestamp_ms(self) -> int:
        """Of the last record in the image; the leader's clock."""
        return self._loader.last_timestamp_ms

    @property
    def active(self) -> bool:
        return self._epoch is not None

    @property
    def loader(self) -> MetadataLoader:
        """To be read only."""
        return self._loader

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

    async def on_snapshot(
        self, snapshot_id: OffsetAndEpoch, pieces: Iterator[tuple[memoryview, ...]]
    ) -> None:
        assert self._epoch is None, "a leader never loads a snapshot"
        try:
            await self._loader.load_snapshot(
                snapshot_id, (batch for piece in pieces for batch in piece)
            )
        except CorruptSnapshotError as error:
            self._quorum.snapshot_files.set_aside(snapshot_id)
            raise StateDivergedError(
                f"{error}. It is set aside; start the node again without it"
            ) from error
        assert self.image is self._loader.image, "the committed view does not follow the log"
        _log.info("a snapshot was loaded", offset=snapshot_id.offset, epoch=snapshot_id.epoch)

    def on_commit(self, batches: tuple[memoryview, ...]) -> None:
        self._loader.load(batches[0] if len(batches) == 1 else b"".join(batches), LOG_END)
        # A publisher's failure is put up with; this one's would be another truth than the log's.
        assert self.image is self._loader.image, "the committed view does not follow the log"

    def on_claim(self, epoch: Epoch, end_offset: Offset) -> None:
        assert self.image.provenance.offset == end_offset, "claimed before all was seen"
        self._epoch = epoch
        self._claimed.set()
        self._end = self.leads_from = end_offset
        self._refusals = self._quorum.refusals
        self._ledger = self._ledger.claim()
        _log.info("active controller", epoch=epoch, offset=end_offset)
        self.on_leading(True)

    def on_renounce(self, epoch: Epoch) -> None:
        if self._epoch is None:
            return
        self._epoch = self.leads_from = None
        self._claimed.clear()
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
            ApiError: The decision refused the request as a whole, or is too large (
                POLICY_VIOLATION).
        """
        asked_s, until_ms = time.perf_counter(), self._clock.monotonic_ms() + timeout_ms
        if self._epoch is None or not self._whole.is_set() or self._is_behind():
            await self._turn(timeout_ms)
        view, epoch, refusals = self.pending, self._epoch, self._refusals
        assert epoch is not None, "a pending view belongs to an epoch"
        began_s = time.perf_counter()
        decision = decide(view, self._end)
        metrics.CONTROLLER_EVENT_QUEUE.observe(began_s - asked_s)
        metrics.CONTROLLER_EVENT_PROCESSING.observe(time.perf_counter() - began_s)
        end = Offset(self._end + len(decision.records))
        if decision.records:
            parts = _parts(encode(decision.records, cause), divisible=decision.divisible)
            self._ledger = self._ledger.propose(decision.records, OffsetAndEpoch(epoch, end))
            base, self._end = self._end, end
            self.last_write_ms = self._clock.monotonic_ms()
            try:
                await self._commit(epoch, base, parts, timeout_ms)
            except LogMovedError:
                return await self._decide_again(decide, cause, until_ms, epoch)
        elif self.image.provenance.offset < end:
            try:
                await self._quorum.wait_committed(epoch, end, timeout_ms)
            except CommitUnknownError as error:
                raise self._nothing_done(epoch) from error
            if self._quorum.refusals != refusals:
                # It may have seen what was refused since, and waited for something else's commit.
                return await self._decide_again(decide, cause, until_ms, epoch)
        return decision.results, end

    async def _decide_again(
        self, decide: Decide[Result], cause: Cause, until_ms: int, epoch: Epoch
    ) -> tuple[Result, Offset]:
        """Nothing was written: on what stands in the log, in what is left of the time."""
        await self._caught_up(epoch, until_ms)
        return await self.decide(decide, cause, until_ms - self._clock.monotonic_ms())

    async def alongside(self, append: Callable[[], Awaitable[Offset]], timeout_ms: int) -> Offset:
        """Let something else be appended, between two decisions; the log's end after it.

        What was there already appends nothing, and answers an earlier end.

        Raises:
            NotControllerError: This controller does not lead.
            OverloadedError: It is not the time.
        """
        await self._turn(timeout_ms)
        epoch = self._epoch
        if epoch is None:
            raise NotControllerError(self._quorum.leader, self._quorum.epoch)
        self._whole.clear()
        try:
            end = await append()
            if self._epoch == epoch:
                self._end = max(self._end, end)
            return end
        finally:
            self._whole.set()

    async def _turn(self, timeout_ms: int) -> None:
        """Returns when it may be decided, or this controller is none that leads."""
        if self._epoch is None and self._quorum.leader == self._quorum.node_id:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(timeout_ms, CLAIM_WAIT_MS) / 1_000):
                    await self._claimed.wait()
        until_ms = self._clock.monotonic_ms() + timeout_ms
        while self._epoch is not None and (not self._whole.is_set() or self._is_behind()):
            if self._whole.is_set():
                await self._caught_up(self._epoch, until_ms)
                continue
            try:
                async with asyncio.timeout((until_ms - self._clock.monotonic_ms()) / 1_000):
                    await self._whole.wait()
            except TimeoutError:
                raise OverloadedError("a very large decision is being written") from None

    def _is_behind(self) -> bool:
        """Is it not yet known what the log has, or something refused that is in the pending view?

        Whose decision was refused may hear of it later than others decide, or wait no more.
        """
        if self._epoch is not None and self._resyncing is None:
            if self._quorum.refusals == self._refusals:
                return False
            self._catch_up(self._epoch, self._quorum.log_end.offset)
        return self._resyncing is not None

    async def _caught_up(self, epoch: Epoch, until_ms: int) -> None:
        """Returns once it may be decided again, on what stands in the log.

        Who leads appends some records of its own (the name of a voter's disk), and a decision that
        was made for their place is not in the log: it is made again, and nobody hears of it.
        """
        left_ms = until_ms - self._clock.monotonic_ms()
        if self._is_behind() and self._resyncing is not None and left_ms > 0:
            await asyncio.wait([self._resyncing], timeout=left_ms / 1_000)
        if self._epoch != epoch:
            raise NotControllerError(self._quorum.leader, self._quorum.epoch)
        if self._resyncing is not None or left_ms <= 0:
            raise OverloadedError("the controller catches up with its own log; try again")

    async def _commit(
        self, epoch: Epoch, base: Offset, parts: list[tuple[NewRecord, ...]], timeout_ms: int
    ) -> None:
        """Append all, and wait until the last is committed.

        Raises:
            LogMovedError: Nothing was appended; what is there is to be looked at again.
        """
        at = base
        try:
            if len(parts) > 1:
                self._whole.clear()
                try:
                    for part in parts[:-1]:
                        await self._quorum.propose(epoch, at, part)
                        at = Offset(at + len(part))
                    committed = self._quorum.write(epoch, at, parts[-1], timeout_ms)
                except asyncio.CancelledError:
                    # Nobody waits for it, and the rest of it is never appended.
                    if self._epoch == epoch and self._resyncing is None:
                        self._catch_up(epoch, at)
                    raise
                finally:
                    self._whole.set()
            else:
                committed = self._quorum.write(epoch, at, parts[0], timeout_ms)
            await committed
        except DefiniteError as error:
            self._not_appended(epoch, at, error)
            if at > base:
                raise CommitUnknownError(f"only a part of it was appended: {error}") from error
            raise

    def _nothing_done(self, epoch: Epoch) -> DefiniteError:
        """What a decision is answered that wrote nothing, and saw what may never have been."""
        if self._epoch != epoch:
            return NotControllerError(self._quorum.leader, self._quorum.epoch)
        return OverloadedError("nothing was written; what it would stand on is not committed yet")

    def _not_appended(self, epoch: Epoch, base: Offset, error: DefiniteError) -> None:
        """The pending view has what the log has not: build it again from the log."""
        if self._epoch != epoch or self._resyncing is not None:
            return
        _log.warning("a decision was not appended", offset=base, why=str(error))
        end = error.end_offset if isinstance(error, LogMovedError) else base
        self._catch_up(epoch, end)

    def _catch_up(self, epoch: Epoch, end: Offset) -> None:
        self._resyncing = asyncio.get_running_loop().create_task(self._resync(epoch, end))

    async def _resync(self, epoch: Epoch, end: Offset) -> None:
        """Wait until all that was appended is committed; decide on that from then on."""
        while self._epoch == epoch:
            try:
                await self._quorum.wait_committed(epoch, end, RESYNC_TIMEOUT_MS)
            except KlammError as error:
                _log.warning("still catching up with the log", offset=end, why=str(error))
                await asyncio.sleep(RESYNC_PAUSE_MS / 1_000)
                continue
            log_end = self._quorum.log_end.offset
            if log_end <= self.image.provenance.offset:
                self._ledger = self._ledger.claim()
                self._end = log_end
                self._refusals = self._quorum.refusals
                self._resyncing = None
                return
            end = log_end

    # ── chance, for decisions ────────────────────────────────────────────────────────────────

    def draw(self, below: int) -> int:
        return self._rng.randrange(below)

    def new_id(self) -> UUID:
        """A random UUID (version 4) that is not all zeros, which Kafka takes for none."""
        return UUID(int=self._rng.getrandbits(128), version=4)


def _parts(records: tuple[NewRecord, ...], *, divisible: bool) -> list[tuple[NewRecord, ...]]:
    """The records as proposals that the quorum takes, in order.

    Raises:
        ApiError: POLICY_VIOLATION: more than one, and they may not be divided; or a record is too
            large by itself, as the values of a thousand configs may be.
    """
    if len(records) == 1 and len(records[0].value or b"") <= PROPOSAL_BYTES_MAX // 2:
        return [records]  # As most: nothing to count.
    total_bytes = sum([len(value or b"") + len(key or b"") for value, key, _, _ in records])
    if len(records) <= PROPOSAL_RECORDS_MAX and total_bytes <= PROPOSAL_BYTES_MAX:
        return [records]
    parts: list[list[NewRecord]] = [[]]
    part_bytes = largest = 0
    for record in records:
        record_bytes = len(record.key or b"") + len(record.value or b"")
        full = len(parts[-1]) == PROPOSAL_RECORDS_MAX
        if parts[-1] and (full or part_bytes + record_bytes > PROPOSAL_BYTES_MAX):
            parts.append([])
            part_bytes = 0
        parts[-1].append(record)
        part_bytes += record_bytes
        largest = max(largest, record_bytes)
    if largest > PROPOSAL_BYTES_MAX or (len(parts) > 1 and not divisible):
        raise ApiError(
            ErrorCode.POLICY_VIOLATION,
            f"this would write {len(records)} records of {total_bytes} bytes at once; "
            f"{PROPOSAL_RECORDS_MAX} of {PROPOSAL_BYTES_MAX} bytes are allowed. Ask for less",
        )
    return [tuple(part) for part in parts]
