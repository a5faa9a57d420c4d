"""The voter's disk: the metadata log, and the vote.

    <metadata.log.dir>/__cluster_metadata-0/
        00000000000000000000.log …      record batches, as klamm/log keeps them
        quorum-state                    see quorum_state.py; replaced whole

Appends write to the page cache on the loop's thread; what waits for a disk (`flush`, `save`) does
so in another.
"""

from dataclasses import dataclass
from pathlib import Path

from aiofiles.os import wrap

from controller.quorum.control import build_control_batch, describe_batches
from controller.quorum.quorum_state import QUORUM_STATE, format_state, parse_state
from controller.raft.effects import AppendControl, AppendRecords, SaveQuorumState
from controller.raft.state import SavedState
from controller.raft.voters import VoterHistory
from klamm.clock import Clock
from klamm.errors import CorruptLogError, StartError, StorageError
from klamm.ids import Offset
from klamm.log.checkpoint import CorruptCheckpointError, read_whole, write_atomically
from klamm.log.epochs import EpochChain
from klamm.log.files import Buffer, Files
from klamm.log.log import Log, LogConfig
from klamm.log.record_batch import build_batch
from klamm.log.records import CorruptBatchError, NewRecord
from klamm.log.recovery import OnCorruption

METADATA_LOG = "__cluster_metadata-0"

_SCAN_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What stood on the disk, and is durable."""

    saved: SavedState
    log: EpochChain
    voters: VoterHistory


class LogStore:
    """Made by `open`. The log's thread is the loop's."""

    def __init__(self, files: Files, directory: Path, log: Log, clock: Clock) -> None:
        self._files = files
        self._directory = directory
        self._log = log
        self._clock = clock
        self._flush = wrap(log.flush)
        self._write = wrap(write_atomically)
        self._tail = (Offset(-1), b"")
        """The last append, and where it begins: what followers fetch next."""

    @classmethod
    def open(
        cls, files: Files, metadata_log_dir: Path, clock: Clock, config: LogConfig | None = None
    ) -> "LogStore":
        """Recover the log.

        Raises:
            StartError: It is damaged, or cannot be read or written.
        """
        directory = metadata_log_dir / METADATA_LOG
        segment_bytes = (config or LogConfig()).segment_bytes
        strict = LogConfig(
            segment_bytes=segment_bytes, on_corruption=OnCorruption.REFUSE, epochs_sealed=True
        )
        try:
            log = Log.open(files, directory, strict)
            # What recovery found may stand in the page cache only.
            log.flush()
        except (CorruptLogError, StorageError) as error:
            raise StartError(f"the metadata log cannot be opened: {error}.") from error
        return cls(files, directory, log, clock)

    @property
    def cuts(self) -> tuple[str, ...]:
        """What recovery took off the log's torn end, in words."""
        return tuple(str(each) for each in self._log.recovery.cuts)

    def load(self) -> Loaded:
        """Vote, epochs and voters.

        Raises:
            StartError: The vote is lost or damaged, or older than the log: this voter might vote
                twice in one epoch.
        """
        path = self._directory / QUORUM_STATE
        chain = self._log.epochs
        try:
            data = read_whole(self._files, path)
            saved = SavedState() if data is None else parse_state(data)
        except (CorruptCheckpointError, ValueError, OSError) as error:
            raise StartError(
                f"{path} cannot be read ({error}): this voter may have forgotten a vote. "
                + _WHAT_TO_DO
            ) from error
        if data is None and chain.end_offset > 0:
            raise StartError(
                f"{path} is not there, and the metadata log beside it is not empty: this voter "
                "may have forgotten a vote. " + _WHAT_TO_DO
            )
        if chain.last_epoch > saved.epoch:
            raise StartError(
                f"{path} is of epoch {saved.epoch}, and the metadata log beside it of epoch "
                f"{chain.last_epoch}: the file is an old copy. " + _WHAT_TO_DO
            )
        return Loaded(saved=saved, log=chain, voters=self._voters())

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
        self._append(effect.base_offset, batch)

    def append_control(self, effect: AppendControl) -> None:
        """Write the batch that begins an epoch."""
        self._append(effect.base_offset, build_control_batch(effect, self._clock.wall_ms()))

    def append_fetched(self, base_offset: Offset, data: Buffer) -> None:
        """Write batches as the leader sent them."""
        self._append(base_offset, data)

    def truncate(self, to: Offset) -> None:
        """Remove what stands at `to` and after it; durable once this returns."""
        end = self._log.truncate_to(to)
        assert end == to, f"asked to cut at {to}, which lies in the batch that begins at {end}"
        self._tail = (Offset(-1), b"")

    def read(self, start: Offset, max_bytes: int, up_to: Offset) -> bytes:
        """Whole batches from `start` on, all below `up_to`; one at the least, if there is one."""
        base_offset, tail = self._tail
        if start == base_offset and up_to == self._log.end_offset:
            return tail
        return self._log.read(start, max_bytes, up_to)

    async def flush(self) -> Offset:
        """Make durable what was appended before the call; its end offset."""
        end: Offset = await self._flush()
        return end

    async def save(self, effect: SaveQuorumState) -> None:
        """Replace quorum-state; durable once this returns.

        Raises:
            StorageError: The disk failed; which of the two it holds is not known.
        """
        try:
            await self._write(self._files, self._directory / QUORUM_STATE, format_state(effect))
        except OSError as error:
            raise StorageError(f"cannot write {self._directory / QUORUM_STATE}: {error}") from error

    def close(self) -> None:
        """Flush and close."""
        self._log.close()

    def _append(self, base_offset: Offset, batches: Buffer) -> None:
        self._log.append(batches)
        self._tail = (base_offset, bytes(batches))

    def _voters(self) -> VoterHistory:
        """All Voters records of the log. Reads the whole of it."""
        found: VoterHistory = ()
        at, end = self._log.log_start_offset, self._log.end_offset
        try:
            while at < end:
                for batch in describe_batches(self._log.read(at, _SCAN_BYTES)):
                    found += batch.voters
                    at = Offset(batch.base_offset + batch.count)
        except (CorruptBatchError, ValueError, StorageError) as error:
            raise StartError(f"the metadata log cannot be read at {at}: {error}.") from error
        return found


_WHAT_TO_DO = (
    "Restore the file, or empty the directory, so that the node fetches everything anew and "
    "stays without a vote until it is admitted again."
)
