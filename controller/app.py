"""A controller, wired: what stands on what, and in which order it begins and ends.

directory ─▶ ports bound ─▶ log recovered ─▶ services ─▶ consensus ─▶ a leader is known, caught up
SIGTERM ─▶ not ready ─▶ leadership resigned ─▶ services end ─▶ consensus ends ─▶ log closed
"""

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from uuid import uuid4

from controller.active import ActiveController
from controller.beginning import see_to_new_disk
from controller.features import Features
from controller.members import Members
from controller.quorum.node import SERVICE as QUORUM
from controller.quorum.node import QuorumNode
from controller.quorum.quorum_config import QuorumConfig
from controller.relocations import Relocations
from controller.server.admin_service import NAME as ADMIN
from controller.server.admin_service import AdminService
from controller.server.controller_service import NAME as CONTROLLER
from controller.server.controller_service import ControllerService
from controller.server.gauges import Gauges
from controller.server.metadata_service import NAME as METADATA
from controller.server.metadata_service import MetadataService
from controller.server.refusals import Refusals
from controller.server.serving import Serving
from controller.snapshots import Snapshots
from controller.verification import Verification
from klamm import node
from klamm.clock import SystemClock
from klamm.config.controller import ControllerConfig
from klamm.directory import DataDirectory
from klamm.log.files import SystemFiles
from klamm.rpc.server import Found, GrpcServer, look_up
from klamm.telemetry import metrics
from klamm.telemetry.http import HealthServer, Pages
from klamm.telemetry.logs import logger
from klamm.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server
from klamm.v1.controller_pb2_grpc import add_ControllerServiceServicer_to_server
from klamm.v1.metadata_pb2_grpc import add_MetadataServiceServicer_to_server

_log = logger(__name__)

RESIGN_MS_MAX = 2_000
"""A leader that stops waits no longer for another to lead."""


async def serve(config: ControllerConfig, stop: asyncio.Event) -> None:
    """Run a controller until `stop` is set.

    Raises:
        StartError: It cannot start.
    """
    path = Path(config.metadata_log_dir)
    see_to_new_disk(config, path, SystemFiles())
    directory = DataDirectory.open(path, config.cluster_id, config.node_id, uuid4())
    try:
        controller = Controller(config, directory, await look_up(*_listener(config)))
        try:
            await controller.start()
            await node.while_running(controller.tasks, stop.wait())
            await controller.leave()
        finally:
            await controller.close()
    finally:
        directory.close()


class Controller:
    """The rooms of one controller, and the tasks that keep them going."""

    def __init__(self, config: ControllerConfig, directory: DataDirectory, listener: Found) -> None:
        """
        Args:
            config: Its keys.
            directory: Its disk.
            listener: The addresses that it listens on.

        Raises:
            StartError: The port cannot be bound, or the log not be recovered.
        """
        self.tasks: list[asyncio.Task[None]] = []
        """Those that run for as long as the controller does."""
        self._config = config
        clock, rng = SystemClock(), random.SystemRandom()
        self._server = GrpcServer(*_listener(config), listener)
        self._quorum = QuorumNode.open(
            QuorumConfig.of(config, directory.directory_id),
            files=SystemFiles(),
            clock=clock,
            rng=rng,
            draw_id=directory.renew,
        )
        self._active = ActiveController(self._quorum, config, clock, rng)
        self._serving = Serving(
            self._quorum, self._active.log, self._server, self._active.log.agreement
        )
        self._snapshots = Snapshots(self._quorum, self._active.log, config, clock, rng)
        self._verification = Verification(self._quorum, self._active.log)
        self._members = Members(self._quorum, self._active.log, clock)
        self._features = Features(self._quorum, self._active.log, clock)
        self._relocations = Relocations(self._quorum, self._members, clock)
        gauges = Gauges(self._quorum, self._active.log, self._snapshots)
        self._http = HealthServer(
            Pages(
                not_alive=lambda: (),
                not_ready=self._not_ready,
                metrics=gauges.page,
                metrics_content_type=metrics.CONTENT_TYPE,
            )
        )
        self._stopping = False
        self._add_services(clock)

    async def start(self) -> None:
        """Everything stands on return, and takes part.

        Raises:
            StartError: The HTTP port cannot be bound.
        """
        await self._http.start(self._config.http_host, self._config.http_port)
        await self._server.start()
        self._run("quorum", self._quorum.run(self._active.log))
        self._run("active controller", self._active.run())
        self._run("snapshots", self._snapshots.run())
        self._run("verification", self._verification.run())
        self._run("relocations", self._relocations.run())
        self._run("health", self._serving.run())
        _log.info("controller started", node=self._config.node_id, port=self._server.port)
        node.settle()

    async def leave(self) -> None:
        """Give leadership away, so that nobody waits for an election timeout."""
        self._stopping = True
        await self._quorum.resign(RESIGN_MS_MAX)

    async def close(self) -> None:
        """Give everything back. Whatever state `start` reached."""
        await self._server.stop()
        await node.end(self.tasks)
        await self._quorum.close()
        await self._http.close()

    def _add_services(self, clock: SystemClock) -> None:
        quorum, active, refusals = self._quorum, self._active, Refusals(self._quorum)
        metadata = MetadataService(quorum, active.log, clock)
        admin = AdminService(active, quorum, self._members, self._features, refusals)
        control = ControllerService(active, quorum, refusals)
        self._server.add(QUORUM, quorum.register)
        self._server.add(
            METADATA, lambda server: add_MetadataServiceServicer_to_server(metadata, server)
        )
        self._server.add(ADMIN, lambda server: add_AdminServiceServicer_to_server(admin, server))
        self._server.add(
            CONTROLLER, lambda server: add_ControllerServiceServicer_to_server(control, server)
        )

    def _not_ready(self) -> list[str]:
        reasons = self._serving.not_ready()
        if self._quorum.recovering:
            reasons.insert(0, f"no vote until the log is whole again: {self._quorum.recovering}")
        if self._stopping:
            reasons.insert(0, "the controller is stopping")
        return reasons

    def _run(self, name: str, task: Coroutine[object, object, None]) -> None:
        self.tasks.append(asyncio.create_task(task, name=name))


def _listener(config: ControllerConfig) -> tuple[str, int]:
    return config.listener.host or "0.0.0.0", config.listener.port  # noqa: S104 - all of them
