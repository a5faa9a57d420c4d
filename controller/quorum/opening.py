"""What a voter finds on its disk, and what of it can be believed.

    quorum-bounds ─▶ log, snapshots ─▶ vote ─▶ what is believed is made durable again ─▶ Opened

A torn end is cut, and said. Unsynced pages are written in any order, so it may have whole batches
behind it: above the bounds, zeros in place of whole sectors are a torn end too, and cost no vote,
or a power cut of all voters at once could leave none with a say. Other damage with whole batches
behind it, or a log that ends before it was known to be durable, has lost what this voter
acknowledged: it is cut off after that was written down, and everything from there on is fetched
anew by a voter that has no say until it is whole (controller/raft/trust.py). A vote that is lost,
damaged or an old copy is replaced by the first epoch that this voter has certainly never voted in;
who is no voter becomes another replica instead (controller/quorum/identity.py). Where neither can
be known, or nobody has a copy, the node does not start.

What the process before this one wrote may stand in the page cache only, after an fsync that failed:
then the next fsync succeeds, and means nothing. So the log's end, from where it is known to be
durable, and the small files are written again before they are believed (fsyncgate).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from controller.quorum.bounds import QUORUM_BOUNDS, Bounds, BoundsFile, read_bounds
from controller.quorum.identity import Renew, never
from controller.quorum.installs import Found, reconcile
from controller.quorum.known_voters import HasPeers, latest_voters
from controller.quorum.quorum_state import QUORUM_STATE, format_state, parse_state
from controller.raft.state import SavedState
from klamm.errors import CorruptLogError, StartError, StorageError
from klamm.ids import EPOCH_MAX, LOG_START, Epoch, Offset
from klamm.log.checkpoint import CorruptCheckpointError, read_whole, write_atomically
from klamm.log.epochs import EpochChain
from klamm.log.files import Files
from klamm.log.log import Log, LogConfig
from klamm.log.recovery import OnCorruption
from klamm.log.sealed import LaterVersionError
from klamm.log.snapshot import SnapshotFiles

RESTORING = "restoring"
"""Beside meta.properties while a restore goes on: nobody starts on half a state."""

NEW_DISK = (
    "the disk is new, and may have taken the place of one that was wiped: it has no say until a "
    "leader has filled it, or all other voters have answered that their logs are empty too; if "
    "most of the voters' disks are lost, `klamm quorum recover` goes on with one that is left"
)
NO_VOTE_YET = Epoch(0)

METADATA_LOG = "__cluster_metadata-0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Durable, all of it."""

    log: Log
    saved: SavedState
    bounds: BoundsFile
    snapshots: SnapshotFiles
    found: Found
    """Log and snapshots, fitted to each other."""
    notices: tuple[str, ...]
    """What was lost, cut or replaced: sentences for the log."""

    damaged: bool
    """The log was damaged, or shorter than it had been."""

    @property
    def distrust(self) -> str | None:
        """Why this voter has no say; None if it has."""
        return self.bounds.bounds.distrust or None


def refuse_half_restored(files: Files, metadata_log_dir: Path) -> None:
    """
    Raises:
        StartError: A snapshot's file became only half of this disk.
    """
    if files.exists(metadata_log_dir / RESTORING):
        raise StartError(
            f"{metadata_log_dir / RESTORING} is there: a restore into this directory did not "
            "finish. Run it again."
        )


def doubt_new_disk(files: Files, metadata_log_dir: Path) -> None:
    """Before the directory becomes anybody's: a crash must not make it look like an old one.

    Raises:
        OSError: As the disk says.
    """
    files.make_directory(metadata_log_dir)
    write_atomically(files, metadata_log_dir / QUORUM_BOUNDS, Bounds(distrust=NEW_DISK).encode())


def open_disk(
    files: Files,
    metadata_log_dir: Path,
    config: LogConfig,
    *,
    has_peers: HasPeers,
    renew: Renew = never,
) -> Opened:
    """Recover log and vote.

    Args:
        files: The disk.
        metadata_log_dir: Holds quorum-bounds, and the log's own directory.
        config: Of the log; damage and epochs are seen to here.
        has_peers: Is there somebody to fetch from? Asked only if something is lost.
        renew: Makes it the disk of another replica, if it is no voter's and its vote is lost.

    Raises:
        StartError: Something is lost that nobody can give back, or the disk fails.
    """
    opening = _Opening(files, metadata_log_dir, config, has_peers=has_peers, renew=renew)
    return opening.run()


class _Opening:
    def __init__(
        self,
        files: Files,
        metadata_log_dir: Path,
        config: LogConfig,
        *,
        has_peers: HasPeers,
        renew: Renew,
    ) -> None:
        self._files = files
        self._root = metadata_log_dir
        self._directory = metadata_log_dir / METADATA_LOG
        self._config = replace(config, on_corruption=OnCorruption.REFUSE, epochs_sealed=True)
        self._ask_peers = has_peers
        self._renew = renew
        self._notices: list[str] = []
        self._damaged = False
        self._known: Bounds | None = None
        self._file: BoundsFile
        self._snapshots = SnapshotFiles(files, self._directory)
        self._found: Found

    def run(self) -> Opened:
        try:
            self._files.make_directory(self._directory)
            self._file = BoundsFile(self._files, self._root, self._read_bounds())
            log = self._open_log()
            saved = self._read_vote(self._found.log)
            self._make_durable(log, saved)
        except (OSError, StorageError) as error:
            raise StartError(
                f"the metadata log in {self._directory} cannot be opened: {error}."
            ) from error
        return Opened(
            log=log,
            saved=saved,
            bounds=self._file,
            snapshots=self._snapshots,
            found=self._found,
            notices=tuple(self._notices),
            damaged=self._damaged,
        )

    def _read_bounds(self) -> Bounds:
        try:
            self._known = read_bounds(self._files, self._root)
        except LaterVersionError as error:
            raise _of_a_later_version(self._root / QUORUM_BOUNDS, error) from error
        except (CorruptCheckpointError, ValueError) as error:
            damage = f"{self._root / QUORUM_BOUNDS} is damaged: {error}"
            self._notices.append(damage)
            # It may have said that the log was not whole.
            return Bounds(distrust=damage if self._has_peers else "")
        return self._known or Bounds()

    @cached_property
    def _has_peers(self) -> bool:
        """By the latest voters that are known here, before anything is cut."""
        return self._ask_peers(latest_voters(self._files, self._directory))

    def _open_log(self) -> Log:
        known = None if self._known is None else self._known.end_offset
        try:
            log = Log.open(self._files, self._directory, self._config, known_durable=known)
        except CorruptLogError as error:
            log = self._open_damaged(error)
            self._found = reconcile(self._snapshots, log, self._lose)
            self._notices += self._found.notices
            return log
        self._notices += (f"the metadata log's torn end was cut off: {each}" for each in _cuts(log))
        # A snapshot may stand for what the log has not, or no more: that is not lost.
        self._found = reconcile(self._snapshots, log, self._lose)
        self._notices += self._found.notices
        if known is not None and log.end_offset < known:
            self._lose(
                f"the metadata log ends at offset {log.end_offset}, and was durable up to {known}"
            )
        return log

    def _open_damaged(self, error: CorruptLogError) -> Log:
        """Cut at the damage: what was behind it is fetched again."""
        self._lose(f"the metadata log was damaged: {error}")
        lenient = replace(self._config, on_corruption=OnCorruption.TRUNCATE)
        log = Log.open(self._files, self._directory, lenient)
        self._notices += (f"cut off, to be fetched again: {each}" for each in _cuts(log))
        log.flush()
        log.abandon()
        return Log.open(self._files, self._directory, self._config)

    def _lose(self, what: str) -> None:
        """Durably, before anything is cut: a crash on the way must not make the log look whole."""
        if not self._has_peers:
            raise StartError(
                f"{what}. No other voter can give it back: restore {self._directory} from a copy, "
                "or give a new directory the latest sound snapshot with `klamm metadata restore`. "
                f"To go on without what is lost, remove {self._root / QUORUM_BOUNDS} and what "
                "stands behind the damage."
            )
        first = not self._damaged
        self._damaged = True
        self._notices.append(f"{what}; this voter has no say until it has fetched it again")
        if first:
            known = self._file.bounds
            self._file.write_now(replace(known, distrust=known.distrust or what))

    def _read_vote(self, chain: EpochChain) -> SavedState:
        path = self._directory / QUORUM_STATE
        bounds = self._file.bounds
        try:
            data = read_whole(self._files, path)
            never_voted = self._known is None or self._known.epoch_ceiling == NO_VOTE_YET
            if data is None and never_voted and chain.end_offset == LOG_START:
                return SavedState()
            if data is None:
                raise ValueError("it is not there, and once was")
            saved = parse_state(data)
            if saved.epoch < max(chain.last_epoch, bounds.epoch):
                raise ValueError(
                    f"it is an old copy, of epoch {saved.epoch}; "
                    f"{max(chain.last_epoch, bounds.epoch)} had begun"
                )
        except LaterVersionError as error:
            raise _of_a_later_version(path, error) from error
        except (CorruptCheckpointError, ValueError) as error:
            return self._replace_vote(f"{path} is of no use: {error}", chain)
        return saved

    def _replace_vote(self, what: str, chain: EpochChain) -> SavedState:
        ceiling = self._file.bounds.epoch_ceiling
        if self._renew(latest_voters(self._files, self._directory)):
            epoch = max(chain.last_epoch, self._file.bounds.epoch, NO_VOTE_YET)
            self._notices.append(
                f"{what}; this controller is no voter, and goes on as a new replica, with another "
                "directory id"
            )
            self._file.write_now(self._file.bounds.promising(epoch))
            return SavedState(epoch=epoch)
        if self._known is None or chain.last_epoch > ceiling:
            raise StartError(
                f"{what}. This voter may have forgotten a vote, and there is no "
                f"{self._root / QUORUM_BOUNDS} to say in which epochs it did not vote. Restore "
                "the file, or empty the directory, so that the node fetches everything anew and "
                "stays without a vote until it is admitted again."
            )
        epoch = Epoch(ceiling + 1)
        if epoch > EPOCH_MAX:
            raise StartError(f"{what}, and there is no epoch left in which it has never voted.")
        self._notices.append(
            f"{what}; this voter goes on in epoch {epoch}, the first in which it has never voted"
        )
        self._file.write_now(self._file.bounds.promising(epoch))
        return SavedState(epoch=epoch)

    def _make_durable(self, log: Log, saved: SavedState) -> None:
        log.rewrite_end(self._file.bounds.end_offset)
        end: Offset = log.flush()
        write_atomically(self._files, self._directory / QUORUM_STATE, format_state(saved))
        bounds = replace(self._file.bounds, end_offset=end, epoch=saved.epoch)
        if saved.epoch >= bounds.epoch_ceiling:
            bounds = bounds.promising(saved.epoch)
        self._file.write_now(bounds)


def _of_a_later_version(path: Path, error: LaterVersionError) -> StartError:
    return StartError(f"{path} is of a later version: {error}. Start the version that wrote it.")


def _cuts(log: Log) -> tuple[str, ...]:
    return tuple(str(each) for each in log.recovery.cuts)
