"""Three voters with real sockets and files: elect, commit, survive, refuse."""

import asyncio
import re
from pathlib import Path

import pytest

from controller.quorum.opening import doubt_new_disk
from controller.quorum.port import LogMovedError
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    CorruptLogError,
    ErrorCode,
    NotControllerError,
    OverloadedError,
    StartError,
    UnreachableError,
)
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.log.files import SystemFiles
from klamm.log.records import NewRecord
from tests.unit.quorum.nodes import DEADLINE_S, SILENCE_MS, Member, Members, members

LAST_OFFSET_DELTA_AT = 23
"""In the header of a batch."""


async def test_elects_and_commits_everywhere(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        end = await group.write(active, b"a", b"b")
        for each in group.all:
            await each.machine.until(lambda each=each: each.machine.end == end)  # type: ignore[misc]
            assert each.machine.values == [b"a", b"b"]
            assert each.node.leader == active.node_id
        # LeaderChange and Voters stand first: the voters live in the log from day one.
        assert end == 4


async def test_survives_its_leader_and_takes_it_back(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        first = await group.active()
        await group.write(first, b"before")
        await first.kill()
        second = await group.active(but=first.node_id)
        end = await group.write(second, b"after")
        await first.restart(group.ports)
        await first.machine.until(lambda: first.machine.end >= end)
        assert first.machine.values == [b"before", b"after"]
        assert second.machine.epoch is not None, "who comes back disturbs nobody"


async def test_all_restart_and_keep_what_was_committed(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        await group.write(await group.active(), b"kept")
        epoch = group.all[0].node.epoch
        for each in group.all:
            await each.kill()
        for each in group.all:
            await each.restart(group.ports)
        active = await group.active()
        assert active.node.epoch > epoch, "an epoch is led once"
        assert active.machine.values == [b"kept"]
        await group.write(active, b"more")


async def test_a_proposal_stands_where_it_was_made_for_or_nowhere(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        epoch = active.machine.epoch
        assert epoch is not None
        end = active.node.log_end.offset
        with pytest.raises(LogMovedError) as moved:
            await active.node.propose(epoch, Offset(end + 1), [NewRecord(value=b"x")])
        assert moved.value.end_offset == end
        with pytest.raises(NotControllerError):
            await active.node.propose(Epoch(epoch - 1), end, [NewRecord(value=b"x")])
        standby = next(each for each in group.all if each is not active)
        async with asyncio.timeout(DEADLINE_S):
            while standby.node.leader != active.node_id:
                await asyncio.sleep(0.001)  # It may have lost it for a moment.
        with pytest.raises(NotControllerError) as refused:
            await standby.node.propose(epoch, end, [NewRecord(value=b"x")])
        assert refused.value.leader == active.node_id
        assert active.node.log_end.offset == end


async def test_without_a_majority_nothing_commits_and_nothing_is_read(tmp_path: Path) -> None:
    async with members(tmp_path, fetch_timeout_ms=SILENCE_MS) as group:
        active = await group.active()
        epoch = active.machine.epoch
        assert epoch is not None
        await group.write(active, b"safe")
        for each in group.all:
            if each is not active:
                await each.kill()
        end = active.node.log_end.offset
        proposed = await active.node.propose(epoch, end, [NewRecord(value=b"lost?")])
        with pytest.raises(UnreachableError):
            await active.node.read_index(100)
        with pytest.raises(CommitUnknownError):
            await active.node.wait_committed(epoch, proposed, 5_000)
        # It was not the deadline: the leader resigned, hearing nobody.
        await active.machine.until(lambda: active.machine.epoch is None)


async def test_any_controller_reads_linearizably(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        end = await group.write(active, b"seen")
        for each in group.all:
            await each.machine.until(lambda each=each: each.node.leader != -1)  # type: ignore[misc]
            assert await each.node.read_index(2_000) >= end


async def test_resigning_hands_over_within_moments(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        first = await group.active()
        await group.write(first, b"x")
        await first.node.resign(5_000)
        second = await group.active(but=first.node_id)
        assert second.machine.epoch is not None
        assert first.machine.turns[-1].startswith("renounce")
        await group.write(second, b"y")


async def test_row_65_to_resign_with_nobody_there_ends_in_time(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        epoch = active.machine.epoch
        for each in group.all:
            if each is not active:
                await each.kill()
        async with asyncio.timeout(30):
            await active.node.resign(400)
        assert active.node.leader == NO_NODE
        await active.machine.until(lambda: active.machine.turns[-1] == f"renounce {epoch}")


async def test_row_66_who_does_not_lead_or_is_alone_resigns_at_once(tmp_path: Path) -> None:
    async with members(tmp_path / "three") as group:
        active = await group.active()
        epoch = active.node.epoch
        for each in group.all:
            if each is not active:
                await each.node.resign(3_600_000)
        assert (active.node.role, active.node.epoch) == ("leader", epoch)
    async with members(tmp_path / "one", count=1) as group:
        active = await group.active()
        await active.node.resign(3_600_000)
        assert active.node.role == "leader"


async def test_a_transfer_goes_where_it_is_sent_and_every_write_has_one_outcome(
    tmp_path: Path,
) -> None:
    """Writes go on all the while; what was taken is kept, and what was refused is not there."""
    async with members(tmp_path) as group:
        first = await group.active()
        await group.write(first, b"before")
        outcomes: dict[bytes, str] = {}

        async def writing() -> None:
            number = 0
            while first.machine.epoch is not None:
                number += 1
                value = str(number).encode()
                try:
                    await group.write(first, value)
                    outcomes[value] = "kept"
                except (NotControllerError, OverloadedError):
                    outcomes[value] = "refused"
                    await asyncio.sleep(0)

        load = asyncio.create_task(writing())
        await first.machine.until(lambda: len(first.machine.values) > 5)
        target = next(each for each in group.all if each is not first)
        done = await first.node.transfer(target.node_id, 5_000)
        await load
        assert (done.former, done.leader) == (first.node_id, target.node_id)
        assert done.epoch == target.machine.epoch
        await group.write(target, b"after")
        kept = [value for value, outcome in outcomes.items() if outcome == "kept"]
        assert target.machine.values == [b"before", *kept, b"after"]
        # Again, it is done already; and one who does not lead says who does.
        again = await target.node.transfer(target.node_id, 5_000)
        assert (again.former, again.epoch) == (target.node_id, done.epoch)
        with pytest.raises(NotControllerError) as refused:
            await first.node.transfer(first.node_id, 5_000)
        assert refused.value.leader == target.node_id


async def test_a_transfer_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    async with members(tmp_path) as group:
        active = await group.active()
        epoch = active.machine.epoch
        with pytest.raises(ApiError, match="controller 9 is no voter; 1, 2, 3 are") as refused:
            await active.node.transfer(NodeId(9), 5_000)
        assert refused.value.code is ErrorCode.VOTER_NOT_FOUND
        target = next(each for each in group.all if each is not active)
        await target.kill()
        await group.write(active, b"without it")
        with pytest.raises(ApiError, match=f"controller {target.node_id} cannot") as refused:
            await active.node.transfer(target.node_id, 5_000)
        assert refused.value.code is ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE
        await group.write(active, b"still here")
        assert active.machine.epoch == epoch


async def test_a_single_voter_leads_itself(tmp_path: Path) -> None:
    async with members(tmp_path, count=1) as group:
        active = await group.active()
        end = await group.write(active, b"alone")
        assert await active.node.read_index(1_000) == end


async def test_a_forgotten_vote_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """kraft.md 7.2 (11): it might vote twice in one epoch."""
    async with members(tmp_path) as group:
        await group.write(await group.active(), b"x")
        victim = group.all[0]
        await victim.machine.until(lambda: victim.machine.end > 0)
        await victim.kill()
        (victim.directory / "quorum-bounds").unlink()
        state = victim.directory / "__cluster_metadata-0" / "quorum-state"
        text = state.read_text()
        bare = re.sub(',"crc32c":"[0-9a-f]+"', "", text)
        for damage, sentence in (
            (None, "forgotten a vote"),
            (text.replace('"data_version":1', '"data_version":7'), "its checksum"),
            (bare.replace('"data_version":1', '"data_version":7'), "data_version is 7"),
            (re.sub('"leaderEpoch":[0-9]+', '"leaderEpoch":0', bare), "an old copy"),
            ("{", "no JSON"),
        ):
            state.unlink(missing_ok=True)
            if damage is not None:
                state.write_text(damage)
            with pytest.raises(StartError, match=sentence):
                victim.open(group.ports)


async def test_a_forgotten_vote_costs_one_election(tmp_path: Path) -> None:
    async with members(tmp_path, fetch_timeout_ms=SILENCE_MS) as group:
        active = await group.active()
        await group.write(active, b"x")
        victim = next(each for each in group.all if each is not active)
        await victim.kill()
        (victim.directory / "__cluster_metadata-0" / "quorum-state").unlink()
        await victim.restart(group.ports)
        await victim.machine.until(lambda: victim.machine.values == [b"x"])
        await victim.node.wait_leader(1_000, 20_000)
        assert victim.node.epoch > 1_000
        assert victim.node.recovering == ""


async def test_a_damaged_log_is_fetched_again_and_has_no_vote_until_then(tmp_path: Path) -> None:
    """Scenario 30, over real sockets and files."""
    async with members(tmp_path) as group:
        active = await group.active()
        for each in (b"a", b"b", b"c"):
            await group.write(active, each)
        victim = next(each for each in group.all if each is not active)
        await victim.machine.until(lambda: victim.machine.values == [b"a", b"b", b"c"])
        await victim.kill()
        log = victim.directory / "__cluster_metadata-0" / "00000000000000000000.log"
        whole = log.read_bytes()
        log.write_bytes(whole[:70] + bytes([whole[70] ^ 1]) + whole[71:])
        await victim.restart(group.ports)
        assert "damaged at byte 0" in victim.node.recovering
        described = await victim.node.describe(0)
        assert described.responder_recovering == victim.node.recovering
        await victim.machine.until(lambda: victim.machine.values == [b"a", b"b", b"c"])
        await group.write(active, b"d")
        await victim.machine.until(lambda: victim.machine.values[-1] == b"d")
        assert victim.node.recovering == ""
        assert log.read_bytes().startswith(whole)


@pytest.mark.parametrize("who", ["the leader", "a follower"])
async def test_damage_under_a_running_node_ends_it_and_is_never_served(
    tmp_path: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scenario 29: whoever reads it first; here the scrub, or an observer."""
    monkeypatch.setattr("klamm.log.tail.TAIL_BATCHES_MAX", 1)  # Else memory answers, rightly.
    monkeypatch.setattr("controller.quorum.store.SCRUB_EVERY_MS", 10)
    async with members(tmp_path) as group:
        active = await group.active()
        await group.write(active, b"a")
        victim = active
        if who == "a follower":
            victim = next(each for each in group.all if each is not active)
        await victim.machine.until(lambda: victim.machine.values == [b"a"])
        log = victim.directory / "__cluster_metadata-0" / "00000000000000000000.log"
        with log.open("r+b") as file:
            file.seek(70)
            byte = file.read(1)
            file.seek(70)
            file.write(bytes([byte[0] ^ 4]))
        with pytest.raises(CorruptLogError, match="byte 0: the checksum is not that of the bytes"):
            await victim.ended()
        with pytest.raises(CorruptLogError):
            await victim.node.read_committed(Offset(0), 1_000)
        await victim.kill()
        await victim.restart(group.ports)
        assert victim.node.recovering
        await victim.machine.until(lambda: victim.machine.values == [b"a"])
        await group.write(await group.active(), b"b")
        await victim.machine.until(lambda: victim.machine.values == [b"a", b"b"])
        assert not victim.node.recovering


async def test_a_first_start_on_disks_that_are_doubted(tmp_path: Path) -> None:
    """Scenario 19: all have to be there once; the first Voters record names their disks."""
    group = Members(tmp_path)
    for each in group.all:
        doubt_new_disk(SystemFiles(), each.directory)
    try:
        for each in group.all[:2]:
            await each.start(group.ports)
            assert "the disk is new" in each.node.recovering
        await group.all[0].node.wait_leader(0, 1_500)
        assert group.all[0].node.leader == NO_NODE, "the third may have what these two have lost"
        await group.all[2].start(group.ports)
        active = await group.active()
        await group.write(active, b"x")
        for each in group.all:
            await each.machine.until(lambda each=each: each.machine.values == [b"x"])  # type: ignore[misc]
            async with asyncio.timeout(DEADLINE_S):
                while each.node.recovering:
                    await asyncio.sleep(0)
        disks = [each.directory_id for each in active.node.voters.voters]
        assert disks == [each.config(group.ports).raft.directory_id for each in group.all]
    finally:
        for each in group.all:
            await each.kill()


async def test_a_snapshot_that_meets_damage_ends_the_node_and_is_not_taken_for_a_mistake(
    tmp_path: Path,
) -> None:
    """Scenario 29: a header that says another end looked like an offset within a batch."""
    async with members(tmp_path) as group:
        active = await group.active()
        await group.write(active, b"a")
        end = active.node.high_watermark
        log = active.directory / "__cluster_metadata-0" / "00000000000000000000.log"
        with log.open("r+b") as file:
            file.seek(LAST_OFFSET_DELTA_AT + 1)
            file.write(b"\x01")
        with pytest.raises(CorruptLogError, match="the checksum is not that of the bytes"):
            active.node.snapshot_point(end)
        with pytest.raises(CorruptLogError):
            await active.ended()


async def test_a_wiped_disk_has_no_vote(tmp_path: Path) -> None:
    """Row 7: another leader is elected, nothing is lost, the node has it all again."""
    async with members(tmp_path) as group:
        first = await group.active()
        await group.write(first, b"kept")
        # A second leader knows everybody's disk, and writes it down.
        await first.node.resign(5_000)
        active = await group.active(but=first.node_id)
        await group.write(active, b"more")
        victim = next(each for each in group.all if each is not active)
        await victim.kill()
        wipe(victim)
        await victim.restart(group.ports, disk=7)
        await victim.machine.until(lambda: victim.machine.values == [b"kept", b"more"])
        described = await active.node.describe(0)
        row = next(each for each in described.current_voters if each.node_id == victim.node_id)
        assert row.directory_id != victim.config(group.ports, 7).raft.directory_id.bytes
        await kill_other(group, active, victim)
        with pytest.raises(CommitUnknownError):
            await group.write(active, b"needs a majority that is not there", timeout_ms=500)


def wipe(member: Member) -> None:
    for path in sorted(member.directory.rglob("*"), reverse=True):
        if path.is_file():
            path.unlink()


async def kill_other(group: Members, *kept: Member) -> None:
    for each in group.all:
        if each not in kept:
            await each.kill()
