"""The fetchers of a broker: one for each leader from which it has something to fetch."""

import asyncio
from collections.abc import Callable

from broker.replica.fetcher import Fetcher, FollowedPartition
from broker.replica.link import Connect
from klamm.clock import Clock
from klamm.config.broker import BrokerConfig
from klamm.ids import NO_NODE, NodeId, TopicId
from klamm.metadata.image import MetadataImage
from klamm.metadata.records import Endpoint

Key = tuple[TopicId, int]


class Fetchers:
    """Follows metadata synchronously; the tasks live in `run`."""

    def __init__(
        self,
        *,
        config: BrokerConfig,
        clock: Clock,
        broker_epoch: Callable[[], int],
        connect: Connect,
    ) -> None:
        self._config = config
        self._clock = clock
        self._broker_epoch = broker_epoch
        self._connect = connect
        self._leader_of: dict[Key, tuple[NodeId, FollowedPartition]] = {}
        self._fetchers: dict[NodeId, Fetcher] = {}
        self._running: dict[NodeId, asyncio.Task[None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        return sum(map(len, self._fetchers.values()))

    async def run(self) -> None:
        """Until cancelled. What was followed before begins to be fetched now."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for leader in self._fetchers:
                self._start(leader)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    def broken_since(self, since_ms: int) -> tuple[NodeId, ...]:
        """Leaders whose connection broke at `since_ms` or later, and has not been restored."""
        return tuple(
            leader
            for leader, fetcher in self._fetchers.items()
            if fetcher.broken_ms is not None and fetcher.broken_ms >= since_ms
        )

    def follow(self, partition: FollowedPartition, leader: NodeId, image: MetadataImage) -> None:
        """Fetch from `leader` from now on; from nobody if it is NO_NODE or cannot be reached."""
        self.unfollow(partition)
        if leader == NO_NODE:
            return
        self._leader_of[_key(partition)] = (leader, partition)
        fetcher = self._fetchers.get(leader) or self._make(leader, image)
        if fetcher is not None:
            fetcher.follow(partition)

    def unfollow(self, partition: FollowedPartition) -> None:
        leader, _ = self._leader_of.pop(_key(partition), (NO_NODE, None))
        fetcher = self._fetchers.get(leader)
        if fetcher is not None:
            fetcher.unfollow(partition)
            if not len(fetcher):
                self._end(leader)

    def on_brokers(self, image: MetadataImage) -> None:
        """A leader may have moved to another address, or have come to be known."""
        for leader, fetcher in list(self._fetchers.items()):
            endpoint = self._endpoint(leader, image)
            if endpoint is None or (endpoint.host, endpoint.port) != (fetcher.host, fetcher.port):
                self._end(leader)
        missing: dict[NodeId, list[FollowedPartition]] = {}
        for leader, partition in self._leader_of.values():
            if leader not in self._fetchers:
                missing.setdefault(leader, []).append(partition)
        for leader, partitions in missing.items():
            made = self._make(leader, image)
            if made is not None:
                for partition in partitions:
                    made.follow(partition)

    def _make(self, leader: NodeId, image: MetadataImage) -> Fetcher | None:
        endpoint = self._endpoint(leader, image)
        if endpoint is None:
            return None
        fetcher = self._fetchers[leader] = Fetcher(
            leader,
            endpoint.host,
            endpoint.port,
            broker_epoch=self._broker_epoch,
            connect=self._connect,
            config=self._config,
            clock=self._clock,
        )
        self._start(leader)
        return fetcher

    def _start(self, leader: NodeId) -> None:
        if self._tasks is not None and leader not in self._running:
            self._running[leader] = self._tasks.create_task(
                self._fetchers[leader].run(), name=f"fetch-from-{leader}"
            )

    def _end(self, leader: NodeId) -> None:
        del self._fetchers[leader]
        task = self._running.pop(leader, None)
        if task is not None:
            task.cancel()

    def _endpoint(self, leader: NodeId, image: MetadataImage) -> Endpoint | None:
        broker = image.brokers.get(leader)
        if broker is None:
            return None
        return broker.endpoint(self._config.inter_broker_listener_name)


def _key(partition: FollowedPartition) -> Key:
    return (partition.topic_id, partition.name.partition)
