"""Which of the surviving logs is the best, where the others part from it, what may be lost. Pure.

A log is better with a later last epoch, then with a later end: as for votes (Raft, 5.4.1). What is
committed is on a majority of the voters. Survivors are a minority, so what only lost voters had
may have been committed, and nobody can say: unknown from the best survivor's end on. A log that is
damaged before its end is not chosen while there is a whole one: no node could start on it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from controller.raft.voters import REMOVED_MAX, ReplicaKey, Voter, VoterSet
from controller.recovery.survey import Survivor
from klamm.errors import StartError
from klamm.ids import EPOCH_MAX, Epoch, NodeId, Offset

EPOCH_JUMP = 1_000_000
"""The new epoch is so far above the latest that any survivor knows: an old voter that is lost may
know of later ones, and would have to have held that many elections alone to reach it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is known before anything is changed."""

    survivors: tuple[Survivor, ...]
    chosen: Survivor
    voters: VoterSet | None
    """As the chosen log names them."""
    common_ends: dict[NodeId, Offset | None]
    """Of each other survivor: up to where its log is the chosen one's. None: not to be told."""

    @property
    def has_majority(self) -> bool:
        """The survivors need no recovery: they can elect a leader."""
        if self.voters is None:
            return False
        keys = {_key(each) for each in self.survivors if each.trusted}
        present = sum(
            any(_admits(self.voters, key, id_) for key in keys) for id_ in self.voters.ids
        )
        return present >= self.voters.majority

    @property
    def chosen_votes(self) -> bool:
        """By its own log. If not it was removed, or never voted, and others may be well."""
        key = _key(self.chosen)
        return self.voters is None or any(_admits(self.voters, key, id_) for id_ in self.voters.ids)

    @property
    def new_epoch(self) -> Epoch:
        return Epoch(max(each.epoch for each in self.survivors) + EPOCH_JUMP)

    @property
    def new_voters(self) -> VoterSet:
        """The chosen one alone. All other disks that are known are remembered as removed."""
        key = _key(self.chosen)
        known = self.voters.find(key.node_id) if self.voters is not None else None
        gone = list(self.voters.removed) if self.voters is not None else []
        others = [_key(each) for each in self.survivors]
        if self.voters is not None:
            others += [
                ReplicaKey(node_id=each.node_id, directory_id=each.directory_id)
                for each in self.voters.voters
                if each.directory_id is not None
            ]
        gone += [each for each in dict.fromkeys(others) if each != key and each not in gone]
        endpoint = None if known is None else known.endpoint
        voter = Voter(node_id=key.node_id, directory_id=key.directory_id, endpoint=endpoint)
        removed = tuple(each for each in gone if each != key)[-REMOVED_MAX:]
        return VoterSet((voter,), removed)


def compare(survivors: Sequence[Survivor], voter: int | None) -> Comparison:
    """Look at them side by side.

    Args:
        survivors: At least one.
        voter: The node that is to go on; None: the one with the best log.

    Raises:
        StartError: They do not belong together, or `voter` is not the best of them.
    """
    clusters = sorted({each.meta.cluster_id for each in survivors})
    if len(clusters) > 1:
        raise StartError(f"The directories are of different clusters: {', '.join(clusters)}.")
    ids = [each.meta.node_id for each in survivors]
    if len(set(ids)) < len(ids):
        raise StartError(f"Two directories are of one node: {', '.join(map(str, sorted(ids)))}.")
    best = max([each for each in survivors if each.whole] or survivors, key=_rank)
    chosen = best
    if voter is not None:
        if voter not in ids:
            raise StartError(f"None of the directories is of node {voter}.")
        chosen = next(each for each in survivors if each.meta.node_id == voter)
        if best.whole and not chosen.whole:
            raise StartError(
                f"The log of node {voter} is damaged; node {best.meta.node_id}'s is whole."
            )
        if _rank(chosen)[:2] < _rank(best)[:2]:
            raise StartError(
                f"Node {voter} ends at offset {chosen.end_offset} of epoch {chosen.last_epoch}; "
                f"node {best.meta.node_id} at {best.end_offset} of epoch {best.last_epoch}. "
                "Records that were committed may be there alone: choose that one."
            )
    if max(each.epoch for each in survivors) > EPOCH_MAX - EPOCH_JUMP:
        raise StartError("There is no epoch left above those of the survivors.")
    return Comparison(
        survivors=tuple(survivors),
        chosen=chosen,
        voters=chosen.voters,
        common_ends={
            each.meta.node_id: common_end(chosen, each) for each in survivors if each is not chosen
        },
    )


def common_end(one: Survivor, other: Survivor) -> Offset | None:
    """Up to where two logs are the same: the same epoch at an offset is the same record."""
    ours, theirs = _epoch_ends(one), _epoch_ends(other)
    shared = [epoch for epoch in ours if epoch in theirs]
    if not shared:
        return None
    latest = max(shared)
    return min(ours[latest], theirs[latest])


def _epoch_ends(survivor: Survivor) -> dict[Epoch, Offset]:
    ends = {survivor.start_epoch: survivor.start} if survivor.start_epoch >= 0 else {}
    ends.update({each.epoch: each.next_offset for each in survivor.batches})
    return ends


def _rank(survivor: Survivor) -> tuple[int, int, bool, int]:
    end = survivor.last_epoch, survivor.end_offset
    return *end, survivor.trusted, -survivor.meta.node_id


def _key(survivor: Survivor) -> ReplicaKey:
    meta = survivor.meta
    return ReplicaKey(node_id=meta.node_id, directory_id=meta.directory_id)


def _admits(voters: VoterSet, key: ReplicaKey, id_: NodeId) -> bool:
    return key.node_id == id_ and voters.admits(key)
