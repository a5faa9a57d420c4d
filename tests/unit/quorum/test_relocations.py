"""Row 118: a voter that is back elsewhere says so, and the leader writes it down."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from controller.members import Members
from controller.quorum.introductions import INTRODUCTIONS_MAX, Introductions
from controller.quorum.port import VoterQuorum
from controller.quorum.quorum_config import QuorumConfig
from controller.raft.voters import ReplicaKey, Voter, VoterSet
from controller.relocations import REST_MS, Relocations
from klamm.clock import SystemClock
from klamm.config.controller import ControllerConfig
from klamm.errors import NotControllerError
from klamm.ids import DirectoryId, Epoch, NodeId
from klamm.rpc.server import GrpcServer
from klamm.v1.quorum_pb2 import ReplicaState
from tests.unit.quorum.nodes import DEADLINE_S, Member, place
from tests.unit.quorum.nodes import Members as Group
from tests.unit.quorum.test_voters_shell import changes

ONE, TWO = NodeId(1), NodeId(2)


def key(node_id: NodeId, disk: int = 0) -> ReplicaKey:
    return ReplicaKey(node_id=node_id, directory_id=DirectoryId(UUID(int=100 * disk + node_id)))


class Room:
    """A leader that is told things, and what it writes down."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.written: list[tuple[NodeId, int]] = []
        self.refuses = False
        self.heard = Introductions()
        self.quorum = SimpleNamespace(
            node_id=ONE,
            leader=ONE,
            epoch=Epoch(1),
            introductions=self.heard,
            voters=self._set(1, 2),
        )
        clock = SimpleNamespace(monotonic_ms=lambda: self.now_ms)
        quorum, members = cast("VoterQuorum", self.quorum), cast("Members", self)
        self.relocations = Relocations(quorum, members, clock)  # type: ignore[arg-type]

    def _set(self, *ports: int) -> VoterSet:
        return VoterSet(
            tuple(
                Voter(
                    node_id=NodeId(each),
                    directory_id=key(NodeId(each)).directory_id,
                    endpoint=place(port),
                )
                for each, port in enumerate(ports, 1)
            )
        )

    async def relocate(self, voter: Voter, timeout_ms: int) -> None:
        """Of `Members`."""
        if self.refuses:
            raise NotControllerError(TWO, Epoch(3))
        assert voter.endpoint is not None
        self.written.append((voter.node_id, voter.endpoint.port))
        self.quorum.voters = self.quorum.voters.updated(voter)

    async def hears(self, who: ReplicaKey, port: int) -> None:
        self.heard.heard(who, place(port))
        await self.relocations.look()


async def test_row_118_other_endpoints_are_written_and_the_same_are_not() -> None:
    room = Room()
    await room.hears(key(TWO), 2)
    assert room.written == []
    await room.hears(key(TWO), 7)
    await room.hears(key(TWO), 7)
    assert room.written == [(TWO, 7)]


async def test_only_the_leader_writes_and_only_of_voters() -> None:
    room = Room()
    await room.hears(key(NodeId(3)), 9)
    await room.hears(key(TWO, disk=1), 9)
    room.quorum.leader = TWO
    await room.hears(key(TWO), 9)
    assert room.written == []


async def test_what_was_told_before_an_operator_said_otherwise_is_not_brought_up_again() -> None:
    """The voter is down; where it will be, somebody else has said."""
    room = Room()
    await room.hears(key(TWO), 2)
    room.quorum.voters = room.quorum.voters.updated(Voter(node_id=TWO, endpoint=place(8)))
    await room.relocations.look()
    assert room.written == []


async def test_two_that_contradict_each_other_are_written_once_in_a_while() -> None:
    room = Room()
    for port in range(7, 20):
        await room.hears(key(TWO), port)
    assert room.written == [(TWO, 7)]
    room.now_ms += REST_MS
    await room.hears(key(TWO), 20)
    assert room.written == [(TWO, 7), (TWO, 20)]


async def test_a_correction_that_is_refused_is_made_when_it_is_heard_again() -> None:
    room = Room()
    room.refuses = True
    await room.hears(key(TWO), 7)
    room.refuses = False
    room.now_ms += REST_MS
    await room.relocations.look()
    assert room.written == [], "nobody has said it since"
    await room.hears(key(TWO), 7)
    assert room.written == [(TWO, 7)]


def test_no_more_is_remembered_than_the_limit_says() -> None:
    heard = Introductions()
    for node in range(INTRODUCTIONS_MAX + 5):
        heard.heard(key(NodeId(node)), place(node))
    heard.heard(key(ONE), place(99))
    said = dict(heard.take())
    assert len(said) == INTRODUCTIONS_MAX
    assert said[key(ONE)] == place(99), "the last word of each"
    assert heard.take() == ()


def test_a_disk_that_was_silent_since_its_successor_came_is_no_successor_of_that() -> None:
    """A node's disk was lost twice in two seconds, and `replace` was said twice: the one in between
    took the place of the last one, and that was removed (simulator, seed 536 of `wiped`)."""
    heard = Introductions()
    old, between, last = key(ONE), key(ONE, disk=1), key(ONE, disk=2)
    for each in (old, between, old, last, last):
        heard.heard(each, place(7))
    assert [each for each, _ in heard.find(ONE)] == [last, between, old]
    assert [each for each, _ in heard.find(ONE, since=last)] == [last]
    assert [each for each, _ in heard.find(ONE, since=between)] == [last, old]
    heard.heard(old, place(7))
    assert [each for each, _ in heard.find(ONE, since=last)] == [last, old], "it is there as well"
    nobody = key(ONE, disk=3)
    assert len(heard.find(ONE, since=nobody)) == 3, "this leader has not heard it"


@pytest.mark.parametrize(
    ("keys", "host"),
    [
        ({}, "127.0.0.1"),
        ({"advertised.listeners": "CONTROLLER://told.example:9093"}, "told.example"),
        ({"node.id": "9", "listeners": "CONTROLLER://new.example:9093"}, "new.example"),
    ],
)
def test_a_node_says_what_it_is_told_to_advertise_or_how_the_voters_have_it(
    keys: dict[str, str], host: str
) -> None:
    given = {"listeners": "CONTROLLER://0.0.0.0:9093", **keys}
    if keys.get("node.id"):
        given["controller.quorum.bootstrap.servers"] = "127.0.0.1:9093"
        given["controller.quorum.voters"] = ""
    config = ControllerConfig.for_tests(**given)
    endpoint = QuorumConfig.of(config, DirectoryId(UUID(int=1))).raft.endpoint
    assert endpoint is not None
    assert endpoint.host == host


async def test_row_118_a_follower_that_comes_back_elsewhere_is_found_there(tmp_path: Path) -> None:
    """With real sockets: nobody was told but the node itself, by its own configuration."""
    group = Group(tmp_path)
    try:
        for each in group.all:
            each.says_where = True
            await each.start(group.ports)
        active = await group.active()
        await group.write(active, b"before")
        follower = next(each for each in group.all if each is not active)
        await follower.kill()
        await _elsewhere(group, follower)
        relocations = Relocations(active.node, changes(active), SystemClock())
        async with asyncio.timeout(DEADLINE_S):
            while _port(active, follower) != follower.port:
                await relocations.look()
                await asyncio.sleep(0.001)
        end = await group.write(active, b"after")
        await follower.machine.until(lambda: follower.machine.end >= end)
        assert _port(follower, follower) == follower.port, "it stands in the log"
    finally:
        for each in group.all:
            await each.kill()


async def test_scenario_19_the_first_leaders_log_soon_names_every_disk(tmp_path: Path) -> None:
    """A wiped disk is no voter then, whoever leads next."""
    group = Group(tmp_path)
    try:
        for each in group.all:
            each.says_where = True
            await each.start(group.ports)
        await group.active()
        async with asyncio.timeout(DEADLINE_S):
            for each in group.all:
                while not all(row.directory_id for row in await _rows(each)):
                    await asyncio.sleep(0.001)
    finally:
        for each in group.all:
            await each.kill()


async def _rows(member: Member) -> Sequence[ReplicaState]:
    return (await member.node.describe(0)).current_voters


async def _elsewhere(group: Group, member: Member) -> None:
    """Start it again on another port; only its own configuration says so."""
    member.server = GrpcServer("127.0.0.1", 0)
    member.port = member.server.port
    await member.start({**group.ports, member.node_id: member.port})


def _port(asked: Member, of: Member) -> int:
    voter = asked.node.voters.find(of.node_id)
    assert voter is not None
    assert voter.endpoint is not None
    return voter.endpoint.port
