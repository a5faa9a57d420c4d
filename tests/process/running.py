"""A LocalCluster for tests that do not await: it runs in a thread with a loop of its own.

    with running(directory) as cluster:
        cluster.create_topic("orders", 6)
        cluster.kill("broker-1")
        cluster.start("broker-1")
        cluster.wait_in_sync()

Every wait has a deadline. At the end no node's log may hold a traceback.
"""

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from klamm.client.client import ControllerClient
from klamm.cluster.cluster import LocalCluster
from klamm.errors import KlammError
from klamm.v1 import admin_pb2, metadata_pb2

Answer = TypeVar("Answer")

STEP_DEADLINE_S = 60.0
IN_SYNC_DEADLINE_S = 45.0


class Running:
    """A cluster that serves, seen from an ordinary thread."""

    def __init__(self, cluster: LocalCluster, loop: asyncio.AbstractEventLoop) -> None:
        self.cluster = cluster
        self._loop = loop

    @property
    def bootstrap(self) -> str:
        return self.cluster.bootstrap_servers

    @property
    def brokers(self) -> list[str]:
        return [each.name for each in self.cluster.layout.brokers]

    @property
    def controllers(self) -> list[str]:
        return [each.name for each in self.cluster.layout.controllers]

    @property
    def directory(self) -> Path:
        return self.cluster.layout.directory

    def address(self, name: str) -> str:
        """host:port of a node: Kafka of a broker, gRPC of a controller."""
        return self.cluster.node(name).layout.address

    def log(self, name: str) -> str:
        """All that the node has written to its standard output and error."""
        return self.cluster.node(name).log_file.read_text()

    def do(self, work: Coroutine[Any, Any, Answer], deadline_s: float = STEP_DEADLINE_S) -> Answer:
        """Run `work` in the cluster's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(deadline_s)

    def kill(self, name: str) -> None:
        """`kill -9`."""
        self.do(self.cluster.kill(name))

    def start(self, name: str) -> None:
        self.do(self.cluster.start_node(name))

    def stop(self, name: str) -> None:
        """SIGTERM, and wait for the end."""
        self.do(self.cluster.stop_node(name))

    def pause(self, name: str) -> None:
        """SIGSTOP."""
        self.cluster.pause(name)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self.cluster.resume(name)

    def create_topic(self, name: str, partitions: int, replicas: int = 3, **configs: str) -> None:
        """Create it; its brokers may not have heard of it yet."""
        topic = admin_pb2.NewTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replicas,
            configs={key.replace("_", "."): value for key, value in configs.items()},
        )
        answer = self.do(
            self._asking(lambda it: it.create_topics(admin_pb2.CreateTopicsRequest(topics=[topic])))
        )
        assert answer.results[0].error_code == 0, answer.results[0]

    def topics(self, *names: str) -> list[metadata_pb2.Topic]:
        """As the active controller knows them; all, if none is named."""
        return self.do(self._topics(*names))

    def active_controller(self) -> str:
        """Its name."""
        return self.do(self._active_controller())

    def wait_in_sync(self, deadline_s: float = IN_SYNC_DEADLINE_S) -> None:
        """Wait until every broker is active and every replica of every topic in the ISR."""
        everyone = {each.node_id for each in self.cluster.layout.brokers}

        async def whole() -> bool:
            if await self._active_brokers() != everyone:
                return False
            return all(
                set(each.isr) == set(each.replicas)
                for topic in await self._topics()
                for each in topic.partitions
            )

        self.until(whole, "all brokers in sync", deadline_s)

    def wait_fenced(self, broker: int, deadline_s: float) -> None:
        """Wait until the broker of this id serves no more, as the controllers see it."""

        async def fenced() -> bool:
            return broker not in await self._active_brokers()

        self.until(fenced, f"broker {broker} to be fenced", deadline_s)

    def wait_active_controller(self, other_than: str, deadline_s: float = 20.0) -> None:
        """Wait until another controller leads."""

        async def elected() -> bool:
            return await self._active_controller() not in {other_than, "controller--1"}

        self.until(elected, f"another active controller than {other_than}", deadline_s)

    def until(self, condition: Callable[[], Awaitable[bool]], what: str, deadline_s: float) -> None:
        """Wait for `condition`, in the cluster's loop; a call that fails is no answer."""

        async def answered() -> bool:
            try:
                return await condition()
            except KlammError:
                return False

        self.do(self.cluster.until(answered, what, deadline_s), deadline_s + 10)

    async def _active_controller(self) -> str:
        answer = await self._asking(lambda it: it.describe_quorum())
        return f"controller-{answer.quorum.leader_id}"

    async def _active_brokers(self) -> set[int]:
        request = metadata_pb2.ListBrokersRequest()
        answer = await self._asking(lambda it: it.list_brokers(request))
        active = metadata_pb2.BROKER_STATE_ACTIVE
        return {each.broker_id for each in answer.brokers if each.state == active}

    async def _topics(self, *names: str) -> list[metadata_pb2.Topic]:
        request = metadata_pb2.DescribeTopicsRequest(names=names)
        return list((await self._asking(lambda it: it.describe_topics(request))).topics)

    async def _asking(self, ask: Callable[[ControllerClient], Awaitable[Answer]]) -> Answer:
        client = ControllerClient(self.cluster.controller_addresses)
        try:
            return await ask(client)
        finally:
            await client.close()

    def tracebacks(self) -> list[str]:
        """The logs that hold one, with what stands around it."""
        found = []
        for path in sorted((self.directory / "logs").glob("*.log")):
            before, word, after = path.read_text().partition("Traceback")
            if word:
                found.append(f"{path.name}: …{before[-500:]}{word}{after[:3000]}")
        return found


@contextmanager
def running(
    directory: Path,
    overrides: Mapping[str, str] | None = None,
    prepare: Callable[[LocalCluster], None] = lambda _: None,
) -> Iterator[Running]:
    """Three controllers and three brokers, until the block ends; `prepare` before they start."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="cluster", daemon=True)
    thread.start()

    async def opened() -> LocalCluster:
        cluster = LocalCluster.open(directory, base_port=0, overrides=overrides)
        prepare(cluster)
        await cluster.start()
        return cluster

    cluster = asyncio.run_coroutine_threadsafe(opened(), loop).result(STEP_DEADLINE_S)
    it = Running(cluster, loop)
    try:
        yield it
    finally:
        it.do(cluster.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    told = it.tracebacks()
    assert not told, "\n".join(told)


def not_ready(port: int) -> str:
    """Why the node is not; empty if it is, or does not answer yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode()
    except OSError:
        return ""
