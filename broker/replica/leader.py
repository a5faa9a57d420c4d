"""The leader of one partition: who has what, what is committed, who is in sync. Pure.

    event ──▶ on_…(state, …, now_ms, active) ──▶ (state, effects)

    offsets   0 ─────────── high_watermark ─────────── end_offset
              every member of the maximal ISR has it    some may not

The high watermark is the least end offset over the *maximal* ISR: the committed one, and while a
larger one is proposed, that one. So it is right whichever the controller has decided, and it
never goes back. It stands still while the committed ISR is smaller than `min.insync.replicas`.

`active` are the brokers that may be in an ISR now, each with its uptime (`broker_epoch`).
Source: Kafka's replication protocol with KIP-497 (AlterPartition), KIP-841, KIP-903, KIP-966.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from broker.replica.isr import BROKER_EPOCH_UNKNOWN, IsrAnswer, IsrChange, IsrMember
from klamm.errors import ErrorCode
from klamm.ids import Epoch, NodeId, Offset
from klamm.metadata.image import PartitionImage

END_UNKNOWN = Offset(-1)
"""The follower has not fetched in this leader epoch: nothing is known of its log."""

NEVER_MS = -(1 << 62)

Active = Mapping[NodeId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """What the leader knows of one other replica, all of it from its fetches of this epoch."""

    broker_id: NodeId
    broker_epoch: int = BROKER_EPOCH_UNKNOWN
    end_offset: Offset = END_UNKNOWN
    """It has everything below, and what it has is what the leader has."""
    caught_up_ms: int = NEVER_MS
    """When it last had all that the leader had at that moment."""
    fetched_ms: int = NEVER_MS
    leader_end_at_fetch: Offset = END_UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An ISR that may or may not be the committed one by now."""

    change: IsrChange
    again: bool = False
    """The answer said nothing of the outcome: to be submitted anew when time passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reign:
    """What changes seldom: who leads whom, by the controller's word."""

    me: NodeId
    leader_epoch: Epoch
    partition_epoch: int
    epoch_start_offset: Offset
    """The log's end when this leader epoch began."""
    isr: tuple[NodeId, ...]
    """The committed one."""
    maximal_isr: frozenset[NodeId]
    """Membership only; never iterated."""
    min_insync: int
    """Effective: no more than there are replicas."""
    lag_time_max_ms: int
    proposal: Proposal | None = None


@dataclass(frozen=True, slots=True)
class LeaderState:
    reign: Reign
    end_offset: Offset
    high_watermark: Offset
    followers: tuple[Follower, ...]
    """The other replicas, by broker id."""


@dataclass(frozen=True, slots=True)
class AdvanceHighWatermark:
    """Records below are committed: answer who waits for it."""

    high_watermark: Offset


@dataclass(frozen=True, slots=True)
class ProposeIsr:
    """Submit to the controller."""

    change: IsrChange


Effect = AdvanceHighWatermark | ProposeIsr
Step = tuple[LeaderState, tuple[Effect, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerFetch:
    """A follower asked for what comes after `fetch_offset`, and its log agrees up to there."""

    broker_id: NodeId
    broker_epoch: int
    fetch_offset: Offset


def lead(
    image: PartitionImage,
    *,
    me: NodeId,
    end_offset: Offset,
    high_watermark: Offset,
    min_insync: int,
    lag_time_max_ms: int,
    now_ms: int,
    active: Active,
) -> Step:
    """Begin a leader epoch. Nothing known from an earlier one counts.

    A follower may have followed someone else in between and have cut its log, so its end is
    unknown until it fetches in this epoch, even if this replica led before.
    """
    assert image.leader == me, f"partition {image.partition} is led by {image.leader}, not {me}"
    reign = Reign(
        me=me,
        leader_epoch=image.leader_epoch,
        partition_epoch=image.partition_epoch,
        epoch_start_offset=end_offset,
        isr=image.isr,
        maximal_isr=frozenset(image.isr),
        min_insync=min(min_insync, len(image.replicas)),
        lag_time_max_ms=lag_time_max_ms,
    )
    followers = tuple(
        # Members of the ISR get a full lag time to show themselves.
        Follower(broker_id=other, caught_up_ms=now_ms if other in image.isr else NEVER_MS)
        for other in sorted(image.replicas)
        if other != me
    )
    return _advanced(LeaderState(reign, end_offset, high_watermark, followers), now_ms, active)


def on_appended(state: LeaderState, end_offset: Offset, now_ms: int, active: Active) -> Step:
    """The leader's own log has grown to `end_offset`."""
    assert end_offset >= state.end_offset, "a leader's log only grows"
    state = LeaderState(state.reign, end_offset, state.high_watermark, state.followers)
    return _advanced(state, now_ms, active)


def on_follower_fetched(
    state: LeaderState, fetch: FollowerFetch, now_ms: int, active: Active
) -> Step:
    """A follower has acknowledged all below its fetch offset.

    The caller has found its log to agree with ours up to that offset (KIP-595), and the offset to
    be within our log. A broker that is no replica is ignored, and so is a fetch that an earlier
    uptime of it has sent: it may have lost since then what it acknowledged (KIP-903).
    """
    at = _place_of(state, fetch.broker_id)
    if at < 0 or _is_from_former_uptime(state.followers[at], fetch, active):
        return state, ()
    assert fetch.fetch_offset <= state.end_offset, "a fetch beyond the log is out of range"
    follower = _fetched(state.followers[at], fetch, state.end_offset, now_ms)
    followers = (*state.followers[:at], follower, *state.followers[at + 1 :])
    state = LeaderState(state.reign, state.end_offset, state.high_watermark, followers)
    state, advanced = _advanced(state, now_ms, active)
    if follower.broker_id in state.reign.maximal_isr:
        return state, advanced
    state, expanded = _expand(state, follower, active)
    return state, advanced + expanded


def on_time_passed(state: LeaderState, now_ms: int, active: Active) -> Step:
    """Look for members of the ISR that have fallen behind; propose again what got no outcome."""
    proposal = state.reign.proposal
    if proposal is not None:
        if not proposal.again:
            return state, ()
        reign = replace(state.reign, proposal=replace(proposal, again=False))
        return replace(state, reign=reign), (ProposeIsr(proposal.change),)
    behind = {
        each.broker_id
        for each in state.followers
        if each.broker_id in state.reign.maximal_isr and not _is_caught_up(state, each, now_ms)
    }
    if not behind:
        return _advanced(state, now_ms, active)
    return _propose(state, tuple(each for each in state.reign.isr if each not in behind), active)


def on_isr_answered(
    state: LeaderState, change: IsrChange, answer: IsrAnswer, now_ms: int, active: Active
) -> Step:
    """The controller's answer to `change`, by error code.

    An answer to a proposal that metadata has overtaken says nothing new and is ignored. After a
    refusal that means "your state is old" the proposal stays, and with it the larger ISR: it may
    be what was committed, and the metadata that tells is on its way.
    """
    reign = state.reign
    if reign.proposal is None or reign.proposal.change != change:
        return state, ()
    match answer.error:
        case ErrorCode.NONE:
            if answer.leader_epoch != reign.leader_epoch:
                return state, ()
            if answer.partition_epoch < reign.partition_epoch:
                return state, ()
            return _committed(state, answer.isr, answer.partition_epoch, now_ms, active)
        case ErrorCode.INELIGIBLE_REPLICA | ErrorCode.OPERATION_NOT_ATTEMPTED:
            return _committed(state, reign.isr, reign.partition_epoch, now_ms, active)
        case (
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode.UNKNOWN_TOPIC_ID
            | ErrorCode.FENCED_LEADER_EPOCH
            | ErrorCode.INVALID_UPDATE_VERSION
            | ErrorCode.INVALID_REQUEST
            | ErrorCode.NEW_LEADER_ELECTED
        ):
            return state, ()
        case _:
            again = replace(reign.proposal, again=True)
            return replace(state, reign=replace(reign, proposal=again)), ()


def on_metadata(
    state: LeaderState, image: PartitionImage, min_insync: int, now_ms: int, active: Active
) -> Step:
    """Newer metadata of the same leader epoch: another ISR, other replicas, another minimum."""
    reign = state.reign
    assert image.leader_epoch == reign.leader_epoch, "another leader epoch is another reign"
    state = replace(state, reign=replace(reign, min_insync=min(min_insync, len(image.replicas))))
    if image.partition_epoch <= reign.partition_epoch:
        return _advanced(state, now_ms, active)
    known = {each.broker_id: each for each in state.followers}
    followers = tuple(
        known.get(other, Follower(broker_id=other))
        for other in sorted(image.replicas)
        if other != reign.me
    )
    state = replace(state, followers=followers)
    return _committed(state, image.isr, image.partition_epoch, now_ms, active)


def has_enough_in_sync(state: LeaderState) -> bool:
    """May a produce with acks=all be taken, or called committed?"""
    return len(state.reign.isr) >= state.reign.min_insync


def knows_high_watermark(state: LeaderState) -> bool:
    """Has the high watermark reached this epoch? Before, it may be less than it was (KIP-207)."""
    return state.high_watermark >= state.reign.epoch_start_offset


def _advanced(state: LeaderState, now_ms: int, active: Active) -> Step:
    reign = state.reign
    if len(reign.isr) < reign.min_insync:
        return state, ()
    least = state.end_offset
    for each in state.followers:
        if each.end_offset < least and (
            each.broker_id in reign.maximal_isr or _is_about_to_join(state, each, now_ms, active)
        ):
            least = each.end_offset
    if least <= state.high_watermark:
        return state, ()
    return LeaderState(reign, state.end_offset, least, state.followers), (
        AdvanceHighWatermark(least),
    )


def _is_about_to_join(state: LeaderState, each: Follower, now_ms: int, active: Active) -> bool:
    """Without waiting for it, a busy leader would run ahead of a follower that wants to join."""
    return _is_eligible(each, active) and _is_caught_up(state, each, now_ms)


def _is_caught_up(state: LeaderState, each: Follower, now_ms: int) -> bool:
    at_end = each.end_offset == state.end_offset
    return at_end or now_ms - each.caught_up_ms <= state.reign.lag_time_max_ms


def _is_eligible(each: Follower, active: Active) -> bool:
    epoch = active.get(each.broker_id)
    if epoch is None:
        return False
    return each.broker_epoch in (epoch, BROKER_EPOCH_UNKNOWN)


def _place_of(state: LeaderState, broker_id: NodeId) -> int:
    for place, each in enumerate(state.followers):
        if each.broker_id == broker_id:
            return place
    return -1


def _is_from_former_uptime(each: Follower, fetch: FollowerFetch, active: Active) -> bool:
    if fetch.broker_epoch == BROKER_EPOCH_UNKNOWN:
        return False
    return fetch.broker_epoch < max(each.broker_epoch, active.get(each.broker_id, -1))


def _fetched(each: Follower, fetch: FollowerFetch, leader_end: Offset, now_ms: int) -> Follower:
    caught_up_ms = each.caught_up_ms
    if fetch.fetch_offset >= leader_end:
        caught_up_ms = max(caught_up_ms, now_ms)
    elif fetch.fetch_offset >= each.leader_end_at_fetch != END_UNKNOWN:
        # It has by now what the leader had at its last fetch: then it was caught up.
        caught_up_ms = max(caught_up_ms, each.fetched_ms)
    return Follower(
        broker_id=each.broker_id,
        broker_epoch=fetch.broker_epoch,
        end_offset=fetch.fetch_offset,
        caught_up_ms=caught_up_ms,
        fetched_ms=now_ms,
        leader_end_at_fetch=leader_end,
    )


def _expand(state: LeaderState, each: Follower, active: Active) -> Step:
    reign = state.reign
    if reign.proposal is not None or not _is_eligible(each, active):
        return state, ()
    if each.end_offset < state.high_watermark or each.end_offset < reign.epoch_start_offset:
        return state, ()
    return _propose(state, (*reign.isr, each.broker_id), active)


def _propose(state: LeaderState, isr: tuple[NodeId, ...], active: Active) -> Step:
    reign = state.reign
    known = {each.broker_id: each.broker_epoch for each in state.followers}
    known[reign.me] = active.get(reign.me, BROKER_EPOCH_UNKNOWN)
    change = IsrChange(
        leader_epoch=reign.leader_epoch,
        partition_epoch=reign.partition_epoch,
        members=tuple(IsrMember(each, known.get(each, BROKER_EPOCH_UNKNOWN)) for each in isr),
    )
    reign = replace(
        reign,
        proposal=Proposal(change=change),
        maximal_isr=frozenset(reign.isr) | frozenset(isr),
    )
    return replace(state, reign=reign), (ProposeIsr(change),)


def _committed(
    state: LeaderState, isr: tuple[NodeId, ...], partition_epoch: int, now_ms: int, active: Active
) -> Step:
    reign = replace(
        state.reign,
        isr=isr,
        maximal_isr=frozenset(isr),
        partition_epoch=partition_epoch,
        proposal=None,
    )
    return _advanced(replace(state, reign=reign), now_ms, active)
