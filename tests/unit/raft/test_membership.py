"""Adding, removing and updating voters: rows 112 to 120, 58 and 90; scenarios 17 to 19."""

from dataclasses import replace
from uuid import UUID

import pytest

from controller.raft import membership
from controller.raft.effects import (
    AcceptChange,
    AppendVoters,
    ChangeRefusal,
    Commit,
    Effects,
    RefuseChange,
    Renounce,
    SendRequest,
)
from controller.raft.events import (
    LogFlushed,
    Moment,
    ResponseReceived,
    TimePassed,
    VoterChangeAsked,
)
from controller.raft.messages import (
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchedBatch,
    FetchRequest,
    FetchResponse,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import (
    NEVER_MS,
    Follower,
    Leader,
    Learner,
    Progress,
    RaftState,
    Resigned,
    quorum_until_ms,
)
from controller.raft.step import Step, step
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    UpdateVoter,
    Voter,
    VoterChange,
    VoterSet,
)
from klamm.ids import DirectoryId, Epoch, NodeId, Offset
from klamm.metadata.records import Endpoint
from tests.unit.raft.voter import (
    EPOCH,
    FOLLOWER,
    ME,
    NOW,
    THREE,
    TWO,
    UNATTACHED,
    answer_of,
    ask,
    at,
    key,
    leader,
    voter,
)

FOUR = NodeId(4)


def place(port: int) -> Endpoint:
    return Endpoint(name="CONTROLLER", host="here", port=port)


def member(node: int, port: int = 0) -> Voter:
    return Voter(node_id=NodeId(node), directory_id=key(node).directory_id, endpoint=place(port))


def voters(*nodes: int) -> VoterSet:
    return VoterSet(tuple(member(each) for each in nodes))


def progress(node: int, end: int = 6, *, fetched_ms: int = 9_900) -> Progress:
    return Progress(
        node_id=NodeId(node),
        end_offset=Offset(end),
        fetched_ms=fetched_ms,
        caught_up_ms=fetched_ms if end >= 6 else -1,
        begin_ms=10_200,
    )


def leading(
    *nodes: int, learners: tuple[Progress, ...] = (), silent: tuple[int, ...] = ()
) -> RaftState:
    """Voter 1 leads these, all of whom it heard of late but the silent; all is committed."""
    state = leader()
    assert isinstance(state.role, Leader)
    others = tuple(
        progress(each, fetched_ms=1_000 if each in silent else 9_900) for each in nodes if each != 1
    )
    known = tuple(Learner(key=key(each.node_id), progress=each) for each in learners)
    return replace(
        state,
        voter_history=(*state.voter_history, (Offset(1), voters(*nodes))),
        role=replace(state.role, progress=others, learners=known),
    )


def change(state: RaftState, what: VoterChange) -> Step:
    return step(state, VoterChangeAsked(9, what), NOW)


def appended(effects: Effects) -> VoterSet:
    (append,) = [each for each in effects if isinstance(each, AppendVoters)]
    return append.voters


def refusal(effects: Effects) -> ChangeRefusal:
    (refused,) = effects
    assert isinstance(refused, RefuseChange)
    return refused.why


def fetched(state: RaftState, node: int, end: int, epoch: int = EPOCH) -> Step:
    request = FetchRequest(
        epoch=EPOCH,
        log_end=at(end, epoch),
        high_watermark=state.high_watermark,
        max_bytes=1_000,
        max_wait_ms=500,
    )
    return ask(state, node, request)


def test_row_114_a_caught_up_learner_becomes_a_voter() -> None:
    """Effective as it is appended: its commit takes a majority of the new set."""
    state, effects = change(leading(1, 2, 3, learners=(progress(4),)), AddVoter(voter=member(4)))
    assert appended(effects).ids == (ME, TWO, THREE, FOUR)
    assert AcceptChange(9, Offset(7)) in effects
    assert state.voters.majority == 3
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    state, effects = fetched(state, 2, 7)
    assert not any(isinstance(each, Commit) for each in effects)
    state, effects = fetched(state, 4, 7)
    assert Commit(Offset(7)) in effects
    assert state.voters_committed


ADD_4 = AddVoter(voter=member(4))
KEEPS_UP = (progress(4),)


@pytest.mark.parametrize(
    ("state", "what", "why"),
    [
        pytest.param(
            leading(1, 2, learners=KEEPS_UP),
            AddVoter(voter=member(2)),
            ChangeRefusal.DUPLICATE_VOTER,
            id="115 ExistingVoter",
        ),
        pytest.param(
            leading(1, 2),
            AddVoter(voter=replace(member(2), directory_id=DirectoryId(UUID(int=99)))),
            ChangeRefusal.DUPLICATE_VOTER,
            id="115 ExistingVoter with another disk",
        ),
        pytest.param(
            leading(1, 2, learners=KEEPS_UP),
            AddVoter(voter=replace(member(4), endpoint=None)),
            ChangeRefusal.INVALID,
            id="115 MissingDefaultListener",
        ),
        pytest.param(
            leading(1, 2, learners=KEEPS_UP),
            AddVoter(voter=replace(member(4), directory_id=None)),
            ChangeRefusal.INVALID,
            id="115 MissingDirectoryId",
        ),
        pytest.param(
            replace(
                leading(1, 2, learners=KEEPS_UP),
                voter_history=((Offset(1), voters(1)), (Offset(6), voters(1, 2))),
            ),
            ADD_4,
            ChangeRefusal.CHANGE_UNDER_WAY,
            id="115 PendingAddVoter",
        ),
        pytest.param(
            leading(1, 2, learners=(progress(4, 3),)),
            ADD_4,
            ChangeRefusal.LAGGING,
            id="115 LaggingNewVoter",
        ),
        pytest.param(
            leading(1, 2), ADD_4, ChangeRefusal.NOT_FOLLOWING, id="115 no fetch was ever seen"
        ),
        pytest.param(
            leading(1, 2, learners=(progress(4, fetched_ms=1_000),)),
            ADD_4,
            ChangeRefusal.NOT_FOLLOWING,
            id="115 the learner is silent",
        ),
        pytest.param(
            leader(committed=3), ADD_4, ChangeRefusal.NOT_CLAIMED, id="115 WithoutFencedPrevious"
        ),
        pytest.param(voter(FOLLOWER), ADD_4, ChangeRefusal.NOT_LEADER, id="115 ToNotLeader"),
        pytest.param(
            leading(1, 2, 3),
            RemoveVoter(key=key(4)),
            ChangeRefusal.VOTER_NOT_FOUND,
            id="117 WithNoneVoterId",
        ),
        pytest.param(
            leading(1, 2, 3),
            RemoveVoter(key=ReplicaKey(node_id=TWO, directory_id=key(9).directory_id)),
            ChangeRefusal.VOTER_NOT_FOUND,
            id="117 WithNoneVoter",
        ),
        pytest.param(
            leading(1),
            RemoveVoter(key=key(1)),
            ChangeRefusal.LAST_VOTER,
            id="117 and 120 ToEmptyVoterSet",
        ),
        pytest.param(
            replace(
                leading(1, 2, 3),
                voter_history=((Offset(1), voters(1, 2)), (Offset(6), voters(1, 2, 3))),
            ),
            RemoveVoter(key=key(2)),
            ChangeRefusal.CHANGE_UNDER_WAY,
            id="117 WithPendingRemoveVoter",
        ),
        pytest.param(
            leading(1, 2, 3, silent=(3,)),
            RemoveVoter(key=key(2)),
            ChangeRefusal.UNHEALTHY,
            id="the healthy would be a minority",
        ),
        pytest.param(
            leading(1, 2, 3, silent=(3,)),
            RemoveVoter(key=key(1)),
            ChangeRefusal.UNHEALTHY,
            id="without the leader the healthy would be a minority",
        ),
        pytest.param(
            leading(1, 2, 3),
            UpdateVoter(voter=member(4)),
            ChangeRefusal.VOTER_NOT_FOUND,
            id="118 UpdateVoter of none",
        ),
    ],
)
def test_rows_115_and_117_refusals(state: RaftState, what: VoterChange, why: ChangeRefusal) -> None:
    after, effects = change(state, what)
    assert refusal(effects) is why
    assert after.log == state.log


def test_row_115_a_full_set_takes_no_more() -> None:
    nodes = range(1, membership.VOTERS_MAX + 1)
    state = leading(*nodes, learners=(progress(99),))
    _, effects = change(state, AddVoter(voter=member(99)))
    assert refusal(effects) is ChangeRefusal.TOO_MANY_VOTERS


def test_row_115_a_dead_voter_does_not_forbid_an_add_that_helps() -> None:
    _, effects = change(leading(1, 2, 3, silent=(3,), learners=KEEPS_UP), ADD_4)
    assert appended(effects).ids == (ME, TWO, THREE, FOUR)


def test_row_116_a_follower_is_removed() -> None:
    """And goes on to be served, as a learner that the leader knows."""
    state, effects = change(leading(1, 2, 3), RemoveVoter(key=key(3)))
    assert appended(effects).ids == (ME, TWO)
    assert appended(effects).removed == (key(3),)
    assert isinstance(state.role, Leader)
    assert [each.key for each in state.role.learners] == [key(3)]
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    state, effects = fetched(state, 3, 7)
    assert not any(isinstance(each, Commit) for each in effects), "the removed does not count"
    state, effects = fetched(state, 2, 7)
    assert Commit(Offset(7)) in effects


def test_rows_116_and_90_a_leader_that_removes_itself_leads_on_without_counting_itself() -> None:
    state, effects = change(leading(1, 2, 3), RemoveVoter(key=key(1)))
    assert appended(effects).ids == (TWO, THREE)
    state, effects = step(state, LogFlushed(Offset(7), 0), NOW)
    assert not any(isinstance(each, Commit) for each in effects)
    state, effects = fetched(state, 2, 7)
    assert not any(isinstance(each, Commit) for each in effects), "two voters, and one has it"
    assert isinstance(state.role, Leader)
    state, effects = fetched(state, 3, 7)
    assert Commit(Offset(7)) in effects
    assert Renounce(EPOCH) in effects
    assert isinstance(state.role, Resigned)
    endings = [
        each.request
        for each in effects
        if isinstance(each, SendRequest) and isinstance(each.request, EndQuorumEpochRequest)
    ]
    assert {each.successors for each in endings} == {(TWO, THREE)}
    assert not state.may_stand


def test_row_116_who_has_resigned_so_looks_for_the_next_leader_and_never_stands() -> None:
    state, _ = change(leading(1, 2), RemoveVoter(key=key(1)))
    state, effects = fetched(state, 2, 7)
    assert isinstance(state.role, Resigned)
    goodbye = next(each.request for each in effects if isinstance(each, SendRequest))
    heard = EndQuorumEpochResponse(epoch=EPOCH, leader=NodeId(-1))
    state, _ = step(state, ResponseReceived(TWO, goodbye, heard), NOW)
    assert isinstance(state.role, Resigned)
    soon_ms = state.role.deadline_ms
    assert soon_ms - NOW.now_ms <= state.config.election_timeout_ms // 2, "nobody tells it"
    state, effects = step(state, TimePassed(), Moment(now_ms=soon_ms, draw=0.5))
    (asked,) = effects
    assert isinstance(asked, SendRequest)
    assert isinstance(asked.request, FetchRequest)


def test_row_118_changed_endpoints_are_written_and_the_same_are_not() -> None:
    state, effects = change(leading(1, 2), UpdateVoter(voter=member(2, port=7)))
    found = appended(effects).find(TWO)
    assert found == member(2, port=7)
    state, effects = change(leading(1, 2), UpdateVoter(voter=member(2)))
    assert effects == (AcceptChange(9, Offset(2)),)
    assert state.log.end_offset == 6


def test_row_119_who_knows_no_voters_asks_where_it_was_told_to() -> None:
    state = voter(UNATTACHED)
    nobody = replace(state.config, voters=VoterSet(()), bootstrap=(NodeId(-2),), me=FOUR)
    state = replace(state, config=nobody, voter_history=((Offset(-1), VoterSet(())),))
    state, effects = step(state, TimePassed(), Moment(now_ms=20_000, draw=0.5))
    (asked,) = effects
    assert isinstance(asked, SendRequest)
    assert asked.to == -2
    assert isinstance(asked.request, FetchRequest)


def test_scenario_18_a_removed_disk_is_not_let_in_again_unless_somebody_says_so() -> None:
    """KAFKA-19850: what was removed, and still runs, must not put itself back."""
    state, _ = change(leading(1, 2, 3), RemoveVoter(key=key(3)))
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    state, _ = fetched(state, 2, 7)
    state, _ = fetched(state, 3, 7)
    _, effects = change(state, AddVoter(voter=member(3)))
    assert refusal(effects) is ChangeRefusal.REMOVED_BEFORE
    state, effects = change(state, AddVoter(voter=member(3), readmit=True))
    assert appended(effects).ids == (ME, TWO, THREE)
    assert appended(effects).removed == ()


def test_scenario_18_the_memory_of_the_removed_is_bounded() -> None:
    many = voters(1)
    for node in range(2, 100):
        many = many.joined(member(node)).left(NodeId(node))
    assert len(many.removed) == 64
    assert many.removed[-1] == key(99)


@pytest.mark.parametrize("role", [FOLLOWER, "leader"])
def test_scenario_18_a_removed_voter_with_a_higher_epoch_deposes_nobody(role: object) -> None:
    state = leading(1, 2, 3)
    if isinstance(role, Follower):
        state = replace(
            voter(role), voter_history=((Offset(-1), voters(1, 2, 3)), (Offset(1), voters(1, 2, 3)))
        )
    request = VoteRequest(epoch=Epoch(EPOCH + 5), log_end=at(99, EPOCH + 4))
    after, effects = ask(state, 4, request)
    answer = answer_of(effects)
    assert isinstance(answer, VoteResponse)
    assert not answer.vote_granted
    assert after.epoch == EPOCH
    assert after.role == state.role


def test_scenario_18_who_hears_no_leader_votes_for_a_candidate_that_its_own_set_lacks() -> None:
    """Its own set may be the one that lags (Raft's thesis, 4.2.2)."""
    state = replace(voter(UNATTACHED), voter_history=((Offset(1), voters(1, 2, 3)),))
    _, effects = ask(state, 4, VoteRequest(epoch=Epoch(EPOCH + 1), log_end=at(6, EPOCH)))
    answer = answer_of(effects)
    assert isinstance(answer, VoteResponse)
    assert answer.vote_granted


def test_scenario_18_two_disks_with_one_id_are_two_replicas() -> None:
    state = leading(1, 2, 3)
    assert state.admits(key(3))
    assert not state.admits(ReplicaKey(node_id=THREE, directory_id=DirectoryId(UUID(int=77))))


def test_scenario_17_a_change_that_is_cut_off_never_was() -> None:
    """A follower takes the set with the record, and gives it back with the record."""
    before = replace(
        voter(FOLLOWER), voter_history=((Offset(-1), voters(1, 2)), (Offset(1), voters(1, 2, 3)))
    )
    request = FetchRequest(
        epoch=EPOCH, log_end=before.log.end, high_watermark=Offset(0), max_bytes=1, max_wait_ms=1
    )
    assert isinstance(before.role, Follower)
    before = replace(before, role=replace(before.role, fetch=request))
    batch = FetchedBatch(
        base_offset=Offset(5), epoch=EPOCH, count=1, voters=((Offset(5), voters(1, 2, 3, 4)),)
    )
    response = FetchResponse(epoch=EPOCH, leader=TWO, batches=(batch,), data=b"")
    state, _ = step(before, ResponseReceived(TWO, request, response), NOW)
    assert state.voters.ids == (ME, TWO, THREE, FOUR)
    state, _ = step(state, LogFlushed(Offset(6), 0), NOW)
    assert isinstance(state.role, Follower)
    assert state.role.fetch is not None
    diverging = FetchResponse(epoch=EPOCH, leader=TWO, diverging=at(5, 3))
    state, _ = step(state, ResponseReceived(TWO, state.role.fetch, diverging), NOW)
    assert state.voters.ids == (ME, TWO, THREE)


def test_row_58_check_quorum_counts_the_voters_of_the_latest_set() -> None:
    """With voter 3 silent since long, who leads alone with 2 must hear 2."""
    state = leading(1, 2, 3, silent=(2,))
    assert isinstance(state.role, Leader)
    before_ms = state.next_deadline_ms
    smaller = replace(state, voter_history=(*state.voter_history, (Offset(2), voters(1, 2))))
    role = replace(state.role, progress=state.role.progress[:1])
    assert replace(smaller, role=role).next_deadline_ms < before_ms
    alone = replace(smaller, voter_history=(*state.voter_history, (Offset(2), voters(1))))
    assert quorum_until_ms(alone, replace(role, progress=())) == NEVER_MS


def test_row_90_the_high_watermark_never_falls_with_who_leaves() -> None:
    state = leading(1, 2, 3, silent=())
    assert isinstance(state.role, Leader)
    lagging = replace(state.role, progress=(progress(2), progress(3, 2)))
    state = replace(state, role=lagging)
    state, effects = change(state, RemoveVoter(key=key(2)))
    assert not any(isinstance(each, Commit) for each in effects), "3 lags: it never falls"
    assert state.high_watermark == 6


def test_learners_are_known_by_name_and_the_silent_make_room() -> None:
    state = leading(1, 2)
    for node in range(10, 10 + membership.LEARNERS_MAX + 5):
        state, _ = fetched(state, node, 6)
    assert isinstance(state.role, Leader)
    assert len(state.role.learners) == membership.LEARNERS_MAX
    later = Moment(now_ms=NOW.now_ms + membership.LEARNER_FORGOTTEN_MS + 1, draw=0.5)
    role = membership.learner_heard(state.role, key(99), lambda each: each, later)
    assert [each.key for each in role.learners] == [key(99)]


def test_a_replica_whose_removal_may_be_undone_may_be_the_only_one_that_can_lead() -> None:
    """{1, 2} → {2}, and only 1 has the record: 2's log is too short to be elected without it."""
    state = replace(
        voter(UNATTACHED), voter_history=((Offset(1), voters(1, 2)), (Offset(4), voters(2)))
    )
    state = replace(state, high_watermark=Offset(2))
    assert state.may_stand
    state, effects = step(state, TimePassed(), Moment(now_ms=20_000, draw=0.5))
    assert [each.to for each in effects if isinstance(each, SendRequest)] == [TWO]
    yes = VoteResponse(
        epoch=EPOCH, leader=NodeId(-1), vote_granted=True, directory_id=key(2).directory_id
    )
    (asked,) = effects
    assert isinstance(asked, SendRequest)
    state, effects = step(state, ResponseReceived(TWO, asked.request, yes), NOW)
    vote = next(each.request for each in effects if isinstance(each, SendRequest))
    state, _ = step(state, ResponseReceived(TWO, vote, replace(yes, epoch=state.epoch)), NOW)
    assert isinstance(state.role, Leader)
    assert state.voters.ids == (TWO,)
