"""The adapter: values of the core and of its messages, in the model's words. It decides nothing."""

from collections.abc import Callable, Iterable
from typing import Any

from controller.raft import effects as ef
from controller.raft import events as ev
from controller.raft import messages as ms
from controller.raft.state import RaftState
from controller.raft.voters import ReplicaKey, VoterHistory, VoterSet
from klamm.ids import NO_NODE, OffsetAndEpoch
from klamm.log.epochs import EpochChain
from tests.sim.model.terms import (
    BEGIN,
    CHANGE,
    FETCH,
    FETCH_SNAPSHOT,
    GOODBYE,
    NO_ROOM,
    NOBODY,
    OTHER,
    PRE_VOTE,
    PROPOSED,
    READ,
    TRANSFER,
    TRIM,
    VERIFIED,
    VOTE,
    WRITTEN,
    Answered,
    Answers,
    Asked,
    Asks,
    Cause,
    Claims,
    Deed,
    End,
    Flushed,
    HandsOver,
    Keeps,
    Key,
    Log,
    Named,
    Reads,
    Replica,
    Saves,
    Voters,
    VotersRecord,
)

NO_CAUSE = Named(OTHER)

WHAT = {
    ms.BeginQuorumEpochRequest: BEGIN,
    ms.EndQuorumEpochRequest: GOODBYE,
    ms.FetchRequest: FETCH,
    ms.FetchSnapshotRequest: FETCH_SNAPSHOT,
}


# ── a replica ────────────────────────────────────────────────────────────────────────────────────


def replica(state: RaftState, last: Replica | None, of: RaftState | None) -> Replica:
    """As the core has it; what has not changed since `of` is taken from `last`."""
    role, leader, hears = state.role, NOBODY, False
    name = type(role).__name__
    if name == "Follower":
        leader, hears = role.leader, not role.lost  # type: ignore[union-attr]
    elif name == "Prospective":
        leader = role.leader  # type: ignore[union-attr]
    if leader == NO_NODE:
        leader = NOBODY
    if last is None or of is None:
        me = state.config
        return Replica(
            Key(me.me, me.directory_id), state.epoch, _key(state.voted_for), name, leader, hears,
            _log(state.log), state.flushed, state.high_watermark, _records(state.voter_history),
            tuple(_end(each.snapshot_id) for each in state.snapshots),
            state.recovering is not None,
        )  # fmt: skip
    same_log, same_rest = state.log is of.log, state.snapshots is of.snapshots
    same_voters = state.voter_history is of.voter_history
    if (
        same_log and same_rest and same_voters
        and state.epoch == last.epoch and name == last.role and leader == last.leader
        and hears == last.hears and state.voted_for is of.voted_for
        and state.flushed == last.durable and state.high_watermark == last.committed
        and (state.recovering is None) is not last.distrusted
    ):  # fmt: skip
        return last
    return Replica(
        last.me, state.epoch,
        last.vote if state.voted_for is of.voted_for else _key(state.voted_for),
        name, leader, hears,
        last.log if same_log else _log(state.log),
        state.flushed, state.high_watermark,
        last.records if same_voters else _records(state.voter_history),
        last.snapshots if same_rest else tuple(_end(each.snapshot_id) for each in state.snapshots),
        state.recovering is not None,
    )  # fmt: skip


def _key(key: ReplicaKey | None) -> Key | None:
    return None if key is None else Key(key.node_id, key.directory_id)


def _end(end: OffsetAndEpoch) -> End:
    return End(end.epoch, end.offset)


def _log(chain: EpochChain) -> Log:
    return Log(_end(chain.start), chain.epochs, chain.starts, chain.end_offset)


def _records(history: VoterHistory) -> tuple[VotersRecord, ...]:
    return tuple((int(offset), _voters(each)) for offset, each in history)


def _voters(voters: VoterSet) -> Voters:
    return tuple(Key(each.node_id, each.directory_id) for each in voters.voters)


# ── what befalls it ──────────────────────────────────────────────────────────────────────────────


def cause(event: ev.Event, state: RaftState) -> Cause:
    """`state` is the one that it befalls."""
    read = CAUSES.get(type(event))
    return NO_CAUSE if read is None else read(event, state)


def _asked(event: ev.RequestReceived, _: RaftState) -> Cause:
    sender, request = event.sender, event.request
    who = Key(sender.node_id, sender.directory_id)
    match request:
        case ms.FetchRequest(epoch=epoch, log_end=end):
            doubted = request.recovering
            return Asked(FETCH, who, epoch, event.call, _end(end), (), request.read_round, doubted)
        case ms.VoteRequest(epoch=epoch, log_end=end):
            return Asked(PRE_VOTE if request.pre_vote else VOTE, who, epoch, event.call, _end(end))
        case ms.EndQuorumEpochRequest(epoch=epoch, successors=successors):
            return Asked(GOODBYE, who, epoch, event.call, None, successors)
    return Asked(WHAT[type(request)], who, request.epoch, event.call)


def _answered(event: ev.ResponseReceived, _: RaftState) -> Cause:
    request, told, good = event.request, event.response, event.response.refusal == 0
    asked, epoch, leader = request.epoch, told.epoch, told.leader
    match request, told:
        case ms.FetchRequest(), ms.FetchResponse():
            return Answered(
                FETCH, Key(event.sender, None), asked, _end(request.log_end), epoch, leader,
                good=good,
                successors=told.successors,
                batches=tuple((each.base_offset, each.epoch, each.count) for each in told.batches),
                records=tuple(
                    (int(at), _voters(each)) for batch in told.batches for at, each in batch.voters
                ),
                diverging=None if told.diverging is None else _end(told.diverging),
                committed=told.high_watermark,
                log_end=told.log_end_offset,
                snapshot=None if told.snapshot_id is None else _end(told.snapshot_id),
            )  # fmt: skip
        case ms.VoteRequest(), ms.VoteResponse():
            return Answered(
                PRE_VOTE if request.pre_vote else VOTE, Key(event.sender, told.directory_id),
                asked, _end(request.log_end), epoch, leader, told.vote_granted, told.log_is_empty,
            )  # fmt: skip
        case ms.FetchSnapshotRequest(), ms.FetchSnapshotResponse():
            return Answered(
                FETCH_SNAPSHOT, Key(event.sender, None), asked, None, epoch, leader,
                good=good,
                snapshot=_end(told.snapshot_id),
                position=told.position,
                length=told.length,
            )  # fmt: skip
    return Answered(
        WHAT[type(request)], Key(event.sender, None), asked, None, epoch, leader, good=good
    )


def _flushed(event: ev.LogFlushed, state: RaftState) -> Cause:
    return Flushed(event.end_offset, event.truncations == state.truncations)


def _called(what: str) -> Callable[[Any, RaftState], Cause]:
    def read(event: Any, _: RaftState) -> Cause:
        return Named(what, event.call)

    return read


CAUSES: dict[type, Callable[[Any, RaftState], Cause]] = {
    ev.RequestReceived: _asked,
    ev.ResponseReceived: _answered,
    ev.LogFlushed: _flushed,
    ev.ProposalMade: _called(PROPOSED),
    ev.VoterChangeAsked: _called(CHANGE),
    ev.ReadRequested: _called(READ),
    ev.TransferRequested: _called(TRANSFER),
    ev.SnapshotWritten: lambda event, _: Named(WRITTEN, 0, _end(event.snapshot_id)),
    ev.TrimRequested: lambda event, _: Named(TRIM, 0, _end(event.to)),
    ev.SnapshotVerified: lambda event, _: Named(
        VERIFIED, 0, _end(event.snapshot_id), _voters(event.voters)
    ),
    ev.NoRoomFound: lambda _, __: Named(NO_ROOM),
}


# ── what it says and does ────────────────────────────────────────────────────────────────────────


def deeds(effects: Iterable[ef.Effect]) -> list[Deed]:
    """Those that the model judges, in order."""
    found: list[Deed] = []
    for effect in effects:
        read = DEEDS.get(type(effect))
        if read is not None:
            deed = read(effect)
            if deed is not None:
                found.append(deed)
    return found


def _request(effect: ef.SendRequest) -> Deed:
    request = effect.request
    match request:
        case ms.FetchRequest(log_end=end):
            return Asks(FETCH, _end(end), request.epoch)
        case ms.VoteRequest(log_end=end):
            return Asks(PRE_VOTE if request.pre_vote else VOTE, _end(end), request.epoch)
        case ms.FetchSnapshotRequest(snapshot_id=end):
            return Asks(FETCH_SNAPSHOT, _end(end), request.epoch, request.position)
    return Asks(WHAT[type(request)], None, request.epoch)


def _response(effect: ef.SendResponse) -> Deed:
    told = effect.response
    match told:
        case ms.VoteResponse():
            return Answers(effect.call, told.vote_granted)
        case ms.FetchResponse() if told.refusal == 0:
            parts = None if told.diverging is None else _end(told.diverging)
            return Answers(effect.call, False, True, None, parts, told.read_round)
    return Answers(effect.call)


def _sends(effect: ef.SendRecords) -> Deed:
    return Answers(effect.call, False, True, effect.start_offset, None, effect.response.read_round)


DEEDS: dict[type, Callable[[Any], Deed | None]] = {
    ef.SaveQuorumState: lambda effect: Saves(effect.epoch, _key(effect.voted_for)),
    ef.SendRequest: _request,
    ef.SendResponse: _response,
    ef.SendRecords: _sends,
    ef.SendChunk: lambda effect: Answers(effect.call),
    ef.Claim: lambda effect: Claims(effect.epoch),
    ef.AnswerRead: lambda effect: Reads(effect.call, effect.index),
    ef.HandOver: lambda effect: HandsOver(effect.successor),
    ef.RefuseTransfer: lambda _: Keeps(),
}
