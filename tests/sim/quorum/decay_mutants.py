"""Planted bugs of what a disk has lost: found too late, forgotten, or forgiven too early.

The start is the simulator's own (tests/sim/quorum/decay), as the shell's would be: it says what a
shell must not do, and the shell's own simulator plants the same there.
"""

from dataclasses import replace
from typing import Any

from controller.raft import step, trust, vote
from controller.raft.state import RaftConfig, RaftState, SavedState
from klamm.ids import Epoch, Offset
from tests.sim.planting import Mutant, Patch
from tests.sim.quorum import decay, node
from tests.sim.quorum.disk import Disk, Snapshot
from tests.sim.quorum.node import Node
from tests.sim.quorum.world import World

UNSEEN: list[Patch] = [(World, "look_at_trust", False)]
"""Who votes without being whole would be seen at once; what comes of it is to be seen."""


def _distrust_unheard() -> list[Patch]:
    honest = node.restore

    def restore(*rest: Any, **more: Any) -> Any:
        return honest(*rest, **{**more, "distrust": None})

    return [(node, "restore", restore), *UNSEEN]


def _whole_at_the_first_answer() -> list[Patch]:
    honest = trust.heard

    def heard(now: Any, response: Any) -> Any:
        after = honest(now, response)
        if after.recovering is None or after.recovering.epoch != after.epoch:
            return after
        return replace(after, recovering=replace(after.recovering, target=Offset(0)))

    return [(trust, "heard", heard), *UNSEEN]


def _whole_in_the_page_cache() -> list[Patch]:
    honest = trust.settle

    def settle(now: Any) -> Any:
        after = honest(replace(now, flushed=now.log.end_offset))
        return replace(after, flushed=now.flushed)

    return [(trust, "settle", settle), *UNSEEN]


def _votes_while_recovering() -> list[Patch]:
    honest_may, honest_would = vote._may_grant, vote._would_grant

    def may_grant(now: Any, *rest: Any) -> bool:
        return honest_may(replace(now, recovering=None), *rest)

    def would_grant(now: Any, *rest: Any) -> bool:
        return honest_would(replace(now, recovering=None), *rest)

    return [(vote, "_may_grant", may_grant), (vote, "_would_grant", would_grant), *UNSEEN]


def _stands_while_recovering() -> list[Patch]:
    honest = RaftState.may_stand.fget  # type: ignore[attr-defined]

    def may_stand(self: Any) -> bool:
        return bool(honest(replace(self, recovering=None)))

    return [(RaftState, "may_stand", property(may_stand)), (step, "_check", _unchecked), *UNSEEN]


def _unchecked(*_: object) -> None:
    """The core's own assertions would see it first."""


def _a_crash_ends_distrust() -> list[Patch]:
    """It is not written down."""
    honest = decay.open_disk

    def open_disk(disk: Disk, config: RaftConfig) -> SavedState:
        disk.decay.bounds = replace(disk.decay.bounds, distrust="")
        return honest(disk, config)

    return [(decay, "open_disk", open_disk), *UNSEEN]


def _no_second_witness() -> list[Patch]:
    """A log ends where it ends."""
    return [(decay, "find_what_is_missing", lambda _: ""), *UNSEEN]


def _damage_is_a_torn_end() -> list[Patch]:
    honest = decay.cut_damage

    def cut_damage(disk: Disk) -> str:
        if honest(disk):
            disk.decay.lower(disk.end_offset)
        return ""

    return [(decay, "cut_damage", cut_damage), *UNSEEN]


def _half_a_batch_is_one() -> list[Patch]:
    def cut_torn_end(disk: Disk) -> None:
        torn, disk.decay.torn = disk.decay.torn, None
        if torn is not None and torn.base_offset == disk.end_offset:
            disk.append(torn)

    return [(decay, "cut_torn_end", cut_torn_end)]


def _damage_goes_out() -> list[Patch]:
    """Checksums are for the start."""
    return [(Node, "_is_sound", lambda *_: True)]


def _a_snapshot_has_its_name() -> list[Patch]:
    """What has the name of one is one."""

    def set_snapshots_aside(disk: Disk) -> None:
        for each in disk.decay.flipped_snapshots & disk.snapshots.keys():
            honest = disk.snapshots[each]
            tokens = tuple((at, (epoch, "flipped")) for at, (epoch, _) in honest.tokens)
            disk.snapshots[each] = flipped = Snapshot(tokens=tokens, voters=honest.voters)
            disk.entries[: each.offset] = flipped.entries()
        disk.decay.flipped_snapshots.clear()

    return [(decay, "set_snapshots_aside", set_snapshots_aside)]


def _a_lost_vote_was_none() -> list[Patch]:
    """The log knows the epoch."""

    def replace_vote(disk: Disk, last_epoch: int) -> SavedState:
        return SavedState(epoch=Epoch(last_epoch))

    return [(decay, "replace_vote", replace_vote)]


def _an_old_vote_is_one() -> list[Patch]:
    """Its checksum is right."""

    def read_vote(disk: Disk, config: RaftConfig) -> SavedState:
        disk.decay.vote_is_lost = False
        return disk.saved or SavedState()

    return [(decay, "read_vote", read_vote)]


def _a_new_disk_votes_at_once() -> list[Patch]:
    """An empty disk is the first of its node."""
    return [(decay, "doubt_new_disk", lambda disk: None)]


def _waits_in_its_own_epoch() -> list[Patch]:
    """Whoever has lost its vote goes on where it has never voted; who is no voter waits there."""
    return [(decay, "is_a_voters", lambda *_: True)]


def _whoever_forgot_is_another() -> list[Patch]:
    """Voter or not; the log names the disk that was there before."""
    return [(decay, "is_a_voters", lambda *_: False)]


MUTANTS = (
    Mutant("distrust unheard", "the core starts as after any crash", _distrust_unheard, "rot"),
    Mutant("whole at once", "with the first answer of a leader", _whole_at_the_first_answer, "rot"),
    Mutant("whole before fsync", "what is fetched is had", _whole_in_the_page_cache, "rot"),
    Mutant("votes in distrust", "a vote is not a log", _votes_while_recovering, "rot"),
    Mutant("stands in distrust", "others will not elect it", _stands_while_recovering, "rot"),
    Mutant("a crash ends distrust", "it need not be written down", _a_crash_ends_distrust, "rot"),
    Mutant("the disk does not lie", "a log ends where it ends", _no_second_witness, "rot"),
    Mutant("damage cut as torn", "whatever stands behind it", _damage_is_a_torn_end, "rot"),
    Mutant("half a batch is one", "lengths are enough", _half_a_batch_is_one, "rot"),
    Mutant("damage goes out", "checksums are for the start (core)", _damage_goes_out, "rot"),
    Mutant(
        "a snapshot by name", "what was verified once is sound", _a_snapshot_has_its_name, "rot"
    ),
    Mutant("a lost vote was none", "the log knows the epoch", _a_lost_vote_was_none, "forgets"),
    Mutant("an observer waits alone", "the quorum will come", _waits_in_its_own_epoch, "forgets"),
    Mutant("whoever forgot is another", "a new id is free", _whoever_forgot_is_another, "forgets"),
    Mutant("an old vote is one", "its checksum is right", _an_old_vote_is_one, "rot"),
    Mutant("a new disk votes at once", "empty is empty", _a_new_disk_votes_at_once, "wiped"),
)
