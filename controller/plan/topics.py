"""Topics: created and deleted, each by itself, all in one atomic batch (spec kraft 2.11)."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from controller.plan import names, placement
from controller.plan.decision import Decision, Draw
from controller.plan.ledger import View
from controller.plan.placement import UsableBroker
from klamm.config.topic import violations
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NO_NODE, NodeId, TopicId
from klamm.metadata.image import TopicImage
from klamm.metadata.records import (
    ConfigRecord,
    MetadataRecord,
    NewPartition,
    PartitionRecord,
    RemoveTopicRecord,
    ResourceType,
    TopicRecord,
)

PARTITIONS_PER_REQUEST_MAX = 10_000
USE_DEFAULT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTopic:
    name: str
    num_partitions: int = USE_DEFAULT
    replication_factor: int = USE_DEFAULT
    configs: Mapping[str, str | None] = field(default_factory=dict)
    assignments: tuple[tuple[int, tuple[NodeId, ...]], ...] = ()
    """(partition, replicas), instead of the two counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What USE_DEFAULT stands for."""

    num_partitions: int = 1
    replication_factor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateResult:
    name: str
    error: ErrorCode = ErrorCode.NONE
    message: str = ""
    topic_id: TopicId | None = None
    num_partitions: int = -1
    replication_factor: int = -1
    configs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteResult:
    name: str = ""
    topic_id: TopicId | None = None
    error: ErrorCode = ErrorCode.NONE
    message: str = ""


def create(
    view: View,
    asked: tuple[NewTopic, ...],
    defaults: Defaults,
    draw: Draw,
    new_id: Callable[[], UUID],
    *,
    validate_only: bool = False,
) -> Decision[tuple[CreateResult, ...]]:
    """Create what can be created; one topic that cannot does not stop the others.

    Args:
        draw: Chance, for the placement.
        new_id: Makes a topic id that nobody had.
        validate_only: Answer in full, and write nothing.
    """
    times = Counter(topic.name for topic in asked)
    records: list[MetadataRecord] = []
    results: list[CreateResult] = []
    new_names: dict[str, str] = {}
    partitions_left = PARTITIONS_PER_REQUEST_MAX
    for topic in asked:
        try:
            if times[topic.name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, f"{topic.name!r} stands twice")
            _check_name(view, topic.name, new_names)
            _check_configs(topic)
            replicas = _replicas(view, topic, defaults, partitions_left, draw)
        except ApiError as error:
            results.append(CreateResult(name=topic.name, error=error.code, message=error.message))
            continue
        partitions_left -= len(replicas)
        new_names[names.collision_key(topic.name)] = topic.name
        topic_id = TopicId(new_id())
        records += _records(view, topic, topic_id, replicas)
        results.append(_created(topic, topic_id, replicas))
    return Decision(() if validate_only else tuple(records), tuple(results))


def delete(
    view: View, asked: tuple[str | TopicId, ...], *, delete_topic_enable: bool
) -> Decision[tuple[DeleteResult, ...]]:
    """Delete by name or by id, each by itself."""
    records: list[MetadataRecord] = []
    results: list[DeleteResult] = []
    gone: set[TopicId] = set()
    for each in asked:
        topic = _find(view, each)
        if topic is None:
            results.append(_unknown(each))
        elif not delete_topic_enable:
            results.append(
                _deleted(topic, ErrorCode.TOPIC_DELETION_DISABLED, "delete.topic.enable is false")
            )
        elif topic.topic_id in gone:
            results.append(_deleted(topic, ErrorCode.INVALID_REQUEST, "the topic stands twice"))
        else:
            gone.add(topic.topic_id)
            records.append(RemoveTopicRecord(topic_id=topic.topic_id))
            results.append(_deleted(topic))
    return Decision(tuple(records), tuple(results))


# ── names and configs ────────────────────────────────────────────────────────────────────────


def _check_name(view: View, name: str, new_names: Mapping[str, str]) -> None:
    """`new_names`: of this request, by collision key."""
    violation = names.violation(name)
    if violation is not None:
        raise ApiError(ErrorCode.INVALID_TOPIC_EXCEPTION, violation)
    if name in view.image.topics.by_name:
        raise ApiError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    key = names.collision_key(name)
    other = view.collisions.get(key) or new_names.get(key)
    if other is not None:
        raise ApiError(
            ErrorCode.INVALID_TOPIC_EXCEPTION,
            f"Topic '{name}' collides with existing topic: {other}",
        )


def _check_configs(topic: NewTopic) -> None:
    wrong = violations(topic.configs)
    if wrong:
        raise ApiError(ErrorCode.INVALID_CONFIG, "; ".join(wrong[key] for key in sorted(wrong)))


# ── replicas ─────────────────────────────────────────────────────────────────────────────────


def _replicas(
    view: View, topic: NewTopic, defaults: Defaults, partitions_left: int, draw: Draw
) -> list[tuple[NodeId, ...]]:
    if topic.assignments:
        replicas = _assigned(view, topic)
    else:
        partitions, factor = _counts(topic, defaults)
        if partitions > partitions_left:
            raise _too_many(partitions)
        replicas = placement.place(_usable(view), partitions, factor, draw)
    if len(replicas) > partitions_left:
        raise _too_many(len(replicas))
    return replicas


def _too_many(partitions: int) -> ApiError:
    return ApiError(
        ErrorCode.POLICY_VIOLATION,
        f"{partitions} partitions would be more than {PARTITIONS_PER_REQUEST_MAX} in one request; "
        "create the topics one by one, or this one with fewer",
    )


def _counts(topic: NewTopic, defaults: Defaults) -> tuple[int, int]:
    partitions, factor = topic.num_partitions, topic.replication_factor
    if partitions == 0 or partitions < USE_DEFAULT:
        raise ApiError(
            ErrorCode.INVALID_PARTITIONS,
            f"the number of partitions must be 1 or more, or -1 for the default, is {partitions}",
        )
    if factor == 0 or factor < USE_DEFAULT:
        raise ApiError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"the replication factor must be 1 or more, or -1 for the default, is {factor}",
        )
    return (
        defaults.num_partitions if partitions == USE_DEFAULT else partitions,
        defaults.replication_factor if factor == USE_DEFAULT else factor,
    )


def _usable(view: View) -> list[UsableBroker]:
    return [
        UsableBroker(broker_id=broker_id, rack=broker.rack, fenced=broker.fenced)
        for broker_id, broker in sorted(view.image.brokers.items())
        if not broker.in_controlled_shutdown
    ]


def _assigned(view: View, topic: NewTopic) -> list[tuple[NodeId, ...]]:
    if topic.num_partitions != USE_DEFAULT or topic.replication_factor != USE_DEFAULT:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            "with a manual assignment, number of partitions and replication factor must be -1",
        )
    by_number = dict(topic.assignments)
    if sorted(number for number, _ in topic.assignments) != list(range(len(by_number))):
        raise ApiError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT,
            "the partitions of a manual assignment must be 0, 1, 2 …, each once",
        )
    replicas = [by_number[number] for number in range(len(by_number))]
    for number, brokers in enumerate(replicas):
        _check_assigned(view, number, brokers, len(replicas[0]))
    return replicas


def _check_assigned(
    view: View, number: int, brokers: tuple[NodeId, ...], replication_factor: int
) -> None:
    problem = None
    unknown = [each for each in brokers if each not in view.image.brokers]
    if not brokers:
        problem = "has no replica"
    elif len(set(brokers)) != len(brokers):
        problem = f"names a broker twice: {list(brokers)}"
    elif unknown:
        problem = f"names brokers that are not registered: {unknown}"
    elif len(brokers) != replication_factor:
        problem = f"has {len(brokers)} replicas, and partition 0 has {replication_factor}"
    elif not any(view.image.brokers[each].active for each in brokers):
        problem = f"has no replica on an active broker: {list(brokers)}"
    if problem is not None:
        raise ApiError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"partition {number} {problem}")


# ── records and answers ──────────────────────────────────────────────────────────────────────


def _records(
    view: View, topic: NewTopic, topic_id: TopicId, replicas: list[tuple[NodeId, ...]]
) -> list[MetadataRecord]:
    partitions = tuple(_partition(view, number, brokers) for number, brokers in enumerate(replicas))
    return [
        TopicRecord(topic_id=topic_id, name=topic.name),
        *(
            ConfigRecord(
                resource_type=ResourceType.TOPIC,
                resource_name=topic.name,
                key=key,
                value=topic.configs[key],
            )
            for key in sorted(topic.configs)
        ),
        PartitionRecord(topic_id=topic_id, partitions=partitions),
    ]


def _partition(view: View, number: int, replicas: tuple[NodeId, ...]) -> NewPartition:
    """Only active replicas are in sync from the start; the first of them leads."""
    isr = tuple(each for each in replicas if view.image.brokers[each].active)
    return NewPartition(
        partition=number, replicas=replicas, isr=isr, leader=isr[0] if isr else NO_NODE
    )


def _created(
    topic: NewTopic, topic_id: TopicId, replicas: list[tuple[NodeId, ...]]
) -> CreateResult:
    return CreateResult(
        name=topic.name,
        topic_id=topic_id,
        num_partitions=len(replicas),
        replication_factor=len(replicas[0]),
        configs={key: value for key, value in topic.configs.items() if value is not None},
    )


def _find(view: View, reference: str | TopicId) -> TopicImage | None:
    if isinstance(reference, str):
        return view.image.topics.named(reference)
    return view.image.topics.by_id.get(reference)


def _unknown(reference: str | TopicId) -> DeleteResult:
    if isinstance(reference, str):
        return DeleteResult(
            name=reference,
            error=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
            message=f"there is no topic {reference!r}",
        )
    return DeleteResult(
        topic_id=reference,
        error=ErrorCode.UNKNOWN_TOPIC_ID,
        message="no topic has this id",
    )


def _deleted(
    topic: TopicImage, error: ErrorCode = ErrorCode.NONE, message: str = ""
) -> DeleteResult:
    return DeleteResult(name=topic.name, topic_id=topic.topic_id, error=error, message=message)
