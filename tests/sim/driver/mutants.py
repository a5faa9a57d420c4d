"""Planted bugs of the shell: each is one that somebody has made, and each must be caught.

The core below has its own (tests/sim/quorum/mutants); these are in what carries out its effects.
"""

import asyncio
from typing import Any

from controller.quorum import proposals, store
from controller.quorum.applier import Applier
from controller.quorum.driver import QuorumDriver
from controller.quorum.node import QuorumNode
from controller.quorum.opening import Opened, _Opening
from controller.quorum.peers import _FetchStream
from controller.quorum.proposals import Proposals
from controller.quorum.refused import resolve
from controller.quorum.store import LogStore
from controller.raft.effects import Renounce, SaveQuorumState
from controller.raft.state import SavedState
from klamm.errors import StorageError
from klamm.log.log import Log
from klamm.log.record_batch import iter_batches
from tests.sim.driver import (
    identity_mutants,
    reserve_mutants,
    snapshot_mutants,
    state_mutants,
)
from tests.sim.planting import Mutant, Patch


def _flush_nothing() -> list[Patch]:
    def flush(self: Any, done: Any) -> None:
        asyncio.get_running_loop().call_soon(done, self._log.end_offset)

    return [(LogStore, "flush", flush)]


def _flush_names_the_end_of_now() -> list[Patch]:
    real = LogStore.flush

    def flush(self: Any, done: Any) -> None:
        def named(end: Any) -> None:
            done(end if isinstance(end, BaseException) else self._log.end_offset)

        real(self, named)

    return [(LogStore, "flush", flush)]


def _save_nothing() -> list[Patch]:
    async def save(self: Any, effect: Any) -> None:
        pass

    return [(LogStore, "save", save)]


def _save_without_fsync() -> list[Patch]:
    """Written and renamed, never synced."""

    async def save(self: Any, effect: Any) -> None:
        beside = self._path.with_name("quorum-state.tmp")
        file = self._files.open(beside)
        file.truncate(0)
        file.append(store.format_state(effect))
        self._files.rename(beside, self._path)

    return [(LogStore, "save", save)]


def _save_beside() -> list[Patch]:
    """As the fsync of the log: the answer does not wait for it."""
    real = QuorumDriver._carry_out_slowly

    async def save(store: Any, effect: Any) -> None:
        await asyncio.sleep(0.1)
        await store.save(effect)

    async def carry_out(self: Any, effect: Any) -> None:
        if isinstance(effect, SaveQuorumState):
            task = asyncio.get_running_loop().create_task(save(self._store, effect))
            self.__dict__.setdefault("_saves", []).append(task)
        else:
            await real(self, effect)

    return [(QuorumDriver, "_carry_out_slowly", carry_out)]


def _committed_when_appended() -> list[Patch]:
    def wait_in(self: Any, epoch: Any, end_offset: Any, future: Any, timeout_ms: Any) -> None:
        if self._reign != epoch:
            real(self, epoch, end_offset, future, timeout_ms)
        elif not future.done():
            future.set_result(end_offset)

    real = Applier.wait_in
    return [(Applier, "wait_in", wait_in)]


def _waits_outlive_their_epoch() -> list[Patch]:
    """The offset is reached, by what another leader wrote there."""
    real = Applier._deliver

    def deliver(self: Any, what: Any) -> Any:
        if isinstance(what, Renounce) and self._reign == what.epoch:
            self._reign = None
            self._machine.on_renounce(what.epoch)
            return True
        return real(self, what)

    return [(Applier, "_deliver", deliver)]


def _delivers_to_the_end_of_the_log() -> list[Patch]:
    """And not of what is committed."""

    def apply(self: Any, machine: Any, high_watermark: Any) -> bool:
        far = 1 << 62
        while data := self._read(self.applied, 128 * 1024, far):
            batches = tuple(iter_batches(data))
            machine.on_commit(tuple(view for _, view in batches))
            self.applied = batches[-1][0].next_offset
            self._wake_waits()
        return True

    return [(Applier, "_apply", apply)]


def _delivers_each_turn_from_where_the_last_began() -> list[Patch]:
    """The last batch again, after each commit."""
    real = Applier._apply

    def apply(self: Any, machine: Any, high_watermark: Any) -> Any:
        self.applied = max(0, self.applied - 1)
        return real(self, machine, high_watermark)

    return [(Applier, "_apply", apply)]


def _claims_ahead_of_the_commits() -> list[Patch]:
    def tell(self: Any, what: Any) -> None:
        self._todo.appendleft(what)

    return [(Applier, "tell", tell)]


def _breaks_are_not_told() -> list[Patch]:
    def end(self: Any) -> None:
        self.over = True
        self._call.cancel()

    return [(_FetchStream, "_end", end)]


def _standbys_read_their_own() -> list[Patch]:
    async def try_read_index(self: Any, timeout_ms: int) -> Any:
        return self.high_watermark

    return [(QuorumNode, "_try_read_index", try_read_index)]


def _failed_fsyncs_are_tried_again() -> list[Patch]:
    """Fsyncgate: the second one succeeds, and the pages are gone."""

    def flush(self: Any, done: Any) -> None:
        end = self._log.end_offset

        def forgiven(outcome: Any) -> None:
            if isinstance(outcome, StorageError):
                self._log._failure.reason = None
            done(end)

        real(self, forgiven)

    real = LogStore.flush
    return [(LogStore, "flush", flush)]


def _the_end_is_not_written_again() -> list[Patch]:
    def rewrite_end(self: Any, durable_end: Any) -> None:
        pass

    return [(Log, "rewrite_end", rewrite_end)]


def _damage_is_cut_and_forgotten() -> list[Patch]:
    return [(Opened, "distrust", None)]


def _a_lost_vote_is_a_new_one() -> list[Patch]:
    def replace_vote(self: Any, what: str, chain: Any) -> SavedState:
        return SavedState(epoch=max(chain.last_epoch, 0))

    return [(_Opening, "_replace_vote", replace_vote)]


def _nothing_is_verified() -> list[Patch]:
    def read_verified(self: Any, start: Any, max_bytes: Any, up_to: Any = None) -> bytes:
        data: bytes = self.read(start, max_bytes, up_to)
        return data

    return [(Log, "read_verified", read_verified)]


def _a_group_has_one_end() -> list[Patch]:
    def accept(self: Any, call: int) -> None:
        group = self._end(call)
        for _, future, commit_ms in group.waiting:
            if commit_ms is None:
                resolve(future, group.end_offset)
            else:
                self._appended(group.epoch, group.end_offset, future, commit_ms)

    return [(Proposals, "accept", accept)]


def _anybody_joins_a_group() -> list[Patch]:
    """Also who was made for another place in the log."""

    def goes_on(group: Any, epoch: Any, *_: Any) -> bool:
        return bool(epoch == group.epoch)

    return [(proposals, "_goes_on", goes_on)]


MUTANTS = (
    Mutant("no fsync", "an append counts before it is durable", _flush_nothing),
    Mutant(
        "fsync of too much",
        "what was appended while the fsync was out counts as durable",
        _flush_names_the_end_of_now,
    ),
    Mutant("no save", "quorum-state is never written", _save_nothing),
    Mutant("save without fsync", "quorum-state is renamed, not synced", _save_without_fsync),
    Mutant("save beside", "a vote is given while it is being saved", _save_beside),
    Mutant("committed at append", "wait_committed returns at once", _committed_when_appended),
    Mutant(
        "waits outlive their epoch",
        "a proposal is acknowledged when another leader's records reach its offset",
        _waits_outlive_their_epoch,
    ),
    Mutant("delivers too much", "on_commit up to the log's end", _delivers_to_the_end_of_the_log),
    Mutant(
        "delivers twice",
        "the last batch again with each commit",
        _delivers_each_turn_from_where_the_last_began,
    ),
    Mutant("claims too early", "the newest is told first", _claims_ahead_of_the_commits),
    Mutant("own read index", "a read is answered without asking", _standbys_read_their_own),
    Mutant("fsync again", "a failed fsync is taken for done", _failed_fsyncs_are_tried_again),
    Mutant(
        "page cache believed",
        "what the process before wrote is durable once it is synced",
        _the_end_is_not_written_again,
        "pages",
    ),
    Mutant(
        "damage is a torn tail",
        "what was cut off is not missed",
        _damage_is_cut_and_forgotten,
        "rot",
    ),
    Mutant(
        "a lost vote is a new one",
        "without a vote file the log says which epoch it is (Kafka)",
        _a_lost_vote_is_a_new_one,
        "votes",
    ),
    Mutant("damage is read", "checksums are for the start", _nothing_is_verified, "rot"),
    Mutant(
        "a group has one end",
        "what was appended together ends at one offset",
        _a_group_has_one_end,
    ),
    Mutant(
        "anybody joins a group",
        "a proposal fits behind whatever waits",
        _anybody_joins_a_group,
    ),
    *identity_mutants.MUTANTS,
    *reserve_mutants.MUTANTS,
    *snapshot_mutants.MUTANTS,
    *state_mutants.MUTANTS,
)

SLOW = Mutant("breaks are not told", "a dead leader is found by timeouts", _breaks_are_not_told)
"""Nothing is lost by it but time."""
