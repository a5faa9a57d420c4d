"""Every partition that this broker has a copy of, as the metadata image says.

    (delta, image) ──publish──▶ deletes, then leaders, then followers
                                             │            │
                                         Partition     Fetcher, one a leader broker

A Publisher of the metadata loader. Nothing is led or followed before the image includes this
uptime's own registration: until then the image may still show leaderships of an uptime that has
ended. Afterwards the broker goes on with the last image it has, whatever becomes of it; leader
epochs keep it from harm (kraft.md 3.5, 3.6).
"""

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from immutables import Map

from broker.replica.exchange import Surroundings
from broker.replica.fenced import JustFenced
from broker.replica.fetchers import Fetchers
from broker.replica.gauges import Gauges
from broker.replica.isr import AlterPartition
from broker.replica.link import Connect, tcp_connector
from broker.replica.partition import Partition
from broker.replica.purgatory import Purgatory
from broker.replica.storage import PartitionStorage, Stored, log_config
from broker.replica.unmade import MADE_AT_ONCE, Unmade
from klamm.clock import Clock
from klamm.config.broker import BrokerConfig
from klamm.config.topic import TopicConfig
from klamm.errors import ApiError, ErrorCode, NoSpaceError, StorageError
from klamm.ids import NodeId, Offset, TopicId, TopicPartition
from klamm.log.files import NO_ROOM, Files
from klamm.log.log import LogConfig
from klamm.metadata import image as images
from klamm.metadata.image import MetadataImage, PartitionImage, TopicImage
from klamm.metadata.records import ResourceType
from klamm.telemetry.logs import logger

_log = logger(__name__)

TICK_MS_MAX = 1_000
"""How often followers are looked at; at least twice within `replica.lag.time.max.ms`."""

SUSPICION_MS_MAX = 300
"""A broken connection says that its leader died for so long; then the controllers would know."""

EXPIRY_INTERVAL_MS = 600_000
"""How often silent producers are looked for (Kafka's own interval)."""


Assigned = tuple[TopicImage, PartitionImage]
"""A partition of which this broker has a copy."""


class TopicsDelta(Protocol):
    """What the manager reads of a metadata delta."""

    @property
    def topics_changed(self) -> Mapping[TopicId, TopicImage]: ...

    @property
    def topics_removed(self) -> Mapping[TopicId, TopicImage]: ...

    @property
    def brokers_changed(self) -> object: ...

    @property
    def configs_changed(self) -> Iterable[tuple[ResourceType, str]]: ...


class ReplicaManager:
    """One a broker. `load`, then `publish` for each delta, with `run` beside them, then `stop`."""

    def __init__(
        self,
        *,
        config: BrokerConfig,
        files: Files,
        directory: Path,
        clock: Clock,
        alter_partition: AlterPartition,
        broker_epoch: Callable[[], int],
        connect: Connect | None = None,
    ) -> None:
        """
        Args:
            broker_epoch: This uptime's epoch, or -1 before it has registered.
            connect: How to reach other brokers; over TCP if not given.
        """
        self.image: MetadataImage = images.EMPTY
        """The last that was published."""
        self.purgatory = Purgatory()
        self._config = config
        self._me = config.node_id
        self._clock = clock
        self._broker_epoch = broker_epoch
        self._storage = PartitionStorage(files, directory, clock)
        self._surroundings = Surroundings(
            me=config.node_id,
            clock=clock,
            alter_partition=alter_partition,
            lag_time_max_ms=config.replica_lag_time_max_ms,
        )
        self._fetchers = Fetchers(
            config=config,
            clock=clock,
            broker_epoch=broker_epoch,
            connect=connect
            or tcp_connector(f"broker-{config.node_id}-fetcher", config.replica_socket_timeout_ms),
        )
        self._partitions: dict[TopicPartition, Partition] = {}
        self._configured = images.NOTHING_SET, config.topic_defaults
        """What was set on the topic that was asked for last, and what holds for it."""
        self._by_topic: dict[str, dict[int, Partition]] = {}
        self._loaded: dict[TopicPartition, Stored] = {}
        self._high_watermarks: dict[TopicPartition, Offset] = {}
        self._gauges = Gauges()
        self._offline: set[TopicPartition] = set()
        """Ours, and without a usable directory. Membership only."""
        self._unmade = Unmade(self._make)
        self._fenced = JustFenced(clock)
        self._began = False
        self._removals: asyncio.Queue[Path] = asyncio.Queue()
        self._expire_at_ms = clock.monotonic_ms() + EXPIRY_INTERVAL_MS

    @property
    def clean_shutdown_epoch(self) -> int:
        """The broker epoch that the last clean shutdown has left, or -1; known after `load`."""
        return self._storage.clean_shutdown_epoch

    # Life.

    async def load(self) -> None:
        """Open what is on the disk, off the loop. Before the first `publish`."""
        defaults = self._config.topic_defaults
        self._high_watermarks = await asyncio.to_thread(self._storage.read_high_watermarks)
        self._loaded = await asyncio.to_thread(self._storage.load, defaults)
        _log.info(
            "partitions loaded",
            count=len(self._loaded),
            clean_shutdown_epoch=self.clean_shutdown_epoch,
        )

    async def run(self) -> None:
        """Fetch, look at followers, write checkpoints; until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fetchers.run(), name="replica-fetchers")
            tasks.create_task(self._tick(), name="replica-tick")
            tasks.create_task(self._checkpoint(), name="replica-checkpoint")
            tasks.create_task(self._remove(), name="replica-remove")
            tasks.create_task(self._unmade.run(), name="replica-make")

    async def stop(self) -> None:
        """Leave everything on the disk. After `run` has been cancelled, and the listener closed."""
        for partition in self._partitions.values():
            partition.retire()
        online = [
            (name, Stored(each.topic_id, each.log, each.producers))
            for name, each in self._partitions.items()
            if each.offline is None
        ]
        high_watermarks = self._current_high_watermarks()
        self._partitions, self._by_topic = {}, {}
        await asyncio.to_thread(self._storage.write_high_watermarks, high_watermarks)
        await asyncio.to_thread(self._storage.close, online, self._broker_epoch())

    # Lookups, for the API handlers.

    def partition(self, topic: str, partition: int) -> Partition | None:
        """This broker's copy, whatever its role."""
        of_topic = self._by_topic.get(topic)
        return None if of_topic is None else of_topic.get(partition)

    def absence(self, name: TopicPartition) -> ApiError:
        """Why `partition` has found nothing: there is no such partition, or not here."""
        if name in self._offline:
            return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"{name} has no usable directory")
        topic = self.image.topics.named(name.topic)
        if topic is None or not 0 <= name.partition < len(topic.partitions):
            return ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"no partition {name}")
        return ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"{name} is not on this broker")

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._partitions.values())

    def __len__(self) -> int:
        return len(self._partitions)

    @property
    def following(self) -> int:
        """Partitions that are being fetched."""
        return len(self._fetchers)

    def no_room(self) -> str:
        """Why something was refused of late for want of room on the disk; empty if nothing was."""
        return self._surroundings.no_room()

    def suspects(self) -> bool:
        """Whether a leader has just broken its connection, and the controllers have not said yet.

        Who is told of leaders at this moment is told of one that is probably dead.
        """
        since_ms = self._clock.monotonic_ms() - SUSPICION_MS_MAX
        brokers = self.image.brokers
        return any(
            leader in brokers and brokers[leader].active
            for leader in self._fetchers.broken_since(since_ms)
        )

    def just_fenced(self) -> tuple[NodeId, ...]:
        """Brokers that served until a moment ago, by id."""
        return self._fenced.list(self.image)

    # The publisher.

    def publish(self, delta: TopicsDelta, image: MetadataImage) -> None:
        """Become what `image` says. Synchronous; the partitions have their roles on return.

        But for the new ones of a large decision: each takes files, and with thousands of them
        nobody else had a turn for seconds. They are made one after the other, as the image is by
        then; until then they are led nowhere, as far as a client can tell.
        """
        if delta.brokers_changed:
            self._fenced.note(self.image, image)
        self.image = image
        if delta.brokers_changed or not self._began:
            self._surroundings.active = {
                each.broker_id: each.broker_epoch for each in image.brokers.values() if each.active
            }
        if not self._began:
            if not self._is_registered(image):
                return
            self._began = True
            # All at once: what is on the disk and is not asked for here is a stray.
            self._apply(list(image.topics.by_id.values()), at_once=sys.maxsize)
            self._drop_strays()
        else:
            for topic in delta.topics_removed.values():
                self._drop_topic(topic)
            self._apply(list(delta.topics_changed.values()))
            self._reconfigure(delta.configs_changed)
        if delta.brokers_changed:
            self._fetchers.on_brokers(image)

    def _is_registered(self, image: MetadataImage) -> bool:
        own, epoch = image.brokers.get(self._me), self._broker_epoch()
        return own is not None and epoch >= 0 and own.broker_epoch == epoch

    def _apply(self, topics: list[TopicImage], at_once: int = MADE_AT_ONCE) -> None:
        mine = [(topic, each) for topic in topics for each in topic.partitions if self._has(each)]
        for topic in topics:
            self._drop_unassigned(topic)
        mine = self._without_later(mine, at_once)
        for topic, each in mine:
            if each.leader == self._me:
                self._lead(topic, each)
        for topic, each in mine:
            if each.leader != self._me:
                self._follow(topic, each)

    def _without_later(self, mine: list[Assigned], at_once: int) -> list[Assigned]:
        """Those that are here, or made at once; the others have their turn by and by."""
        new = [_name(*each) for each in mine if not self._is_here(*each)]
        if len(new) <= at_once:
            return mine
        later = frozenset(new[at_once:])
        self._unmade.add(new[at_once:])
        return [each for each in mine if _name(*each) not in later]

    def _is_here(self, topic: TopicImage, image: PartitionImage) -> bool:
        known = self._partitions.get(_name(topic, image))
        return known is not None and known.topic_id == topic.topic_id

    def _make(self, name: TopicPartition) -> None:
        """See `Unmade`."""
        topic = self.image.topics.named(name.topic)
        if topic is None:
            return
        image = self.image.topics.partition(topic.topic_id, name.partition)
        if image is None or not self._has(image) or self._is_here(topic, image):
            return
        if image.leader == self._me:
            self._lead(topic, image)
        else:
            self._follow(topic, image)

    def _has(self, image: PartitionImage) -> bool:
        return self._me in image.replicas

    def _lead(self, topic: TopicImage, image: PartitionImage) -> None:
        partition = self._obtain(topic, image)
        if partition is None:
            return
        self._fetchers.unfollow(partition)
        if partition.leader_epoch != image.leader_epoch or partition.leader is None:
            _log.info(
                "leading",
                partition=partition.name,
                leader_epoch=image.leader_epoch,
                isr=list(image.isr),
                end_offset=partition.log.end_offset,
                high_watermark=partition.high_watermark,
            )
        partition.become_leader(image)

    def _follow(self, topic: TopicImage, image: PartitionImage) -> None:
        partition = self._obtain(topic, image)
        if partition is not None and partition.become_follower(image):
            _log.info(
                "following",
                partition=partition.name,
                leader=image.leader,
                leader_epoch=image.leader_epoch,
                end_offset=partition.log.end_offset,
            )
            self._fetchers.follow(partition, image.leader, self.image)

    def _obtain(self, topic: TopicImage, image: PartitionImage) -> Partition | None:
        """The partition, made if need be. None: its directory cannot be used."""
        name = TopicPartition(topic.name, image.partition)
        known = self._partitions.get(name)
        if known is not None and known.topic_id == topic.topic_id:
            return known
        if known is not None:
            self._drop(known)
        if name in self._storage.failed:
            self._offline.add(name)
            return None
        config = self._topic_config(topic.name)
        try:
            stored = self._loaded.pop(name, None)
            if stored is not None and stored.topic_id != topic.topic_id:
                _log.info("stray", partition=name, topic_id=stored.topic_id)
                self._removals.put_nowait(self._storage.set_aside(name, stored))
                stored = None
                self._high_watermarks.pop(name, None)
            if stored is None:
                stored = self._storage.create(name, topic.topic_id, config)
        except (OSError, StorageError) as error:
            self._on_unusable(name, error)
            return None
        self._offline.discard(name)
        stored.log.config = log_config(config)
        partition = Partition(
            name,
            topic.topic_id,
            stored.log,
            stored.producers,
            self._high_watermarks.pop(name, stored.log.log_start_offset),
            config,
            self._surroundings,
        )
        self._partitions[name] = partition
        self._by_topic.setdefault(name.topic, {})[name.partition] = partition
        return partition

    def _on_unusable(self, name: TopicPartition, error: OSError | StorageError) -> None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            error = NoSpaceError(str(name), 0, error)
        self._offline.add(name)
        if isinstance(error, NoSpaceError):
            self._unmade.found_no_room(name)
            self._surroundings.found_no_room(error)
        else:
            _log.error("partition offline", partition=name, error=error)

    def _reconfigure(self, changed: Iterable[tuple[ResourceType, str]]) -> None:
        """Topics that are configured alike, of which one call may have changed a thousand, get
        one config, made once."""
        made: dict[Map[str, str], tuple[TopicConfig, LogConfig]] = {}
        for resource in changed:
            resource_type, name = resource
            held = self._by_topic.get(name)
            if held is None or resource_type is not ResourceType.TOPIC:
                continue
            own = self.image.configs.get(resource, images.NOTHING_SET)
            known = made.get(own)
            if known is None:
                config = self._topic_config(name)
                known = made[own] = config, log_config(config)
            config, of_log = known
            another_minimum = False
            for partition in held.values():
                if partition.config.min_insync_replicas != config.min_insync_replicas:
                    another_minimum = True
                partition.reconfigure(config)
                partition.log.config = of_log
            topic = self.image.topics.named(name) if another_minimum else None
            if topic is not None:
                self._apply([topic])  # Leaders hear of it.

    def _topic_config(self, topic: str) -> TopicConfig:
        """A topic's partitions, made one after the other, share theirs."""
        own = self.image.config(ResourceType.TOPIC, topic)
        if own is not self._configured[0]:
            self._configured = own, TopicConfig.effective(own, self._config.topic_defaults)
        return self._configured[1]

    # Deletes.

    def _drop_topic(self, topic: TopicImage) -> None:
        for partition in list(self._by_topic.get(topic.name, {}).values()):
            if partition.topic_id == topic.topic_id:
                self._drop(partition)

    def _drop_unassigned(self, topic: TopicImage) -> None:
        """Partitions that a reassignment has moved away, or that another topic's id stands for."""
        for partition in list(self._by_topic.get(topic.name, {}).values()):
            image = self.image.topics.partition(topic.topic_id, partition.name.partition)
            if partition.topic_id != topic.topic_id or image is None or not self._has(image):
                self._drop(partition)

    def _drop(self, partition: Partition) -> None:
        _log.info("dropped", partition=partition.name, topic_id=partition.topic_id)
        self._fetchers.unfollow(partition)
        partition.retire()
        del self._partitions[partition.name]
        of_topic = self._by_topic[partition.name.topic]
        del of_topic[partition.name.partition]
        if not of_topic:
            del self._by_topic[partition.name.topic]
        stored = Stored(partition.topic_id, partition.log, partition.producers)
        self._set_aside(partition.name, stored)

    def _drop_strays(self) -> None:
        """What is on the disk and, by the first image, is not ours, or not any more."""
        strays, self._loaded = self._loaded, {}
        for name, stored in strays.items():
            _log.info("stray", partition=name, topic_id=stored.topic_id)
            self._set_aside(name, stored)

    def _set_aside(self, name: TopicPartition, stored: Stored) -> None:
        try:
            self._removals.put_nowait(self._storage.set_aside(name, stored))
        except (OSError, StorageError) as error:
            _log.warning("not removed", partition=name, error=error)

    # What goes on beside.

    async def _tick(self) -> None:
        interval_ms = max(1, min(TICK_MS_MAX, self._config.replica_lag_time_max_ms // 2))
        while True:
            await asyncio.sleep(interval_ms / 1_000)
            now_ms = self._clock.monotonic_ms()
            self._unmade.look_for_room()
            expire = now_ms >= self._expire_at_ms
            if expire:
                self._expire_at_ms = now_ms + EXPIRY_INTERVAL_MS
            for partition in list(self._partitions.values()):
                partition.on_time_passed(now_ms)
                if expire:
                    partition.producers.expire(now_ms, self._config.producer_id_expiration_ms)
                if partition.takes_flush(now_ms):
                    await self._flush(partition)
            self._gauges.show(self._partitions.values())

    async def _flush(self, partition: Partition) -> None:
        try:
            await asyncio.to_thread(partition.log.flush)
        except (OSError, StorageError) as error:
            partition.on_flush_failed(error)

    async def _checkpoint(self) -> None:
        interval_ms = self._config.replica_high_watermark_checkpoint_interval_ms
        written: Mapping[TopicPartition, Offset] = {}
        while True:
            await asyncio.sleep(interval_ms / 1_000)
            current = self._current_high_watermarks()
            try:
                await asyncio.to_thread(self._storage.sync_new)
                if current == written:
                    continue
                await asyncio.to_thread(self._storage.write_high_watermarks, current)
                written = current
            except OSError as error:
                # It only saves a new leader from starting low; the next one is written anew.
                _log.warning("checkpoint failed", error=error)

    async def _remove(self) -> None:
        while True:
            path = await self._removals.get()
            try:
                await asyncio.to_thread(self._storage.remove, path)
            except OSError as error:
                _log.warning("not removed", path=path, error=error)

    def _current_high_watermarks(self) -> dict[TopicPartition, Offset]:
        return {name: each.high_watermark for name, each in self._partitions.items()}


def _name(topic: TopicImage, image: PartitionImage) -> TopicPartition:
    return TopicPartition(topic.name, image.partition)
