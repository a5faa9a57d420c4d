"""Where voters are, and learners that join: with real sockets and files (rows 114, 118, 119)."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from controller.decisions import DecisionLog
from controller.members import Members as Changes
from controller.members import ReplaceVoter
from controller.raft.voters import AddVoter, RemoveVoter, ReplicaKey, UpdateVoter, Voter
from klamm.clock import SystemClock
from klamm.errors import ApiError, ErrorCode, NotControllerError
from klamm.ids import Epoch, NodeId, Offset
from klamm.metadata.records import Endpoint
from klamm.rpc.server import GrpcServer
from tests.unit.quorum.nodes import DEADLINE_S, Member, Members, members

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


async def test_row_114_a_learner_joins_and_says_itself_where_it_is(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
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


async def test_row_116_the_leader_removes_itself_and_is_answered(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        gone = RemoveVoter(key=ReplicaKey(node_id=active.node_id))
        async with asyncio.timeout(LONG_MS / 1_000):
            # Right after an election not every voter has fetched: fewer are healthy than there are.
            while changes(active).dry_run(gone).before.healthy < 3:
                await asyncio.sleep(0.001)
        assert changes(active).dry_run(gone).after.voters == 2
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
        assert changes(active).dry_run(asked).refusal


async def test_row_118_the_same_address_writes_nothing(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        known = active.node.voters.find(active.node_id)
        assert known is not None
        before = active.node.log_end
        done = await changes(active).change(UpdateVoter(voter=known), LONG_MS)
        assert done.end_offset <= before.offset
        assert active.node.log_end == before


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
