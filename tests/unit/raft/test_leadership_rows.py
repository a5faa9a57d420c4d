"""Leadership, check-quorum and stopping as Kafka's tests prove them: kraft.md 6.3, rows 56 to 70.

Rows that other files hold are in docs/testing.md, and those that do not apply, with the reason.
"""

from dataclasses import replace

import pytest

from controller.raft.effects import (
    AcceptProposal,
    AppendRecords,
    Effects,
    ProposalRefusal,
    RefuseProposal,
    Renounce,
    SaveQuorumState,
    SendRequest,
)
from controller.raft.events import (
    Event,
    Moment,
    ProposalMade,
    RequestReceived,
    ResignRequested,
    ResponseReceived,
    TimePassed,
)
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchRequest,
    VoteRequest,
)
from controller.raft.replication import UNCOMMITTED_MAX
from controller.raft.state import (
    Follower,
    Leader,
    Progress,
    Prospective,
    RaftState,
    Resigned,
    Role,
    SavedState,
    restore,
)
from controller.raft.step import Step, step
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.log.epochs import EpochChain
from tests.unit.raft.voter import (
    CANDIDATE,
    EPOCH,
    FOLLOWER,
    NOW,
    PROSPECTIVE,
    RESIGNED,
    THREE,
    TWO,
    UNATTACHED,
    ask,
    at,
    key,
    leader,
    voter,
)
from tests.unit.raft.world import World, config

CHECK_QUORUM_MS = 900
"""One and a half fetch timeouts."""


def at_ms(now_ms: int) -> Moment:
    return Moment(now_ms=now_ms, draw=0.5)


def fetched(state: RaftState, sender: int, now_ms: int) -> RaftState:
    """A fetch from the end of the leader's log."""
    request = FetchRequest(
        epoch=EPOCH, log_end=state.log.end, high_watermark=Offset(6), max_bytes=1, max_wait_ms=500
    )
    state, _ = step(state, RequestReceived(7, key(sender), request), at_ms(now_ms))
    return state


def quiet(state: RaftState, until_ms: int) -> RaftState:
    """Time passes, and nobody says anything."""
    while isinstance(state.role, Leader) and state.next_deadline_ms <= until_ms:
        state, _ = step(state, TimePassed(), at_ms(state.next_deadline_ms))
    return state


def resigned() -> tuple[RaftState, Effects]:
    """Of two followers THREE was ahead."""
    state = leader()
    for sender, end in ((2, at(5, 3)), (3, at(6, 5))):
        request = FetchRequest(
            epoch=EPOCH, log_end=end, high_watermark=Offset(5), max_bytes=1, max_wait_ms=0
        )
        state, _ = ask(state, sender, request)
    return step(state, ResignRequested(EPOCH), NOW)


def leader_of(size: int) -> RaftState:
    """Voter 1 leads `size` voters, all heard of at 9,900 ms."""
    progress = tuple(
        Progress(node_id=NodeId(each), fetched_ms=9_900, begin_ms=10_200)
        for each in range(2, size + 1)
    )
    state = leader()
    assert isinstance(state.role, Leader)
    return replace(
        state,
        config=config(1, size),
        voter_history=((Offset(-1), config(1, size).voters),),
        role=replace(state.role, progress=progress),
    )


@pytest.mark.parametrize(
    ("size", "heard", "leads"),
    [(3, (2,), True), (3, (), False), (5, (2, 4), True), (5, (3,), False), (4, (2,), False)],
)
def test_rows_56_58_a_leader_stays_while_a_majority_fetches(
    size: int, heard: tuple[int, ...], leads: bool
) -> None:
    """Of the voters as they are: of four, one follower is not enough (scenario 15)."""
    state = leader_of(size)
    for now_ms in range(10_000, 14_000, 200):
        state = quiet(state, now_ms)
        for each in heard:
            if isinstance(state.role, Leader):
                state = fetched(state, each, now_ms)
    assert isinstance(state.role, Leader if leads else Resigned)


def test_row_56_it_resigns_after_one_and_a_half_fetch_timeouts() -> None:
    state = quiet(leader(), 9_900 + CHECK_QUORUM_MS - 1)
    assert isinstance(state.role, Leader)
    assert isinstance(quiet(state, 9_900 + CHECK_QUORUM_MS).role, Resigned)


def test_row_57_a_single_voter_leads_for_ever() -> None:
    state = restore(config(1, size=1), SavedState(), EpochChain(), (), NOW)
    state, _ = step(state, TimePassed(), NOW)
    for hour in range(1, 100):
        state = quiet(state, NOW.now_ms + hour * 3_600_000)
    assert isinstance(state.role, Leader)
    same, effects = step(state, ResignRequested(state.epoch), NOW)
    assert (same, effects) == (state, ()), "there is nobody to resign to"


def test_row_59_goodbyes_are_said_again_until_they_are_heard() -> None:
    state, effects = resigned()
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, TWO))
    response = EndQuorumEpochResponse(epoch=EPOCH, leader=NO_NODE)
    state, _ = step(state, ResponseReceived(THREE, ending, response), NOW)
    now_ms, again = NOW.now_ms, []
    for _ in range(2):
        now_ms = state.next_deadline_ms
        state, effects = step(state, TimePassed(), at_ms(now_ms))
        again += [each for each in effects if isinstance(each, SendRequest)]
    assert again == [SendRequest(TWO, ending)] * 2
    state, _ = step(state, ResponseReceived(TWO, ending, response), at_ms(now_ms))
    state, effects = step(state, TimePassed(), at_ms(state.next_deadline_ms))
    assert isinstance(state.role, Prospective), "nobody followed: like anybody (row 63)"


def test_a_goodbye_that_made_a_candidate_costs_the_leader_that_was_one_save() -> None:
    """Its successor answers in the next epoch, and asks for a vote: entered and voted in one."""
    state, _ = resigned()
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, TWO))
    later = Epoch(EPOCH + 1)
    response = EndQuorumEpochResponse(epoch=later, leader=NO_NODE)
    state, effects = step(state, ResponseReceived(THREE, ending, response), NOW)
    assert (state.epoch, effects) == (EPOCH, ())
    state, effects = ask(state, 3, VoteRequest(epoch=later, log_end=state.log.end))
    saves = [each for each in effects if isinstance(each, SaveQuorumState)]
    assert saves == [SaveQuorumState(epoch=later, voted_for=key(3), leader=NO_NODE)]


@pytest.mark.parametrize("epoch", [EPOCH - 1, EPOCH + 1])
def test_row_61_to_resign_from_another_epoch_is_nothing(epoch: int) -> None:
    state = leader()
    assert step(state, ResignRequested(Epoch(epoch)), NOW) == (state, ())


@pytest.mark.parametrize("role", [UNATTACHED, FOLLOWER, PROSPECTIVE, CANDIDATE, RESIGNED])
def test_rows_61_66_who_does_not_lead_has_nothing_to_resign_from(role: Role) -> None:
    state = voter(role)
    assert step(state, ResignRequested(EPOCH), NOW) == (state, ())


def test_row_62_who_resigned_follows_the_next_leader() -> None:
    state, _ = resigned()
    state, _ = ask(state, 3, BeginQuorumEpochRequest(epoch=Epoch(EPOCH + 1)))
    assert isinstance(state.role, Follower)
    assert (state.epoch, state.leader) == (EPOCH + 1, THREE)


def test_row_63_who_resigned_stands_itself_if_nobody_else_does() -> None:
    state, _ = resigned()
    began_ms = NOW.now_ms
    while isinstance(state.role, Resigned):
        now_ms = state.next_deadline_ms
        assert now_ms < began_ms + 2 * state.config.election_timeout_ms
        state, effects = step(state, TimePassed(), at_ms(now_ms))
    assert isinstance(state.role, Prospective)
    requests = [each.request for each in effects if isinstance(each, SendRequest)]
    assert all(isinstance(each, VoteRequest) and each.pre_vote for each in requests)


def test_row_67_successors_are_named_in_descending_order_of_what_they_have() -> None:
    _, effects = resigned()
    first = effects[0]
    assert isinstance(first, SendRequest)
    assert first.request == EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, TWO))


def proposal(state: RaftState, **changes: int) -> ProposalMade:
    made = ProposalMade(
        call=1, epoch=state.epoch, base_offset=state.log.end_offset, count=1, records=()
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_rows_69_70_a_proposal_is_appended_at_once_or_refused_by_name() -> None:
    """There is no accumulator to clear: what is not in the log was refused, and nothing changed."""
    cases: list[tuple[RaftState, dict[str, int], ProposalRefusal]] = [
        (voter(FOLLOWER), {}, ProposalRefusal.NOT_LEADER),
        (leader(committed=5), {}, ProposalRefusal.NOT_LEADER),
        (leader(), {"epoch": EPOCH - 1}, ProposalRefusal.NOT_LEADER),
        (leader(), {"epoch": EPOCH + 1}, ProposalRefusal.NOT_LEADER),
        (leader(), {"base_offset": 5}, ProposalRefusal.LOG_MOVED),
        (full(), {}, ProposalRefusal.OVERLOADED),
    ]
    for state, changes, why in cases:
        refusal = RefuseProposal(1, why, state.log.end_offset)
        after, effects = step(state, proposal(state, **changes), NOW)
        assert effects == (refusal,)
        assert after.log is state.log
    state, effects = step(leader(), proposal(leader()), NOW)
    assert isinstance(effects[0], AppendRecords)
    assert effects[-1] == AcceptProposal(1, Offset(7))


def full() -> RaftState:
    state = leader()
    return replace(state, log=state.log.append(EPOCH, UNCOMMITTED_MAX))


def test_row_69_what_was_accepted_and_not_committed_is_renounced_with_the_epoch() -> None:
    state, _ = step(leader(), proposal(leader()), NOW)
    ending: Event = RequestReceived(
        7, key(2), EndQuorumEpochRequest(epoch=Epoch(EPOCH + 1), successors=())
    )
    after: Step = step(state, ending, NOW)
    assert Renounce(EPOCH) in after[1]
    assert after[0].log == state.log, "only who leads next may cut it"


@pytest.mark.parametrize("paused_ms", [100, 700, 950, 5_000, 60_000])
def test_scenario_57_a_leader_that_was_stopped_finds_out_before_it_acts(paused_ms: int) -> None:
    """Whatever came in the meantime comes at once; a read is stale nowhere (`World` checks it)."""
    world = World(paused_ms)
    world.run(3_000)
    paused = world.leader()
    assert paused is not None
    world.propose("before")
    world.pause(paused)
    world.run(world.now_ms + paused_ms)
    if world.leader() != paused:
        world.propose("meanwhile")
        world.run(world.now_ms + 100)
    world.resume(paused)
    world.read()
    world.run(world.now_ms + 3_000)
    assert world.leader() == paused or world.states[paused].leader == world.leader()
    assert world.propose("after")
    world.run(world.now_ms + 500)
    assert "before" in [value for _, value in world.committed]
    assert world.committed[-1][1] == "after"
    if paused_ms > CHECK_QUORUM_MS:
        assert len({node for _, node, _ in world.claims}) > 1, "another led meanwhile"
