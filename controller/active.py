"""The active controller: every request that changes something.

    requests ──▶ ActiveController ──decide──▶ DecisionLog ──▶ quorum
                      │                           ▲
                      └──▶ Sessions ──expired──▶ Upkeep: fences the silent, keeps the log moving

On a standby each method raises NotControllerError, which names the leader.
"""

from __future__ import annotations  # Of functions within functions, each time they are made.

import random
from dataclasses import dataclass
from functools import lru_cache

from controller.decisions import DecisionLog
from controller.plan import brokers, configs, isr, producer_ids, topics
from controller.plan.brokers import Registration
from controller.plan.decision import Decision
from controller.plan.ledger import View
from controller.quorum.port import Quorum
from controller.sessions import Session, Sessions
from controller.upkeep import Upkeep
from klamm.clock import Clock
from klamm.config.controller import ControllerConfig
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId, Offset, TopicId
from klamm.metadata.image import BrokerImage
from klamm.metadata.records import Cause

CAUSES_KEPT = 1_024
"""Of what brokers ask for again and again."""


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
        self._quorum = quorum
        self._config = config
        self._clock = clock
        self._sessions = Sessions(config.broker_session_timeout_ms, config.broker_session_grace_ms)
        self._upkeep = Upkeep(self.log, self._sessions, config, clock)
        self.log.on_leading = self._upkeep.on_leading

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

        def decide(view: View, end: Offset) -> Decision[Offset]:
            alive = self._sessions.alive(asked.broker_id, self._clock.monotonic_ms())
            return brokers.register(view, asked, end, session_alive=alive)

        cause = Cause(principal=f"Broker:{asked.broker_id}", request="RegisterBroker")
        broker_epoch, _ = await self.log.decide(decide, cause, timeout_ms)
        return broker_epoch

    async def unregister_broker(self, broker_id: NodeId, cause: Cause, timeout_ms: int) -> Offset:
        """Forget a broker; the offset behind it, once it is committed.

        Raises:
            ApiError: BROKER_ID_NOT_REGISTERED.
        """

        def decide(view: View, _: Offset) -> Decision[None]:
            return brokers.unregister(view, broker_id)

        _, end = await self.log.decide(decide, cause, timeout_ms)
        return end

    def open_session(self, broker_id: NodeId, broker_epoch: Offset) -> int:
        """A broker's session stream is open; the name to close it by.

        Raises:
            ApiError: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH.
        """
        brokers.check_epoch(self.log.pending, broker_id, broker_epoch)
        self._upkeep.spare(broker_id)
        return self._sessions.opened(broker_id, broker_epoch, self._clock.monotonic_ms())

    def close_session(self, broker_id: NodeId, stream: int) -> None:
        """The stream is gone; if no other is opened within the grace, the broker is fenced."""
        self._sessions.broke(broker_id, stream, self._clock.monotonic_ms())
        self._upkeep.look()

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
        now_ms = self._clock.monotonic_ms()
        session = self._sessions.heard(broker_id, broker_epoch, applied_offset, now_ms)
        self._upkeep.spare(broker_id)
        caught_up = applied_offset > broker_epoch
        should_shut_down = False
        if broker.fenced:
            should_shut_down = want_shut_down
            if not want_shut_down and not want_fence and caught_up:
                await self._change(broker, "UnfenceBroker", timeout_ms)
        elif want_fence:
            await self._change(broker, "FenceBroker", timeout_ms)
            should_shut_down = want_shut_down
        elif want_shut_down:
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

        cause = _of_broker(broker_id, "AlterPartition")
        return await self.log.decide(decide, cause, timeout_ms)

    async def allocate_producer_ids(
        self, broker_id: NodeId, broker_epoch: Offset, timeout_ms: int
    ) -> producer_ids.Block:
        """A block of producer ids that nobody else gets."""

        def decide(view: View, _: Offset) -> Decision[producer_ids.Block]:
            return producer_ids.allocate(view, broker_id, broker_epoch)

        cause = _of_broker(broker_id, "AllocateProducerIds")
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
        asked: configs.Asked,
        cause: Cause,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> tuple[tuple[configs.AlterResult, ...], Offset]:
        def decide(view: View, _: Offset) -> Decision[tuple[configs.AlterResult, ...]]:
            return configs.alter(view, asked, validate_only=validate_only)

        return await self.log.decide(decide, cause, timeout_ms)

    async def run(self) -> None:
        """What this controller does unasked, see `Upkeep`. Until cancelled."""
        await self._upkeep.run()


@lru_cache(CAUSES_KEPT)
def _of_broker(broker_id: NodeId, request: str) -> Cause:
    return Cause(principal=f"Broker:{broker_id}", request=request)
