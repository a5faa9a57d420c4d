"""A checksum of an image that follows its changes: the sum of what each item in it hashes to.

    image = { item, item, … }      checksum = Σ digest(item)  mod p, a prime just below 2^128
    a change of one item           checksum + digest(new) - digest(old)

An item is a partition, a topic's name, a broker, one key of a config, a feature's level or the next
producer id. The sum does not hang on an order, so that it is the same however the image came about:
by the log, by a snapshot, or counted from nothing (`checksum_of`). A record costs what it changes.

A config's digest is a product, number(resource) * number(key) * number(value). The first two have
128 bits that a hash draws, and are remembered; the third is the value itself, its bytes read as a
number, or a hash of it if they are many. So one key set on a thousand topics costs no hash at all,
be the values the same or not. Nothing is lost by it. Take two images that differ, a resource r on
which they do, and of it a key k. Their checksums differ by

    number(r) * (number(k) * (value's number here - there) + other keys of r) + what has no r in it

Modulo a prime a product is nothing only if a factor is. Different values have different numbers, so
of all that number(k) may be one at most makes the bracket nothing; and if it is something, then of
all that number(r) may be one at most makes the whole nothing. Both are as good as random: it is
less than one in 2^125 that two given images are taken for each other, for another value, a key too
many, values of two topics exchanged. One resource with one other value, of 15 bytes at most, is
always told. (Modulo 2^128 it would not do: of values that differ in their first byte the numbers
differ by many factors of two, and with them most of the product would be above what is kept.)

It finds accidents (a damaged memory, code that is not deterministic), not malice. Source: Bellare
and Micciancio 1997, AdHash; of the product, Carter and Wegman 1979, universal hash functions.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import starmap

from klamm.ids import NodeId, TopicId
from klamm.metadata.image import (
    BrokerImage,
    ConfigResource,
    MetadataImage,
    PartitionImage,
    TopicImage,
)

CHECKSUM_FORMAT = 3
"""Of what is hashed, and how. One of another format is not compared."""

CHECKSUM_BYTES = 16
MODULUS = (1 << 128) - 159
"""The greatest prime that is less than 2^128."""

_PARTITION = struct.Struct("<cqqqq")
_RESOURCES_KEPT = 65_536
"""Resources whose numbers are kept; when there are more, all are forgotten."""
_KEYS_KEPT = 256
_VALUE_BYTES_MAX = 16
"""Of a value with a byte before it, that it is its own number: below the modulus."""
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
        total += configs_digest(resource, config)
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


def configs_digest(resource: ConfigResource, config: Mapping[str, str]) -> int:
    """Of all that is set on a resource; the sum of its settings is multiplied once."""
    return resource_number(resource) * sum(starmap(setting_number, config.items()))


def setting_number(key: str, value: str) -> int:
    """What a key with this value adds to the sum of a resource's settings."""
    return key_number(key) * value_number(value)


class _Resources(dict[ConfigResource, int]):
    """Numbers that were asked for; what is there costs no call of Python."""

    def __missing__(self, resource: ConfigResource) -> int:
        if len(self) >= _RESOURCES_KEPT:
            self.clear()
        kind, name = resource
        self[resource] = number = _number(f"r{kind:d} {name}")
        return number


resource_number = _Resources().__getitem__


@lru_cache(_KEYS_KEPT)
def key_number(key: str) -> int:
    return _number(f"c{key}")


def value_number(value: str) -> int:
    """No two short ones have the same, and none has 0, which is what is not set."""
    data = (_MARK + value).encode()
    if len(data) <= _VALUE_BYTES_MAX:
        return int.from_bytes(data, "big")
    return _hash(data)


def value_numbers(values: Sequence[str]) -> list[int]:
    """As `value_number` of each, by C's loops if they are short, and have no byte that is 0."""
    data = (_MARK + _BETWEEN.join(values)).encode().split(b"\0")
    if len(data) == len(values) and max(map(len, data)) <= _VALUE_BYTES_MAX:
        return list(map(int.from_bytes, data))
    return list(map(value_number, values))


_MARK = "\1"
"""Before each value, so that its first bytes count also where they are 0."""
_BETWEEN = "\0" + _MARK
"""Two values that are encoded together."""


def _number(text: str) -> int:
    return _hash(text.encode())


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
