"""Topics: each error code of kraft.md 2.11, and what is written when there is none."""

import itertools
import random
from collections.abc import Callable
from uuid import UUID

import pytest

from controller.plan import topics
from controller.plan.decision import Decision
from controller.plan.ledger import View
from controller.plan.topics import CreateResult, Defaults, NewTopic
from klamm.errors import ErrorCode
from klamm.ids import TopicId
from klamm.metadata.records import ResourceType
from tests.unit.plan.views import TOPIC, cluster, nodes, replayed, with_topic


def ids() -> Callable[[], UUID]:
    numbers = itertools.count(100)
    return lambda: UUID(int=next(numbers))


def create(
    view: View, *asked: NewTopic, validate_only: bool = False, seed: int = 0
) -> Decision[tuple[CreateResult, ...]]:
    return topics.create(
        view,
        asked,
        Defaults(num_partitions=4, replication_factor=2),
        random.Random(seed).randrange,
        ids(),
        validate_only=validate_only,
    )


def test_a_topic_is_there_once_its_records_are() -> None:
    view = cluster()
    configs = {"retention.ms": "1000"}
    decision = create(
        view, NewTopic(name="a", num_partitions=6, replication_factor=3, configs=configs)
    )
    (result,) = decision.results
    topic = replayed(view, decision.records).image.topics.named("a")
    assert topic is not None
    assert result.topic_id == topic.topic_id
    assert (result.num_partitions, result.replication_factor, result.configs) == (6, 3, configs)
    assert all(
        each.isr == each.replicas and each.leader == each.isr[0] for each in topic.partitions
    )
    image = replayed(view, decision.records).image
    assert dict(image.config(ResourceType.TOPIC, "a")) == configs


def test_minus_one_is_the_default() -> None:
    (result,) = create(cluster(), NewTopic(name="a")).results
    assert (result.num_partitions, result.replication_factor) == (4, 2)


def test_validate_only_answers_and_writes_nothing() -> None:
    decision = create(cluster(), NewTopic(name="a"), validate_only=True)
    assert not decision.records
    assert decision.results[0].error is ErrorCode.NONE
    assert decision.results[0].num_partitions == 4


def manual(*assignments: tuple[int, tuple[int, ...]], num_partitions: int = -1) -> NewTopic:
    given = tuple((number, nodes(*brokers)) for number, brokers in assignments)
    return NewTopic(name="a", assignments=given, num_partitions=num_partitions)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (NewTopic(name=""), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="."), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name=".."), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="a" * 250), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="a/b"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="a\nb"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="é"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="__cluster_metadata"), ErrorCode.INVALID_TOPIC_EXCEPTION),
        (NewTopic(name="orders"), ErrorCode.TOPIC_ALREADY_EXISTS),
        (NewTopic(name="a", num_partitions=0), ErrorCode.INVALID_PARTITIONS),
        (NewTopic(name="a", num_partitions=-2), ErrorCode.INVALID_PARTITIONS),
        (NewTopic(name="a", num_partitions=10_001), ErrorCode.POLICY_VIOLATION),
        (NewTopic(name="a", replication_factor=0), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="a", replication_factor=-2), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="a", replication_factor=4), ErrorCode.INVALID_REPLICATION_FACTOR),
        (NewTopic(name="a", configs={"no.such": "1"}), ErrorCode.INVALID_CONFIG),
        (NewTopic(name="a", configs={"retention.ms": None}), ErrorCode.INVALID_CONFIG),
        (manual((0, (1,)), num_partitions=1), ErrorCode.INVALID_REQUEST),
        (manual((1, (1,))), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (manual((0, (1,)), (0, (2,))), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (manual((0, ())), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (manual((0, (1, 1))), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (manual((0, (1, 9))), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (manual((0, (1, 2)), (1, (1,))), ErrorCode.INVALID_REPLICA_ASSIGNMENT),
    ],
)
def test_refusals(topic: NewTopic, code: ErrorCode) -> None:
    decision = create(with_topic(cluster(), ((1,), (1,), 1)), topic)
    assert decision.results[0].error is code, decision.results[0].message
    assert decision.results[0].message
    assert not decision.records


def test_names_that_differ_in_dots_and_underscores_collide() -> None:
    view = with_topic(cluster(), ((1,), (1,), 1), name="a.b")
    (result,) = create(view, NewTopic(name="a_b")).results
    assert result.error is ErrorCode.INVALID_TOPIC_EXCEPTION
    gone = replayed(view, topics.delete(view, ("a.b",), delete_topic_enable=True).records)
    assert create(gone, NewTopic(name="a_b")).results[0].error is ErrorCode.NONE
    together = create(cluster(), NewTopic(name="c.d"), NewTopic(name="c_d")).results
    assert [each.error for each in together] == [ErrorCode.NONE, ErrorCode.INVALID_TOPIC_EXCEPTION]


def test_one_that_cannot_does_not_stop_the_others_and_twice_is_neither() -> None:
    decision = create(
        cluster(), NewTopic(name="x"), NewTopic(name=".."), NewTopic(name="y"), NewTopic(name="y")
    )
    assert [each.error for each in decision.results] == [
        ErrorCode.NONE,
        ErrorCode.INVALID_TOPIC_EXCEPTION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.INVALID_REQUEST,
    ]
    assert len(decision.records) == 2


def test_partitions_of_one_request_have_a_limit_together() -> None:
    decision = create(
        cluster(), NewTopic(name="x", num_partitions=9_999), NewTopic(name="y", num_partitions=2)
    )
    assert [each.error for each in decision.results] == [ErrorCode.NONE, ErrorCode.POLICY_VIOLATION]


def test_a_manual_assignment_is_kept_and_only_active_replicas_are_in_sync() -> None:
    view = cluster(fenced=(1,))
    decision = create(view, manual((0, (1, 2)), (1, (2, 3))))
    topic = replayed(view, decision.records).image.topics.named("a")
    assert topic is not None
    assert [each.replicas for each in topic.partitions] == [nodes(1, 2), nodes(2, 3)]
    assert [(each.isr, each.leader) for each in topic.partitions] == [
        (nodes(2), 2),
        (nodes(2, 3), 2),
    ]
    (refused,) = create(view, manual((0, (1,)))).results
    assert refused.error is ErrorCode.INVALID_REPLICA_ASSIGNMENT


def test_delete_by_name_and_by_id() -> None:
    view = with_topic(cluster(), ((1,), (1,), 1))
    for reference in ("orders", TOPIC):
        decision = topics.delete(view, (reference,), delete_topic_enable=True)
        assert decision.results[0].error is ErrorCode.NONE
        after = replayed(view, decision.records)
        assert not after.image.topics.by_id
        assert not after.image.topics.by_name
        assert not list(after.held_by(nodes(1)[0]))


def test_delete_refusals() -> None:
    view = with_topic(cluster(), ((1,), (1,), 1))
    unknown = topics.delete(
        view, ("nobody", TopicId(UUID(int=1)), "orders", TOPIC), delete_topic_enable=True
    )
    assert [each.error for each in unknown.results] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NONE,
        ErrorCode.INVALID_REQUEST,
    ]
    disabled = topics.delete(view, ("orders",), delete_topic_enable=False)
    assert disabled.results[0].error is ErrorCode.TOPIC_DELETION_DISABLED
    assert not disabled.records


def test_no_broker_no_leader() -> None:
    (result,) = create(cluster(fenced=(1, 2, 3)), NewTopic(name="a")).results
    assert result.error is ErrorCode.INVALID_REPLICATION_FACTOR
