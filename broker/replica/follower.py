"""A follower of one partition: what to fetch, what to make of the answer. Pure.

    position_of(state, log) ──▶ Fetch ──▶ leader
                                            │
    AppendRecords | TruncateTo | StartAt ◀──┴── on_fetch_answered(state, answer, log)

The follower says the epoch of its last record with every fetch; where the leader's log has
another record there, the answer tells the largest epoch up to the asked one and where it ends,
and the follower cuts its log back to what both have (KIP-101, KIP-279, KIP-595). It never cuts
back to its high watermark: that may lie below what is committed (KIP-101's first example).
"""

from dataclasses import dataclass

from klamm.errors import ErrorCode
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.epochs import EpochChain


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerState:
    leader: NodeId
    """NO_NODE while nobody leads."""
    leader_epoch: Epoch
    partition_epoch: int
    high_watermark: Offset
    """Never more than the own log's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPosition:
    """What a follower asks for. An answer to anything else is stale."""

    fetch_offset: Offset
    last_fetched_epoch: Epoch
    """NO_EPOCH: the log is empty."""
    current_leader_epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchAnswer:
    """What the leader said about one partition, but for the records themselves."""

    position: FetchPosition
    error: ErrorCode = ErrorCode.NONE
    high_watermark: Offset = Offset(-1)  # noqa: RUF009 - an int
    log_start_offset: Offset = Offset(-1)  # noqa: RUF009 - an int
    """With OFFSET_OUT_OF_RANGE too: where to start anew."""
    diverging: OffsetAndEpoch | None = None
    has_records: bool = False


@dataclass(frozen=True, slots=True)
class AppendRecords:
    """Append the answer's batches as they are; then tell `on_caught_up_to`."""


@dataclass(frozen=True, slots=True)
class TruncateTo:
    """Keep only what is below `offset`: what follows is not in the leader's log."""

    offset: Offset


@dataclass(frozen=True, slots=True)
class StartAt:
    """Drop the whole log and begin at `offset`: the leader has nothing before it."""

    offset: Offset


@dataclass(frozen=True, slots=True)
class BackOff:
    """Do not ask for this partition for a while."""

    error: ErrorCode


Effect = AppendRecords | TruncateTo | StartAt | BackOff
Step = tuple[FollowerState, tuple[Effect, ...]]


def position_of(state: FollowerState, log: EpochChain) -> FetchPosition:
    """What to fetch next."""
    return FetchPosition(
        fetch_offset=log.end_offset,
        last_fetched_epoch=log.last_epoch,
        current_leader_epoch=state.leader_epoch,
    )


def on_fetch_answered(state: FollowerState, answer: FetchAnswer, log: EpochChain) -> Step:
    """Decide what the leader's answer means for the log.

    The high watermark follows once the records are in; see `on_caught_up_to`.
    """
    if answer.position != position_of(state, log):
        return state, ()
    match answer.error:
        case ErrorCode.NONE if answer.diverging is not None:
            return _truncate(state, truncation_offset(log, answer.diverging))
        case ErrorCode.NONE:
            if answer.has_records:
                return state, (AppendRecords(),)
            return on_caught_up_to(state, log.end_offset, answer.high_watermark), ()
        case ErrorCode.OFFSET_OUT_OF_RANGE if answer.log_start_offset >= 0:
            # With its epoch known to the leader a log that is too long would have diverged: so
            # this one ends before the leader's begins, or shares nothing with it.
            start = answer.log_start_offset
            return with_high_watermark(state, start), (StartAt(start),)
        case _:
            return state, (BackOff(answer.error),)


def on_caught_up_to(
    state: FollowerState, end_offset: Offset, leader_high_watermark: Offset
) -> FollowerState:
    """The own log ends at `end_offset`, and agrees with the leader's.

    What was committed stays so: a new leader may know of less for a while, and does not take a
    follower's high watermark back.
    """
    return with_high_watermark(
        state, max(state.high_watermark, min(leader_high_watermark, end_offset))
    )


def truncation_offset(log: EpochChain, diverging: OffsetAndEpoch) -> Offset:
    """How much of `log` can be kept when the leader's logs parts from it at `diverging`.

    The leader's largest epoch up to ours ends at `diverging.offset`. If we have that epoch, both
    have it up to the lesser end. If we have not, we keep what we have of earlier epochs, and the
    next fetch asks again from there.
    """
    own = log.end_of(diverging.epoch)
    kept = min(own.offset, diverging.offset) if own.epoch == diverging.epoch else own.offset
    return max(kept, log.start_offset)


def with_high_watermark(state: FollowerState, high_watermark: Offset) -> FollowerState:
    if high_watermark == state.high_watermark:
        return state
    return FollowerState(
        leader=state.leader,
        leader_epoch=state.leader_epoch,
        partition_epoch=state.partition_epoch,
        high_watermark=high_watermark,
    )


def _truncate(state: FollowerState, offset: Offset) -> Step:
    # Below the high watermark only after an unclean election, which gives committed records up.
    state = with_high_watermark(state, min(state.high_watermark, offset))
    return state, (TruncateTo(offset),)
