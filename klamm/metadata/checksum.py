"""A checksum of an image that follows its changes: the sum of what each item in it hashes to.

    image = { item, item, … }      checksum = Σ digest(item)  mod 2^128
    a change of one item           checksum + digest(new) - digest(old)

An item is a partition, a topic's name, a broker, one key of a config, a feature's level or the next
producer id. The sum does not hang on an order, so that it is the same however the image came about:
by the log, by a snapshot, or counted from nothing (`checksum_of`). A record costs what it changes.

A config's digest is a product, number(resource) * number(key, value), both of 128 bits and drawn by
a hash, the first odd. One key set on a thousand topics so costs one hash and one multiplication:
digests of topics that were seen before are sums of what is remembered. Nothing is lost by it. Take
two images that differ, and a resource r on which they do. Their checksums differ by

    number(r) * (the sum of r's settings here - there) + what has nothing of number(r) in it

and of all odd numbers that number(r) may be, 2^k at the most make that nothing, where 2^k divides
the difference in brackets; it is as good as random, so it does that one time in 2^k. All k together
make it less than one in 2^120 that two given images are taken for each other: another value, a key
too many, values of two topics exchanged. One resource with one other value is always told, unless
two numbers are the same.

It finds accidents (a damaged memory, code that is not deterministic), not malice. Source: Bellare
and Micciancio 1997, AdHash.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import repeat, starmap

from klamm.ids import NodeId, TopicId
from klamm.metadata.image import (
    BrokerImage,
    ConfigResource,
    MetadataImage,
    PartitionImage,
    TopicImage,
)

CHECKSUM_FORMAT = 2
"""Of what is hashed, and how. One of another format is not compared."""

CHECKSUM_BYTES = 16
MODULUS = 1 << (8 * CHECKSUM_BYTES)

_PARTITION = struct.Struct("<cqqqq")
_RESOURCES_KEPT = 65_536
"""Resources whose numbers are kept; when there are more, all are forgotten."""
_SETTINGS_KEPT = 16_384
"""Settings, likewise: each is added by who decides, by who applies, and taken off again."""
_KEYS_KEPT = 256
"""Their keys, likewise."""
_SETTING_CHARACTERS_KEPT = 256
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


class _Resources(dict[ConfigResource, int]):
    """Numbers that were asked for; what is there costs no call of Python."""

    def __missing__(self, resource: ConfigResource) -> int:
        if len(self) >= _RESOURCES_KEPT:
            self.clear()
        kind, name = resource
        self[resource] = number = _number(f"r{kind:d} {name}") | 1
        return number


class _Values(dict[str, int]):
    """Of one key: value → number."""

    def __init__(self, key: str) -> None:
        self.head = f"c{len(key)} {key}"
        """The length tells where the value begins."""

    def __missing__(self, value: str) -> int:
        number = _number(self.head + value)
        self.keep((value,), (number,))
        return number

    def keep(self, values: Sequence[str], numbers: Sequence[int]) -> None:
        if max(map(len, values)) > _SETTING_CHARACTERS_KEPT or len(values) > _SETTINGS_KEPT:
            return
        if sum(map(len, _settings.values())) + len(values) > _SETTINGS_KEPT:
            for each in _settings.values():
                each.clear()
        self.update(zip(values, numbers, strict=True))


class _Settings(dict[str, _Values]):
    def __missing__(self, key: str) -> _Values:
        if len(self) >= _KEYS_KEPT:
            self.clear()
        self[key] = made = _Values(key)
        return made


resource_number = _Resources().__getitem__
"""Odd: to multiply by it loses nothing."""

_settings = _Settings()


def setting_number(key: str, value: str) -> int:
    """Of a key with one value."""
    return _settings[key][value]


def setting_numbers(key: str, values: Sequence[str]) -> list[int]:
    """As `setting_number` of the key with each value: new ones are hashed by C's loops."""
    known = _settings[key]
    found = list(map(known.get, values, repeat(0)))
    if all(found):
        return found
    if any(found):
        return list(map(known.__getitem__, values))
    texts = map(str.encode, map(known.head.__add__, values))
    numbers = list(map(_FROM_BYTES, map(blake2b.digest, map(_HASH, texts))))
    known.keep(values, numbers)
    return numbers


_HASH = partial(blake2b, digest_size=CHECKSUM_BYTES)
_FROM_BYTES = partial(int.from_bytes, byteorder="little")


def _number(text: str) -> int:
    return _FROM_BYTES(_HASH(text.encode()).digest())


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
