"""Who votes, as far as anybody knows; and which disks may be lost without the quorum's end.

Nothing that was committed is lost with any disk, for only disks that the log names count. But when
a majority of those is gone, the quorum stops for good: that is no misfortune, but its limit.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from controller.raft.voters import Voter, VoterSet

if TYPE_CHECKING:
    from tests.sim.driver.world import Node, World


def sets(world: "World") -> list[VoterSet]:
    """Those that may be in force; the configured one, if no log names any."""
    known = dict.fromkeys(each for node in world.nodes for each in node.knows())
    return [*known] or [world.configured]


def is_on_majority(world: "World", data: bytes) -> bool:
    """Do the disks of a majority have these bytes, or did they until they were lost?"""
    return any(_holders(world, each, data) >= each.majority for each in sets(world))


def _holders(world: "World", voters: VoterSet, data: bytes) -> int:
    return sum(_node(world, each).holds(data, each.directory_id) for each in voters.voters)


def may_lose(world: "World", victim: "Node") -> bool:
    """Is the disk of none of the voters, or one of those that are left a majority without it?

    None that is not named has weight, so all must be.
    """
    return all(_goes_on(world, each, victim) for each in sets(world))


def are_lost(world: "World") -> bool:
    """Are too few left of the disks of any set of voters?"""
    return all(len(_left(world, each)) < each.majority for each in sets(world))


def _goes_on(world: "World", voters: VoterSet, victim: "Node") -> bool:
    if any(each.directory_id is None for each in voters.voters):
        return False
    left = [each for each in _left(world, voters) if each.is_sound and each is not victim]
    return len(left) >= voters.majority


def _left(world: "World", voters: VoterSet) -> list["Node"]:
    found = [(_node(world, each), each.directory_id) for each in voters.voters]
    return [node for node, directory_id in found if node.disk.directory_id == directory_id]


def all_know(nodes: Sequence["Node"]) -> bool:
    """Does each of their logs name all the voters' disks?"""
    known = [node.knows() for node in nodes]
    return all(each and all(one.directory_id for one in each[-1].voters) for each in known)


def _node(world: "World", voter: Voter) -> "Node":
    return world.nodes[voter.node_id - 1]
