"""A controller without a vote that loses its vote file comes back as another replica (row 87).

Voters do not: they go on in an epoch of their own, see test_opening.py.
"""

import random
from pathlib import Path
from uuid import UUID

import pytest

from controller.quorum.identity import Identity
from controller.quorum.node import QuorumNode
from controller.quorum.opening import METADATA_LOG
from controller.quorum.quorum_state import QUORUM_STATE
from controller.raft.state import RaftConfig
from controller.raft.voters import Voter, VoterSet
from klamm.clock import SystemClock
from klamm.ids import DirectoryId, NodeId
from klamm.log.files import SystemFiles
from tests.unit.quorum.nodes import Member, Members, members

ME, TWO = NodeId(1), NodeId(2)
MINE, OTHER, DRAWN = (DirectoryId(UUID(int=each)) for each in (1, 2, 3))


def voters(*known: tuple[NodeId, DirectoryId | None]) -> VoterSet:
    return VoterSet(tuple(Voter(node_id=node, directory_id=disk) for node, disk in known))


@pytest.mark.parametrize(
    ("known", "configured", "renewed"),
    [
        (voters((TWO, OTHER)), voters(), True),
        (voters((TWO, OTHER)), voters((ME, None), (TWO, None)), True),
        (voters((ME, OTHER), (TWO, OTHER)), voters(), True),
        (voters((ME, MINE), (TWO, OTHER)), voters(), False),
        (voters((ME, None), (TWO, OTHER)), voters(), False),
        (None, voters(), True),
        (None, voters((TWO, None)), True),
        (None, voters((ME, None), (TWO, None)), False),
    ],
    ids=[
        "never one",
        "removed, and configured still",
        "replaced",
        "a voter",
        "a voter that is not named yet",
        "the log names nobody",
        "nor the configuration",
        "a configured voter",
    ],
)
def test_only_who_is_no_voter_becomes_another(
    known: VoterSet | None, configured: VoterSet, renewed: bool
) -> None:
    identity = Identity(
        RaftConfig(me=ME, directory_id=MINE, voters=configured), draw_id=lambda: DRAWN
    )
    assert identity.renew(known) is renewed
    assert identity.raft.directory_id == (DRAWN if renewed else MINE)
    assert not Identity(identity.raft, draw_id=None).renew(known)


class Renewing(Member):
    """With a data directory that gives another id."""

    drawn = 0

    def open(self, ports: dict[NodeId, int], disk: int = 0) -> QuorumNode:
        return QuorumNode.open(
            self.config(ports, disk),
            files=SystemFiles(),
            clock=SystemClock(),
            rng=random.Random(self.node_id),
            draw_id=self._draw_id,
        )

    def _draw_id(self) -> DirectoryId:
        self.drawn += 1
        return DirectoryId(UUID(int=10_000 * self.drawn + self.node_id))


async def forgets(group: Members, member: Member, disk: int = 0) -> None:
    """Its vote file is lost while it is down."""
    await member.kill()
    (member.directory / METADATA_LOG / QUORUM_STATE).unlink()
    await member.restart(group.ports, disk)


async def test_a_learner_that_lost_its_vote_follows_again_by_itself(tmp_path: Path) -> None:
    """It waited for a quorum that came to its epoch, until somebody emptied its disk."""
    async with members(tmp_path) as group:
        active = await group.active()
        learner = Renewing(4, tmp_path / "4")
        group.all.append(learner)
        await learner.start(group.ports)
        end = await group.write(active, b"before")
        await learner.machine.until(lambda: learner.machine.end >= end)
        epoch = active.node.epoch
        await forgets(group, learner)
        end = await group.write(active, b"after")
        await learner.machine.until(lambda: learner.machine.end >= end)
        assert learner.machine.values == [b"before", b"after"]
        assert (learner.drawn, learner.node.epoch) == (1, epoch)
        assert active.machine.epoch == epoch, "it disturbs nobody"
