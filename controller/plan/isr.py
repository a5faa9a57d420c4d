"""AlterPartition: a leader asks for another ISR (spec kraft 2.8, checks in its order)."""

from dataclasses import dataclass

from controller.plan import election
from controller.plan.brokers import check_epoch
from controller.plan.decision import Decision
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, TopicId
from klamm.metadata.image import PartitionImage
from klamm.metadata.records import PartitionChange


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrMember:
    broker_id: NodeId
    broker_epoch: Offset = Offset(-1)  # noqa: RUF009 - an int
    """As the leader knows it; -1: not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrChange:
    """What a leader proposes for one partition."""

    topic_id: TopicId
    partition: int
    leader_epoch: Epoch
    partition_epoch: int
    new_isr: tuple[IsrMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IsrResult:
    """The partition as it is after the decision, or why nothing was decided."""

    topic_id: TopicId
    partition: int
    error: ErrorCode = ErrorCode.NONE
    message: str = ""
    leader: NodeId = NO_NODE
    leader_epoch: Epoch = Epoch(-1)  # noqa: RUF009 - an int
    isr: tuple[NodeId, ...] = ()
    partition_epoch: int = -1


def alter(
    view: View, broker_id: NodeId, broker_epoch: Offset, asked: tuple[IsrChange, ...]
) -> Decision[tuple[IsrResult, ...]]:
    """Decide each partition by itself; one atomic batch for all that are granted.

    Raises:
        ApiError: For the request as a whole: BROKER_ID_NOT_REGISTERED, STALE_BROKER_EPOCH.
    """
    check_epoch(view, broker_id, broker_epoch)
    changes: dict[TopicId, dict[int, PartitionChange]] = {}
    results: list[IsrResult] = []
    for each in asked:
        if each.partition in changes.get(each.topic_id, {}):
            results.append(_refused(each, ErrorCode.INVALID_REQUEST, "a partition stands twice"))
            continue
        try:
            partition = _checked(view, broker_id, each)
        except ApiError as error:
            results.append(_refused(each, error.code, error.message))
            continue
        isr = tuple(member.broker_id for member in each.new_isr)
        change = election.change_to(partition, isr, lambda leader: leader == broker_id)
        if change is not None:
            changes.setdefault(each.topic_id, {})[each.partition] = change
        results.append(
            IsrResult(
                topic_id=each.topic_id,
                partition=each.partition,
                leader=partition.leader,
                leader_epoch=partition.leader_epoch,
                isr=isr,
                partition_epoch=partition.partition_epoch + (change is not None),
            )
        )
    return Decision(election.records(changes), tuple(results))


def _checked(view: View, broker_id: NodeId, asked: IsrChange) -> PartitionImage:
    if asked.topic_id not in view.image.topics.by_id:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID, f"no topic has the id {asked.topic_id}")
    partition = view.image.topics.partition(asked.topic_id, asked.partition)
    if partition is None:
        raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"no partition {asked.partition}")
    leader_epoch, partition_epoch = partition.leader_epoch, partition.partition_epoch
    if asked.leader_epoch > leader_epoch or asked.partition_epoch > partition_epoch:
        raise ApiError(ErrorCode.NOT_CONTROLLER, "the leader knows more than this controller")
    if asked.leader_epoch < leader_epoch:
        raise ApiError(ErrorCode.FENCED_LEADER_EPOCH, f"the leader epoch is {leader_epoch}")
    if partition.leader != broker_id:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"broker {partition.leader} leads, not the asker")
    if asked.partition_epoch < partition_epoch:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION, f"the partition epoch is {partition_epoch}"
        )
    _check_members(view, partition, asked.new_isr)
    return partition


def _check_members(view: View, partition: PartitionImage, members: tuple[IsrMember, ...]) -> None:
    ids = [member.broker_id for member in members]
    if len(set(ids)) != len(ids) or not set(ids) <= set(partition.replicas):
        raise ApiError(
            ErrorCode.INVALID_REQUEST, f"{ids} are not different replicas of the partition"
        )
    if partition.leader not in ids:
        raise ApiError(ErrorCode.INVALID_REQUEST, "the leader leaves itself out of the ISR")
    for member in members:
        broker = view.image.brokers.get(member.broker_id)
        if broker is None or not broker.active:
            raise ApiError(
                ErrorCode.INELIGIBLE_REPLICA,
                f"broker {member.broker_id} is not registered, fenced or shutting down",
            )
        if member.broker_epoch not in (-1, broker.broker_epoch):
            raise ApiError(
                ErrorCode.INELIGIBLE_REPLICA,
                f"broker {member.broker_id} is in epoch {broker.broker_epoch} by now",
            )


def _refused(asked: IsrChange, code: ErrorCode, message: str) -> IsrResult:
    return IsrResult(
        topic_id=asked.topic_id, partition=asked.partition, error=code, message=message
    )
