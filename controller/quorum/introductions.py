"""Where controllers are that the log does not name, as they say it themselves.

A fetch carries its sender's own endpoint. When a learner is to become a voter, nobody has to carry
that and its disk's id by hand; and a voter that is back elsewhere has said so with its first fetch.
A leader's announcement does too: a follower whose log lags finds it.
"""

from dataclasses import dataclass

from controller.raft.voters import ReplicaKey
from klamm.ids import NodeId
from klamm.metadata.records import Endpoint

INTRODUCTIONS_MAX = 64
"""Remembered; the one that was heard first goes first."""


@dataclass(slots=True)
class _Known:
    endpoint: Endpoint
    first: int
    """Its place among all that was heard."""
    last: int


class Introductions:
    def __init__(self) -> None:
        self._count = 0
        self._known: dict[ReplicaKey, _Known] = {}
        self._of_late: dict[ReplicaKey, Endpoint] = {}

    def heard(self, key: ReplicaKey, endpoint: Endpoint) -> None:
        """The controller says where it is."""
        if len(self._of_late) < INTRODUCTIONS_MAX or key in self._of_late:
            self._of_late[key] = endpoint
        self._count += 1
        known = self._known.get(key)
        if known is not None and known.endpoint == endpoint:
            known.last = self._count
            return
        self._known.pop(key, None)
        if len(self._known) >= INTRODUCTIONS_MAX:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(endpoint, self._count, self._count)

    def take(self) -> tuple[tuple[ReplicaKey, Endpoint], ...]:
        """What was said since this was asked last, by each the last word."""
        said, self._of_late = self._of_late, {}
        return tuple(said.items())

    def find(
        self, node_id: NodeId, since: ReplicaKey | None = None
    ) -> tuple[tuple[ReplicaKey, Endpoint], ...]:
        """The disks that introduced themselves with this id, the last one first.

        Args:
            node_id: Theirs.
            since: If it was heard, only those that were again after it was for the first time: what
                it took the place of is silent from then on.
        """
        other = None if since is None else self._known.get(since)
        return tuple(
            (key, known.endpoint)
            for key, known in reversed(self._known.items())
            if key.node_id == node_id and (other is None or known.last > other.first)
        )
