"""Who is told of records at once, and that nobody waits in vain for it."""

from dataclasses import replace

import pytest

from controller.raft.effects import Effects, SendRecords, SendRequest, SendResponse
from controller.raft.events import (
    LogFlushed,
    Moment,
    NoRoomFound,
    ProposalMade,
    ReadRequested,
    RequestDropped,
    RequestReceived,
    StreamLost,
    TimePassed,
    TransferRequested,
    VoterChangeAsked,
)
from controller.raft.messages import EndQuorumEpochRequest, FetchRequest, FetchResponse, VoteRequest
from controller.raft.replication import NEWS_WAIT_MS
from controller.raft.state import Follower, Leader, Recovering, Role
from controller.raft.step import step
from controller.raft.thrift import QUICK_MS, REST_MS
from controller.raft.voters import RemoveVoter
from klamm.ids import Epoch, NodeId, Offset
from tests.unit.raft.voter import (
    EPOCH,
    LOST,
    ME,
    NOW,
    THREE,
    TWO,
    UNATTACHED,
    ask,
    key,
    leader,
    voter,
)
from tests.unit.raft.voter import at as log_at
from tests.unit.raft.world import World

BUSY_MS = 2
"""Between two writes."""


class Busy:
    """A leader that writes, 2 and 3 asking for more as soon as they are told; 2 is the quicker."""

    def __init__(self) -> None:
        self.state = leader()
        self.now_ms = NOW.now_ms
        self.told: list[tuple[int, NodeId, int]] = []
        """When, who, and from which offset on."""
        self._ends = {TWO: 6, THREE: 6}
        self._heard = {TWO: Offset(6), THREE: Offset(6)}
        """What each has been told to be committed."""
        for each in self._ends:
            self.fetch(each)

    def do(self, event: object) -> Effects:
        self.state, effects = step(self.state, event, Moment(now_ms=self.now_ms, draw=0.5))  # type: ignore[arg-type]
        for each in effects:
            if isinstance(each, SendRecords | SendResponse) and each.call in self._heard:
                assert isinstance(each.response, FetchResponse)
                self._heard[NodeId(each.call)] = each.response.high_watermark
            if isinstance(each, SendRecords):
                self.told.append((self.now_ms, NodeId(each.call), each.start_offset))
        return effects

    def fetch(self, node: NodeId) -> Effects:
        """What it was told of is on its disk."""
        end = log_at(self._ends[node], 5)
        request = FetchRequest(
            epoch=EPOCH,
            log_end=end,
            high_watermark=self._heard[node],
            max_bytes=1_000,
            max_wait_ms=500,
            read_round=self.role.read_round,
        )
        return self.do(RequestReceived(node, key(node), request))

    def propose(self) -> Effects:
        end = self.state.log.end_offset
        return self.do(ProposalMade(call=9, epoch=EPOCH, base_offset=end, count=1, records=("x",)))

    def acknowledge(self, node: NodeId) -> Effects:
        self._ends[node] = self.state.log.end_offset
        return self.fetch(node)

    def commit(self, by: NodeId = TWO) -> None:
        """A write, which `by` acknowledges; whoever else was told does after it."""
        before = len(self.told)
        self.propose()
        self.do(LogFlushed(self.state.log.end_offset, 0))
        assert by in [node for _, node, _ in self.told[before:]], "it waits for it"
        self.acknowledge(by)
        for _, node, _ in list(self.told[before:]):
            if node != by:
                self.acknowledge(node)
        assert self.state.high_watermark == self.state.log.end_offset

    def wait(self, ms: int) -> None:
        """Timers go off, and whoever is told acknowledges."""
        until_ms = self.now_ms + ms
        while self.state.next_deadline_ms <= until_ms:
            self.now_ms = max(self.state.next_deadline_ms, self.now_ms)
            effects = self.do(TimePassed())
            for each in effects:
                if isinstance(each, SendRecords | SendResponse):
                    self.acknowledge(NodeId(each.call))
        self.now_ms = until_ms

    def writes(self, count: int) -> list[tuple[int, NodeId, int]]:
        """Who was told of anything meanwhile."""
        before = len(self.told)
        for _ in range(count):
            self.commit()
            self.wait(BUSY_MS)
        return self.told[before:]

    @property
    def role(self) -> Leader:
        assert isinstance(self.state.role, Leader)
        return self.state.role


def test_a_busy_quorum_tells_one_of_each_record_and_the_other_of_many_together() -> None:
    busy = Busy()
    busy.writes(3)
    count = 200
    told = busy.writes(count)
    times = {node: sum(each[1] == node for each in told) for node in (TWO, THREE)}
    assert times[TWO] == count
    # Two answers in each rest, and what a look at all of them costs.
    assert times[THREE] <= 2 * count * BUSY_MS // REST_MS + 3
    last_ms = max(at_ms for at_ms, node, _ in told if node == THREE)
    assert busy.now_ms - last_ms <= REST_MS + BUSY_MS, "it is told of all, a little later"


def test_an_idle_quorum_tells_all_at_once_also_that_it_is_committed() -> None:
    busy = Busy()
    busy.writes(3)
    for _ in range(3):
        busy.wait(700)
        before = len(busy.told)
        busy.commit()
        assert {node for _, node, _ in busy.told[before:]} == {TWO, THREE}
        assert busy.role.parked
        for each in busy.role.parked:
            assert each.high_watermark < busy.state.high_watermark
            soon_ms = busy.now_ms + NEWS_WAIT_MS
            assert each.deadline_ms <= soon_ms, "news of the commit rests for nobody"


def test_in_a_busy_quorum_news_of_a_commit_rests_too() -> None:
    """Or each of them would bring the records that have come meanwhile."""
    busy = Busy()
    busy.writes(3)
    busy.wait(3 * REST_MS)
    busy.commit()
    busy.now_ms += 1
    busy.commit()
    (resting,) = [each for each in busy.role.parked if each.sender.node_id == THREE]
    assert resting.high_watermark < busy.state.high_watermark == resting.log_end.offset
    assert resting.deadline_ms == resting.rests_until_ms == busy.now_ms + REST_MS


def test_the_quick_are_late_and_all_are_told() -> None:
    busy = Busy()
    busy.writes(3)
    busy.propose()
    busy.do(LogFlushed(busy.state.log.end_offset, 0))
    assert busy.told[-1][1] == TWO
    assert busy.state.next_deadline_ms <= busy.now_ms + REST_MS
    uncommitted = busy.state.log.end_offset
    busy.wait(REST_MS)
    assert busy.told[-1][1] == THREE
    assert busy.state.high_watermark == uncommitted
    assert busy.role.quick == {THREE}
    busy.commit(by=THREE)


def test_the_quick_are_late_and_who_knows_all_is_told() -> None:
    """It has no news to wait for but the record: not even that the last one is committed."""
    busy = Busy()
    busy.writes(3)
    busy.wait(3 * REST_MS)
    busy.commit()
    busy.wait(NEWS_WAIT_MS)
    (resting,) = [each for each in busy.role.parked if each.sender.node_id == THREE]
    assert resting.high_watermark == resting.log_end.offset == busy.state.log.end_offset
    busy.propose()
    assert busy.told[-1][:2] == (busy.now_ms, TWO)
    busy.wait(REST_MS)
    assert busy.told[-1][1] == THREE


def test_who_asks_for_what_is_there_and_rests_has_it_in_time() -> None:
    busy = Busy()
    busy.writes(3)
    busy.wait(3 * REST_MS)
    busy.commit()
    busy.wait(NEWS_WAIT_MS)
    busy.propose()
    told = len(busy.told)
    busy.do(RequestDropped(THREE))
    busy.fetch(THREE)  # Once more: its stream broke. It lacks a record, and knows of no other.
    assert len(busy.told) == told
    busy.wait(REST_MS)
    assert busy.told[-1][1] == THREE


def test_the_quick_are_lost_and_all_are_told_at_once() -> None:
    busy = Busy()
    busy.writes(3)
    busy.propose()
    effects = busy.do(StreamLost(TWO))
    assert [each.call for each in effects if isinstance(each, SendRecords)] == [THREE]
    assert not busy.role.quick


def test_losing_another_one_changes_nothing() -> None:
    busy = Busy()
    busy.writes(3)
    busy.propose()
    assert not busy.do(StreamLost(THREE))
    assert busy.role.quick == {TWO}


def test_now_and_then_all_are_told_and_the_quicker_one_is_found() -> None:
    busy = Busy()
    busy.writes(QUICK_MS // BUSY_MS - 10)
    assert busy.role.quick == {TWO}
    for _ in range(20):
        busy.propose()
        busy.do(LogFlushed(busy.state.log.end_offset, 0))
        told = [node for at_ms, node, _ in busy.told if at_ms == busy.now_ms]
        quicker = THREE if THREE in told else TWO
        busy.acknowledge(quicker)
        busy.acknowledge(TWO)
        busy.wait(BUSY_MS)
    assert busy.role.quick == {THREE}


def test_each_second_all_are_told_though_they_rest() -> None:
    busy = Busy()
    busy.writes(3)
    busy.wait(REST_MS + REST_MS // 2)
    until_ms = busy.role.quick_until_ms
    while busy.now_ms < until_ms:
        busy.writes(1)
    (resting,) = [each for each in busy.role.parked if each.sender.node_id == THREE]
    assert resting.rests_until_ms > busy.now_ms + BUSY_MS
    assert {node for _, node, _ in busy.writes(1)} == {TWO, THREE}
    assert busy.role.quick_until_ms > until_ms + QUICK_MS // 2
    assert {node for _, node, _ in busy.writes(1)} == {TWO}


def test_a_leader_that_has_removed_itself_needs_one_more() -> None:
    busy = Busy()
    busy.writes(3)
    busy.propose()
    end = busy.state.log.end_offset
    busy.do(VoterChangeAsked(call=8, change=RemoveVoter(key=key(ME))))
    busy.do(LogFlushed(busy.state.log.end_offset, 0))
    for each in (TWO, THREE):
        assert busy.state.high_watermark < end
        busy._ends[each] = end
        busy.fetch(each)
    assert busy.state.high_watermark == end
    assert busy.role.quick == {TWO, THREE}


@pytest.mark.parametrize("what", ["transfer", "removal", "read"])
def test_who_is_needed_now_does_not_rest(what: str) -> None:
    busy = Busy()
    busy.writes(3)
    busy.commit()
    assert [each.sender.node_id for each in busy.role.parked] == [THREE, TWO]
    if what == "transfer":
        effects = busy.do(TransferRequested(call=8, epoch=EPOCH, target=THREE))
    elif what == "removal":
        effects = busy.do(VoterChangeAsked(call=8, change=RemoveVoter(key=key(TWO))))
    else:
        effects = busy.do(ReadRequested(8))
    assert THREE in [each.call for each in effects if isinstance(each, SendRecords)]


def test_nobody_rests_while_leadership_moves() -> None:
    busy = Busy()
    busy.writes(3)
    busy.propose()
    busy.do(TransferRequested(call=8, epoch=EPOCH, target=THREE))
    busy.acknowledge(TWO)  # Its acknowledgement commits: it is the quick one again.
    busy._ends[THREE] = busy.state.log.end_offset - 1
    effects = busy.fetch(THREE)
    assert [type(each) for each in effects] == [SendRecords]


def test_one_that_has_much_to_read_does_not_rest() -> None:
    busy = Busy()
    busy.writes(3)
    busy._ends[THREE] = 6
    effects = busy.fetch(THREE)
    assert {each.call for each in effects if isinstance(each, SendRecords)} == {THREE}


def test_a_leader_with_a_slow_disk_is_done_without() -> None:
    """The majority can be the two others: the one that rests is told in time for it."""
    busy = Busy()
    busy.writes(3)
    busy.propose()
    busy.acknowledge(TWO)
    end = busy.state.log.end_offset
    assert busy.state.high_watermark < end
    busy.wait(REST_MS)
    assert busy.state.high_watermark == end


def test_a_leader_whose_disk_is_slow_tells_one_more() -> None:
    """Its own sync takes longer than theirs, each time: it is not waited for."""
    busy = Busy()
    busy.writes(3)
    for number in range(3):
        busy.propose()
        busy.acknowledge(TWO)
        if number == 0:
            busy.wait(REST_MS)  # The other one is told in time, and takes part.
        else:
            assert busy.told[-1][1] == THREE, "at once, this time"
            busy.acknowledge(THREE)
        assert busy.state.high_watermark == busy.state.log.end_offset
        assert busy.role.quick == {TWO, THREE}
    busy.do(LogFlushed(busy.state.log.end_offset, 0))
    busy.propose()
    busy.do(LogFlushed(busy.state.log.end_offset, 0))
    busy.acknowledge(TWO)
    assert busy.role.quick == {TWO}, "it is quick again, and one of them enough"


@pytest.mark.parametrize("by", ["its own disk", "the other one"])
def test_who_is_quick_from_now_on_rests_no_more(by: str) -> None:
    """It had asked before it was: what it waits for may be all that the next commit waits for."""
    busy = Busy()
    busy.writes(3)
    busy.propose()
    busy.wait(REST_MS)  # 2 is late, and so is our own disk: 3 has it.
    busy.propose()
    busy.now_ms += 1
    busy.acknowledge(THREE)
    common = busy.state.log.end_offset
    busy.propose()
    assert busy.told[-1][2] < common, "it rests"
    if by == "its own disk":
        busy.do(LogFlushed(common, 0))
    else:
        busy._ends[TWO] = common
        busy.fetch(TWO)
    assert busy.state.high_watermark == common
    assert THREE in busy.role.quick
    assert (busy.now_ms, THREE, common) in busy.told


def test_a_leader_that_gives_up_names_first_who_was_told_of_more() -> None:
    """Of two that have acknowledged the same; the other one could not win."""
    for quick, other in ((TWO, THREE), (THREE, TWO)):
        busy = Busy()
        for _ in range(4):
            busy.propose()
            busy.do(LogFlushed(busy.state.log.end_offset, 0))
            busy.acknowledge(quick)
            busy.acknowledge(other)
            busy.wait(BUSY_MS)
        assert busy.role.quick == {quick}
        busy.acknowledge(other)
        busy.propose()
        assert busy.told[-1][1] == quick
        assert len({each.end_offset for each in busy.role.progress}) == 1
        effects = busy.do(NoRoomFound())
        asked = [each for each in effects if isinstance(each, SendRequest)]
        assert asked[0].to == quick
        assert isinstance(asked[0].request, EndQuorumEpochRequest)
        assert asked[0].request.successors == (quick, other)


def test_of_five_two_are_told() -> None:
    world = World(3, 5)
    world.run(200)
    for number in range(40):
        world.propose(f"value-{number}")
        world.run(world.now_ms + BUSY_MS)
    leading = world.leader()
    assert leading is not None
    role = world.states[leading].role
    assert isinstance(role, Leader)
    assert len(role.quick) == 2
    world.run(world.now_ms + 2 * REST_MS)
    assert len({each.log.end for each in world.states.values()}) == 1, "all of them have it soon"


@pytest.mark.parametrize(
    ("role", "stands"),
    [(LOST, True), (UNATTACHED, True), (Follower(leader=TWO, deadline_ms=10_600), False)],
)
def test_who_has_more_stands_when_one_that_rested_asks(role: Role, *, stands: bool) -> None:
    """It may be the only one that can win: its own timer is not waited for."""
    state = voter(role)
    lagging = VoteRequest(epoch=EPOCH, log_end=log_at(4, 3), pre_vote=True)
    after, effects = ask(state, THREE, lagging)
    assert len(effects) == 1, "a refusal"
    assert (after.next_deadline_ms <= NOW.now_ms) == stands
    if stands:
        _, asked = step(after, TimePassed(), NOW)
        assert {each.to for each in asked if isinstance(each, SendRequest)} == {TWO, THREE}


def test_who_has_as_much_keeps_its_turn() -> None:
    state = voter(LOST)
    equal = VoteRequest(epoch=EPOCH, log_end=state.log.end, pre_vote=True)
    after, _ = ask(state, THREE, equal)
    assert after.next_deadline_ms > NOW.now_ms


def test_nobody_hurries_who_would_be_refused_or_has_no_say() -> None:
    """By one that lags and is in a later epoch; or by a voter that has lost records itself."""
    lagging = VoteRequest(epoch=EPOCH, log_end=log_at(4, 3), pre_vote=True)
    later = replace(lagging, epoch=Epoch(EPOCH + 1))
    without_say = replace(voter(LOST), recovering=Recovering(reason="it was damaged"))
    for state, request in ((voter(LOST), later), (without_say, lagging)):
        after, _ = ask(state, THREE, request)
        assert after.next_deadline_ms > NOW.now_ms


def test_a_stranger_that_lags_hurries_nobody() -> None:
    state = voter(LOST)
    lagging = VoteRequest(epoch=EPOCH, log_end=log_at(4, 3), pre_vote=True)
    after, _ = ask(state, 9, lagging)
    assert after.next_deadline_ms == LOST.deadline_ms


def test_a_single_voter_waits_for_nobody_but_its_disk() -> None:
    """Else a deadline would come, and come, with nobody to be told."""
    world = World(3, 1)
    world.run(200)
    state = next(iter(world.states.values()))
    now = Moment(now_ms=world.now_ms, draw=0.5)
    first = state.log.end_offset + 1
    for _ in range(2):
        end = state.log.end_offset
        write = ProposalMade(call=9, epoch=state.epoch, base_offset=end, count=1, records=("x",))
        state, _ = step(state, write, now)
    state, _ = step(state, LogFlushed(Offset(first), state.truncations), now)
    assert state.high_watermark == first < state.log.end_offset
    assert state.next_deadline_ms > now.now_ms + REST_MS
