"""Leadership handed over on demand: who may, when, and what is never lost by it."""

from dataclasses import replace

import pytest

from controller.raft.effects import (
    AcceptProposal,
    Commit,
    Effects,
    HandOver,
    ProposalRefusal,
    RefuseProposal,
    RefuseTransfer,
    Renounce,
    SendRequest,
    SendResponse,
    TransferRefusal,
)
from controller.raft.events import (
    LogFlushed,
    Moment,
    ProposalMade,
    RequestReceived,
    ResponseReceived,
    StreamLost,
    TimePassed,
    TransferRequested,
)
from controller.raft.messages import (
    EndQuorumEpochRequest,
    FetchRequest,
    FetchResponse,
    Refusal,
)
from controller.raft.state import Candidate, Follower, Leader, RaftState, Resigned, Unattached
from controller.raft.step import step
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from tests.unit.raft.voter import (
    EPOCH,
    FOLLOWER,
    LOG,
    ME,
    NOW,
    PROSPECTIVE,
    RESIGNED,
    THREE,
    TWO,
    UNATTACHED,
    at,
    key,
    leader,
    voter,
)
from tests.unit.raft.world import World

CALL = 9


def led(**ends: int) -> RaftState:
    """Voter 1 leads, its log ends at 6; the others are there, or at the end that is said."""
    state = leader()
    for node, name in ((2, "two"), (3, "three")):
        if (end := ends.get(name, 6)) >= 0:
            state, _ = fetched(state, node, end)
    return state


def fetched(state: RaftState, node: int, end: int, now: Moment = NOW) -> tuple[RaftState, Effects]:
    request = FetchRequest(
        epoch=EPOCH,
        log_end=at(end, state.log.epoch_at(Offset(end - 1))),
        high_watermark=Offset(min(end, state.high_watermark)),
        max_bytes=1_000,
        max_wait_ms=500,
    )
    return step(state, RequestReceived(100 + node, key(node), request), now)


def asked(state: RaftState, target: NodeId | None, now: Moment = NOW) -> tuple[RaftState, Effects]:
    return step(state, TransferRequested(CALL, state.epoch, target), now)


def proposed(state: RaftState, count: int = 1) -> tuple[RaftState, Effects]:
    event = ProposalMade(
        call=4, epoch=EPOCH, base_offset=state.log.end_offset, count=count, records=()
    )
    return step(state, event, NOW)


def refused(why: TransferRefusal) -> RefuseTransfer:
    return RefuseTransfer(CALL, why)


def is_taking_proposals(state: RaftState) -> bool:
    _, effects = proposed(state)
    return any(isinstance(each, AcceptProposal) for each in effects)


def test_a_target_that_has_everything_is_named_first_at_once() -> None:
    state, effects = asked(led(), THREE)
    assert isinstance(state.role, Resigned)
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, TWO))
    assert SendRequest(THREE, ending) in effects
    assert SendRequest(TWO, ending) in effects
    assert effects[-2:] == (Renounce(EPOCH), HandOver(CALL, THREE))


def test_the_target_stands_without_a_pre_vote_and_the_other_waits_its_turn() -> None:
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(ME, THREE))
    state, effects = step(voter(FOLLOWER), RequestReceived(7, key(2), ending), NOW)
    assert isinstance(state.role, Candidate)
    assert state.epoch == EPOCH + 1
    assert sum(isinstance(each, SendRequest) for each in effects) == 2
    waiting = EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, ME))
    state, _ = step(voter(FOLLOWER), RequestReceived(7, key(2), waiting), NOW)
    assert not isinstance(state.role, Candidate)


def test_who_fetches_from_a_leader_that_gave_up_hears_the_order_in_which_to_stand() -> None:
    """Its stream may be quicker than EndQuorumEpoch; it must not campaign against the target."""
    state, _ = asked(led(), THREE)
    _, effects = fetched(state, 2, 6)
    refusal = FetchResponse(
        refusal=Refusal.NOT_LEADER_OR_FOLLOWER,
        epoch=EPOCH,
        leader=NO_NODE,
        successors=(THREE, TWO),
    )
    assert effects == (SendResponse(102, refusal),)
    _, effects = asked(led(), THREE)
    parked = [each.response for each in effects if isinstance(each, SendResponse)]
    assert parked == [refusal, refusal]


@pytest.mark.parametrize("after", ["nothing", "a campaign of its own"])
def test_a_follower_waits_its_turn_whichever_way_it_heard(after: str) -> None:
    request = FetchRequest(
        epoch=EPOCH, log_end=LOG.end, high_watermark=Offset(0), max_bytes=1, max_wait_ms=1
    )
    state = voter(replace(FOLLOWER, fetch=request))
    turn_ms = NOW.now_ms + (state.config.election_backoff_max_ms >> 1)

    def answer(*successors: NodeId) -> ResponseReceived:
        refusal = FetchResponse(
            refusal=Refusal.NOT_LEADER_OR_FOLLOWER,
            epoch=EPOCH,
            leader=NO_NODE,
            successors=successors,
        )
        return ResponseReceived(TWO, request, refusal)

    first, effects = step(state, answer(ME, THREE), NOW)
    assert isinstance(first.role, Candidate)
    assert sum(isinstance(each, SendRequest) for each in effects) == 2
    second, effects = step(state, answer(THREE, ME), NOW)
    assert effects == ()
    assert second.next_deadline_ms == turn_ms
    ending = EndQuorumEpochRequest(epoch=EPOCH, successors=(THREE, ME))
    if after == "a campaign of its own":
        second = voter(replace(PROSPECTIVE, leader=TWO))
    second, _ = step(second, RequestReceived(7, key(2), ending), NOW)
    assert second.role == Follower(leader=TWO, lost=True, deadline_ms=turn_ms)


def test_writes_under_way_are_committed_first_and_new_ones_are_refused_for_so_long() -> None:
    state, _ = proposed(led())
    state, effects = asked(state, THREE)
    assert isinstance(state.role, Leader), "THREE has not the proposal yet"
    assert effects == ()
    _, effects = proposed(state)
    assert effects == (RefuseProposal(4, ProposalRefusal.HANDING_OVER, Offset(7)),)
    # TWO acknowledges: committed, but THREE is the target.
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    state, effects = fetched(state, 2, 7)
    assert Commit(Offset(7)) in effects
    assert isinstance(state.role, Leader)
    state, effects = fetched(state, 3, 7)
    assert isinstance(state.role, Resigned)
    assert effects[-1] == HandOver(CALL, THREE)


def test_what_the_target_has_must_be_committed_too() -> None:
    """In five, the target alone is no majority."""
    state, _ = proposed(led(two=5))
    state, _ = asked(state, THREE)
    state, _ = fetched(state, 3, 7)
    # The leader's own fsync is out: the target has everything, and it is not committed.
    assert isinstance(state.role, Leader)
    state, effects = step(state, LogFlushed(Offset(7), 0), NOW)
    assert isinstance(state.role, Resigned)
    assert effects[0] == Commit(Offset(7))
    assert effects[-1] == HandOver(CALL, THREE)


@pytest.mark.parametrize(
    "target",
    [pytest.param(ME, id="itself"), pytest.param(NodeId(9), id="nobody")],
)
def test_only_another_voter_can_be_the_target(target: NodeId) -> None:
    state, effects = asked(led(), target)
    assert effects == (refused(TransferRefusal.NOT_A_VOTER),)
    assert is_taking_proposals(state)


@pytest.mark.parametrize("role", [FOLLOWER, UNATTACHED, RESIGNED])
def test_who_does_not_lead_refuses(role: object) -> None:
    state = voter(role)  # type: ignore[arg-type]
    assert asked(state, THREE) == (state, (refused(TransferRefusal.NOT_LEADER),))


def test_a_leader_of_another_epoch_or_one_that_has_not_claimed_its_own_refuses() -> None:
    state = led()
    _, effects = step(state, TransferRequested(CALL, Epoch(EPOCH - 1), THREE), NOW)
    assert effects == (refused(TransferRefusal.NOT_LEADER),)
    _, effects = asked(leader(committed=5), THREE)
    assert effects == (refused(TransferRefusal.NOT_LEADER),)


def test_a_target_that_is_silent_or_far_behind_costs_no_write_anything() -> None:
    state, effects = asked(led(three=-1), THREE)
    assert effects == (refused(TransferRefusal.SILENT),)
    assert is_taking_proposals(state)
    state, effects = asked(led(three=3), THREE)
    assert effects == (refused(TransferRefusal.LAGGING),)
    assert is_taking_proposals(state)
    # TWO alone is a majority with the leader; THREE was heard a fetch timeout ago.
    later = Moment(now_ms=NOW.now_ms + 601, draw=0.5)
    state, _ = fetched(led(), 2, 6, later)
    _, effects = asked(state, THREE, later)
    assert effects == (refused(TransferRefusal.SILENT),)


def test_a_target_that_has_just_begun_to_follow_this_epoch_is_waited_for() -> None:
    """Right after an election: it has not acknowledged the epoch's first record yet."""
    state, effects = asked(led(three=5), THREE)
    assert effects == ()
    state, effects = fetched(state, 3, 6)
    assert HandOver(CALL, THREE) in effects


def test_a_target_that_recovers_has_no_say_and_cannot_take_over() -> None:
    state = led()
    assert isinstance(state.role, Leader)
    two, three = state.role.progress
    role = replace(state.role, progress=(two, replace(three, recovering=True)))
    state = replace(state, role=role)
    assert asked(state, THREE) == (state, (refused(TransferRefusal.RECOVERING),))
    _, effects = asked(state, None)
    assert effects[-1] == HandOver(CALL, TWO)


def test_a_second_transfer_is_refused_and_the_first_goes_on() -> None:
    state, _ = asked(proposed(led())[0], THREE)
    state, effects = step(state, TransferRequested(10, EPOCH, TWO), NOW)
    assert effects == (RefuseTransfer(10, TransferRefusal.UNDER_WAY),)
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    _, effects = fetched(state, 3, 7)
    assert effects[-1] == HandOver(CALL, THREE)


def test_a_target_that_is_too_slow_fails_by_name_and_writes_go_on() -> None:
    state, _ = asked(proposed(led())[0], THREE)
    due = Moment(now_ms=NOW.now_ms + state.config.election_timeout_ms, draw=0.5)
    assert state.next_deadline_ms <= due.now_ms
    early = Moment(now_ms=due.now_ms - 1, draw=0.5)
    state, _ = step(state, TimePassed(), early)
    assert not is_taking_proposals(state)
    state, effects = step(state, TimePassed(), due)
    assert effects[0] == refused(TransferRefusal.TIMED_OUT)
    assert is_taking_proposals(state)


def test_a_target_whose_stream_breaks_fails_at_once() -> None:
    state, _ = asked(proposed(led())[0], THREE)
    same, effects = step(state, StreamLost(TWO), NOW)
    assert effects == ()
    assert not is_taking_proposals(same)
    state, effects = step(state, StreamLost(THREE), NOW)
    assert effects == (refused(TransferRefusal.SILENT),)
    assert is_taking_proposals(state)


def test_a_leader_deposed_meanwhile_says_so() -> None:
    state, _ = asked(proposed(led())[0], THREE)
    ending = EndQuorumEpochRequest(epoch=Epoch(EPOCH + 1), successors=())
    state, effects = step(state, RequestReceived(7, key(2), ending), NOW)
    assert isinstance(state.role, Unattached)
    assert refused(TransferRefusal.NOT_LEADER) in effects


def test_without_a_target_the_first_that_has_everything_takes_over() -> None:
    """A leader that stops in order (row 67)."""
    state, effects = asked(led(two=4), None)
    assert effects[-1] == HandOver(CALL, THREE)
    state, _ = proposed(led())
    state, _ = step(state, LogFlushed(Offset(7), 0), NOW)
    state, effects = asked(state, None)
    assert effects == ()
    state, effects = fetched(state, 2, 7)
    assert effects[-1] == HandOver(CALL, TWO)


@pytest.mark.parametrize("seed", range(20))
def test_transfers_in_a_world_that_loses_messages(seed: int) -> None:
    """Each is answered once; whoever gives up has committed all it took (`World` checks it)."""
    world = World(500 + seed, size=(3, 5)[seed % 2])
    world.loss = (0.0, 0.1)[seed // 2 % 2]
    world.run(1_000)
    written = 0
    for _ in range(60):
        world.run(world.now_ms + world.rng.randint(1, 60))
        written += world.propose(written)
        if world.rng.random() < 0.3:
            world.transfer(world.rng.choice([None, *world.disks]))
        world.read()
    world.loss = 0.0
    world.run(world.now_ms + 6_000)
    assert written >= 10
    assert world.propose("last"), "no leader after all faults ended"
    world.run(world.now_ms + 1_500)
    assert world.committed[-1][1] == "last"
    assert not world.transfers, "each has its answer"
    assert world.handed_over > 0 or seed // 2 % 2, "without loss a transfer works"


def test_a_hand_over_takes_milliseconds_and_goes_where_it_was_sent() -> None:
    """No pre-vote, no timeout: the target claims within a few round trips and fsyncs."""
    for seed in range(30):
        world = World(2_000 + seed)
        world.run(3_000)
        old = world.leader()
        target = next(each for each in world.disks if each != old)
        world.transfer(target)
        world.run(world.now_ms + 25)
        assert world.leader() == target
        assert [node for ms, node, _ in world.claims if ms >= 3_000] == [target]


def test_a_target_that_dies_with_the_leadership_in_its_hands_is_replaced() -> None:
    """The others elect after their turn, as after a resign."""
    world = World(77)
    world.run(3_000)
    old = world.leader()
    target = next(each for each in world.disks if each != old)
    world.propose("before")
    world.run(world.now_ms + 20)
    world.transfer(target)
    assert world.handed_over == 1
    world.crash(target)
    world.run(world.now_ms + 2_000)
    assert world.leader() not in (None, target)
    assert ("before") in [value for _, value in world.committed]


def test_the_log_of_the_bench_is_what_the_tables_say() -> None:
    assert (LOG.end_offset, leader().log.end_offset) == (5, 6)
    assert replace(leader(), attempts=1).others == (TWO, THREE)
