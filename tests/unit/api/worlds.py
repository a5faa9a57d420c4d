"""A broker's replicas over a temporary directory, with a controller that the test plays."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from immutables import Map

from broker.api.context import RequestContext
from broker.kafka.api import ApiKey
from broker.replica.isr import IsrAnswer, IsrChange
from broker.replica.manager import ReplicaManager
from klamm.config.broker import BrokerConfig
from klamm.ids import Epoch, NodeId, Offset, TopicId
from klamm.log.files import SystemFiles
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from klamm.metadata.image import (
    BrokerImage,
    MetadataImage,
    PartitionImage,
    TopicImage,
    TopicsImage,
)
from klamm.metadata.records import Endpoint, ResourceType

ME, TWO, THREE = NodeId(1), NodeId(2), NodeId(3)
TOPIC = "orders"
TOPIC_ID = TopicId(UUID(int=0xABC))
EPOCHS = {ME: 11, TWO: 12, THREE: 13}


class FakeClock:
    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return 1_700_000_000_000 + self.now_ms


class Proposals:
    """The AlterPartition port: keeps what is asked, for the test to answer."""

    def __init__(self) -> None:
        self.asked: list[tuple[IsrChange, Callable[[IsrAnswer], None]]] = []

    def submit(
        self,
        topic_id: TopicId,
        partition: int,
        change: IsrChange,
        answered: Callable[[IsrAnswer], None],
    ) -> None:
        self.asked.append((change, answered))


@dataclass
class Delta:
    topics_changed: dict[TopicId, TopicImage] = field(default_factory=dict)
    topics_removed: dict[TopicId, TopicImage] = field(default_factory=dict)
    brokers_changed: dict[NodeId, BrokerImage | None] = field(default_factory=dict)
    configs_changed: set[tuple[ResourceType, str]] = field(default_factory=set)


def partition_image(
    partition: int = 0,
    *,
    leader: NodeId = ME,
    leader_epoch: int = 1,
    partition_epoch: int = 1,
    replicas: tuple[NodeId, ...] = (ME, TWO, THREE),
    isr: tuple[NodeId, ...] | None = None,
) -> PartitionImage:
    return PartitionImage(
        partition=partition,
        replicas=replicas,
        isr=replicas if isr is None else isr,
        leader=leader,
        leader_epoch=Epoch(leader_epoch),
        partition_epoch=partition_epoch,
    )


class Replicas:
    """A ReplicaManager and the metadata that it has been told."""

    def __init__(self, directory: Path, **keys: str) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.proposals = Proposals()
        self.config = BrokerConfig.for_tests(**keys)
        self.broker_epoch = EPOCHS[ME]
        self.manager = ReplicaManager(
            config=self.config,
            files=SystemFiles(),
            directory=directory,
            clock=self.clock,
            alter_partition=self.proposals,
            broker_epoch=lambda: self.broker_epoch,
        )
        self.image = MetadataImage(brokers=Map({each: broker(each) for each in EPOCHS}))

    def publish(
        self,
        *partitions: PartitionImage,
        topic: str = TOPIC,
        topic_id: TopicId = TOPIC_ID,
        configs: dict[str, str] | None = None,
    ) -> None:
        """The controller says what a topic's partitions are now."""
        image = TopicImage(topic_id=topic_id, name=topic, partitions=partitions)
        by_name = self.image.topics.by_name
        removed = {}
        by_id = self.image.topics.by_id
        if topic in by_name and by_name[topic] != topic_id:
            removed = {by_name[topic]: by_id[by_name[topic]]}
            by_id = by_id.delete(by_name[topic])
        topics = TopicsImage(by_id.set(topic_id, image), by_name.set(topic, topic_id))
        self.image = replace(self.image, topics=topics)
        changed = set()
        if configs is not None:
            resource = (ResourceType.TOPIC, topic)
            changed = {resource}
            self.image = replace(self.image, configs=self.image.configs.set(resource, Map(configs)))
        delta = Delta({topic_id: image}, removed, dict(self.image.brokers), changed)
        self.manager.publish(delta, self.image)

    def remove(self, topic: str = TOPIC) -> None:
        topics = self.image.topics
        image = topics.by_id[topics.by_name[topic]]
        self.image = replace(
            self.image,
            topics=TopicsImage(topics.by_id.delete(image.topic_id), topics.by_name.delete(topic)),
        )
        self.manager.publish(Delta(topics_removed={image.topic_id: image}), self.image)

    @property
    def services(self) -> Any:
        return SimpleNamespace(replicas=self.manager, config=self.config)


def broker(id_: NodeId) -> BrokerImage:
    endpoint = Endpoint(name="PLAINTEXT", host=f"broker-{id_}", port=9092)
    return BrokerImage(
        broker_id=id_,
        broker_epoch=Offset(EPOCHS[id_]),
        incarnation_id=UUID(int=id_),
        endpoints=(endpoint,),
        fenced=False,
    )


def context(api_key: ApiKey, version: int) -> RequestContext:
    return RequestContext(
        api_key=api_key,
        api_version=version,
        client_id="test",
        principal="User:ANONYMOUS",
        listener="PLAINTEXT",
        client_host="127.0.0.1",
    )


def batch(
    *values: bytes,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    timestamp_ms: int = 1_700_000_000_000,
    **more: Any,
) -> memoryview:
    """A producer's batch, in a buffer that can be written as a request's frame can."""
    return memoryview(
        bytearray(
            build_batch(
                [NewRecord(value=value) for value in values],
                base_offset=Offset(0),
                leader_epoch=Epoch(-1),
                timestamp_ms=timestamp_ms,
                producer_id=producer_id,
                producer_epoch=producer_epoch,
                base_sequence=base_sequence,
                **more,
            )
        )
    )
