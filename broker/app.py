"""A broker, wired: what stands on what, and in which order it begins and ends.

    directory ─▶ replicas loaded ─▶ listeners bound ─▶ metadata followed ─▶ registered
        ─▶ the image includes the registration: replicas lead and follow ─▶ unfenced ─▶ serving

    SIGTERM ─▶ leaders moved away, with the controllers' leave ─▶ listeners closed
        ─▶ logs flushed, clean shutdown noted ─▶ gone

Source: kraft.md 3.1 and 3.3.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from uuid import uuid4

from broker.api.context import BrokerServices
from broker.api.served import registry
from broker.control.follower import Loader, MetadataFollower
from broker.control.isr import IsrProposals
from broker.control.producer_ids import ProducerIds
from broker.control.session import BrokerSession, Registration, SessionTimes
from broker.control.verification import Verification
from broker.listener.dispatch import Dispatcher
from broker.listener.listeners import Listeners
from broker.replica.manager import ReplicaManager
from klamm import node
from klamm.client.client import ControllerClient
from klamm.clock import SystemClock
from klamm.config.broker import BrokerConfig
from klamm.directory import DataDirectory
from klamm.ids import Offset
from klamm.log.files import SystemFiles
from klamm.metadata.agreement import Agreement
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.features import METADATA_VERSION
from klamm.metadata.image import MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import Endpoint
from klamm.telemetry import metrics
from klamm.telemetry.http import HealthServer, Pages
from klamm.telemetry.logs import logger

_log = logger(__name__)

HEARTBEATS_A_SESSION = 4
"""Heartbeats that may be missed before either side takes the other for lost."""

UNREACHABLE_MS_MAX = 1_000
"""A controlled shutdown waits no longer for controllers of which none answers."""


LISTENERS_STOP_MS = 1_000
"""Requests in flight get so long to be answered; clients try again elsewhere."""


async def serve(config: BrokerConfig, stop: asyncio.Event) -> None:
    """Run a broker until `stop` is set.

    Raises:
        StartError: It cannot start, or the controllers will not have it.
        StateDivergedError: What it believes is not what the log says.
    """
    path = Path(config.log_dirs[0])
    directory = DataDirectory.open(path, config.cluster_id, config.node_id, uuid4())
    broker = Broker(config, directory)
    try:
        await broker.start()
        await node.while_running(broker.tasks, stop.wait(), broker.serve())
        await broker.leave()
    finally:
        await broker.close()
        directory.close()


class Broker:
    """The rooms of one broker, and the tasks that keep them going."""

    def __init__(self, config: BrokerConfig, directory: DataDirectory) -> None:
        self.tasks: list[asyncio.Task[None]] = []
        """Those that run for as long as the broker does."""
        self._config = config
        self._directory = directory
        self._clock = SystemClock()
        self._client = ControllerClient(config.controller_quorum_bootstrap_servers, self._clock)
        self._isr = IsrProposals(self._client, config.node_id, self)
        self._producer_ids = ProducerIds(self._client, config.node_id, self)
        self._replicas = ReplicaManager(
            config=config,
            files=SystemFiles(),
            directory=directory.path,
            clock=self._clock,
            alter_partition=self._isr,
            broker_epoch=lambda: self.broker_epoch,
        )
        self._agreement = Agreement()
        self._loader = MetadataLoader((self._agreement, self._replicas, self))
        self._follower = self._follow(self._loader)
        self._verification = Verification(self._loader, self._agreement, self._follow)
        self._listeners = Listeners(config)
        self._session: BrokerSession | None = None
        self._http = HealthServer(
            Pages(
                not_alive=lambda: (),
                not_ready=self._not_ready,
                metrics=self._metrics,
                metrics_content_type=metrics.CONTENT_TYPE,
            )
        )
        self._stopping = False
        self._serving = False

    def _follow(self, loader: Loader) -> MetadataFollower:
        return MetadataFollower(
            self._client,
            loader,
            cluster_id=self._config.cluster_id,
            node_id=self._config.node_id,
            directory_id=self._directory.directory_id,
        )

    @property
    def broker_epoch(self) -> Offset:
        """Of this uptime, or -1 before it has registered."""
        return Offset(-1) if self._session is None else self._session.broker_epoch

    # ── Begin ─────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Everything stands on return, and strives to be unfenced.

        Raises:
            StartError: A directory, a port or a partition cannot be used.
        """
        config = self._config
        await self._http.start(config.http_host, config.http_port)
        await self._replicas.load()
        session = self._session = BrokerSession(
            self._client,
            Registration(
                cluster_id=config.cluster_id,
                broker_id=config.node_id,
                incarnation_id=uuid4(),
                endpoints=_endpoints(config, await self._listeners.bind()),
                rack=config.broker_rack,
                directory_id=self._directory.directory_id,
                previous_broker_epoch=Offset(self._replicas.clean_shutdown_epoch),
            ),
            SessionTimes(
                heartbeat_interval_ms=config.broker_heartbeat_interval_ms,
                session_timeout_ms=HEARTBEATS_A_SESSION * config.broker_heartbeat_interval_ms,
                registration_timeout_ms=config.initial_broker_registration_timeout_ms,
            ),
            self._clock,
            on_registered=self._on_registered,
            on_standing=metrics.BROKER_FENCED.set,
        )
        session.ready()
        self._run("controllers", self._client.controllers.keep_learning())
        self._run("metadata follower", self._follower.run())
        self._run("verification", self._verification.run())
        self._run("replicas", self._replicas.run())
        self._run("isr proposals", self._isr.run())
        self._run("session", session.run())

    async def serve(self) -> None:
        """Take requests once unfenced, and until cancelled."""
        assert self._session is not None, "serves after start"
        await self._session.wait_unfenced()
        await self._listeners.serve(
            Dispatcher(
                registry(),
                BrokerServices(
                    config=self._config,
                    metadata=self._loader,
                    replicas=self._replicas,
                    controllers=self._client,
                    producer_ids=self._producer_ids,
                ),
            )
        )
        self._serving = True
        me, epoch = self._config.node_id, self.broker_epoch
        _log.info(f"[KafkaServer id={me}] Kafka Server started", broker_epoch=epoch)
        node.settle()
        await asyncio.get_running_loop().create_future()

    def publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        """The last publisher: all before it have applied `image`; the controllers may know."""
        if self._session is not None:
            self._session.applied(image.provenance.offset)

    def _on_registered(self) -> None:
        """The image may have had the registration before its answer came: look again."""
        self._replicas.publish(MetadataDelta(self._loader.image), self._loader.image)

    def _run(self, name: str, task: Coroutine[object, object, None]) -> None:
        self.tasks.append(asyncio.create_task(task, name=name))

    # ── End ───────────────────────────────────────────────────────────────────────────────────

    async def leave(self) -> None:
        """A controlled shutdown: leaders move away first, with the controllers' leave."""
        self._stopping = True
        if self._session is None or not self._config.controlled_shutdown_enable:
            return
        timeout_ms = self._config.controlled_shutdown_timeout_ms
        if await self._session.shut_down(timeout_ms, UNREACHABLE_MS_MAX):
            _log.info("leaders moved away, stopping")
        else:
            _log.warning("stopping without the controllers' leave; they will notice")

    async def close(self) -> None:
        """Give everything back, the logs flushed. Whatever state `start` reached."""
        await self._listeners.stop(LISTENERS_STOP_MS)
        await node.end(self.tasks)
        await self._replicas.stop()
        await self._producer_ids.close()
        await self._client.close()
        await self._http.close()

    # ── Telemetry ─────────────────────────────────────────────────────────────────────────────

    def _not_ready(self) -> list[str]:
        """Why clients should not be sent here; empty if they may."""
        reasons = self._agreement.why_not()
        if self._stopping:
            reasons.append("the broker is stopping")
        if self._session is None or self.broker_epoch < 0:
            reasons.append("the broker has not registered: no active controller took it yet")
        elif self._session.fenced:
            reasons.append("the broker is fenced by the controllers")
        elif not self._serving:
            reasons.append("the listeners do not serve yet")
        if self._follower.parted:
            reasons.append(self._follower.parted)
        if no_room := self._replicas.no_room():
            reasons.append(f"records are refused: {no_room}")
        if self._follower.lag > 0:
            reasons.append(f"the metadata is {self._follower.lag} records behind")
        return reasons

    def _metrics(self) -> bytes:
        image = self._loader.image
        metrics.BROKER_METADATA_LAST_APPLIED_OFFSET.set(image.provenance.offset - 1)
        metrics.METADATA_VERSION.set(image.features.get(METADATA_VERSION, 0))
        return metrics.exposition(metrics.BROKER)


def _endpoints(config: BrokerConfig, ports: Mapping[str, int]) -> tuple[Endpoint, ...]:
    """What others are told: the inter-broker listener first, and the ports that were bound."""
    ordered = sorted(
        config.advertised_listeners,
        key=lambda each: each.name != config.inter_broker_listener_name,
    )
    return tuple(
        Endpoint(
            name=each.name,
            host=each.host,
            port=each.port or ports[each.name],
            security_protocol=each.security_protocol,
        )
        for each in ordered
    )
