"""What a run of records changes in an image: the only code that knows what a record means.

    MetadataDelta(image) ── replay(record, offset) … ──▶ apply(provenance) ──▶ the next image

The image it began with is left alone. Replay cannot refuse: the controller has checked each record
against the image that it replays into, so a KeyError, IndexError or AssertionError here means a
corrupt log or a bug; the loader names the offset, and the process stops. Source: KIP-631; spec
kraft 2.3 for the merge rules.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from operator import mul, sub
from typing import assert_never, cast

from immutables import Map

from klamm.frozen import replace as copied
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch, TopicId
from klamm.metadata import checksum
from klamm.metadata.image import (
    NOTHING_SET,
    BrokerImage,
    ConfigResource,
    MetadataImage,
    PartitionImage,
    TopicImage,
    TopicsImage,
)
from klamm.metadata.records import (
    BrokerRegistrationChangeRecord,
    ConfigRecord,
    ConfigsRecord,
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
    StateChecksumRecord,
    TopicRecord,
    UnregisterBrokerRecord,
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A StateChecksumRecord, and what it was compared with."""

    record: StateChecksumRecord
    checksum: int
    """Of the state that it was replayed over."""

    @property
    def comparable(self) -> bool:
        return self.record.format == checksum.CHECKSUM_FORMAT

    @property
    def agrees(self) -> bool:
        return not self.comparable or self.record.checksum == self.checksum


class MetadataDelta:
    """Changes over `image`. Read by publishers; the dicts keep the order of the records."""

    def __init__(self, image: MetadataImage) -> None:
        self.image = image
        """Before."""
        self.topics_changed: dict[TopicId, TopicImage] = {}
        """New ones and changed ones, as they are now."""
        self.topics_removed: dict[TopicId, TopicImage] = {}
        """As they were last."""
        self.brokers_changed: dict[NodeId, BrokerImage | None] = {}
        """None: unregistered."""
        self.configs_changed: dict[ConfigResource, Map[str, str]] = {}
        """All that is set on the resource now."""
        self.statements: list[Statement] = []
        """What the records said that the state hashes to, in their order."""
        self._checksum = image.checksum
        """Of the state by now, not reduced; but for the next producer id, see `_counted_id`."""
        self._names: dict[str, TopicId] = {}
        self._features: Map[str, int] = image.features
        self._next_producer_id = image.next_producer_id
        self._counted_id = image.next_producer_id
        """That the checksum includes. Of a run of them only the last one counts in the end."""

    def replay(self, record: MetadataRecord, offset: Offset) -> None:
        """Take one record, which stands at `offset`, into account."""
        match record:
            case ConfigRecord():  # The first, since a call can have thousands.
                self._configure(record)
            case ProducerIdsRecord():  # Then the one that is written most often.
                assert record.next_producer_id > self._next_producer_id, "producer ids only grow"
                self._next_producer_id = record.next_producer_id
            case ConfigsRecord():
                self._configure_many(record)
            case RegisterBrokerRecord():
                self._register(record, offset)
            case UnregisterBrokerRecord():
                self._broker(record.broker_id, record.broker_epoch)
                self._set_broker(record.broker_id, None)
            case BrokerRegistrationChangeRecord():
                self._change_registration(record)
            case TopicRecord():
                self._add_topic(record)
            case PartitionRecord():
                self._add_partitions(record)
            case PartitionChangeRecord():
                self._change_partitions(record)
            case RemoveTopicRecord():
                self._remove_topic(record)
            case FeatureLevelRecord():
                self._set_feature(record)
            case NoOpRecord():
                pass
            case StateChecksumRecord():
                self.statements.append(Statement(record, self._checksum_now()))
            case _:
                assert_never(record)

    def replace_the_rest(self, image: MetadataImage) -> None:
        """Features, producer ids and the checksum as in `image`, whatever they were."""
        self._checksum = image.checksum
        self._features = image.features
        self._next_producer_id = self._counted_id = image.next_producer_id

    def apply(self, provenance: OffsetAndEpoch) -> MetadataImage:
        """The next image, which includes the log up to `provenance`. Costs what changed."""
        image = copied(
            self.image,
            provenance=provenance,
            features=self._features,
            next_producer_id=self._next_producer_id,
            checksum=self._checksum_now(),
        )
        if self.of_the_rest_only:
            return image
        return copied(
            image,
            brokers=self._apply_brokers(),
            topics=self._apply_topics(),
            configs=self._apply_configs(),
        )

    def _checksum_now(self) -> int:
        if self._counted_id != self._next_producer_id:
            self._checksum -= checksum.producer_ids_digest(self._counted_id)
            self._checksum += checksum.producer_ids_digest(self._next_producer_id)
            self._counted_id = self._next_producer_id
        return self._checksum % checksum.MODULUS

    @property
    def of_the_rest_only(self) -> bool:
        """Brokers, topics and configs are as they were."""
        topics = self.topics_changed or self.topics_removed
        return not (topics or self.brokers_changed or self.configs_changed)

    # ── brokers ──────────────────────────────────────────────────────────────────────────────

    def _register(self, record: RegisterBrokerRecord, offset: Offset) -> None:
        broker = BrokerImage(
            broker_id=record.broker_id,
            broker_epoch=offset if record.broker_epoch is None else record.broker_epoch,
            incarnation_id=record.incarnation_id,
            endpoints=record.endpoints,
            rack=record.rack,
            log_dirs=record.log_dirs,
            features=record.features,
        )
        self._set_broker(record.broker_id, broker)

    def _change_registration(self, record: BrokerRegistrationChangeRecord) -> None:
        broker = self._broker(record.broker_id, record.broker_epoch)
        if record.fenced is not None:
            broker = replace(broker, fenced=record.fenced)
        if record.in_controlled_shutdown is not None:
            broker = replace(broker, in_controlled_shutdown=record.in_controlled_shutdown)
        self._set_broker(record.broker_id, broker)

    def _set_broker(self, broker_id: NodeId, broker: BrokerImage | None) -> None:
        before = self._broker_now(broker_id)
        if before is not None:
            self._checksum -= checksum.broker_digest(before)
        if broker is not None:
            self._checksum += checksum.broker_digest(broker)
        self.brokers_changed[broker_id] = broker

    def _broker_now(self, broker_id: NodeId) -> BrokerImage | None:
        if broker_id in self.brokers_changed:
            return self.brokers_changed[broker_id]
        return self.image.brokers.get(broker_id)

    def _broker(self, broker_id: NodeId, broker_epoch: Offset) -> BrokerImage:
        broker = self._broker_now(broker_id)
        assert broker is not None, f"broker {broker_id} is not registered"
        assert broker.broker_epoch == broker_epoch, (
            f"broker {broker_id} is in epoch {broker.broker_epoch}, not {broker_epoch}"
        )
        return broker

    def _apply_brokers(self) -> Map[NodeId, BrokerImage]:
        if not self.brokers_changed:
            return self.image.brokers
        brokers = self.image.brokers.mutate()
        for broker_id, broker in self.brokers_changed.items():
            if broker is not None:
                brokers[broker_id] = broker
            elif broker_id in brokers:
                del brokers[broker_id]
        return brokers.finish()

    # ── topics ───────────────────────────────────────────────────────────────────────────────

    def _add_topic(self, record: TopicRecord) -> None:
        assert self._named(record.name) is None, f"a topic {record.name} is there already"
        assert not self._is_known(record.topic_id), f"a topic {record.topic_id} is there already"
        self.topics_changed[record.topic_id] = TopicImage(
            topic_id=record.topic_id, name=record.name
        )
        self._names[record.name] = record.topic_id
        self._checksum += checksum.topic_digest(record.topic_id, record.name)

    def _add_partitions(self, record: PartitionRecord) -> None:
        topic = self._topic(record.topic_id)
        partitions = list(topic.partitions)
        for new in record.partitions:
            assert new.partition == len(partitions), "partitions come in order"
            partitions.append(_created(new))
        added = tuple(partitions[len(topic.partitions) :])
        self._set_partitions(topic, partitions, before=(), after=added)

    def _change_partitions(self, record: PartitionChangeRecord) -> None:
        topic = self._topic(record.topic_id)
        partitions = list(topic.partitions)
        before, after = [], []
        for change in record.changes:
            assert change.partition >= 0, f"partition {change.partition}"
            before.append(partitions[change.partition])
            after.append(_changed(partitions[change.partition], change))
            partitions[change.partition] = after[-1]
        self._set_partitions(topic, partitions, before=before, after=after)

    def _set_partitions(
        self,
        topic: TopicImage,
        partitions: Iterable[PartitionImage],
        *,
        before: Iterable[PartitionImage],
        after: Iterable[PartitionImage],
    ) -> None:
        """`partitions` are all of them now; `before` became `after` in it."""
        change = checksum.partitions_digest(topic.topic_id, after)
        change -= checksum.partitions_digest(topic.topic_id, before)
        self._checksum += change
        self.topics_changed[topic.topic_id] = TopicImage(
            topic_id=topic.topic_id,
            name=topic.name,
            partitions=tuple(partitions),
            partitions_checksum=topic.partitions_checksum + change,
        )

    def _remove_topic(self, record: RemoveTopicRecord) -> None:
        topic = self._topic(record.topic_id)
        self._checksum -= checksum.topic_sum(topic)
        self.topics_changed.pop(record.topic_id, None)
        self._names.pop(topic.name, None)
        self.topics_removed[record.topic_id] = topic
        resource = (ResourceType.TOPIC, topic.name)
        if config := self._config(resource):
            self._checksum -= checksum.configs_digest(resource, config)
            self.configs_changed[resource] = Map()

    def _topic(self, topic_id: TopicId) -> TopicImage:
        assert topic_id not in self.topics_removed, f"topic {topic_id} is removed"
        changed = self.topics_changed.get(topic_id)
        return self.image.topics.by_id[topic_id] if changed is None else changed

    def _is_known(self, topic_id: TopicId) -> bool:
        """Also one that is removed: an id names one life."""
        changed = topic_id in self.topics_changed or topic_id in self.topics_removed
        return changed or topic_id in self.image.topics.by_id

    def _named(self, name: str) -> TopicId | None:
        if name in self._names:
            return self._names[name]
        topic_id = self.image.topics.by_name.get(name)
        return None if topic_id in self.topics_removed else topic_id

    def _apply_topics(self) -> TopicsImage:
        if not self.topics_changed and not self.topics_removed:
            return self.image.topics
        before = self.image.topics
        by_id, by_name = before.by_id.mutate(), before.by_name.mutate()
        for topic_id, topic in self.topics_removed.items():
            if topic_id in by_id:
                del by_id[topic_id]
                del by_name[topic.name]
        for topic_id, topic in self.topics_changed.items():
            by_id[topic_id] = topic
            by_name[topic.name] = topic_id
        return TopicsImage(by_id.finish(), by_name.finish())

    # ── configs and the rest ─────────────────────────────────────────────────────────────────

    def _configure(self, record: ConfigRecord) -> None:
        kind, name, key, value = record
        resource = (kind, name)
        config, change = _configured(self._config(resource), key, value)
        self._checksum += checksum.resource_number(resource) * change
        self.configs_changed[resource] = config

    def _configure_many(self, record: ConfigsRecord) -> None:
        """By the column, with the loops of C where it can be."""
        kind, key, names, values = record
        resources = list(zip(repeat(kind), names, strict=False))
        configs = list(map(self.image.configs.get, resources, repeat(NOTHING_SET)))
        if self.configs_changed:
            configs = list(map(self.configs_changed.get, resources, configs))
        numbers = map(checksum.resource_number, resources)
        if len(values) < len(names):
            value = values[0] if values else None
            after, change = _configured_alike(configs, numbers, key, value)
        else:
            after, change = _configured_each(configs, numbers, key, values)
        self.configs_changed.update(zip(resources, after, strict=False))
        self._checksum += change

    def _config(self, resource: ConfigResource) -> Map[str, str]:
        changed = self.configs_changed.get(resource)
        return self.image.config(*resource) if changed is None else changed

    def _apply_configs(self) -> Map[ConfigResource, Map[str, str]]:
        if not self.configs_changed:
            return self.image.configs
        configs = self.image.configs.mutate()
        configs.update(self.configs_changed)
        if not all(self.configs_changed.values()):
            for resource, config in self.configs_changed.items():
                if not config:
                    del configs[resource]
        return configs.finish()

    def _set_feature(self, record: FeatureLevelRecord) -> None:
        if (before := self._features.get(record.name)) is not None:
            self._checksum -= checksum.feature_digest(record.name, before)
        if record.level:
            self._checksum += checksum.feature_digest(record.name, record.level)
            self._features = self._features.set(record.name, record.level)
        elif record.name in self._features:
            self._features = self._features.delete(record.name)


def _configured(config: Map[str, str], key: str, value: str | None) -> tuple[Map[str, str], int]:
    """With the key set, or removed; and by how much the sum of its settings changes."""
    before, change = config.get(key), 0
    if before is not None:
        change -= checksum.setting_number(key, before)
    if value is not None:
        return config.set(key, value), change + checksum.setting_number(key, value)
    return (config if before is None else config.delete(key)), change


def _configured_alike(
    configs: list[Map[str, str]], numbers: Iterable[int], key: str, value: str | None
) -> tuple[Iterable[Map[str, str]], int]:
    """As `_configured` for each, done once for each different one; and the checksum's change.

    Resources that were configured alike share one map then, and the next time it is one.
    """
    ids = list(map(id, configs))
    after: dict[int, Map[str, str]] = {}
    change: dict[int, int] = {}
    shared: dict[Map[str, str], Map[str, str]] = {}
    for each, before in dict(zip(ids, configs, strict=True)).items():
        config, change[each] = _configured(before, key, value)
        after[each] = shared.setdefault(config, config)
    if len(after) == 1:
        return repeat(after[ids[0]]), sum(numbers) * change[ids[0]]
    changes = map(change.__getitem__, ids)
    return map(after.__getitem__, ids), sum(map(mul, numbers, changes))


def _configured_each(
    configs: list[Map[str, str]], numbers: Iterable[int], key: str, values: tuple[str, ...]
) -> tuple[Iterable[Map[str, str]], int]:
    """Likewise, each with a value of its own."""
    before = [config.get(key) for config in configs]
    if None not in before:
        less = checksum.value_numbers(cast("list[str]", before))
    else:
        less = [0 if value is None else checksum.value_number(value) for value in before]
    after = [config.set(key, value) for config, value in zip(configs, values, strict=True)]
    changes = map(sub, checksum.value_numbers(values), less)
    return after, checksum.key_number(key) * sum(map(mul, numbers, changes))


def _created(new: NewPartition) -> PartitionImage:
    return PartitionImage(
        partition=new.partition,
        replicas=new.replicas,
        isr=new.isr,
        leader=new.leader,
        leader_epoch=new.leader_epoch,
        partition_epoch=new.partition_epoch,
    )


def _changed(partition: PartitionImage, change: PartitionChange) -> PartitionImage:
    """Any change raises the partition epoch; a leader that is named, even the same, its own."""
    named = change.leader is not None
    return PartitionImage(
        partition=partition.partition,
        replicas=partition.replicas if change.replicas is None else change.replicas,
        isr=partition.isr if change.isr is None else change.isr,
        leader=partition.leader if change.leader is None else change.leader,
        leader_epoch=Epoch(partition.leader_epoch + 1) if named else partition.leader_epoch,
        partition_epoch=partition.partition_epoch + 1,
    )


def replay(
    image: MetadataImage, records: tuple[MetadataRecord, ...], end: OffsetAndEpoch
) -> MetadataImage:
    """The image after `records`, the last of which stands just below `end`."""
    delta = MetadataDelta(image)
    for index, record in enumerate(records):
        delta.replay(record, Offset(end.offset - len(records) + index))
    return delta.apply(end)
