"""The active controller: every request that changes something, and the clocks of brokers' lives.

    requests ──▶ ActiveController ──decide──▶ DecisionLog ──▶ quorum
                      │  sessions: who is alive                (decisions.py)
                      └─ run: fences the silent, keeps the log moving

On a standby each method raises NotControllerError, which names the leader.
"""

import asyncio
import random
from dataclasses import dataclass

from controller.decisions import DecisionLog
from controller.plan import brokers, configs, isr, producer_ids, topics
from controller.plan.brokers import Registration
from controller.plan.decision import Decision
from controller.plan.ledger import View
from controller.quorum.port import Quorum
from controller.sessions import LATE_MS, NEVER_MS, Session, Sessions
from klamm.clock import Clock
from klamm.config.controller import ControllerConfig
from klamm.errors import ApiError, ErrorCode, KlammError, NotControllerError
from klamm.ids import NodeId, Offset, TopicId
from klamm.metadata.image import BrokerImage
from klamm.metadata.records import Cause, FeatureLevelRecord, NoOpRecord
from klamm.telemetry.logs import logger

_log = logger(__name__)

FENCE_TIMEOUT_MS = 10_000
TICK_MS_MAX = 500
RETRY_MS = 20

METADATA_VERSION = "metadata.version"
METADATA_VERSION_LEVEL = 22
"""4.0-IV0: what these records can say (spec kraft 2.4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a heartbeat is answered."""

    is_caught_up: bool
    is_fenced: bool
    should_shut_down: bool


class ActiveController:
    """One a controller process; does something while this node leads."""

    def __init__(
        self, quorum: Quorum, config: ControllerConfig, clock: Clock, rng: random.Random
    ) -> None:
        self.log = DecisionLog(quorum, clock, rng)
        self.log.on_leading = self._on_leading
        self.heartbeats_timed_out = 0
        """Brokers fenced because they were not heard (TimedOutBrokerHeartbeatCount)."""
        self._quorum = quorum
        self._config = config
        self._clock = clock
        self._sessions = Sessions(config.broker_session_timeout_ms, config.broker_session_grace_ms)
        self._to_fence: dict[NodeId, None] = {}
        self._wake = asyncio.Event()
        self._me = f"Controller:{config.node_id}"

    # ── brokers ──────────────────────────────────────────────────────────────────────────────

    async def register_broker(
        self, cluster_id: str, asked: Registration, timeout_ms: int
    ) -> Offset:
        """Begin an uptime; its broker epoch, once it is committed.

        Raises:
            ApiError: INCONSISTENT_CLUSTER_ID, DUPLICATE_BROKER_REGISTRATION, INVALID_REGISTRATION.
        """
        if cluster_id != self._quorum.cluster_id:
            raise ApiError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"this is cluster {self._quorum.cluster_id}; the broker is of {cluster_id}",
            )
        alive = self._sessions.alive(asked.broker_id, self._clock.monotonic_ms())

        def decide(view: View, end: Offset) -> Decision[Offset]:
            return brokers.register(view, asked, end, session_alive=alive)

        cause = Cause(principal=f"Broker:{asked.broker_id}", request="RegisterBroker")
        broker_epoch, _ = await self.log.decide(decide, cause, timeout_ms)
        return broker_epoch

    def open_session(self, broker_id: NodeId, broker_epoch: Offset) -> int:
        """A broker's session stream is open; the name to close it by.

        Raises:
            ApiError: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH.
        """
        brokers.check_epoch(self.log.pending, broker_id, broker_epoch)
        self._to_fence.pop(broker_id, None)
        return self._sessions.opened(broker_id, broker_epoch, self._clock.monotonic_ms())

    def close_session(self, broker_id: NodeId, stream: int) -> None:
        """The stream is gone; if no other is opened within the grace, the broker is fenced."""
        self._sessions.broke(broker_id, stream, self._clock.monotonic_ms())
        self._wake.set()

    async def heartbeat(
        self,
        broker_id: NodeId,
        broker_epoch: Offset,
        applied_offset: Offset,
        *,
        want_fence: bool,
        want_shut_down: bool,
        timeout_ms: int,
    ) -> Standing:
        """Note that a broker lives, and change its standing if it is time (spec kraft 2.6)."""
        broker = brokers.check_epoch(self.log.pending, broker_id, broker_epoch)
        self._sessions.heard(broker_id, applied_offset, self._clock.monotonic_ms())
        session = self._sessions.find(broker_id)
        caught_up = applied_offset > broker_epoch
        should_shut_down = False
        if broker.fenced:
            should_shut_down = want_shut_down
            if not want_shut_down and not want_fence and caught_up:
                await self._change(broker, "UnfenceBroker", timeout_ms)
        elif want_fence:
            await self._change(broker, "FenceBroker", timeout_ms)
            should_shut_down = want_shut_down
        elif want_shut_down and session is not None:
            should_shut_down = await self._shut_down(broker, session, timeout_ms)
        committed = self.log.image.brokers.get(broker_id)
        return Standing(
            is_caught_up=caught_up,
            is_fenced=committed is None or committed.fenced,
            should_shut_down=should_shut_down,
        )

    async def _shut_down(self, broker: BrokerImage, session: Session, timeout_ms: int) -> bool:
        """Whether the broker may go: it leads nothing, and every active broker knows."""
        if not broker.in_controlled_shutdown:
            end = await self._change(broker, "ControlledShutdown", timeout_ms)
            session.shutdown_offset = end
        view = self.log.pending
        if view.leads(broker.broker_id):
            return False
        active = tuple(each for each, other in view.image.brokers.items() if other.active)
        if session.shutdown_offset is None:
            # Another controller began it: everything up to now will do.
            session.shutdown_offset = view.image.provenance.offset
        return session.shutdown_offset <= self._sessions.lowest_applied(active)

    async def _change(self, broker: BrokerImage, request: str, timeout_ms: int) -> Offset:
        def decide(view: View, _: Offset) -> Decision[None]:
            now = brokers.check_epoch(view, broker.broker_id, broker.broker_epoch)
            match request:
                case "UnfenceBroker" if now.fenced:
                    return brokers.unfence(view, now)
                case "FenceBroker":
                    return brokers.fence(view, (now.broker_id,))
                case "ControlledShutdown" if not now.in_controlled_shutdown:
                    return brokers.begin_shutdown(view, now)
            return Decision((), None)

        cause = Cause(principal=f"Broker:{broker.broker_id}", request=request)
        _, end = await self.log.decide(decide, cause, timeout_ms)
        return end

    async def alter_partition(
        self,
        broker_id: NodeId,
        broker_epoch: Offset,
        asked: tuple[isr.IsrChange, ...],
        timeout_ms: int,
    ) -> tuple[tuple[isr.IsrResult, ...], Offset]:
        """Other ISRs, as a leader asks for them."""

        def decide(view: View, _: Offset) -> Decision[tuple[isr.IsrResult, ...]]:
            return isr.alter(view, broker_id, broker_epoch, asked)

        cause = Cause(principal=f"Broker:{broker_id}", request="AlterPartition")
        return await self.log.decide(decide, cause, timeout_ms)

    async def allocate_producer_ids(
        self, broker_id: NodeId, broker_epoch: Offset, timeout_ms: int
    ) -> producer_ids.Block:
        """A block of producer ids that nobody else gets."""

        def decide(view: View, _: Offset) -> Decision[producer_ids.Block]:
            return producer_ids.allocate(view, broker_id, broker_epoch)

        cause = Cause(principal=f"Broker:{broker_id}", request="AllocateProducerIds")
        block, _ = await self.log.decide(decide, cause, timeout_ms)
        return block

    # ── topics and configs ───────────────────────────────────────────────────────────────────

    async def create_topics(
        self,
        asked: tuple[topics.NewTopic, ...],
        cause: Cause,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> tuple[tuple[topics.CreateResult, ...], Offset]:
        defaults = topics.Defaults(
            num_partitions=self._config.num_partitions,
            replication_factor=self._config.default_replication_factor,
        )

        def decide(view: View, _: Offset) -> Decision[tuple[topics.CreateResult, ...]]:
            return topics.create(
                view,
                asked,
                defaults,
                self.log.draw,
                self.log.new_id,
                validate_only=validate_only,
            )

        return await self.log.decide(decide, cause, timeout_ms)

    async def delete_topics(
        self, asked: tuple[str | TopicId, ...], cause: Cause, timeout_ms: int
    ) -> tuple[tuple[topics.DeleteResult, ...], Offset]:
        def decide(view: View, _: Offset) -> Decision[tuple[topics.DeleteResult, ...]]:
            return topics.delete(view, asked, delete_topic_enable=self._config.delete_topic_enable)

        return await self.log.decide(decide, cause, timeout_ms)

    async def incremental_alter_configs(
        self,
        asked: tuple[configs.AlterResource, ...],
        cause: Cause,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> tuple[tuple[configs.AlterResult, ...], Offset]:
        def decide(view: View, _: Offset) -> Decision[tuple[configs.AlterResult, ...]]:
            return configs.alter(view, asked, validate_only=validate_only)

        return await self.log.decide(decide, cause, timeout_ms)

    # ── the clocks ───────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Fence who is silent, and keep an idle log moving. Until cancelled."""
        while True:
            due_ms = min(self._next_ms(), self._clock.monotonic_ms() + TICK_MS_MAX)
            await self._sleep_until(due_ms)
            now_ms = self._clock.monotonic_ms()
            if now_ms - due_ms > LATE_MS:
                _log.warning("the loop lagged: nobody is fenced for it", late_ms=now_ms - due_ms)
                self._sessions.forgive(now_ms - due_ms)
            if self.log.active:
                await self._tick(now_ms)

    async def _sleep_until(self, due_ms: int) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(max(0, due_ms - self._clock.monotonic_ms()) / 1_000):
                await self._wake.wait()
        except TimeoutError:
            return

    def _next_ms(self) -> int:
        if not self.log.active:
            return NEVER_MS
        idle_ms = self._config.metadata_max_idle_interval_ms
        quiet_ms = self.log.last_write_ms + idle_ms if idle_ms else NEVER_MS
        fence_ms = self._clock.monotonic_ms() + RETRY_MS if self._to_fence else NEVER_MS
        return min(quiet_ms, fence_ms, self._sessions.next_deadline_ms())

    async def _tick(self, now_ms: int) -> None:
        try:
            for broker_id in self._sessions.expired(now_ms):
                self._to_fence[broker_id] = None
            if self._to_fence:
                await self._fence()
            idle_ms = self._config.metadata_max_idle_interval_ms
            if idle_ms and now_ms >= self.log.last_write_ms + idle_ms:
                await self._write("NoOp", Decision((NoOpRecord(),), None))
        except NotControllerError:
            return
        except KlammError as error:
            _log.warning("a decision of the controller's own failed", why=str(error))

    async def _fence(self) -> None:
        """All that are due, in one decision. One that comes back meanwhile is left alone."""
        gone = tuple(self._to_fence)

        def decide(view: View, _: Offset) -> Decision[None]:
            return brokers.fence(view, [each for each in gone if each in view.image.brokers])

        _log.info("fencing brokers that are not heard", brokers=",".join(map(str, gone)))
        cause = Cause(principal=self._me, request="FenceBroker")
        await self.log.decide(decide, cause, FENCE_TIMEOUT_MS)
        self.heartbeats_timed_out += len(gone)
        for broker_id in gone:
            self._to_fence.pop(broker_id, None)

    async def _write(self, request: str, decision: Decision[None]) -> None:
        cause = Cause(principal=self._me, request=request)
        await self.log.decide(lambda _view, _end: decision, cause, FENCE_TIMEOUT_MS)

    def _on_leading(self, leading: bool) -> None:
        """A new leader gives everybody a fresh session; a former one forgets them."""
        self._sessions.clear()
        self._to_fence.clear()
        if leading:
            now_ms = self._clock.monotonic_ms()
            for broker_id, broker in self.log.image.brokers.items():
                if not broker.fenced:
                    self._sessions.begin(broker_id, broker.broker_epoch, now_ms)
            if METADATA_VERSION not in self.log.image.features:
                self._bootstrap()
        self._wake.set()

    def _bootstrap(self) -> None:
        """What an empty log begins with. If it fails the next leader does it."""
        record = FeatureLevelRecord(name=METADATA_VERSION, level=METADATA_VERSION_LEVEL)
        self._bootstrapping = asyncio.get_running_loop().create_task(
            self._bootstrap_with(Decision((record,), None))
        )

    async def _bootstrap_with(self, decision: Decision[None]) -> None:
        try:
            await self._write("Bootstrap", decision)
        except KlammError as error:
            _log.warning("the log's first record was not written", why=str(error))
