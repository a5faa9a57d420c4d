"""Who votes, and with which disk (KIP-853)."""

from dataclasses import dataclass, replace

from klamm.ids import DirectoryId, NodeId, Offset
from klamm.metadata.records import Endpoint

BOOTSTRAP = Offset(-1)
"""Where the configured voters stand in a history: before every record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaKey:
    """A node and its disk: the same node with another disk is another replica."""

    node_id: NodeId
    directory_id: DirectoryId | None = None
    """None: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voter:
    """One member of the set."""

    node_id: NodeId
    directory_id: DirectoryId | None = None
    """None until a leader has learned it; until then any disk of the node's is the voter's."""
    endpoint: Endpoint | None = None
    """Where it serves gRPC."""


@dataclass(frozen=True, slots=True)
class VoterSet:
    """All voters, by id."""

    voters: tuple[Voter, ...]

    def __post_init__(self) -> None:
        ids = [each.node_id for each in self.voters]
        assert ids == sorted(set(ids)), f"voters by id, each once: {ids}"

    @property
    def ids(self) -> tuple[NodeId, ...]:
        return tuple(each.node_id for each in self.voters)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    def find(self, node_id: NodeId) -> Voter | None:
        for each in self.voters:
            if each.node_id == node_id:
                return each
        return None

    def admits(self, key: ReplicaKey) -> bool:
        """Is this replica a voter? A wiped disk is not the voter that it was."""
        voter = self.find(key.node_id)
        return voter is not None and voter.directory_id in (None, key.directory_id)

    def knowing(self, key: ReplicaKey) -> "VoterSet":
        """The set with this replica's disk filled in, where none was known."""
        voter = self.find(key.node_id)
        if voter is None or voter.directory_id is not None or key.directory_id is None:
            return self
        known = replace(voter, directory_id=key.directory_id)
        return VoterSet(tuple(known if each is voter else each for each in self.voters))

    def at(self, endpoints: "VoterSet") -> "VoterSet":
        """The same voters, with the endpoints that `endpoints` knows."""

        def moved(voter: Voter) -> Voter:
            other = endpoints.find(voter.node_id)
            known = None if other is None else other.endpoint
            return voter if known in (None, voter.endpoint) else replace(voter, endpoint=known)

        return VoterSet(tuple(moved(each) for each in self.voters))


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
