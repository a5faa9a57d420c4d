"""What `grpc.health.v1` says of each service, and `/readyz` of the whole: the truth, with reasons.

""                        the process serves
klamm.v1.QuorumService    serves: consensus needs it before there is a leader
klamm.v1.MetadataService  this controller has once caught up with a leader that it knows, and its
                          state is not known to differ from the one that the log states
klamm.v1.AdminService     an active controller is known, so that a change has somewhere to go
klamm.v1.ControllerService  likewise
"""

import asyncio
from typing import Protocol

from controller.server.port import Metadata, QuorumView
from klamm.ids import NO_NODE
from klamm.metadata.agreement import Agreement
from klamm.rpc.server import GrpcServer

QUORUM = "klamm.v1.QuorumService"
METADATA = "klamm.v1.MetadataService"
ADMIN = "klamm.v1.AdminService"
CONTROLLER = "klamm.v1.ControllerService"

LOOK_INTERVAL_MS = 100


class Health(Protocol):
    """The part of GrpcServer that is used here."""

    async def set_serving(self, service: str, *, serving: bool) -> None: ...


class Serving:
    """Keeps the health service true while `run` runs."""

    def __init__(
        self,
        quorum: QuorumView,
        metadata: Metadata,
        health: GrpcServer | Health,
        agreement: Agreement,
    ) -> None:
        self._quorum = quorum
        self._metadata = metadata
        self._health = health
        self._agreement = agreement
        self._caught_up = False
        self._said: dict[str, bool] = {}

    def not_ready(self) -> list[str]:
        """Why this controller may not be sent work; empty if it may."""
        reasons = self._agreement.why_not()
        if self._quorum.leader == NO_NODE:
            reasons.append(f"no active controller is known in epoch {self._quorum.epoch}")
            reasons += self._who_is_missing()
        if not self._caught_up:
            applied = self._metadata.image.provenance.offset
            reasons.append(
                f"the metadata is not caught up: applied {applied} of {self._quorum.high_watermark}"
            )
        return reasons

    def _who_is_missing(self) -> list[str]:
        if (led := self._quorum.led_before) is not None:
            why = (
                f"the others follow controller {led[0]} in epoch {led[1]}, and do not take this "
                "one for a voter: if it was removed, empty its directory and start it again"
            )
            return [why]
        if not (missing := self._quorum.unreachable):
            return []
        voters = len(self._quorum.peers)
        told = ", ".join(f"{each.node_id} at {each.address}" for each in missing)
        return [f"of {voters} voters {voters // 2 + 1} are needed; not reached: {told}"]

    async def run(self) -> None:
        """Look and tell, until cancelled."""
        while True:
            await self._look()
            await asyncio.sleep(LOOK_INTERVAL_MS / 1_000)

    async def _look(self) -> None:
        led = self._quorum.leader != NO_NODE
        applied = self._metadata.image.provenance.offset
        if led and 0 < self._quorum.high_watermark <= applied:
            self._caught_up = True
        trusted = self._caught_up and self._agreement.disagreement is None
        for service, serving in (
            (QUORUM, True),
            (METADATA, trusted),
            (ADMIN, led and trusted),
            (CONTROLLER, led and trusted),
        ):
            if self._said.get(service) != serving:
                self._said[service] = serving
                await self._health.set_serving(service, serving=serving)
