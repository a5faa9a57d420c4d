"""Who votes, and with which disk (KIP-853); and what may be asked of the set.

Configured voters have no disks yet. The first leader writes down its own and those that it has met;
a later one each that it meets, once that is whole (`membership.name_disk`). From the first Voters
record on only a disk that is named has weight: its votes, its acknowledgements, its read rounds.
Else one that was wiped, and has forgotten what it promised to a later leader, would count again
with an earlier one that has never met it. Why that is safe:

    two sets of named disks     One has all that the other names, and some more: a name stays until
                                the voter is removed. A majority of each is a majority of ids, so
                                they share an id; the disk that stands for it in the lesser set is
                                the same in the greater one.
    no disk is named yet        A candidate whose log is empty counts whatever disks it has met. A
                                leader that has committed anything has its first Voters record on a
                                majority of its electors' disks, each of which refuses that
                                candidate from then on; who had voted for the candidate before never
                                followed that leader. So until then no other disk may help: one in
                                doubt that the first record happens to name counts once that record
                                is committed without it (`RaftState.was_named`); and one is taken
                                for new only if nobody has met another before it (`vote._answer`).
"""

from dataclasses import dataclass, replace
from functools import cached_property

from klamm.ids import DirectoryId, NodeId, Offset
from klamm.metadata.records import Endpoint

BOOTSTRAP = Offset(-1)
"""Where the configured voters stand in a history: before every record."""

REMOVED_MAX = 64
"""Removed replicas that a set remembers; the one that went first is forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaKey:
    """A node and its disk: the same node with another disk is another replica."""

    node_id: NodeId
    directory_id: DirectoryId | None = None
    """None: not known."""


@dataclass(frozen=True, kw_only=True)
class Voter:
    """One member of the set."""

    node_id: NodeId
    directory_id: DirectoryId | None = None
    """None until a leader has learned it; until then any disk of the node's is the voter's."""
    endpoint: Endpoint | None = None
    """Where it serves gRPC."""


@dataclass(frozen=True)
class VoterSet:
    """All voters, by id."""

    voters: tuple[Voter, ...]
    removed: tuple[ReplicaKey, ...] = ()
    """Disks that were voters and were removed, the latest last: none of them is let in again
    unless somebody says so (KAFKA-19850). Kept here, so in the log and in every snapshot, until
    it is readmitted or REMOVED_MAX others have followed it."""

    def __post_init__(self) -> None:
        ids = [each.node_id for each in self.voters]
        assert ids == sorted(set(ids)), f"voters by id, each once: {ids}"

    # A set changes seldom, and each step of the core asks a dozen times.

    @cached_property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(each.node_id for each in self.voters)

    @cached_property
    def named_ids(self) -> frozenset[NodeId]:
        """Of those whose disk is known. For membership only, never iterated."""
        return frozenset(each.node_id for each in self.voters if each.directory_id is not None)

    @cached_property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @cached_property
    def _of_id(self) -> dict[NodeId, Voter]:
        return {each.node_id: each for each in self.voters}

    def find(self, node_id: NodeId) -> Voter | None:
        return self._of_id.get(node_id)

    def admits(self, key: ReplicaKey) -> bool:
        """Is this replica a voter? A wiped disk is not the voter that it was."""
        voter = self.find(key.node_id)
        if voter is None:
            return False
        known, asked = voter.directory_id, key.directory_id
        # Mostly the same object; a UUID's own comparison is a call of Python.
        return known is asked or known is None or known == asked

    def knowing(self, key: ReplicaKey) -> "VoterSet":
        """The set with this replica's disk filled in, where none was known."""
        voter = self.find(key.node_id)
        if voter is None or voter.directory_id is not None or key.directory_id is None:
            return self
        return self.updated(replace(voter, directory_id=key.directory_id))

    def at(self, endpoints: "VoterSet") -> "VoterSet":
        """The same voters; those without an endpoint at the one that `endpoints` knows."""

        def found(voter: Voter) -> Voter:
            other = endpoints.find(voter.node_id)
            if voter.endpoint is not None or other is None or other.endpoint is None:
                return voter
            return replace(voter, endpoint=other.endpoint)

        return replace(self, voters=tuple(found(each) for each in self.voters))

    def updated(self, voter: Voter) -> "VoterSet":
        """The set with this voter for the one of its id."""
        assert voter.node_id in self.ids, f"{voter.node_id} is no voter"
        others = (each for each in self.voters if each.node_id != voter.node_id)
        return replace(self, voters=_by_id((*others, voter)))

    def joined(self, voter: Voter) -> "VoterSet":
        """The set with one voter more, which is forgiven if it was removed before."""
        assert voter.node_id not in self.ids, f"{voter.node_id} is a voter already"
        key = ReplicaKey(node_id=voter.node_id, directory_id=voter.directory_id)
        removed = tuple(each for each in self.removed if each != key)
        return VoterSet(_by_id((*self.voters, voter)), removed)

    def left(self, node_id: NodeId) -> "VoterSet":
        """The set with one voter less, whose disk is remembered as removed."""
        voter = self.find(node_id)
        assert voter is not None, f"{node_id} is no voter"
        removed = self.removed
        if voter.directory_id is not None:
            key = ReplicaKey(node_id=node_id, directory_id=voter.directory_id)
            removed = (*(each for each in removed if each != key), key)[-REMOVED_MAX:]
        return VoterSet(tuple(each for each in self.voters if each is not voter), removed)


def _by_id(voters: tuple[Voter, ...]) -> tuple[Voter, ...]:
    return tuple(sorted(voters, key=lambda each: each.node_id))


def _same(one: Voter, other: Voter | None) -> bool:
    if other is None:
        return False
    return None in (one.directory_id, other.directory_id) or one.directory_id == other.directory_id


def share_majority(one: VoterSet, other: VoterSet) -> bool:
    """Has every majority of the one a voter in common with every majority of the other?

    A disk that is not known yet is the one that is learned later; another disk is another voter.
    """
    common = sum(_same(each, other.find(each.node_id)) for each in one.voters)
    outside = len(one.voters) - common, len(other.voters) - common
    # The smallest majorities, made of what they do not share as far as that goes.
    within = max(0, one.majority - outside[0]), max(0, other.majority - outside[1])
    return sum(within) > common


VoterHistory = tuple[tuple[Offset, VoterSet], ...]
"""Each Voters record's offset, ascending, and what it says. The last one holds (from its append on,
committed or not); the first is what was configured, at BOOTSTRAP."""


def start_at(history: VoterHistory, start: Offset) -> VoterHistory:
    """The history without what was replaced before `start`: the log begins there from now on."""
    before = [entry for entry in history[1:] if entry[0] < start]
    later = tuple(entry for entry in history[1:] if entry[0] >= start)
    return (history[0], *before[-1:], *later)


def voters_at(history: VoterHistory, end: Offset) -> VoterSet:
    """Who voted when the log ended at `end`."""
    return [voters for offset, voters in history if offset < end][-1]


def truncate(history: VoterHistory, to: Offset) -> VoterHistory:
    """The history without the records at `to` and after it."""
    return tuple(entry for entry in history if entry[0] < to)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddVoter:
    """A learner that has caught up becomes a voter."""

    voter: Voter
    """With its disk."""
    readmit: bool = False
    """Even if this disk was removed before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVoter:
    key: ReplicaKey
    """Without a disk: whichever the voter of this id has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateVoter:
    """The voter is reached elsewhere."""

    voter: Voter
    """As it shall be; its disk is the one that it has, or not said."""


VoterChange = AddVoter | RemoveVoter | UpdateVoter
"""One at a time. Another disk for a voter is two of them, remove and add: in one record the old
disk and the new one could each make a majority with half of the others."""
