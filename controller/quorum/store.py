"""The voter's disk: the metadata log, and the vote.

    <metadata.log.dir>/
        quorum-bounds                       see bounds.py
        __cluster_metadata-0/
            00000000000000000000.log …      record batches, as klamm/log keeps them
            …-….checkpoint                  snapshots, see installs.py
            quorum-state                    see quorum_state.py; replaced whole

Appends write to the page cache on the loop's thread; what waits for a disk (`flush`, `save`) does
so in the kernel, or in another thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from aiofiles.os import wrap

from controller.quorum.control import build_control_batch, describe_batches
from controller.quorum.identity import Renew, never
from controller.quorum.installs import Installs, voter_entry, voters_of
from controller.quorum.kernel_sync import KernelSync, open_kernel_sync
from controller.quorum.known_voters import HasPeers
from controller.quorum.opening import Opened, open_disk, refuse_half_restored
from controller.quorum.outside import Flushed
from controller.quorum.quorum_state import QUORUM_STATE, format_state
from controller.quorum.room import Room
from controller.quorum.scrub import SCRUB_BYTES, SCRUB_EVERY_MS, SnapshotScrub
from controller.raft.effects import (
    AppendChunk,
    AppendControl,
    AppendRecords,
    AppendVoters,
    SaveQuorumState,
)
from controller.raft.state import HeldSnapshot, SavedState
from controller.raft.voters import VoterHistory, VoterSet
from klamm.clock import Clock
from klamm.errors import NoSpaceError, StartError, StorageError
from klamm.ids import LOG_START, Offset, OffsetAndEpoch
from klamm.log.checkpoint import put_in_place, write_beside
from klamm.log.epochs import EpochChain
from klamm.log.files import NO_ROOM, Buffer, Files, SystemFile
from klamm.log.log import LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import CorruptBatchError, NewRecord
from klamm.log.snapshot import CorruptSnapshotError, format_name
from klamm.log.tail import Tail

_SCAN_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What stood on the disk, and is durable."""

    saved: SavedState
    log: EpochChain
    voters: VoterHistory
    snapshots: tuple[HeldSnapshot, ...]
    distrust: str | None
    """Why this voter has no say until its log is whole again; None if it has."""


class LogStore:
    """Made by `open`. The log's thread is the loop's."""

    def __init__(self, files: Files, opened: Opened, clock: Clock) -> None:
        self._files = files
        self._opened = opened
        self._log = opened.log
        self.snapshots = opened.snapshots
        self._installs = Installs(opened.snapshots)
        self.snapshot_scrub = SnapshotScrub(opened.snapshots)
        self._room = Room(files, opened.log.directory, opened.snapshots)
        self._bounds = opened.bounds
        self._epoch = opened.saved.epoch
        self._path = opened.log.directory / QUORUM_STATE
        self._clock = clock
        self._replace = wrap(_replace)
        self._tail = Tail()
        self._kernel: KernelSync | None = None

    @classmethod
    def open(
        cls,
        files: Files,
        metadata_log_dir: Path,
        clock: Clock,
        config: LogConfig,
        *,
        has_peers: HasPeers,
        renew: Renew = never,
    ) -> "LogStore":
        """Recover log and vote; see `open_disk`."""
        refuse_half_restored(files, metadata_log_dir)
        opened = open_disk(files, metadata_log_dir, config, has_peers=has_peers, renew=renew)
        return cls(files, opened, clock)

    @property
    def notices(self) -> tuple[str, ...]:
        """What was lost, cut or replaced on this disk, in words."""
        return self._opened.notices

    @property
    def damaged(self) -> bool:
        """The log had to be cut where it was sound once."""
        return self._opened.damaged

    def load(self) -> Loaded:
        """Vote, epochs and voters.

        Raises:
            StartError: A Voters record makes no sense.
        """
        return Loaded(
            saved=self._opened.saved,
            log=self._opened.found.log,
            voters=self._voters(),
            snapshots=self._opened.found.held,
            distrust=self._opened.distrust,
        )

    def append_records(self, effect: AppendRecords) -> None:
        """Write a proposal as one batch. Durable after the next `flush`."""
        records = effect.records
        assert isinstance(records, tuple)
        proposal: tuple[NewRecord, ...] = records
        batch = build_batch(
            proposal,
            base_offset=effect.base_offset,
            leader_epoch=effect.epoch,
            timestamp_ms=self._clock.wall_ms(),
            base_sequence=effect.epoch,
        )
        self._append(batch)

    def append_control(self, effect: AppendControl | AppendVoters) -> None:
        """Write the batch that begins an epoch, or that changes the voters."""
        self._append(build_control_batch(effect, self._clock.wall_ms()))

    def append_fetched(self, base_offset: Offset, data: Buffer) -> None:
        """Write batches as the leader sent them."""
        self._append(data)

    async def truncate(self, to: Offset) -> None:
        """Remove what stands at `to` and after it; durable once this returns."""
        await self._writing(self._bounds.lower(to), needed_bytes=1)
        end = self._log.truncate_to(to)
        assert end == to, f"asked to cut at {to}, which lies in the batch that begins at {end}"
        self._tail.clear()

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        """Whole batches from `start` on, all below `up_to`; one at the least, if there is one."""
        kept = self._tail.read(start, max_bytes, up_to)
        return kept or self._log.read_verified(start, max_bytes, up_to)

    async def scrub(self) -> None:
        """Read all that is there again, slowly and for ever, until cancelled.

        Damage is found while the others can still give back what is lost.

        Raises:
            CorruptLogError: The log is not what was written.
            StorageError: It cannot be read.
        """
        at = self._log.log_start_offset
        while True:
            await asyncio.sleep(SCRUB_EVERY_MS / 1_000)
            end = self._log.end_offset
            at = max(at, self._log.log_start_offset)
            if at >= end:
                at = self._log.log_start_offset
            for header, _ in iter_batches(self._log.read_verified(at, SCRUB_BYTES, end)):
                at = header.next_offset

    async def scrub_snapshots(self, found: Callable[[CorruptSnapshotError], None]) -> None:
        """As `scrub`, of the snapshots; `found` is told of each damaged one.

        Raises:
            StorageError: One cannot be read.
        """
        try:
            await self.snapshot_scrub.run(found)
        except OSError as error:
            raise StorageError(f"cannot read {self._log.directory}: {error}") from error

    @property
    def size_bytes(self) -> int:
        """Of the log's segments."""
        return self._log.size_bytes

    def is_full(self) -> bool:
        """The disk has no room for more of the log. Raises: StorageError."""
        with _disk("look at", "the room that is left"):
            full = self._room.is_full()
            return full and (not self._log.give_back() or self._room.is_full())

    def ends_batch(self, offset: Offset) -> bool:
        """Does a batch of the log end just before `offset`?"""
        data = self._log.read_verified(Offset(offset - 1), 1)
        return any(header.next_offset == offset for header, _ in iter_batches(data))

    # Snapshots.

    def append_chunk(self, effect: AppendChunk) -> bool:
        """Of a download; written to the page cache. False: there is no room for it."""
        assert isinstance(effect.data, bytes)
        with _disk("write", effect.snapshot_id):
            return self._installs.append(effect.snapshot_id, effect.position, effect.data)

    def abandon(self, snapshot_id: OffsetAndEpoch) -> None:
        """Forget a download."""
        with _disk("remove", snapshot_id):
            self._installs.abandon(snapshot_id)

    async def verify(self, snapshot_id: OffsetAndEpoch) -> VoterSet | None:
        """Make a download durable; the voters in its header, or None if it is damaged."""
        return await self._installs.verify(snapshot_id)

    async def install(self, snapshot_id: OffsetAndEpoch) -> None:
        """Put a download in the place of the log. Durable once this returns.

        With its name it counts: a crash from there on ends, at the next start, as if this had.
        """
        await self._writing(self._bounds.lower(snapshot_id.offset))
        with _disk("install", snapshot_id):
            self._installs.finish(snapshot_id)
            self._log.truncate_fully_and_start_at(snapshot_id.offset, snapshot_id.epoch)
            self._delete_before(snapshot_id)
        self._bounds.reached(snapshot_id.offset, self._epoch)
        self._tail.clear()

    def trim(self, to: OffsetAndEpoch) -> None:
        """Begin the log at a snapshot: older ones, and whole segments below it, go."""
        with _disk("trim to", to):
            self._delete_before(to)
            self._log.delete_before(to.offset)

    def delete(self, snapshot_id: OffsetAndEpoch) -> None:
        with _disk("remove", snapshot_id):
            self.snapshots.delete(snapshot_id)

    def read_chunk(self, snapshot_id: OffsetAndEpoch, position: int, max_bytes: int) -> bytes:
        """Empty if there is no such snapshot, or it ends there."""
        with _disk("read", snapshot_id):
            return self.snapshots.read(snapshot_id, position, max_bytes)

    def _delete_before(self, snapshot_id: OffsetAndEpoch) -> None:
        for each in self.snapshots.list():
            if each.offset < snapshot_id.offset:
                self.snapshots.delete(each)

    def flush(self, done: Flushed) -> None:
        """Make durable what was appended before the call. Begins at once."""
        if not self._begin_sync(done):
            flush = asyncio.get_running_loop().run_in_executor(None, self._log.flush)
            flush.add_done_callback(partial(self._flushed, done))

    def _begin_sync(self, told: Flushed) -> bool:
        """Have the kernel do it, if it is one file's sync and no more."""
        begun = self._log.begin_flush()
        file, end = begun or (None, LOG_START)
        if not isinstance(file, SystemFile):
            return False
        if self._kernel is None:
            self._kernel = open_kernel_sync()

        begun_here = True

        def done(error: OSError | None) -> None:
            try:
                self._log.end_flush(end, error)
            except StorageError as failed:
                outcome: Offset | StorageError = failed
            else:
                outcome = end
                self._bounds.reached(end, self._epoch)
            if begun_here:
                told(outcome)

        begun_here = self._kernel.sync(file.fileno(), done)
        return begun_here

    def _flushed(self, done: Flushed, flush: asyncio.Future[Offset]) -> None:
        """A thread has done it."""
        if flush.cancelled():
            return
        error = flush.exception()
        if error is None:
            self._bounds.reached(flush.result(), self._epoch)
        done(flush.result() if error is None else error)

    async def keep_bounds(self) -> None:
        """Write down now and then how far the log is durable, until cancelled."""
        await self._bounds.keep()

    async def trust(self) -> None:
        """The log is whole again: write it down."""
        await self._writing(self._bounds.trust())

    async def save(self, effect: SaveQuorumState) -> None:
        """Replace quorum-state; durable once this returns.

        Raises:
            NoSpaceError: The disk is full, or no open file is left; nothing has changed.
            StorageError: The disk failed; which of the two it holds is not known.
        """
        data = format_state(effect)
        await self._writing(self._bounds.promise(effect.epoch), len(data))
        await self._writing(self._replace(self._files, self._path, data), len(data))
        self._epoch = effect.epoch

    def close(self) -> None:
        """Flush and close.

        Raises:
            StorageError: The disk failed; this was no clean close.
        """
        if self._kernel is not None:
            self._kernel.close()
        with _disk("remove", "downloads"):
            self._installs.close()
        self._log.close()
        if self._log.has_failed:
            return
        bounds = self._bounds.bounds
        try:
            self._bounds.write_now(
                replace(bounds, end_offset=self._log.end_offset, epoch=self._epoch)
            )
        except OSError as error:
            raise StorageError(f"cannot write beside {self._log.directory}: {error}") from error

    async def _writing(self, what: Awaitable[None], needed_bytes: int = 0) -> None:
        """Args: `needed_bytes` if a full disk leaves everything as it was."""
        try:
            await what
        except OSError as error:
            if needed_bytes and error.errno in NO_ROOM:
                raise NoSpaceError(str(self._log.directory), needed_bytes, error) from error
            raise StorageError(f"cannot write in {self._log.directory}: {error}") from error

    def _append(self, batches: Buffer) -> None:
        with _disk("look at", "the room that is left"):
            try:
                self._room.take(len(batches))
            except NoSpaceError:
                if not self._log.give_back():
                    raise
                self._room.take(len(batches))
        self._log.append(batches)
        self._tail.append(batches)

    def _voters(self) -> VoterHistory:
        """Of the latest snapshot, and of the log behind it."""
        found: VoterHistory = ()
        at, end = self._log.log_start_offset, self._log.end_offset
        try:
            for latest in self._opened.found.held[-1:]:
                voters = voters_of(partial(self.read_chunk, latest.snapshot_id))
                found = (voter_entry(latest.snapshot_id, voters),)
                at = latest.snapshot_id.offset
            while at < end:
                for batch in describe_batches(self._log.read_verified(at, _SCAN_BYTES)):
                    found += batch.voters
                    at = Offset(batch.base_offset + batch.count)
        except (CorruptBatchError, ValueError, StorageError) as error:
            raise StartError(f"the metadata log cannot be read at {at}: {error}.") from error
        return found


def _replace(files: Files, path: Path, data: bytes) -> None:
    """One turn of a thread for it all: each costs an election as much as a fast disk.

    Raises:
        OSError: Before the new file took the old one's place: nothing has changed.
        StorageError: Which of the two stands there is not known.
    """
    write_beside(files, path, data)
    with _disk("replace", path.name):
        put_in_place(files, path)


@contextmanager
def _disk(verb: str, what: OffsetAndEpoch | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = what if isinstance(what, str) else format_name(what)
        raise StorageError(f"cannot {verb} {name}: {error}") from error
