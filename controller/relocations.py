"""What voters say of themselves: the leader writes it down (KIP-853, row 118).

    a voter's fetch says where it is ──▶ not what the log says ──▶ UpdateVoter

Kafka has a request for that, UpdateRaftVoter, which a follower repeats until the voters say the
same; here each fetch says it. A leader corrects its own entry with its first record. Who runs knows
best: what somebody has told of a voter holds until it says something else itself. Disks that the
log does not name yet are the core's own affair (controller/raft/membership.py).
"""

import asyncio

from controller.members import Members
from controller.quorum.port import VoterQuorum
from controller.raft.voters import Voter
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
            voters = self._quorum.voters
            known = voters.find(key.node_id)
            if self._quorum.leader != self._quorum.node_id or known is None:
                continue
            voter = Voter(node_id=key.node_id, directory_id=key.directory_id, endpoint=endpoint)
            if not voters.admits(key):
                continue
            if known.endpoint != endpoint:
                await self._move(voter, endpoint)

    async def _move(self, voter: Voter, to: Endpoint) -> None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._written_ms.get(voter.node_id, now_ms - REST_MS) < REST_MS:
            return
        self._written_ms[voter.node_id] = now_ms
        told = {"voter": voter.node_id, "host": to.host, "port": to.port}
        try:
            await self._members.relocate(voter, CHANGE_MS)
        except KlammError as error:
            _log.warning("a voter is elsewhere, and that is not written down", **told, why=error)
        else:
            _log.info("a voter is elsewhere than it was", **told)
