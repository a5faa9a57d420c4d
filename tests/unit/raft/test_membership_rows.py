"""Voters as Kafka's tests prove them: rows 90, 112, 113, 118 and 120; the others of 112 to 120 are
in test_membership.py, test_membership_properties.py and beside the shell."""

from dataclasses import replace

import pytest

from controller.raft import membership
from controller.raft.effects import (
    AcceptChange,
    AppendControl,
    AppendVoters,
    ChangeRefusal,
    Commit,
    SendRecords,
)
from controller.raft.events import LogFlushed, ProposalMade, ResponseReceived
from controller.raft.messages import (
    FetchedBatch,
    FetchRequest,
    FetchResponse,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import Candidate, Follower, Leader, RaftState, SavedState, restore
from controller.raft.step import step
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    UpdateVoter,
    Voter,
    VoterSet,
)
from klamm.ids import NO_NODE, NodeId, Offset
from klamm.log.epochs import EpochChain
from tests.unit.raft.test_membership import (
    ADD_4,
    KEEPS_UP,
    appended,
    change,
    fetched,
    leading,
    member,
    place,
    progress,
    voters,
)
from tests.unit.raft.voter import (
    CANDIDATE,
    EPOCH,
    FOLLOWER,
    ME,
    NOW,
    THREE,
    TWO,
    ask,
    at,
    key,
    leader,
    voter,
)
from tests.unit.raft.world import config


def elected(state: RaftState) -> AppendControl:
    """What a candidate appends as it wins, with the vote of 2."""
    assert isinstance(state.role, Candidate)
    request = VoteRequest(epoch=EPOCH, log_end=state.log.end)
    yes = VoteResponse(
        epoch=EPOCH, leader=NO_NODE, vote_granted=True, directory_id=key(2).directory_id
    )
    _, effects = step(state, ResponseReceived(TWO, request, yes), NOW)
    (append,) = [each for each in effects if isinstance(each, AppendControl)]
    return append


def two_more(*nodes: int, lagging: tuple[int, ...] = (), learns: bool = False) -> RaftState:
    """Leads these; all is committed up to 6, and two records more are everywhere but there."""
    state = leading(*nodes, learners=(progress(9),) if learns else ())
    made = ProposalMade(call=9, epoch=EPOCH, base_offset=Offset(6), count=2, records=("x", "y"))
    state, _ = step(state, made, NOW)
    state, _ = step(state, LogFlushed(Offset(8), 0), NOW)
    for node in (*nodes[1:], *((9,) if learns else ())):
        if node not in lagging:
            state, _ = fetched(state, node, 8)
    return state


def test_row_90_the_high_watermark_rises_when_a_laggard_is_removed() -> None:
    state = two_more(1, 2, 3, 4, lagging=(3, 4))
    assert state.high_watermark == 6
    state, effects = change(state, RemoveVoter(key=key(4)))
    assert Commit(Offset(8)) in effects, "two of three have it"


def test_row_90_the_high_watermark_rises_with_a_voter_that_has_more() -> None:
    state = two_more(1, 2, lagging=(2,), learns=True)
    assert state.high_watermark == 6
    state, effects = change(state, AddVoter(voter=member(9)))
    assert Commit(Offset(8)) in effects, "two of three have it"


def test_row_90_the_high_watermark_never_falls_with_a_voter_that_has_less() -> None:
    state = two_more(1, 2, 3, lagging=(9,), learns=True)
    assert state.high_watermark == 8
    state, effects = change(state, AddVoter(voter=member(9)))
    assert state.voters.ids == (1, 2, 3, 9)
    assert not any(isinstance(each, Commit) for each in effects)
    state, _ = fetched(state, 9, 6)
    assert state.high_watermark == 8


def test_row_112_the_first_leader_writes_down_who_votes() -> None:
    """With the disks that it knows by now: its own, and that of who voted for it."""
    append = elected(voter(CANDIDATE))
    assert append.voters is not None
    assert append.voters.ids == append.voter_ids == (ME, TWO, THREE)
    disks = [each.directory_id for each in append.voters.voters]
    assert disks == [key(1).directory_id, key(2).directory_id, None]


def test_row_112_what_the_log_says_already_is_not_written_again() -> None:
    state = replace(
        voter(CANDIDATE), voter_history=((Offset(-1), voters(1)), (Offset(1), voters(1, 2, 3)))
    )
    assert elected(state).voters is None


def test_row_113_who_has_nothing_begins_with_the_logs_first_record() -> None:
    """There is no snapshot of a bootstrap that it could be told of."""
    request = FetchRequest(
        epoch=EPOCH, log_end=at(0, -1), high_watermark=Offset(0), max_bytes=1_000, max_wait_ms=0
    )
    _, effects = ask(leader(), 2, request)
    (sent,) = [each for each in effects if isinstance(each, SendRecords)]
    assert sent.start_offset == 0
    assert sent.response.snapshot_id is None


def test_row_113_a_follower_reads_in_the_log_who_votes() -> None:
    """One that was configured with nobody learns it with the first batch."""
    nobody = replace(config(1), voters=VoterSet(()), bootstrap=(NodeId(-2),))
    state = restore(nobody, SavedState(epoch=EPOCH), EpochChain(), (), NOW)
    assert not state.is_voter
    request = FetchRequest(
        epoch=EPOCH, log_end=at(0, -1), high_watermark=Offset(0), max_bytes=1_000, max_wait_ms=0
    )
    state = replace(state, role=replace(FOLLOWER, fetch=request))
    first = FetchedBatch(
        base_offset=Offset(0), epoch=EPOCH, count=2, voters=((Offset(1), voters(1, 2, 3)),)
    )
    response = FetchResponse(epoch=EPOCH, leader=TWO, batches=(first,), data=b"")
    state, _ = step(state, ResponseReceived(TWO, request, response), NOW)
    assert state.voters == voters(1, 2, 3)
    assert state.is_voter
    assert isinstance(state.role, Follower)


@pytest.mark.parametrize("moved", [True, False])
def test_row_118_a_leader_writes_down_where_it_is_itself(*, moved: bool) -> None:
    state = replace(
        voter(CANDIDATE), voter_history=((Offset(-1), voters(1)), (Offset(1), voters(1, 2, 3)))
    )
    here = place(7 if moved else 0)
    append = elected(replace(state, config=replace(state.config, endpoint=here)))
    if moved:
        assert append.voters == voters(1, 2, 3).updated(member(1, port=7))
    else:
        assert append.voters is None


def test_a_disk_that_no_record_names_is_written_down_as_it_is_first_heard() -> None:
    """The first leader knew some; until one is in the log any disk would be taken for it."""
    state = leading(1, 2, 3)
    unknown = VoterSet((member(1), member(2), replace(member(3), directory_id=None)))
    state = replace(state, voter_history=((Offset(-1), unknown), (Offset(1), unknown)))
    state, effects = fetched(state, 3, 6)
    assert appended(effects) == voters(1, 2, 3)
    state, effects = fetched(state, 3, 6)
    assert not [each for each in effects if isinstance(each, AppendVoters)], "once"
    _, effects = change(replace(state, high_watermark=Offset(7)), UpdateVoter(voter=member(3)))
    assert effects == (AcceptChange(9, Offset(7)),), "once"


def test_row_120_a_disk_must_match_where_one_is_known() -> None:
    known, unknown = VoterSet((member(1),)), VoterSet((Voter(node_id=ME),))
    other = ReplicaKey(node_id=ME, directory_id=key(9).directory_id)
    assert known.admits(key(1))
    assert not known.admits(other)
    assert not known.admits(ReplicaKey(node_id=ME)), "a voter says its disk"
    assert not known.admits(key(2))
    assert unknown.admits(other)


def test_a_dry_run_says_what_the_set_bears_before_and_after() -> None:
    state = leading(1, 2, 3, learners=KEEPS_UP, silent=(3,))
    seen = membership.preview(state, ADD_4, NOW)
    assert (seen.before.voters, seen.before.healthy, seen.before.can_lose) == (3, 2, 0)
    assert (seen.after.voters, seen.after.healthy, seen.after.can_lose) == (4, 3, 0)
    seen = membership.preview(state, RemoveVoter(key=key(3)), NOW)
    assert (seen.after.voters, seen.after.healthy, seen.after.can_lose) == (2, 2, 0)
    seen = membership.preview(state, RemoveVoter(key=key(2)), NOW)
    assert seen.refused is not None
    assert seen.refused.why is ChangeRefusal.UNHEALTHY
    assert (seen.after.voters, seen.after.healthy, seen.after.can_lose) == (2, 1, -1), "why not"
    assert seen.voters.ids == (ME, TWO, THREE), "as they are"


def test_who_has_no_say_is_not_counted_among_the_healthy() -> None:
    """A voter that has lost records can neither vote nor succeed: without 2 nobody could."""
    state = leading(1, 2, 3)
    assert isinstance(state.role, Leader)
    lost = replace(state.role.progress[1], recovering=True)
    state = replace(state, role=replace(state.role, progress=(state.role.progress[0], lost)))
    seen = membership.preview(state, RemoveVoter(key=key(2)), NOW)
    assert (seen.before.healthy, seen.before.can_lose) == (2, 0)
    assert seen.refused is not None
    assert seen.refused.why is ChangeRefusal.UNHEALTHY
    assert membership.preview(state, RemoveVoter(key=key(3)), NOW).refused is None
