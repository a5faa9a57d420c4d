"""The shell around changes of features: what the voters support is asked, then it is decided.

    UpdateFeatures ──▶ every other voter is asked ──▶ decided on what they and the brokers said

What a broker supports stands in its registration, and so in the image. A voter is asked where the
log says that it is: nobody has to keep what changes with each start of another process.
"""

import asyncio
from collections.abc import Sequence

from controller.decisions import DecisionLog
from controller.plan import features
from controller.plan.decision import Decision
from controller.plan.features import FeatureChange, FeatureUpdate, Support
from controller.plan.ledger import View
from controller.quorum.port import Peer, VoterQuorum
from klamm.clock import Clock
from klamm.errors import ApiError, NotControllerError
from klamm.ids import NodeId, Offset
from klamm.metadata.features import Supported, supported
from klamm.metadata.records import Cause
from klamm.telemetry.logs import logger

_log = logger(__name__)


class Features:
    """Used within one event loop."""

    def __init__(self, quorum: VoterQuorum, log: DecisionLog, clock: Clock) -> None:
        self._quorum = quorum
        self._log = log
        self._clock = clock

    async def update(
        self,
        asked: Sequence[FeatureUpdate],
        cause: Cause,
        timeout_ms: int,
        *,
        validate_only: bool = False,
    ) -> tuple[tuple[FeatureChange, ...], Offset]:
        """Put levels in force, all or none; what changed, and the offset behind it.

        Raises:
            NotControllerError, OverloadedError: Definite: nothing was appended.
            ApiError: Refused: INVALID_UPDATE_VERSION, FEATURE_UPDATE_FAILED.
            CommitUnknownError: Appended; it may commit.
        """
        began_ms, me = self._clock.monotonic_ms(), self._quorum.node_id
        if self._quorum.leader != me:
            raise NotControllerError(self._quorum.leader, self._quorum.epoch)
        said = await self._ask_voters(timeout_ms)

        def decide(view: View, _: Offset) -> Decision[tuple[FeatureChange, ...]]:
            # Who votes by now: somebody may have been added meanwhile.
            voters = {each: said.get(each) for each in self._quorum.voters.ids if each != me}
            support = Support(supported(), voters)
            return features.update(view, asked, support, validate_only=validate_only)

        left_ms = max(1, timeout_ms - (self._clock.monotonic_ms() - began_ms))
        changes, end = await self._log.decide(decide, cause, left_ms)
        for each in changes:
            if each.level != each.level_before and not validate_only:
                _log.info("a feature's level changed", feature=each.feature, level=each.level)
        return changes, end

    async def _ask_voters(self, timeout_ms: int) -> dict[NodeId, Supported | None]:
        others = [each for each in self._quorum.peers if each.node_id != self._quorum.node_id]
        said = await asyncio.gather(*(self._ask(each, timeout_ms) for each in others))
        return {each.node_id: answer for each, answer in zip(others, said, strict=True)}

    async def _ask(self, voter: Peer, timeout_ms: int) -> Supported | None:
        try:
            return await self._quorum.supported_by(voter, timeout_ms)
        except ApiError as error:
            _log.warning("a voter did not say what it supports", voter=voter.node_id, why=error)
            return None
