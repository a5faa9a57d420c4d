"""Random histories of the metadata: records that each make sense after those before."""

import random
from uuid import UUID

from klamm.ids import NO_NODE, DirectoryId, Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.metadata.delta import replay
from klamm.metadata.features import METADATA_VERSION, SupportedFeature
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    ConfigsRecord,
    Endpoint,
    FeatureLevelRecord,
    MetadataRecord,
    NewPartition,
    NoOpRecord,
    PartitionChange,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RegisterBrokerRecord,
    RemoveTopicRecord,
    ResourceType,
    TopicRecord,
    UnregisterBrokerRecord,
)


def history(
    rng: random.Random, length: int, image: MetadataImage = EMPTY
) -> tuple[list[MetadataRecord], MetadataImage]:
    """Records, and what they make of `image`, each replayed by itself."""
    found: list[MetadataRecord] = []
    for _ in range(length):
        record = _next(rng, image)
        found.append(record)
        end = OffsetAndEpoch(Epoch(1), Offset(image.provenance.offset + 1))
        image = replay(image, (record,), end)
    return found, image


def _next(rng: random.Random, image: MetadataImage) -> MetadataRecord:
    match rng.randrange(9):
        case 0:
            return _register(rng)
        case 1 if image.brokers:
            broker = image.brokers[rng.choice(sorted(image.brokers))]
            if rng.random() < 0.3:
                return UnregisterBrokerRecord(
                    broker_id=broker.broker_id, broker_epoch=broker.broker_epoch
                )
            return BrokerRegistrationChangeRecord(
                broker_id=broker.broker_id,
                broker_epoch=broker.broker_epoch,
                fenced=rng.choice([None, True, False]),
                in_controlled_shutdown=rng.choice([None, True]),
            )
        case 2 | 3:
            name = f"topic{'._'[rng.randrange(2)]}{rng.randrange(12)}"
            if name in image.topics.by_name:
                return RemoveTopicRecord(topic_id=image.topics.by_name[name])
            return TopicRecord(topic_id=TopicId(UUID(int=rng.getrandbits(128))), name=name)
        case 4 | 5 if image.topics.by_name:
            return _partitions(rng, image)
        case 6 if rng.random() < 0.3:
            return _configs(rng, image)
        case 6:
            named = rng.choice(["", "1", *sorted(image.topics.by_name)])
            return ConfigRecord(
                resource_type=ResourceType.BROKER if len(named) < 2 else ResourceType.TOPIC,
                resource_name=named,
                key=f"key.{rng.randrange(3)}",
                value=rng.choice([None, "", "1", "ü"]),
            )
        case 7:
            next_id = image.next_producer_id + 1 + rng.randrange(1_000)
            return ProducerIdsRecord(
                broker_id=NodeId(1), broker_epoch=Offset(0), next_producer_id=next_id
            )
        case 8:
            level = 3 * rng.randrange(3) + rng.randrange(3)
            return FeatureLevelRecord(name=METADATA_VERSION, level=level)
    return NoOpRecord()


def _configs(rng: random.Random, image: MetadataImage) -> MetadataRecord:
    kind = rng.choice(list(ResourceType))
    known = ["", "1"] if kind is ResourceType.BROKER else sorted(image.topics.by_name) or ["none"]
    names = tuple(rng.sample(known, rng.randrange(len(known)) + 1))
    values = tuple(rng.choice(["", "1", "ü"]) for _ in range(rng.choice([0, 1, len(names)])))
    return ConfigsRecord(kind, f"key.{rng.randrange(3)}", names, values)


def _register(rng: random.Random) -> RegisterBrokerRecord:
    at = Endpoint(name="PLAINTEXT", host=f"host-{rng.randrange(9)}", port=rng.randrange(65_536))
    broker_id, incarnation = NodeId(rng.randrange(4)), rng.getrandbits(128)
    return RegisterBrokerRecord(
        broker_id=broker_id,
        incarnation_id=UUID(int=incarnation),
        endpoints=(at,) * rng.randrange(3),
        rack=rng.choice([None, "", "a"]),
        log_dirs=tuple(DirectoryId(UUID(int=each + 1)) for each in range(rng.randrange(3))),
        features=(SupportedFeature("f", 0, 3), SupportedFeature("g", 2, 2))[incarnation % 3 :],
    )


def _partitions(rng: random.Random, image: MetadataImage) -> MetadataRecord:
    topic = image.topics.by_id[image.topics.by_name[rng.choice(sorted(image.topics.by_name))]]
    nodes = tuple(NodeId(each) for each in rng.sample(range(5), 3))
    count = len(topic.partitions)
    if count and rng.random() < 0.5:
        change = PartitionChange(
            partition=rng.randrange(count),
            isr=rng.choice([None, nodes[:1]]),
            leader=rng.choice([None, NO_NODE, nodes[0]]),
            replicas=rng.choice([None, nodes]),
        )
        return PartitionChangeRecord(topic_id=topic.topic_id, changes=(change,))
    new = tuple(
        NewPartition(partition=count + each, replicas=nodes, isr=nodes, leader=nodes[0])
        for each in range(rng.choice([1, 3, 130]))
    )
    return PartitionRecord(topic_id=topic.topic_id, partitions=new)
