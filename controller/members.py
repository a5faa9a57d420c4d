"""The shell around changes of the voters: fill in, wait, append, wait for the commit.

    change ──▶ disk and endpoint, as the node itself told them ──▶ asked of the core
                 ▲                       not now: another is under way, the learner lags │
                 └──────────────── again, until the time is over ◀───────────────────────┘
                                                  appended ──▶ committed ──▶ answered

Waiting changes nothing and holds nothing: each attempt is decided anew, on the log. Whatever is
refused is definite; only what was appended and not heard of again is not.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from controller.decisions import DecisionLog
from controller.quorum.port import VoterQuorum, VotersUnchangedError
from controller.quorum.probe import PROBE_MS
from controller.raft.effects import ChangeRefusal
from controller.raft.membership import Refused, Tolerance
from controller.raft.voters import (
    AddVoter,
    RemoveVoter,
    ReplicaKey,
    UpdateVoter,
    Voter,
    VoterChange,
    VoterSet,
)
from klamm.clock import Clock
from klamm.errors import ApiError, CommitUnknownError, ErrorCode, NotControllerError
from klamm.ids import Offset
from klamm.telemetry import logs

_log = logs.logger("controller.members")

RETRY_S = 0.05
"""Between two attempts of a change that cannot be made yet."""

NOT_NOW = frozenset(
    {
        ChangeRefusal.NOT_CLAIMED,
        ChangeRefusal.HANDING_OVER,
        ChangeRefusal.CHANGE_UNDER_WAY,
        ChangeRefusal.NOT_FOLLOWING,
        ChangeRefusal.LAGGING,
        ChangeRefusal.UNHEALTHY,
    }
)
"""What may be otherwise in a moment."""

AS_THEY_WERE = "The voters are as they were."
HALF_REPLACED = "The old disk is removed, and the new one has no vote yet: ask for it again."

UNHEALTHY_MS = 2_000
"""A new leader has not heard all voters yet, and a link may flap: so long a change waits for the
healthy to be a majority, a fetch timeout."""

CODES: Mapping[ChangeRefusal, ErrorCode] = {
    ChangeRefusal.INVALID: ErrorCode.INVALID_REQUEST,
    ChangeRefusal.DUPLICATE_VOTER: ErrorCode.DUPLICATE_VOTER,
    ChangeRefusal.VOTER_NOT_FOUND: ErrorCode.VOTER_NOT_FOUND,
    ChangeRefusal.LAST_VOTER: ErrorCode.INVALID_REQUEST,
    ChangeRefusal.REMOVED_BEFORE: ErrorCode.INVALID_VOTER_KEY,
    ChangeRefusal.TOO_MANY_VOTERS: ErrorCode.POLICY_VIOLATION,
    ChangeRefusal.UNHEALTHY: ErrorCode.POLICY_VIOLATION,
}
"""Kafka's (KIP-853), but for the last voter, which Kafka does not find; all others are
REQUEST_TIMED_OUT."""

FIELDS: Mapping[ChangeRefusal, str] = {ChangeRefusal.LAST_VOTER: "remove.voter_id: "}
"""Of the request: what it should not have said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceVoter:
    """A voter's disk is another now. Two changes: see `VoterChange`."""

    voter: Voter
    readmit: bool = False
    """Even a disk that was removed before."""


Asked = AddVoter | RemoveVoter | ReplaceVoter | UpdateVoter


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    before: Tolerance
    after: Tolerance
    voters: VoterSet
    end_offset: Offset
    """-1: nothing was changed."""
    refusal: str = ""
    """Of a dry run."""


class Members:
    """Used within one event loop."""

    def __init__(self, quorum: VoterQuorum, log: DecisionLog, clock: Clock) -> None:
        self._quorum = quorum
        self._log = log
        self._clock = clock

    async def dry_run(self, asked: Asked) -> Changed:
        """What the change would do at this moment.

        Raises:
            NotControllerError: Only the leader knows.
        """
        self._check_leads()
        try:
            await self._check_endpoint(asked, self._clock.monotonic_ms() + PROBE_MS)
        except ApiError as error:
            return replace(self._dry_run(asked), voters=self._quorum.voters, refusal=error.message)
        self._check_leads()
        return self._dry_run(asked)

    def _dry_run(self, asked: Asked) -> Changed:
        if isinstance(asked, ReplaceVoter):
            return self._dry_replacement(self._replacement(asked))
        change = self._filled(asked)
        seen = self._quorum.preview_voters(change)
        stranger = self._stranger(change)
        refused = seen.refused if stranger is None else stranger
        return Changed(
            before=seen.before,
            after=seen.after,
            voters=seen.voters,
            end_offset=Offset(-1),
            refusal="" if refused is None else refused.told,
        )

    async def change(self, asked: Asked, timeout_ms: int) -> Changed:
        """Make the change, and return once it is committed.

        Raises:
            NotControllerError: Definite: nothing was appended.
            ApiError: Refused, with Kafka's code; REQUEST_TIMED_OUT: not within the time.
            OverloadedError: Likewise definite.
            CommitUnknownError: Appended; it may commit.

        A replacement may end halfway: then its removal was committed, and to ask again goes on.
        """
        self._check_leads()
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        try:
            await self._check_endpoint(asked, deadline_ms)
        except ApiError as error:
            raise ApiError(error.code, f"{error.message}. {AS_THEY_WERE}") from error
        if isinstance(asked, ReplaceVoter):
            return await self._replace(asked, deadline_ms)
        return await self._change(asked, deadline_ms)

    async def relocate(self, voter: Voter, timeout_ms: int) -> None:
        """Write down where a voter is, as it says itself: who runs knows best.

        Raises: what `change` does.
        """
        self._check_leads()
        await self._change(UpdateVoter(voter=voter), self._clock.monotonic_ms() + timeout_ms)

    async def _check_endpoint(self, asked: Asked, deadline_ms: int) -> None:
        """Is the voter where somebody says, who is not the voter itself? Else nothing is changed.

        Raises:
            ApiError: It is not, and who is there instead.
        """
        if isinstance(asked, RemoveVoter) or (endpoint := asked.voter.endpoint) is None:
            return
        known = self._quorum.voters.find(asked.voter.node_id)
        if known is None and isinstance(asked, UpdateVoter):
            return  # No voter: that is said instead.
        if known is None or known.endpoint != endpoint:
            left_ms = self._left_ms(deadline_ms)
            await self._quorum.check_endpoint(asked.voter.node_id, endpoint, left_ms)

    async def _change(
        self, asked: VoterChange, deadline_ms: int, standing: str = AS_THEY_WERE
    ) -> Changed:
        """Args: `standing` is how things stand if it is refused."""
        healthy_by_ms = min(deadline_ms, self._clock.monotonic_ms() + UNHEALTHY_MS)
        while True:
            change = self._filled(asked)
            if (stranger := self._stranger(change)) is not None:
                await self._not_now(stranger.why, stranger.told, deadline_ms, standing)
                continue
            seen = self._quorum.preview_voters(change)
            epoch, before = self._quorum.epoch, self._quorum.voters
            try:
                end = await self._log.alongside(
                    lambda change=change: self._quorum.change_voters(change),  # type: ignore[misc]
                    max(1, self._left_ms(deadline_ms)),
                )
                break
            except VotersUnchangedError as error:
                unhealthy = error.why is ChangeRefusal.UNHEALTHY
                until_ms = healthy_by_ms if unhealthy else deadline_ms
                await self._not_now(error.why, str(error), until_ms, standing)
        left_ms = max(1, self._left_ms(deadline_ms))
        try:
            await self._quorum.wait_committed(epoch, end, left_ms)
        except CommitUnknownError:
            # A leader that removes itself ends its epoch with that very commit.
            known = self._quorum.high_watermark >= end
            if not known or self._quorum.voters.voters != seen.voters.voters:
                raise
        voters = self._quorum.voters
        if voters != before:
            ids = ",".join(map(str, voters.ids))
            _log.info("the voters changed", voters=ids, offset=end - 1)
        return Changed(before=seen.before, after=seen.after, voters=voters, end_offset=end)

    async def _replace(self, asked: ReplaceVoter, deadline_ms: int) -> Changed:
        """The old disk goes only when the new one is ready to take its place."""
        before = self._quorum.preview_voters(UpdateVoter(voter=asked.voter)).before
        while (refused := self._not_replaceable(self._replacement(asked))) is not None:
            await self._not_now(refused.why, refused.told, deadline_ms)
        addition, standing = self._replacement(asked), AS_THEY_WERE
        voter = addition.voter
        known = self._quorum.voters.find(voter.node_id)
        if known is not None and known.directory_id != voter.directory_id:
            gone = RemoveVoter(
                key=ReplicaKey(node_id=voter.node_id, directory_id=known.directory_id)
            )
            await self._change(gone, deadline_ms)
            standing = HALF_REPLACED
        elif known is not None:
            return await self._change(UpdateVoter(voter=voter), deadline_ms)
        done = await self._change(addition, deadline_ms, standing)
        return replace(done, before=before)

    def _not_replaceable(self, addition: AddVoter) -> Refused | None:
        voter = addition.voter
        key = ReplicaKey(node_id=voter.node_id, directory_id=voter.directory_id)
        if _unknown(voter):
            told = f"{voter.node_id} does not follow the leader with a new disk"
            return Refused(why=ChangeRefusal.NOT_FOLLOWING, told=told)
        if self._quorum.voters.admits(key):
            return None
        if key in self._quorum.voters.removed and not addition.readmit:
            # Said before the voter is removed for it.
            told = f"{voter.node_id} was a voter with this disk and was removed; readmit it by name"
            return Refused(why=ChangeRefusal.REMOVED_BEFORE, told=told)
        return self._quorum.not_ready(key)

    def _dry_replacement(self, addition: AddVoter) -> Changed:
        """As many voters as before, and the new disk healthy, or not there."""
        voter = addition.voter
        if self._quorum.voters.find(voter.node_id) is None:
            return self._dry_run(addition)  # The old disk is out already.
        removed = self._quorum.preview_voters(RemoveVoter(key=ReplicaKey(node_id=voter.node_id)))
        lacking = self._not_replaceable(addition)
        refused = lacking or removed.refused
        healthy = removed.after.healthy + (1 if lacking is None else 0)
        return Changed(
            before=removed.before,
            after=Tolerance(voters=removed.before.voters, healthy=healthy),
            voters=self._quorum.voters if refused else removed.voters.joined(voter),
            end_offset=Offset(-1),
            refusal="" if refused is None else refused.told,
        )

    def _stranger(self, change: VoterChange) -> Refused | None:
        """Is somebody to be added of whom this leader has not heard?"""
        if not isinstance(change, AddVoter) or not _unknown(change.voter):
            return None
        if self._quorum.voters.find(change.voter.node_id) is not None:
            return None  # A voter already.
        told = f"{change.voter.node_id} does not follow the leader"
        return Refused(why=ChangeRefusal.NOT_FOLLOWING, told=told)

    async def _not_now(
        self, why: ChangeRefusal, told: str, deadline_ms: int, standing: str = AS_THEY_WERE
    ) -> None:
        """Wait for a moment, or give up."""
        if why is ChangeRefusal.NOT_LEADER:
            raise NotControllerError(self._quorum.leader, self._quorum.epoch)
        if why not in NOT_NOW or self._left_ms(deadline_ms) <= 0:
            code = CODES.get(why, ErrorCode.REQUEST_TIMED_OUT)
            raise ApiError(code, f"{FIELDS.get(why, '')}{told}. {standing}")
        await asyncio.sleep(RETRY_S)
        self._check_leads()

    def _left_ms(self, deadline_ms: int) -> int:
        return deadline_ms - self._clock.monotonic_ms()

    def _check_leads(self) -> None:
        if self._quorum.leader != self._quorum.node_id:
            raise NotControllerError(self._quorum.leader, self._quorum.epoch)

    def _filled(self, asked: VoterChange) -> VoterChange:
        if isinstance(asked, AddVoter):
            return replace(asked, voter=self._filled_voter(asked.voter))
        return asked

    def _filled_voter(
        self, voter: Voter, since: ReplicaKey | None = None, but: Collection[ReplicaKey] = ()
    ) -> Voter:
        """With what the node itself said of its disk and its place, where that was left out."""
        for key, endpoint in self._quorum.introductions.find(voter.node_id, since=since):
            wanted = voter.directory_id in (None, key.directory_id)
            if wanted and key not in but:
                return replace(
                    voter,
                    directory_id=key.directory_id,
                    endpoint=voter.endpoint or endpoint,
                )
        return voter

    def _replacement(self, asked: ReplaceVoter) -> AddVoter:
        """The new disk: the one that was named, or one that is and was no voter's."""
        voters, voter = self._quorum.voters, asked.voter
        if voter.directory_id is not None:
            return AddVoter(voter=self._filled_voter(voter), readmit=asked.readmit)
        known = voters.find(voter.node_id)
        current = None if known is None else known.directory_id
        key = ReplicaKey(node_id=voter.node_id, directory_id=current)
        but = (key,) if asked.readmit else (key, *voters.removed)
        filled = self._filled_voter(voter, since=key, but=but)
        return AddVoter(voter=filled, readmit=asked.readmit)


def _unknown(voter: Voter) -> bool:
    """Neither the caller nor the node itself has said all that is needed."""
    return voter.directory_id is None or voter.endpoint is None
