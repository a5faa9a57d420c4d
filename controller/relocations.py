"""Voters that are back elsewhere: the leader writes down where (KIP-853, row 118).

    a voter's fetch says where it is reached ──▶ not what the log says ──▶ UpdateVoter

Kafka has a request for that, UpdateRaftVoter, which a follower repeats until the voters say the
same; here each fetch says it. A leader corrects its own entry with its first record. Who runs knows
best: what somebody has told of a voter holds until that voter itself says something else.
"""

import asyncio

from controller.members import Members
from controller.quorum.port import VoterQuorum
from controller.raft.voters import ReplicaKey, UpdateVoter, Voter
from klamm.clock import Clock
from klamm.errors import KlammError
from klamm.ids import NodeId
from klamm.metadata.records import Endpoint
from klamm.telemetry import logs

_log = logs.logger("controller.relocations")

LOOK_S = 0.5
"""Between two looks at what was said."""

REST_MS = 6_000
"""A voter's place is written down once in so long, Kafka's figure: two processes that have one disk
(a machine was copied) contradict each other for ever."""

CHANGE_MS = 5_000
"""Of one correction; the next fetch says it again."""


class Relocations:
    """Used within one event loop; does something while this node leads."""

    def __init__(self, quorum: VoterQuorum, members: Members, clock: Clock) -> None:
        self._quorum = quorum
        self._members = members
        self._clock = clock
        self._written_ms: dict[NodeId, int] = {}
        """When a voter's place was last written down."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Write down who is elsewhere than the log says, as they have said it since the last."""
        for key, endpoint in self._quorum.introductions.take():
            if self._moved(key, endpoint):
                await self._write(key, endpoint)

    def _moved(self, key: ReplicaKey, endpoint: Endpoint) -> bool:
        if self._quorum.leader != self._quorum.node_id:
            return False
        voters = self._quorum.voters
        voter = voters.find(key.node_id)
        if voter is None or not voters.admits(key) or voter.endpoint == endpoint:
            return False
        written_ms = self._written_ms.get(key.node_id)
        return written_ms is None or self._clock.monotonic_ms() - written_ms >= REST_MS

    async def _write(self, key: ReplicaKey, endpoint: Endpoint) -> None:
        self._written_ms[key.node_id] = self._clock.monotonic_ms()
        told = {"voter": key.node_id, "host": endpoint.host, "port": endpoint.port}
        voter = Voter(node_id=key.node_id, directory_id=key.directory_id, endpoint=endpoint)
        try:
            await self._members.change(UpdateVoter(voter=voter), CHANGE_MS)
        except KlammError as error:
            _log.warning("a voter is elsewhere, and that is not written down", **told, why=error)
        else:
            _log.info("a voter is elsewhere than it was", **told)
