"""Where voters are, and learners that join: with real sockets and files (rows 114, 118, 119)."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from controller.decisions import DecisionLog
from controller.members import Members as Changes
from controller.members import ReplaceVoter
from controller.quorum.port import VotersUnchangedError
from controller.raft.effects import ChangeRefusal
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    UpdateVoter,
    Voter,
    VoterChange,
)
from klamm.clock import SystemClock
from klamm.errors import ApiError, ErrorCode, NotControllerError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset
from klamm.metadata.records import Endpoint
from klamm.rpc.server import GrpcServer
from tests.unit.quorum.nodes import DEADLINE_S, Member, Members, members, place

NOT_LONG_MS = 50
LONG_MS = 30_000


class Log:
    """Of the decision log: that others may append between two decisions."""

    def __init__(self, member: Member) -> None:
        self.member = member

    async def alongside(self, append, timeout_ms: int) -> Offset:  # type: ignore[no-untyped-def]
        end: Offset = await append()
        return end


def changes(member: Member) -> Changes:
    log: DecisionLog = Log(member)  # type: ignore[assignment]
    return Changes(member.node, log, SystemClock())


async def learner(group: Members, node_id: int) -> Member:
    """Knows some voters' addresses, and nothing else."""
    new = Member(node_id, group.all[0].directory.parent / f"learner-{node_id}")
    await new.start(group.ports)
    group.all.append(new)
    return new


async def all_are_heard(active: Member) -> None:
    """Right after an election not every voter has fetched: fewer are healthy than there are."""
    asked = RemoveVoter(key=ReplicaKey(node_id=active.node_id))
    async with asyncio.timeout(LONG_MS / 1_000):
        while (await changes(active).dry_run(asked)).before.healthy < 3:
            await asyncio.sleep(0.001)


async def test_row_114_a_learner_joins_and_says_itself_where_it_is(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        new = await learner(group, 4)
        voter = Voter(node_id=new.node_id)
        done = await changes(active).change(AddVoter(voter=_placed(new, voter)), LONG_MS)
        assert done.voters.ids == (1, 2, 3, 4)
        assert (done.before.can_lose, done.after.can_lose) == (1, 1)
        end = await group.write(active, b"with four")
        await new.machine.until(lambda: new.machine.end >= end)


async def test_row_115_who_does_not_follow_is_refused_in_time_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        with pytest.raises(ApiError) as caught:
            await changes(active).change(AddVoter(voter=Voter(node_id=NodeId(9))), NOT_LONG_MS)
        assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert active.node.voters.ids == (1, 2, 3)
        standby = next(each for each in group.all if each is not active)
        with pytest.raises(NotControllerError):
            await changes(standby).change(RemoveVoter(key=ReplicaKey(node_id=NodeId(1))), LONG_MS)


async def test_row_114_a_change_is_in_force_at_once_and_answered_once_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        committed, really = asyncio.Event(), active.node.wait_committed

        async def held(epoch: Epoch, end: Offset, timeout_ms: int) -> None:
            await committed.wait()
            await really(epoch, end, timeout_ms)

        monkeypatch.setattr(active.node, "wait_committed", held)
        gone = next(each.node_id for each in group.all if each is not active)
        asked = RemoveVoter(key=ReplicaKey(node_id=gone))
        change = asyncio.create_task(changes(active).change(asked, LONG_MS))
        async with asyncio.timeout(LONG_MS / 1_000):
            while gone in active.node.voters.ids:
                await asyncio.sleep(0.001)
        await asyncio.wait([change], timeout=NOT_LONG_MS / 1_000)
        assert not change.done(), "appended, and nobody may know"
        committed.set()
        assert (await change).end_offset <= active.node.high_watermark


async def test_who_has_just_been_elected_is_given_time_to_hear_the_voters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a refusal that nobody could explain a moment later; and one that is, is told in time."""
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        really, asked = active.node.change_voters, list[VoterChange]()

        async def later(change: VoterChange) -> Offset:
            asked.append(change)
            if len(asked) <= 2:
                raise VotersUnchangedError(ChangeRefusal.UNHEALTHY, "1 is heard")
            return await really(change)

        monkeypatch.setattr(active.node, "change_voters", later)
        gone = next(each.node_id for each in group.all if each is not active)
        change = RemoveVoter(key=ReplicaKey(node_id=gone))
        assert gone not in (await changes(active).change(change, LONG_MS)).voters.ids
        assert len(asked) == 3

        async def never(change: VoterChange) -> Offset:
            raise VotersUnchangedError(ChangeRefusal.UNHEALTHY, "1 is heard")

        monkeypatch.setattr(active.node, "change_voters", never)
        monkeypatch.setattr("controller.members.UNHEALTHY_MS", NOT_LONG_MS)
        other = RemoveVoter(key=ReplicaKey(node_id=active.node_id))
        async with asyncio.timeout(LONG_MS / 2_000):
            with pytest.raises(ApiError, match="1 is heard") as caught:
                await changes(active).change(other, LONG_MS)
        assert caught.value.code is ErrorCode.POLICY_VIOLATION


async def test_row_116_the_leader_removes_itself_and_is_answered(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        gone = RemoveVoter(key=ReplicaKey(node_id=active.node_id))
        await all_are_heard(active)
        assert (await changes(active).dry_run(gone)).after.voters == 2
        done = await changes(active).change(gone, LONG_MS)
        assert active.node_id not in done.voters.ids
        second = await group.active(but=active.node_id)
        end = await group.write(second, b"without it")
        await active.machine.until(lambda: active.machine.end >= end)


async def test_a_replacement_waits_for_the_new_disk(tmp_path: Path) -> None:
    """The old one keeps its vote until then; a voter that has its disk already stays as it is."""
    async with members(tmp_path) as group:
        active = await group.active()
        victim = next(each for each in group.all if each is not active)
        asked = ReplaceVoter(voter=Voter(node_id=victim.node_id))
        with pytest.raises(ApiError) as caught:
            await changes(active).change(asked, NOT_LONG_MS)
        assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
        assert active.node.voters.ids == (1, 2, 3)
        shown = await changes(active).dry_run(asked)
        assert shown.refusal == f"{victim.node_id} does not follow the leader with a new disk"
        assert shown.voters.ids == (1, 2, 3)
        assert shown.after.voters == 3, "one out, one in"


async def replaced(group: Members, victim: Member) -> DirectoryId:
    """Back with another disk, which votes by now; the id of the old one, of which it was heard."""
    active = await group.active()
    old = victim.config({}).raft.directory_id
    key = ReplicaKey(node_id=victim.node_id, directory_id=old)
    active.node.introductions.heard(key, place(victim.port))
    await victim.kill()
    asked = ReplaceVoter(voter=await on_new_disk(group, victim))
    done = await changes(active).change(asked, LONG_MS)
    assert done.voters.ids == (1, 2, 3)
    return old


async def on_new_disk(group: Members, victim: Member) -> Voter:
    """The same node, as it is named from now on."""
    new = Member(victim.node_id, victim.directory.parent / "new-disk")
    await new.start(group.ports, disk=1)
    group.all.append(new)
    disk = new.config({}, disk=1).raft.directory_id
    return replace(_placed(new, Voter(node_id=new.node_id)), directory_id=disk)


async def test_who_was_replaced_a_moment_ago_does_not_take_the_place_of_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command given twice, or with the old disk's name: the new one was removed for the old one,
    which nobody admits again; neither voted then (simulator, seed 78)."""
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        victim = next(each for each in group.all if each is not active)
        old = await replaced(group, victim)
        active = await group.active()
        before = active.node.voters
        monkeypatch.setattr(active.node, "not_ready", lambda key: None)  # It was heard just now.
        for disk, code in (
            (None, ErrorCode.REQUEST_TIMED_OUT),
            (old, ErrorCode.INVALID_VOTER_KEY),
        ):
            asked = ReplaceVoter(voter=Voter(node_id=victim.node_id, directory_id=disk))
            shown = await changes(active).dry_run(asked)
            assert shown.refusal
            assert shown.voters.ids == (1, 2, 3)
            with pytest.raises(ApiError, match="The voters are as they were") as caught:
                await changes(active).change(asked, NOT_LONG_MS)
            assert caught.value.code is code
            assert active.node.voters == before
        asked = ReplaceVoter(voter=Voter(node_id=victim.node_id, directory_id=old), readmit=True)
        assert not (await changes(active).dry_run(asked)).refusal, "it is back, and that is meant"


async def test_a_replacement_that_ends_halfway_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old disk is removed, and the new one silent of a sudden: that is not as it was."""
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        victim = next(each for each in group.all if each is not active)
        await victim.kill()
        asked = ReplaceVoter(voter=await on_new_disk(group, victim))
        really = active.node.change_voters

        async def only_removed(change: VoterChange) -> Offset:
            if isinstance(change, AddVoter):
                raise VotersUnchangedError(ChangeRefusal.NOT_FOLLOWING, "it does not follow")
            return await really(change)

        monkeypatch.setattr(active.node, "change_voters", only_removed)
        with pytest.raises(ApiError, match="The old disk is removed") as caught:
            await changes(active).change(asked, 1_000)
        assert "as they were" not in caught.value.message
        assert victim.node_id not in active.node.voters.ids
        monkeypatch.setattr(active.node, "change_voters", really)
        assert (await changes(active).change(asked, LONG_MS)).voters.ids == (1, 2, 3)


async def test_a_dry_run_of_the_second_half_of_a_replacement_is_of_what_would_be_done(
    tmp_path: Path,
) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        victim = next(each for each in group.all if each is not active)
        gone = RemoveVoter(key=ReplicaKey(node_id=victim.node_id))
        await all_are_heard(active)
        await changes(active).change(gone, LONG_MS)
        await victim.kill()
        asked = ReplaceVoter(voter=await on_new_disk(group, victim))
        async with asyncio.timeout(LONG_MS / 1_000):
            while (shown := await changes(await group.active()).dry_run(asked)).refusal:
                await asyncio.sleep(0.01)
        assert shown.voters.ids == (1, 2, 3)
        assert (shown.before.voters, shown.after.voters) == (2, 3)


async def test_row_115_a_dry_run_and_a_change_say_the_same_of_strangers_and_of_the_leader(
    tmp_path: Path,
) -> None:
    """Nobody has introduced either: of the one nothing is known, the other votes already."""
    async with members(tmp_path) as group:
        active = await group.active()
        stranger = AddVoter(voter=Voter(node_id=NodeId(9)))
        assert (await changes(active).dry_run(stranger)).refusal == "9 does not follow the leader"
        leader = AddVoter(voter=Voter(node_id=active.node_id))
        already = f"{active.node_id} is a voter already"
        assert (await changes(active).dry_run(leader)).refusal == already
        with pytest.raises(ApiError, match=already) as caught:
            await changes(active).change(leader, LONG_MS)
        assert caught.value.code is ErrorCode.DUPLICATE_VOTER


async def test_row_118_the_same_address_writes_nothing(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        known = active.node.voters.find(active.node_id)
        assert known is not None
        before = active.node.log_end
        done = await changes(active).change(UpdateVoter(voter=known), LONG_MS)
        assert done.end_offset <= before.offset
        assert active.node.log_end == before


async def test_a_voter_is_not_sent_where_nobody_or_somebody_else_answers(
    tmp_path: Path,
) -> None:
    """A slip of the pen cut a voter off, and cost an election if it was the leader."""
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        other = next(each for each in group.all if each is not active)
        before = active.node.log_end
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            said = {
                nobody.getsockname()[1]: "no controller answers at 127.0.0.1:",
                other.port: f"answers controller {other.node_id}, and not {active.node_id}",
            }
            for port, what in said.items():
                asked = UpdateVoter(voter=_elsewhere(active, port))
                shown = await changes(active).dry_run(asked)
                assert what in shown.refusal
                assert shown.voters == active.node.voters
                with pytest.raises(ApiError, match="The voters are as they were") as caught:
                    await changes(active).change(asked, LONG_MS)
                assert what in caught.value.message
        assert active.node.log_end == before


async def test_a_voter_is_not_sent_to_another_cluster(tmp_path: Path) -> None:
    async with members(tmp_path / "one") as group, members(tmp_path / "two") as others:
        active = await group.active()
        twin = next(each for each in others.all if each.node_id == active.node_id)
        active.node._config = replace(active.node._config, cluster_id="one")
        with pytest.raises(ApiError, match="of another cluster, 'quorum-test'") as caught:
            await changes(active).change(UpdateVoter(voter=_elsewhere(active, twin.port)), LONG_MS)
        assert caught.value.code is ErrorCode.INCONSISTENT_CLUSTER_ID


async def test_row_118_an_update_to_where_the_voter_answers_is_written(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        await all_are_heard(active)
        voter = _elsewhere(active, active.port)
        assert voter.endpoint is not None
        voter = replace(voter, endpoint=replace(voter.endpoint, host="localhost"))
        done = await changes(active).change(UpdateVoter(voter=voter), LONG_MS)
        assert done.voters.find(active.node_id) == voter


async def test_row_117_the_last_voter_is_there_and_cannot_be_removed(tmp_path: Path) -> None:
    async with members(tmp_path, 1) as group:
        active = await group.active()
        asked = RemoveVoter(key=ReplicaKey(node_id=active.node_id))
        with pytest.raises(ApiError, match=r"remove.voter_id: 1 is the only voter") as caught:
            await changes(active).change(asked, LONG_MS)
        assert caught.value.code is ErrorCode.INVALID_REQUEST


async def test_all_nodes_may_move_while_they_are_down(tmp_path: Path) -> None:
    """The log knows where they were, their configuration where they are."""
    async with members(tmp_path) as group:
        await group.write(await group.active(), b"kept")
        for each in group.all:
            await each.kill()
        for each in group.all:
            each.server = GrpcServer("127.0.0.1", 0)
            each.port = each.server.port
        group.ports = {each.node_id: each.port for each in group.all}
        for each in group.all:
            await each.start(group.ports)
        async with asyncio.timeout(2 * DEADLINE_S):
            active = await group.active()
        assert active.machine.values == [b"kept"]
        assert active.node.epoch > Epoch(1)
        await group.write(active, b"more")


def _placed(member: Member, voter: Voter) -> Voter:
    return replace(
        voter,
        directory_id=member.config({}).raft.directory_id,
        endpoint=Endpoint(name="CONTROLLER", host="127.0.0.1", port=member.port),
    )


def _elsewhere(member: Member, port: int) -> Voter:
    known = member.node.voters.find(member.node_id)
    assert known is not None
    return replace(known, endpoint=Endpoint(name="CONTROLLER", host="127.0.0.1", port=port))
