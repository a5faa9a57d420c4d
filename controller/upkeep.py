"""What the active controller does unasked: fences the silent, keeps an idle log moving.

    sessions ──expired──▶ to be fenced ──one decision──▶ DecisionLog
    idle for metadata.max.idle.interval.ms ──NoOp──────▶
    a log without metadata.version ──its first record──▶
    many records, or some time, since the last ──StateChecksum──▶

Nothing is waited for in the loop but the time, so that a tick that comes late was late by the
process's own lag, for which nobody is fenced. Decisions have tasks of their own, one of each kind.
"""

import asyncio
from collections.abc import Awaitable, Callable

from controller.decisions import DecisionLog
from controller.plan import brokers
from controller.plan.decision import Decision
from controller.plan.ledger import View
from controller.sessions import LATE_MS, NEVER_MS, Sessions
from klamm.clock import Clock
from klamm.config.controller import ControllerConfig
from klamm.errors import DefiniteError, KlammError, NotControllerError
from klamm.ids import NodeId, Offset
from klamm.metadata.checksum import CHECKSUM_FORMAT
from klamm.metadata.features import METADATA_VERSION, METADATA_VERSION_LEVEL
from klamm.metadata.records import (
    Cause,
    FeatureLevelRecord,
    MetadataRecord,
    NoOpRecord,
    StateChecksumRecord,
)
from klamm.telemetry import metrics
from klamm.telemetry.logs import logger

_log = logger(__name__)

COMMIT_TIMEOUT_MS = 10_000
"""For a decision of the controller's own to commit."""

TICK_MS_MAX = 500
RETRY_MS = 20
"""After a decision of the controller's own that failed."""

STATE_AFTER_CLAIM_MS = 1_000
"""A new leader states the checksum of its state so soon: who has another one is known then."""

STATE_INTERVAL_MS = 60_000
STATE_RECORDS_MAX = 10_000
"""The checksum is stated after so many, if that is sooner."""

"""4.0-IV0: what these records can say (spec kraft 2.4)."""


class Upkeep:
    """One a controller process; does something while this node leads."""

    def __init__(
        self, log: DecisionLog, sessions: Sessions, config: ControllerConfig, clock: Clock
    ) -> None:
        self._log = log
        self._sessions = sessions
        self._idle_ms = config.metadata_max_idle_interval_ms
        self._clock = clock
        self._cause = f"Controller:{config.node_id}"
        self._to_fence: dict[NodeId, bool] = {}
        """In the order of their going; whether a stream broke, and it was not silence."""
        self._under_way: set[str] = set()
        """Decisions of the controller's own, by the request's name."""
        self._retry_ms = 0
        """None of them is tried before this time."""
        self._state_due_ms = NEVER_MS
        self._stated_at = Offset(0)
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Something changed that a deadline hangs on."""
        self._wake.set()

    def spare(self, broker_id: NodeId) -> None:
        """It is heard again, before it was decided to fence it."""
        self._to_fence.pop(broker_id, None)

    def on_leading(self, leading: bool) -> None:
        """A new leader gives everybody a fresh session; a former one forgets them."""
        self._sessions.clear()
        self._to_fence.clear()
        self._retry_ms = 0
        if leading:
            now_ms = self._clock.monotonic_ms()
            self._state_due_ms = now_ms + STATE_AFTER_CLAIM_MS
            self._stated_at = self._log.image.provenance.offset
            for broker_id, broker in self._log.image.brokers.items():
                if not broker.fenced:
                    self._sessions.begin(broker_id, broker.broker_epoch, now_ms)
        self.look()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._turn(tasks)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _turn(self, tasks: asyncio.TaskGroup) -> None:
        now_ms = self._clock.monotonic_ms()
        due_ms = min(max(now_ms, self._next_ms()), now_ms + TICK_MS_MAX)
        await self._sleep_until(due_ms)
        now_ms = self._clock.monotonic_ms()
        late_ms = max(0, now_ms - due_ms)
        metrics.EVENT_LOOP_LAG.set(late_ms / 1_000)
        if late_ms > LATE_MS and self._log.active:
            _log.warning("the loop lagged: nobody is fenced for it", late_ms=late_ms)
            self._sessions.forgive(late_ms)
        if self._log.active:
            self._tick(now_ms, tasks)

    async def _sleep_until(self, due_ms: int) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(max(0, due_ms - self._clock.monotonic_ms()) / 1_000):
                await self._wake.wait()
        except TimeoutError:
            return

    def _next_ms(self) -> int:
        """When there is something to do, if nothing more happens."""
        if not self._log.active:
            return NEVER_MS
        wishes = (
            ("FenceBroker", 0 if self._to_fence else NEVER_MS),
            ("Bootstrap", NEVER_MS if self._bootstrapped() else 0),
            ("NoOp", self._quiet_ms() if self._bootstrapped() else NEVER_MS),
            ("StateChecksum", self._state_ms() if self._bootstrapped() else NEVER_MS),
        )
        return min(
            self._sessions.next_deadline_ms(),
            *(max(due, self._retry_ms) for name, due in wishes if name not in self._under_way),
            NEVER_MS,
        )

    def _quiet_ms(self) -> int:
        """When the log will have been idle for long enough to be moved."""
        return self._log.last_write_ms + self._idle_ms if self._idle_ms else NEVER_MS

    def _state_ms(self) -> int:
        """When the checksum of the state is to be stated."""
        written = self._log.pending.image.provenance.offset - self._stated_at
        return 0 if written > STATE_RECORDS_MAX else self._state_due_ms

    def _bootstrapped(self) -> bool:
        return METADATA_VERSION in self._log.pending.image.features

    def _tick(self, now_ms: int, tasks: asyncio.TaskGroup) -> None:
        for session in self._sessions.expired(now_ms):
            self._to_fence[session.broker_id] = session.broken_ms is not None
        if now_ms < self._retry_ms:
            return
        if self._to_fence:
            self._begin("FenceBroker", self._fence, tasks)
        if not self._bootstrapped():
            self._begin("Bootstrap", self._bootstrap, tasks)
        elif now_ms >= self._state_ms():
            self._begin("StateChecksum", self._state, tasks)
        elif now_ms >= self._quiet_ms():
            self._begin("NoOp", self._move, tasks)

    def _begin(
        self, request: str, work: Callable[[], Awaitable[None]], tasks: asyncio.TaskGroup
    ) -> None:
        if request not in self._under_way:
            self._under_way.add(request)
            tasks.create_task(self._carry_out(request, work), name=request)

    async def _carry_out(self, request: str, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except NotControllerError:
            return
        except KlammError as error:
            self._retry_ms = self._clock.monotonic_ms() + RETRY_MS
            _log.warning(
                "a decision of the controller's own failed", request=request, why=str(error)
            )
        finally:
            self._under_way.discard(request)
            self.look()

    # ── the decisions ────────────────────────────────────────────────────────────────────────

    async def _fence(self) -> None:
        """All that are due, in one decision. Who comes back after it is unfenced like any other."""
        gone: dict[NodeId, bool] = {}

        def decide(view: View, _: Offset) -> Decision[None]:
            known = view.image.brokers
            # Decided again, if the log had moved: by then somebody may be back, or forgotten.
            again = {each: gone[each] for each in gone if self._sessions.find(each) is None}
            due, self._to_fence = {**again, **self._to_fence}, {}
            gone.clear()
            gone.update(
                (each, broke)
                for each, broke in due.items()
                if each in known and not known[each].fenced
            )
            if gone:
                names = ",".join(map(str, gone))
                _log.info("fencing brokers that are not heard", brokers=names)
            return brokers.fence(view, tuple(gone))

        try:
            await self._decide("FenceBroker", decide)
        except DefiniteError:
            for broker_id, broke in gone.items():
                if self._sessions.find(broker_id) is None:
                    self._to_fence[broker_id] = broke
            raise
        metrics.CONTROLLER_SESSIONS_LOST.inc(sum(gone.values()))
        metrics.CONTROLLER_HEARTBEATS_TIMED_OUT.inc(len(gone) - sum(gone.values()))

    async def _move(self) -> None:
        """A log that moves shows that the quorum works, and standbys how far they are."""
        await self._write("NoOp", NoOpRecord())

    async def _state(self) -> None:
        """What every replica compares its own state with (kraft.md 7.2, row 14)."""
        self._state_due_ms = self._clock.monotonic_ms() + STATE_INTERVAL_MS

        def decide(view: View, end: Offset) -> Decision[None]:
            self._stated_at = end
            record = StateChecksumRecord(
                offset=end, checksum=view.image.checksum, format=CHECKSUM_FORMAT
            )
            return Decision((record,), None)

        await self._decide("StateChecksum", decide)

    async def _bootstrap(self) -> None:
        """What an empty log begins with."""
        record = FeatureLevelRecord(name=METADATA_VERSION, level=METADATA_VERSION_LEVEL)
        await self._write("Bootstrap", record)

    async def _write(self, request: str, record: MetadataRecord) -> None:
        await self._decide(request, lambda _view, _end: Decision((record,), None))

    async def _decide(self, request: str, decide: Callable[[View, Offset], Decision[None]]) -> None:
        cause = Cause(principal=self._cause, request=request)
        await self._log.decide(decide, cause, COMMIT_TIMEOUT_MS)
