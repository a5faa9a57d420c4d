"""The leader's side of replication: who has what, what is committed, who waits for news.

    Fetch(end, hw) ──▶ its progress ──▶ high watermark ──▶ answers to those parked, soon
                   └──▶ records, or a divergence, at once; else parked until there are records or a
                        read round to tell, a moment after a higher high watermark (KIP-1166), or
                        it is due

The high watermark is the largest offset that a majority has durably, once that includes a record
of this leader's own epoch (Raft 5.4.2). The leader counts itself up to its own last fsync.
"""

from operator import is_

from controller.raft import membership, reads, snapshots, thrift
from controller.raft.effects import (
    AcceptProposal,
    AppendRecords,
    Claim,
    Commit,
    Effects,
    ProposalRefusal,
    RefuseProposal,
    SendRecords,
    SendResponse,
)
from controller.raft.events import Moment, ProposalMade
from controller.raft.messages import FetchRequest, FetchResponse, Refusal
from controller.raft.state import (
    Leader,
    ParkedFetch,
    Progress,
    RaftState,
    Resigned,
)
from controller.raft.voters import ReplicaKey
from klamm.frozen import replace
from klamm.ids import Epoch, OffsetAndEpoch

PARKED_MAX = 64
"""Fetches that one leader holds back."""

UNCOMMITTED_MAX = 200_000
"""Records appended and not committed; more proposals are refused."""

NEWS_WAIT_MS = 2
"""A higher high watermark waits so long for records to ride with. Told at once, it would cost a
round trip a commit, and find the follower on its way back when the next record comes. An epoch's
first is told at once: whoever asked for a new leader waits to hear that it has claimed."""

Step = tuple[RaftState, Effects]


def on_fetch(
    state: RaftState, call: int, sender: ReplicaKey, request: FetchRequest, moment: Moment
) -> Step:
    role = state.role
    refusal = refusal_of(state, request.epoch)
    if refusal is not Refusal.NONE or not isinstance(role, Leader):
        ending = role.ending if isinstance(role, Resigned) else None
        answer = FetchResponse(
            refusal=refusal,
            epoch=state.epoch,
            leader=state.leader,
            successors=() if ending is None else ending.successors,
        )
        return state, (SendResponse(call, answer),)
    snapshot_id = snapshots.needed(state, request.log_end)
    agrees = snapshot_id is None and state.log.agrees_with(request.log_end)
    end, now_ms = request.log_end.offset, moment.now_ms
    rests_until_ms = thrift.rests_until_ms(role, sender.node_id, end, now_ms)
    state = _note(state, role, sender, request, moment, agrees=agrees)
    state, named = membership.name_disk(state, sender, moment)
    state, committed = advance(state, moment)
    committed = named + committed
    state, confirmed = reads.confirm(state)
    if not agrees:
        answer = _diverging(state, request.log_end, snapshot_id)
        return tell_soon(state, moment), (*committed, *confirmed, SendResponse(call, answer))
    parked = ParkedFetch(
        call=call,
        sender=sender,
        log_end=request.log_end,
        high_watermark=request.high_watermark,
        max_bytes=min(request.max_bytes, state.config.fetch_bytes_max),
        deadline_ms=now_ms + min(request.max_wait_ms, state.config.fetch_wait_max_ms),
        rests_until_ms=rests_until_ms,
    )
    state, answered = _park(state, parked, request, moment)
    return tell_soon(state, moment), (*committed, *confirmed, *answered)


def refusal_of(state: RaftState, epoch: Epoch) -> Refusal:
    """Why whoever is in `epoch` is not answered as by its leader."""
    if epoch < state.epoch:
        return Refusal.FENCED_LEADER_EPOCH
    if epoch > state.epoch:
        return Refusal.UNKNOWN_LEADER_EPOCH
    if not isinstance(state.role, Leader):
        return Refusal.NOT_LEADER_OR_FOLLOWER
    return Refusal.NONE


def _note(
    state: RaftState,
    role: Leader,
    sender: ReplicaKey,
    request: FetchRequest,
    moment: Moment,
    *,
    agrees: bool,
) -> RaftState:
    """Remember where this replica is. Only voters count."""
    end = request.log_end.offset

    def noted(each: Progress) -> Progress:
        caught_up_ms = each.caught_up_ms
        if agrees and end >= state.log.end_offset:
            caught_up_ms = moment.now_ms
        elif agrees and end >= each.leader_end_at_fetch:
            caught_up_ms = each.fetched_ms
        return replace(
            each,
            end_offset=end if agrees else each.end_offset,
            fetched_ms=moment.now_ms,
            caught_up_ms=caught_up_ms,
            leader_end_at_fetch=state.log.end_offset,
            # A round that has not begun is confirmed by nobody.
            read_round=max(each.read_round, min(request.read_round, role.read_round)),
            begin_failures=0,
            recovering=request.recovering,
        )

    if not state.admits(sender):
        return replace(state, role=membership.learner_heard(role, sender, noted, moment))
    progress = tuple(
        noted(each) if each.node_id == sender.node_id else each for each in role.progress
    )
    return replace(state, role=replace(role, progress=progress))


def advance(state: RaftState, moment: Moment) -> Step:
    """Raise the high watermark to what a majority has, and claim the epoch the first time."""
    role = state.role
    assert isinstance(role, Leader)
    counted = [
        each
        for each in role.progress
        if state.has_weight(each.node_id) and not (each.recovering and _is_doubted(state, each))
    ]
    ends = [each.end_offset for each in counted]
    if state.is_voter:
        ends.append(state.flushed)
    if len(ends) < state.voters.majority:
        return state, ()
    ends.sort(reverse=True)
    majority_end = ends[state.voters.majority - 1]
    if majority_end <= max(state.high_watermark, role.epoch_start):
        return state, ()
    assert majority_end <= state.log.end_offset, "a follower has more than its leader"
    acknowledged = [each for each in counted if each.end_offset >= majority_end]
    before, role = role, thrift.committed(role, acknowledged, moment.now_ms)
    state = replace(state, high_watermark=majority_end, role=role)
    effects: Effects = (Commit(majority_end),)
    if role.quick != before.quick:
        # Who is quick from now on may have begun to rest before.
        state, told = _tell_parked(state, role, moment)
        effects += told
        role = state.role
        assert isinstance(role, Leader)
    if not role.claimed and majority_end >= role.first_end:
        assert state.log.end_offset == role.first_end, "nothing is proposed before the claim"
        state = replace(state, role=replace(role, claimed=True))
        effects += (Claim(state.epoch, role.first_end),)
        state, begun = reads.begin_round(state)
        effects += begun
    return state, effects


def _is_doubted(state: RaftState, each: Progress) -> bool:
    """The acknowledgement of a disk that may have been wiped: it can have voted in a later epoch,
    and not know it: see `trust`. It counts if the log had named it before.
    """
    return not state.was_named(each.node_id)


def on_flushed(state: RaftState, moment: Moment) -> Step:
    """Our own fsync has finished: now we count."""
    state, committed = advance(state, moment)
    return tell_soon(state, moment), committed


def on_proposal(state: RaftState, event: ProposalMade, moment: Moment) -> Step:
    role, end = state.role, state.log.end_offset
    if not isinstance(role, Leader) or not role.claimed or event.epoch != state.epoch:
        return state, (RefuseProposal(event.call, ProposalRefusal.NOT_LEADER, end),)
    if role.transfer is not None:
        return state, (RefuseProposal(event.call, ProposalRefusal.HANDING_OVER, end),)
    if event.base_offset != end:
        return state, (RefuseProposal(event.call, ProposalRefusal.LOG_MOVED, end),)
    if end - state.high_watermark >= UNCOMMITTED_MAX:
        return state, (RefuseProposal(event.call, ProposalRefusal.OVERLOADED, end),)
    assert event.count > 0, "a proposal has records"
    state = replace(state, log=state.log.append(state.epoch, event.count))
    append = AppendRecords(base_offset=end, epoch=state.epoch, records=event.records)
    # Followers write while we do: their answers wait for nothing but the page cache.
    state, released = release(state, moment)
    return state, (append, *released, AcceptProposal(event.call, state.log.end_offset))


def on_dropped(state: RaftState, call: int) -> RaftState:
    """Whoever sent this fetch does not wait any more."""
    role = state.role
    if not isinstance(role, Leader):
        return state
    parked = tuple(each for each in role.parked if each.call != call)
    return replace(state, role=replace(role, parked=parked))


def answer_due(state: RaftState, role: Leader, moment: Moment) -> Step:
    """Parked fetches whose time is over get an answer with nothing in it."""
    due = [each for each in role.parked if moment.now_ms >= each.deadline_ms]
    if not due:
        return state, ()
    parked = tuple(each for each in role.parked if moment.now_ms < each.deadline_ms)
    state = replace(state, role=replace(role, parked=parked))
    return state, tuple(_answer(state, each) for each in due)


def answer_all(state: RaftState) -> Step:
    """Tell everybody who waits: a read round has begun."""
    role = state.role
    assert isinstance(role, Leader)
    parked = role.parked
    state = replace(state, role=replace(role, parked=()))
    return state, tuple(_answer(state, each) for each in parked)


def _park(state: RaftState, parked: ParkedFetch, request: FetchRequest, moment: Moment) -> Step:
    role = state.role
    assert isinstance(role, Leader)
    # One fetch is out at a time: an earlier one of the same replica waits at a broken stream.
    stale = tuple(each for each in role.parked if each.sender == parked.sender)
    kept = tuple(each for each in role.parked if each.sender != parked.sender)
    answers: Effects = tuple(_answer(state, each) for each in stale)
    told = request.read_round >= role.read_round or not role.reads
    news = _has_news(state, parked)
    if news and thrift.rests(role, parked, moment.now_ms):
        news = False
        parked = replace(parked, deadline_ms=min(parked.deadline_ms, parked.rests_until_ms))
    if not told or request.max_wait_ms == 0 or news:
        state = replace(state, role=replace(role, parked=kept))
        return state, (*answers, _answer(state, parked))
    if len(kept) >= PARKED_MAX:
        refusal = FetchResponse(
            refusal=Refusal.OVERLOADED, epoch=state.epoch, leader=state.config.me
        )
        return state, (SendResponse(parked.call, refusal),)
    return replace(state, role=replace(role, parked=(*kept, parked))), answers


def release(state: RaftState, moment: Moment) -> Step:
    """Answer the parked fetches for which there are records, if it is their time."""
    role = state.role
    if not isinstance(role, Leader):
        return state, ()
    return _tell_parked(state, thrift.appended(role, moment.now_ms), moment)


def _tell_parked(state: RaftState, role: Leader, moment: Moment) -> Step:
    told: list[ParkedFetch] = []
    kept: list[ParkedFetch] = []
    for each in role.parked:
        if not _has_news(state, each):
            kept.append(each)
        elif thrift.rests(role, each, moment.now_ms):
            due_ms = min(each.deadline_ms, each.rests_until_ms)
            kept.append(each if due_ms == each.deadline_ms else replace(each, deadline_ms=due_ms))
        else:
            told.append(each)
    state = replace(state, role=replace(role, parked=tuple(kept)))
    return state, tuple(_answer(state, each) for each in told)


def _has_news(state: RaftState, parked: ParkedFetch) -> bool:
    return parked.log_end.offset < state.log.end_offset


def tell_soon(state: RaftState, moment: Moment) -> RaftState:
    """Those who wait at the log's end with a lower high watermark hear of it soon (KIP-1166)."""
    role = state.role
    if not isinstance(role, Leader) or not role.parked:
        return state
    claimed_now = state.high_watermark == role.first_end
    soon_ms = moment.now_ms + (0 if claimed_now else NEWS_WAIT_MS)

    def told(parked: ParkedFetch) -> ParkedFetch:
        if min(state.high_watermark, parked.log_end.offset) <= parked.high_watermark:
            return parked
        due_ms = soon_ms
        if not claimed_now and thrift.rests(role, parked, moment.now_ms):
            due_ms = max(soon_ms, parked.rests_until_ms)
        return parked if parked.deadline_ms <= due_ms else replace(parked, deadline_ms=due_ms)

    parked = tuple([told(each) for each in role.parked])
    if all(map(is_, parked, role.parked)):
        return state
    return replace(state, role=replace(role, parked=parked))


def _answer(state: RaftState, parked: ParkedFetch) -> SendRecords | SendResponse:
    role = state.role
    assert isinstance(role, Leader)
    response = FetchResponse(
        epoch=state.epoch,
        leader=state.config.me,
        high_watermark=state.high_watermark,
        log_start_offset=state.log.start_offset,
        log_end_offset=state.log.end_offset,
        read_round=role.read_round,
    )
    if parked.log_end.offset == state.log.end_offset:
        return SendResponse(parked.call, response)
    return SendRecords(
        call=parked.call,
        response=response,
        start_offset=parked.log_end.offset,
        max_bytes=parked.max_bytes,
    )


def _diverging(
    state: RaftState, end: OffsetAndEpoch, snapshot_id: OffsetAndEpoch | None
) -> FetchResponse:
    role = state.role
    assert isinstance(role, Leader)
    return FetchResponse(
        epoch=state.epoch,
        leader=state.config.me,
        high_watermark=state.high_watermark,
        log_start_offset=state.log.start_offset,
        log_end_offset=state.log.end_offset,
        read_round=role.read_round,
        diverging=state.log.end_of(end.epoch) if snapshot_id is None else None,
        snapshot_id=snapshot_id,
    )
