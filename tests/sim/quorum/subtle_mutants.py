"""Planted bugs that need a coincidence: right nearly always, and by nearly every test.

Of replication, of reads and of elections; the plain ones are in mutants.py.
"""

from dataclasses import replace
from typing import Any

from controller.raft import election, follow, leadership, reads, replication, state, step, vote
from controller.raft.effects import Claim, SaveQuorumState, SendRequest
from controller.raft.epoch import save
from controller.raft.messages import FetchRequest
from controller.raft.state import NEVER_MS, Leader
from klamm.ids import NO_NODE
from tests.sim.planting import Mutant, Patch


def _reads_before_the_first_commit() -> list[Patch]:
    """A new leader answers with the high watermark it came with (Raft, section 8)."""
    honest = reads.begin_round

    def begin_round(now: Any) -> Any:
        claimed = now.role.claimed
        after, effects = honest(replace(now, role=replace(now.role, claimed=True)))
        if isinstance(after.role, Leader):
            after = replace(after, role=replace(after.role, claimed=claimed))
        return after, effects

    return [(reads, "begin_round", begin_round)]


def _the_longer_log_wins() -> list[Patch]:
    """Votes look at the end offset, and not at its epoch first (Raft 5.4.1)."""

    def may_grant(now: Any, candidate: Any, request: Any) -> bool:
        role = now.role
        leaderless = isinstance(role, state.Unattached) or (
            isinstance(role, state.Prospective) and role.leader == NO_NODE
        )
        free = leaderless and now.voted_for in (None, candidate)
        return free and request.log_end.offset >= now.log.end_offset

    def would_grant(now: Any, sender: Any, request: Any) -> bool:
        return request.log_end.offset >= now.log.end_offset

    return [(vote, "_may_grant", may_grant), (vote, "_would_grant", would_grant)]


def _fetches_before_its_fsync() -> list[Patch]:
    """The next fetch goes out while the fsync runs, and acknowledges what it covers."""

    def fetch(now: Any, role: Any, moment: Any) -> Any:
        request = FetchRequest(
            epoch=now.epoch,
            log_end=now.log.end,
            high_watermark=now.high_watermark,
            max_bytes=now.config.fetch_bytes_max,
            max_wait_ms=now.config.fetch_wait_ms,
            read_round=role.read_round,
        )
        role = replace(role, fetch=request, retry_ms=NEVER_MS)
        return replace(now, role=role), (SendRequest(role.leader, request),)

    return [(follow, "fetch", fetch)]


def _epochs_are_not_saved() -> list[Patch]:
    """Only votes are: an epoch that was heard of is forgotten by a crash."""
    honest = step._one_save

    def one_save(effects: Any) -> Any:
        return tuple(
            each
            for each in honest(effects)
            if not isinstance(each, SaveQuorumState) or each.voted_for is not None
        )

    return [(step, "_one_save", one_save)]


def _claims_when_elected() -> list[Patch]:
    """Before the epoch's first batch is committed, and with it all that came before."""
    honest = leadership.become_leader

    def become_leader(now: Any, granted: Any, moment: Any) -> Any:
        after, effects = honest(now, granted, moment)
        claimed = replace(after, role=replace(after.role, claimed=True))
        return claimed, (*effects, Claim(after.epoch, after.role.first_end))

    return [(leadership, "become_leader", become_leader)]


def _who_disagrees_counts() -> list[Patch]:
    """A follower's end is believed whose log is no prefix of the leader's."""
    honest = replication._note

    def note(now: Any, role: Any, sender: Any, request: Any, moment: Any, *, agrees: bool) -> Any:
        end = min(request.log_end.offset, now.log.end_offset)
        request = replace(request, log_end=replace(request.log_end, offset=end))
        return honest(now, role, sender, request, moment, agrees=True)

    return [(replication, "_note", note)]


def _leads_for_ever() -> list[Patch]:
    """A leader that hears nobody goes on leading (scenario 15)."""

    def never(now: Any, role: Any) -> int:
        return NEVER_MS

    return [(state, "quorum_until_ms", never), (leadership, "quorum_until_ms", never)]


def _an_id_is_a_voter() -> list[Patch]:
    """Whoever has a voter's id is that voter, with whatever disk (KIP-853)."""

    def admits(self: Any, key: Any) -> bool:
        return bool(self.voters.find(key.node_id) is not None)

    return [(state.RaftState, "admits", admits)]


def _own_vote_counts_unsaved() -> list[Patch]:
    """A candidate saves its own vote when it has won, and not while it asks."""
    honest_stand, honest_lead = election._become_candidate, leadership.become_leader

    def stand(now: Any, moment: Any) -> Any:
        after, effects = honest_stand(now, moment)
        return after, tuple(each for each in effects if not isinstance(each, SaveQuorumState))

    def lead(now: Any, granted: Any, moment: Any) -> Any:
        after, effects = honest_lead(now, granted, moment)
        return after, (*effects, save(now))

    return [(election, "_become_candidate", stand), (leadership, "become_leader", lead)]


MUTANTS = (
    Mutant(
        "own vote counts unsaved", "who wins can save it then", _own_vote_counts_unsaved, "votes"
    ),
    Mutant("an id is a voter", "with whatever disk", _an_id_is_a_voter, "strangers"),
    Mutant(
        "reads before the first commit",
        "of the leader's epoch",
        _reads_before_the_first_commit,
        "clocks",
    ),
    Mutant("longer log wins", "whatever its last epoch", _the_longer_log_wins, "leaders"),
    Mutant(
        "fetch before fsync", "it acknowledges what is below", _fetches_before_its_fsync, "disks"
    ),
    Mutant("epochs are not saved", "only votes are", _epochs_are_not_saved, "votes"),
    Mutant("claims when elected", "elected is in charge", _claims_when_elected, "swarm"),
    Mutant("who disagrees counts", "an end is an end", _who_disagrees_counts, "leaders"),
    Mutant("leads for ever", "nobody said otherwise", _leads_for_ever, "network"),
)
