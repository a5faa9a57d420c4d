"""AlterPartition: each check of kraft.md 2.8, in its order."""

from dataclasses import replace
from uuid import UUID

import pytest

from controller.plan import brokers, isr
from controller.plan.decision import Decision
from controller.plan.isr import IsrChange, IsrMember
from klamm.errors import ApiError, ErrorCode
from klamm.ids import Epoch, NodeId, Offset, TopicId
from tests.unit.plan.views import TOPIC, cluster, nodes, partition, replayed, with_topic

VIEW = with_topic(cluster(fenced=(4,), brokers=(1, 2, 3, 4)), ((1, 2, 3, 4), (1, 2), 1))
LEADER_EPOCH = VIEW.image.brokers[NodeId(1)].broker_epoch


def members(*ids: int) -> tuple[IsrMember, ...]:
    return tuple(IsrMember(broker_id=NodeId(each)) for each in ids)


GOOD = IsrChange(
    topic_id=TOPIC,
    partition=0,
    leader_epoch=Epoch(0),
    partition_epoch=0,
    new_isr=members(1, 2, 3),
)


def alter(*asked: IsrChange, broker: int = 1) -> Decision[tuple[isr.IsrResult, ...]]:
    epoch = VIEW.image.brokers[NodeId(broker)].broker_epoch
    return isr.alter(VIEW, NodeId(broker), epoch, asked)


def test_a_granted_isr_is_written_and_answered() -> None:
    decision = alter(GOOD)
    (result,) = decision.results
    after = partition(replayed(VIEW, decision.records))
    assert after.isr == result.isr == nodes(1, 2, 3)
    assert after.partition_epoch == result.partition_epoch == 1
    assert (after.leader_epoch, result.leader, result.error) == (0, 1, ErrorCode.NONE)


def test_the_same_again_writes_nothing() -> None:
    decision = alter(replace(GOOD, new_isr=members(1, 2)))
    assert not decision.records
    assert decision.results[0].partition_epoch == 0


STALE = IsrMember(broker_id=NodeId(3), broker_epoch=Offset(99))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (replace(GOOD, topic_id=TopicId(UUID(int=1))), ErrorCode.UNKNOWN_TOPIC_ID),
        (replace(GOOD, partition=1), ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (replace(GOOD, leader_epoch=Epoch(1)), ErrorCode.NOT_CONTROLLER),
        (replace(GOOD, partition_epoch=1), ErrorCode.NOT_CONTROLLER),
        (replace(GOOD, leader_epoch=Epoch(-1)), ErrorCode.FENCED_LEADER_EPOCH),
        (replace(GOOD, partition_epoch=-1), ErrorCode.INVALID_UPDATE_VERSION),
        (replace(GOOD, new_isr=members(1, 1)), ErrorCode.INVALID_REQUEST),
        (replace(GOOD, new_isr=members(1, 9)), ErrorCode.INVALID_REQUEST),
        (replace(GOOD, new_isr=members(2, 3)), ErrorCode.INVALID_REQUEST),
        (replace(GOOD, new_isr=()), ErrorCode.INVALID_REQUEST),
        (replace(GOOD, new_isr=members(1, 4)), ErrorCode.INELIGIBLE_REPLICA),
        (replace(GOOD, new_isr=(*members(1), STALE)), ErrorCode.INELIGIBLE_REPLICA),
    ],
)
def test_refusals(asked: IsrChange, code: ErrorCode) -> None:
    decision = alter(asked)
    assert decision.results[0].error is code
    assert decision.results[0].message
    assert not decision.records


def test_who_does_not_lead_may_not_ask() -> None:
    assert alter(GOOD, broker=2).results[0].error is ErrorCode.INVALID_REQUEST


def test_one_refusal_does_not_stop_the_others() -> None:
    decision = alter(replace(GOOD, partition=7), GOOD, GOOD)
    codes = [each.error for each in decision.results]
    assert codes == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NONE,
        ErrorCode.INVALID_REQUEST,
    ]
    assert len(decision.records) == 1


def test_a_stale_uptime_is_refused_whole() -> None:
    with pytest.raises(ApiError) as raised:
        isr.alter(VIEW, NodeId(1), Offset(LEADER_EPOCH + 1), (GOOD,))
    assert raised.value.code is ErrorCode.STALE_BROKER_EPOCH


def test_a_member_that_was_fenced_meanwhile_is_ineligible() -> None:
    fenced = replayed(VIEW, brokers.fence(VIEW, nodes(3)).records)
    (result,) = isr.alter(fenced, NodeId(1), LEADER_EPOCH, (GOOD,)).results
    assert result.error is ErrorCode.INELIGIBLE_REPLICA
