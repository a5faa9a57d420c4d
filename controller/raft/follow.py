"""The fetching side of replication: ask, append, make durable, ask again.

    fetch(end) ──▶ batches ──▶ append ──▶ (fsync) ──▶ fetch(new end) ──▶ …
       │              └ diverging: truncate, fetch
       └ the next is sent only when all that was appended is durable: it acknowledges

One fetch is out at a time.

What is known to be committed is never cut (row 96). A leader that would have it cut lies, or has
lost what it must have: it is not followed there, and is looked upon as lost, so that whoever has
the records stands. Kafka ends the node; so one message would end it, and nothing be won.
"""

from controller.raft import download, no_room, trust
from controller.raft.effects import AppendFetched, Commit, Effects, SendRequest, Truncate
from controller.raft.events import Moment
from controller.raft.messages import FetchRequest, FetchResponse, Refusal
from controller.raft.state import NEVER_MS, Follower, RaftState
from controller.raft.voters import VoterHistory, truncate
from klamm.frozen import replace
from klamm.ids import NodeId, Offset, OffsetAndEpoch

HURRY_MS = 15
"""A leader that is lost, and not only silent, is replaced after up to so long, the first time."""

Step = tuple[RaftState, Effects]


def fetch(state: RaftState, role: Follower, moment: Moment) -> Step:
    """Ask the leader for more, if all that we have is durable; else LogFlushed will."""
    if state.download is not None and not state.download.complete:
        return download.ask(state, role, state.download, moment)
    if state.flushed < state.log.end_offset:
        return replace(state, role=replace(role, fetch=None, retry_ms=NEVER_MS)), ()
    request = FetchRequest(
        epoch=state.epoch,
        log_end=state.log.end,
        high_watermark=state.high_watermark,
        max_bytes=no_room.fetch_bytes(state, moment),
        max_wait_ms=state.config.fetch_wait_ms,
        read_round=role.read_round,
        recovering=state.recovering is not None,
    )
    role = replace(role, fetch=request, retry_ms=NEVER_MS)
    return replace(state, role=role), (SendRequest(role.leader, request),)


def on_flushed(state: RaftState, role: Follower, moment: Moment) -> Step:
    if role.fetch is not None or role.retry_ms != NEVER_MS:
        return state, ()
    if state.flushed < state.log.end_offset:
        return state, ()
    if not role.lost:
        role = replace(role, deadline_ms=moment.now_ms + state.config.fetch_timeout_ms)
    return fetch(state, role, moment)


def on_response(
    state: RaftState,
    sender: NodeId,
    request: FetchRequest,
    response: FetchResponse,
    moment: Moment,
) -> Step:
    role = state.role
    current = isinstance(role, Follower) and role.leader == sender and role.fetch == request
    if not current or response.epoch != state.epoch:
        return state, ()
    assert isinstance(role, Follower)
    match response.refusal:
        case Refusal.NONE:
            pass
        case Refusal.OVERLOADED | Refusal.BROKER_NOT_AVAILABLE:
            return retry_later(state, role, moment), ()
        case _:
            return lose_leader(state, role, moment), ()
    if response.diverging is not None and _cut(state, response.diverging) < state.high_watermark:
        return lose_leader(replace(state, refused_cut=response.diverging), role, moment), ()
    state, role = hear(state, role, moment)
    role = replace(role, read_round=max(role.read_round, response.read_round))
    if response.snapshot_id is not None:
        return download.begin(trust.heard(state, response), role, response.snapshot_id, moment)
    if not _continues(state, response):
        return retry_later(state, role, moment), ()
    state, abandoned = download.drop(trust.heard(state, response))
    if response.diverging is not None:
        state, effects = _truncate(state, response.diverging)
    else:
        state, effects = _append(state, response)
        state, committed = _learn_high_watermark(state, response.high_watermark)
        effects += committed
    state, asked = fetch(state, role, moment)
    return state, abandoned + effects + asked


def hear(state: RaftState, role: Follower, moment: Moment) -> tuple[RaftState, Follower]:
    """The leader has answered: it lives, and nothing is out."""
    steady_since_ms = moment.now_ms if role.lost else role.steady_since_ms
    if moment.now_ms - steady_since_ms >= state.config.election_backoff_max_ms:
        # Not sooner: over a link that flaps each loss would be the first again.
        state = replace(state, attempts=0)
    if state.refused_cut is not None:
        state = replace(state, refused_cut=None)
    return state, replace(
        role,
        lost=False,
        fetch=None,
        deadline_ms=moment.now_ms + state.config.fetch_timeout_ms,
        steady_since_ms=steady_since_ms,
    )


def lose_leader(state: RaftState, role: Follower, moment: Moment) -> RaftState:
    """Its stream broke, or it says that it leads no more: campaign soon, and look for it again."""
    if not role.lost:
        role = replace(role, lost=True, deadline_ms=min(role.deadline_ms, hurry(state, moment)))
    return retry_later(state, role, moment)


def retry_later(state: RaftState, role: Follower, moment: Moment) -> RaftState:
    backoff_ms = state.config.retry_backoff_ms
    retry_ms = moment.within(backoff_ms, 2 * backoff_ms)
    return replace(state, role=replace(role, fetch=None, retry_ms=retry_ms))


def hurry(state: RaftState, moment: Moment) -> int:
    """When to campaign (again), if it is known that nobody leads: soon, and later each time.

    The jitter keeps two voters that lose their leader in one instant from splitting the vote.
    """
    longest_ms = min(HURRY_MS << min(state.attempts, 10), state.config.election_backoff_max_ms)
    return moment.within(1, 1 + max(longest_ms, HURRY_MS))


def _continues(state: RaftState, response: FetchResponse) -> bool:
    """Do the batches go on exactly where our log ends, in epochs that may follow?"""
    offset, epoch = state.log.end_offset, state.log.last_epoch
    for batch in response.batches:
        if batch.base_offset != offset or batch.count < 1:
            return False
        if not epoch <= batch.epoch <= state.epoch:
            return False
        offset, epoch = Offset(offset + batch.count), batch.epoch
    return True


def _append(state: RaftState, response: FetchResponse) -> Step:
    if not response.batches:
        return state, ()
    log, history = state.log, state.voter_history
    for batch in response.batches:
        log = log.append(batch.epoch, batch.count)
        history += batch.voters
    append = AppendFetched(base_offset=state.log.end_offset, data=response.data)
    return replace(state, log=log, voter_history=history), (append,)


def _learn_high_watermark(state: RaftState, said: Offset) -> Step:
    high_watermark = min(said, state.log.end_offset)
    if high_watermark <= state.high_watermark:
        return state, ()
    return replace(state, high_watermark=high_watermark), (Commit(high_watermark),)


def _cut(state: RaftState, diverging: OffsetAndEpoch) -> Offset:
    """Up to where both logs are the same, if the leader's parts from ours as it says."""
    mine = state.log.end_of(diverging.epoch)
    return min(mine.offset, diverging.offset) if mine.epoch == diverging.epoch else mine.offset


def _truncate(state: RaftState, diverging: OffsetAndEpoch) -> Step:
    """Cut back to what both logs have (KIP-595, log reconciliation)."""
    to = _cut(state, diverging)
    if to >= state.log.end_offset:
        return state, ()
    history: VoterHistory = truncate(state.voter_history, to)
    state = replace(
        state,
        log=state.log.truncate(to),
        flushed=min(state.flushed, to),
        truncations=state.truncations + 1,
        voter_history=history,
    )
    return state, (Truncate(to),)
