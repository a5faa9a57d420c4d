"""A checksum of an image that follows its changes: the sum of what each item in it hashes to.

    image = { item, item, … }      checksum = Σ digest(item)  mod 2^128
    a change of one item           checksum + digest(new) - digest(old)

An item is a partition, a topic's name, a broker, one key of a config, a feature's level or the next
producer id. The sum does not hang on an order, so that it is the same however the image came about:
by the log, by a snapshot, or counted from nothing (`checksum_of`). A record costs what it changes.

It finds accidents (a damaged memory, code that is not deterministic), not malice. Source: Bellare
and Micciancio 1997, AdHash.
"""

import struct
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b

from klamm.ids import NodeId, TopicId
from klamm.metadata.image import (
    BrokerImage,
    ConfigResource,
    MetadataImage,
    PartitionImage,
    TopicImage,
)

CHECKSUM_FORMAT = 1
"""Of what is hashed, and how. One of another format is not compared."""

CHECKSUM_BYTES = 16
MODULUS = 1 << (8 * CHECKSUM_BYTES)

_PARTITION = struct.Struct("<cqqqq")
_CONFIGS_KEPT = 16_384
"""Digests that are kept: each is added by who decides, by who applies, and taken off again."""
_CONFIG_CHARACTERS_KEPT = 256
"""Of a value; longer ones are counted each time."""
_PRODUCER_IDS_KEPT = 4_096
"""Likewise; so many may be proposed and not committed yet."""
_NODES_KEPT = 4_096
"""Lists of nodes whose bytes are kept: partitions have few different ones."""


def checksum_of(image: MetadataImage) -> int:
    """Counted from nothing: what `image.checksum` must be. Costs a pass over everything."""
    total = producer_ids_digest(image.next_producer_id)
    for name, level in image.features.items():
        total += feature_digest(name, level)
    for broker in image.brokers.values():
        total += broker_digest(broker)
    for topic in image.topics.by_id.values():
        total += topic_digest(topic.topic_id, topic.name)
        total += partitions_digest(topic.topic_id, topic.partitions)
    for resource, config in image.configs.items():
        for key, value in config.items():
            total += config_digest(resource, key, value)
    return total % MODULUS


def topic_sum(topic: TopicImage) -> int:
    """What a topic with its partitions adds."""
    return topic_digest(topic.topic_id, topic.name) + topic.partitions_checksum


def topic_digest(topic_id: TopicId, name: str) -> int:
    return _digest(b"t", topic_id.bytes, name.encode())


def partitions_digest(topic_id: TopicId, partitions: Iterable[PartitionImage]) -> int:
    """The sum of these partitions' digests; each is of what the topic's id begins."""
    hash_, pack, nodes, number = blake2b, _PARTITION.pack, _nodes, int.from_bytes
    head, total = topic_id.bytes, 0
    for each in partitions:
        fixed = pack(b"p", each.partition, each.leader, each.leader_epoch, each.partition_epoch)
        data = b"".join((head, fixed, nodes(each.replicas), nodes(each.isr)))
        total += number(hash_(data, digest_size=CHECKSUM_BYTES).digest(), "little")
    return total


def broker_digest(broker: BrokerImage) -> int:
    endpoints = (
        part
        for each in broker.endpoints
        for part in (each.name, each.host, str(each.port), each.security_protocol)
    )
    return _digest(
        b"b",
        b"%d %d %d %d %d %d"
        % (
            broker.broker_id,
            broker.broker_epoch,
            broker.fenced,
            broker.in_controlled_shutdown,
            len(broker.endpoints),
            broker.rack is not None,
        ),
        broker.incarnation_id.bytes,
        (broker.rack or "").encode(),
        *(each.encode() for each in endpoints),
        *(each.bytes for each in broker.log_dirs),
    )


def config_digest(resource: ConfigResource, key: str, value: str) -> int:
    if len(value) > _CONFIG_CHARACTERS_KEPT:
        return _config_digest(resource, key, value)
    return _kept_config_digest(resource, key, value)


def _config_digest(resource: ConfigResource, key: str, value: str) -> int:
    kind, name = resource
    # The lengths tell where each begins; many of these are counted, so it is one string.
    data = f"c{kind:d} {len(name)} {len(key)} {name}{key}{value}".encode()
    return int.from_bytes(blake2b(data, digest_size=CHECKSUM_BYTES).digest(), "little")


_kept_config_digest = lru_cache(_CONFIGS_KEPT)(_config_digest)


def feature_digest(name: str, level: int) -> int:
    return _digest(b"f", name.encode(), b"%d" % level)


@lru_cache(_PRODUCER_IDS_KEPT)
def producer_ids_digest(next_producer_id: int) -> int:
    """Of an image that has given out none: 0, as of any item that is not there."""
    if not next_producer_id:
        return 0
    number = b"%d" % next_producer_id
    return _hash(b"1:i%d:%b" % (len(number), number))  # As `_digest` frames it.


def _digest(kind: bytes, *parts: bytes) -> int:
    """Each part with its length before it, so that no two items are the same bytes."""
    return _hash(b"".join([b"%d:%b" % (len(part), part) for part in (kind, *parts)]))


def _hash(framed: bytes) -> int:
    return int.from_bytes(blake2b(framed, digest_size=CHECKSUM_BYTES).digest(), "little")


@lru_cache(_NODES_KEPT)
def _nodes(nodes: tuple[NodeId, ...]) -> bytes:
    return struct.pack(f"<i{len(nodes)}i", len(nodes), *nodes)
