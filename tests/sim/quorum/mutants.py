"""Planted bugs: each is one that somebody has made, and each must be caught.

The core's. A mutant's profile names the kind of trouble under which it shows, since uniform chance
never finds some of them. All are collected, and the seeds they took recorded, by tests/sim/mutants.
"""

from dataclasses import replace
from typing import Any

from controller.raft import election, follow, membership, reads, replication, state, step, vote
from controller.raft.effects import Commit
from controller.raft.events import LogFlushed
from controller.raft.state import Follower, Leader
from controller.raft.voters import VoterSet
from klamm.ids import NO_NODE
from klamm.log.epochs import EpochChain
from tests.sim.planting import Mutant, Patch
from tests.sim.quorum import decay_mutants, snapshot_mutants, subtle_mutants, transfer_mutants
from tests.sim.quorum.node import Node
from tests.sim.quorum.world import World


def _vote_for_any_log() -> list[Patch]:
    def may_grant(now: Any, candidate: Any, request: Any) -> bool:
        role = now.role
        leaderless = isinstance(role, state.Unattached) or (
            isinstance(role, state.Prospective) and role.leader == NO_NODE
        )
        return leaderless and now.voted_for in (None, candidate)

    return [(vote, "_may_grant", may_grant), (vote, "_would_grant", lambda *_: True)]


def _vote_twice() -> list[Patch]:
    """Forgets its vote by the next request of the epoch."""
    honest = vote._may_grant

    def may_grant(now: Any, candidate: Any, request: Any) -> bool:
        return honest(replace(now, voted_for=None), candidate, request)

    return [(vote, "_may_grant", may_grant), (step, "_check", lambda *_: None)]


def _majority_off_by_one() -> list[Patch]:
    half = property(lambda self: max(1, len(self.voters) // 2))
    return [(VoterSet, "majority", half)]


def _vote_not_durable() -> list[Patch]:
    """The vote reaches the disk some milliseconds after it was given."""

    def save(self: World, node: Node, saved: Any) -> None:
        life = node.incarnation

        def later() -> None:
            if node.incarnation == life:
                node.disk.saved = saved

        self.after(self.rng.uniform(1, 8), later)

    # What looks at the disk as a vote leaves would see it at once; two votes are to be seen.
    return [(World, "save", save), (World, "look_at_votes", False)]


def _acknowledge_before_fsync() -> list[Patch]:
    """A follower's, and a leader's, appends count while they are only in the page cache."""

    def flush(self: Node) -> None:
        assert self.state is not None
        done = LogFlushed(self.world.offset(self.disk.end_offset), self.state.truncations)
        self.world.after(0.01, lambda life=self.incarnation: _if_alive(self, life, done))
        end_offset = self.disk.end_offset
        self.world.after(
            self.world.rng.uniform(5, 50),
            lambda life=self.incarnation: (
                self.disk.flush(end_offset) if self.incarnation == life else None
            ),
        )

    return [(Node, "_flush", flush)]


def _if_alive(node: Node, life: int, done: LogFlushed) -> None:
    alive = node.incarnation == life and node.state is not None
    if alive and node.state is not None and done.end_offset <= node.state.log.end_offset:
        node.happen(done)


def _leader_counts_page_cache() -> list[Patch]:
    """The leader counts itself before its own fsync."""
    honest = replication.advance

    def advance(now: Any, moment: Any) -> Any:
        after, effects = honest(replace(now, flushed=now.log.end_offset), moment)
        return replace(after, flushed=now.flushed), effects

    return [(replication, "advance", advance)]


def _commit_old_epochs_by_counting() -> list[Patch]:
    """Raft, figure 8: a record of an earlier epoch on a majority is taken for committed."""
    honest = replication.advance

    def advance(now: Any, moment: Any) -> Any:
        role = now.role
        assert isinstance(role, Leader)
        ends = sorted([now.flushed, *(each.end_offset for each in role.progress)], reverse=True)
        end = ends[now.voters.majority - 1]
        if now.high_watermark < end <= role.epoch_start:
            return replace(now, high_watermark=end), (Commit(end),)
        return honest(now, moment)

    return [(replication, "advance", advance)]


def _append_stale_answers() -> list[Patch]:
    """Any answer of the leader is appended, not only that to the fetch that is out."""
    honest = follow.on_response

    def on_response(now: Any, sender: Any, request: Any, response: Any, moment: Any) -> Any:
        if isinstance(now.role, Follower):
            now = replace(now, role=replace(now.role, fetch=request))
        return honest(now, sender, request, response, moment)

    return [(follow, "on_response", on_response), (follow, "_continues", lambda *_: True)]


def _no_log_matching() -> list[Patch]:
    """The leader looks at a follower's end offset, and not at the epoch there (Raft 5.3)."""
    return [(EpochChain, "agrees_with", lambda self, end: end.offset <= self.end_offset)]


def _reads_unconfirmed() -> list[Patch]:
    """A leader answers reads because it believes that it leads (etcd #20418's kind)."""
    honest = reads.confirm

    def confirm(now: Any) -> Any:
        role = now.role
        if not isinstance(role, Leader):
            return honest(now)
        believed = tuple(replace(each, read_round=role.read_round) for each in role.progress)
        after, effects = honest(replace(now, role=replace(role, progress=believed)))
        return after, effects

    return [(reads, "confirm", confirm)]


def _stale_votes_count() -> list[Patch]:
    """A vote of an earlier epoch is counted in this one."""
    honest = election._count

    def count(now: Any, voter: Any, request: Any, moment: Any, *, granted: bool) -> Any:
        ours = replace(request, epoch=now.epoch)
        return honest(now, voter, ours, moment, granted=granted)

    return [(election, "_count", count)]


def _pre_votes_elect() -> list[Patch]:
    """Who would get the votes takes itself for elected."""
    honest = election._become_candidate

    def become_candidate(now: Any, moment: Any) -> Any:
        candidate, effects = honest(now, moment)
        if isinstance(now.role, state.Prospective) and isinstance(candidate.role, state.Candidate):
            after, more = election.leadership.become_leader(candidate, now.role.granted, moment)
            return after, (*effects[:1], *more)
        return candidate, effects

    return [(election, "_become_candidate", become_candidate)]


def _high_watermark_beyond_the_log() -> list[Patch]:
    """A follower believes the leader's high watermark for records that it has not."""

    def learn(now: Any, said: Any) -> Any:
        if said <= now.high_watermark:
            return now, ()
        return replace(now, high_watermark=said), (Commit(said),)

    return [(follow, "_learn_high_watermark", learn)]


def _restart_forgets_its_vote() -> list[Patch]:
    honest = state.restore

    def restore(config: Any, saved: Any, *rest: Any, **more: Any) -> Any:
        return honest(config, replace(saved, voted_for=None), *rest, **more)

    from tests.sim.quorum import node

    return [(node, "restore", restore)]


def _voters_effective_on_commit() -> list[Patch]:
    """A new set counts only once its record is committed, and not as soon as it is in the log."""

    def voters(self: Any) -> Any:
        known = [each for at, each in self.voter_history if at < self.high_watermark]
        return known[-1] if known else self.voter_history[0][1]

    return [(state.RaftState, "voters", property(voters))]


def _second_change_before_the_first_commits() -> list[Patch]:
    honest = membership._gate

    def gate(now: Any) -> Any:
        end = now.log.end_offset
        return honest(replace(now, high_watermark=end) if isinstance(now.role, Leader) else now)

    return [(membership, "_gate", gate)]


def _truncation_keeps_the_voters() -> list[Patch]:
    """What is cut off the log goes on to vote."""
    return [(follow, "truncate", lambda history, to: history)]


def _removed_leader_counts_itself() -> list[Patch]:
    honest = state.RaftState.is_voter.fget  # type: ignore[attr-defined]

    def is_voter(self: Any) -> bool:
        return isinstance(self.role, Leader) or bool(honest(self))

    return [(state.RaftState, "is_voter", property(is_voter))]


def _change_before_the_epoch_has_committed() -> list[Patch]:
    """Raft's dissertation as it was printed first: no record of its own epoch is waited for."""
    honest_gate, honest_advance = membership._gate, replication.advance

    def gate(now: Any) -> Any:
        role = now.role
        return honest_gate(replace(now, role=replace(role, claimed=True)) if _leads(now) else now)

    def advance(now: Any, moment: Any) -> Any:
        role = now.role
        if not role.claimed and now.log.end_offset > role.first_end:
            now = replace(now, role=replace(role, claimed=True))
        return honest_advance(now, moment)

    return [(membership, "_gate", gate), (replication, "advance", advance)]


def _leads(now: Any) -> bool:
    return isinstance(now.role, Leader)


MUTANTS = (
    Mutant("vote for any log", "no up-to-date check", _vote_for_any_log, "leaders"),
    Mutant("vote twice", "two votes in one epoch", _vote_twice, "votes"),
    Mutant("majority off by one", "half is a majority", _majority_off_by_one, "swarm"),
    Mutant("vote not durable", "answered before it is saved", _vote_not_durable, "votes"),
    Mutant("restart forgets its vote", "amnesia", _restart_forgets_its_vote, "votes"),
    Mutant("ack before fsync", "a follower's", _acknowledge_before_fsync, "disks"),
    Mutant("leader counts page cache", "its own fsync", _leader_counts_page_cache, "disks"),
    Mutant("commit old epochs", "figure 8", _commit_old_epochs_by_counting, "leaders"),
    Mutant("append stale answers", "appended twice", _append_stale_answers, "network"),
    Mutant("no log matching", "the epoch at the end is not compared", _no_log_matching, "leaders"),
    Mutant("reads unconfirmed", "a deposed leader answers", _reads_unconfirmed, "clocks"),
    Mutant("stale votes count", "of an earlier epoch", _stale_votes_count, "late"),
    Mutant("pre-votes elect", "a wish is no vote", _pre_votes_elect, "swarm"),
    Mutant("watermark beyond log", "believed, not had", _high_watermark_beyond_the_log, "swarm"),
    Mutant(
        "voters at commit", "a set holds once committed", _voters_effective_on_commit, "members"
    ),
    Mutant(
        "two changes at once",
        "the second before the first commits",
        _second_change_before_the_first_commits,
        "members",
    ),
    Mutant("voters not cut", "truncation undoes no set", _truncation_keeps_the_voters, "members"),
    Mutant("removed leader counts", "itself", _removed_leader_counts_itself, "members"),
    Mutant(
        "change before claim",
        "nothing committed in the epoch yet (2015)",
        _change_before_the_epoch_has_committed,
        "members",
    ),
    *snapshot_mutants.MUTANTS,
    *transfer_mutants.MUTANTS,
    *subtle_mutants.MUTANTS,
    *decay_mutants.MUTANTS,
)
