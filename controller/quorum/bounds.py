"""What log and vote cannot be below: a second witness, in another directory than theirs.

    <metadata.log.dir>/quorum-bounds
        {"endOffset":812,"epoch":7,"epochCeiling":1000,"distrust":"","data_version":1,"crc32c":"…"}

endOffset     The log was durable up to here. A log that ends before it has lost what this voter had
              acknowledged, whether its end was torn, cut or removed. Written now and then, so
              what was appended since is not vouched for: only there may a crash tear the log.
epoch         The vote file was of this epoch at least; one of an earlier epoch is an old copy.
epochCeiling  This voter has never entered an epoch above it, and says so before it does. If the
              vote is lost, it goes on in the epoch after the ceiling: in that one it has given no
              vote, and to be there is what any voter may do that hears of the epoch. So a lost vote
              costs the quorum one election, and nobody votes twice.
distrust      The log has lost what this voter had acknowledged, and is not whole again yet: in
              words. Written before the damage is cut off.
"""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from aiofiles.os import wrap

from klamm.errors import StorageError
from klamm.ids import EPOCH_MAX, LOG_START, Epoch, Offset
from klamm.log.checkpoint import read_whole, write_atomically
from klamm.log.files import NO_ROOM, Files
from klamm.log.sealed import check_version, open_json, seal_json

QUORUM_BOUNDS = "quorum-bounds"

EPOCH_STRIDE = 1_000
"""How many epochs are promised ahead: one more write to the disk in so many elections."""

BOUNDS_EVERY_MS = 2_000
"""How far behind endOffset may be while there are appends, and how long after the last one."""

_DATA_VERSION = 1
_NUMBERS = ("endOffset", "epoch", "epochCeiling")
_KEYS = frozenset({*_NUMBERS, "distrust", "data_version"})
_NUMBER_MAX = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What the file says."""

    end_offset: Offset = LOG_START
    epoch: Epoch = Epoch(0)  # noqa: RUF009 - an int
    epoch_ceiling: Epoch = Epoch(0)  # noqa: RUF009
    distrust: str = ""
    """Empty: the log is what it was."""

    def promising(self, epoch: Epoch) -> "Bounds":
        """With a ceiling over `epoch`, and some more."""
        return replace(self, epoch_ceiling=Epoch(epoch + EPOCH_STRIDE))

    def encode(self) -> bytes:
        return seal_json(
            {
                "endOffset": self.end_offset,
                "epoch": self.epoch,
                "epochCeiling": self.epoch_ceiling,
                "distrust": self.distrust,
                "data_version": _DATA_VERSION,
            }
        )

    @staticmethod
    def decode(data: bytes) -> "Bounds":
        """
        Raises:
            LaterVersionError: It is of a later version.
            ValueError: It is not what was written.
        """
        fields = open_json(data, frozenset())
        check_version(fields, _DATA_VERSION)
        if not fields.keys() >= _KEYS:
            raise ValueError(f"it has {', '.join(sorted(fields))}")
        end, epoch, ceiling = (_number(fields[key]) for key in _NUMBERS)
        if epoch > EPOCH_MAX or ceiling > EPOCH_MAX + EPOCH_STRIDE:
            raise ValueError(f"there are no epochs {epoch} and {ceiling}")
        return Bounds(
            end_offset=Offset(end),
            epoch=Epoch(epoch),
            epoch_ceiling=Epoch(ceiling),
            distrust=str(fields["distrust"]),
        )


def read_bounds(files: Files, metadata_log_dir: Path) -> Bounds | None:
    """The file; None if there is none.

    Raises:
        CorruptCheckpointError, ValueError: It is damaged.
        OSError: As the disk says.
    """
    data = read_whole(files, metadata_log_dir / QUORUM_BOUNDS)
    return None if data is None else Bounds.decode(data)


class BoundsFile:
    """Keeps the file true while the voter runs. Its calls may overlap."""

    def __init__(self, files: Files, metadata_log_dir: Path, bounds: Bounds) -> None:
        self.bounds = bounds
        """As on the disk."""
        self._files = files
        self._path = metadata_log_dir / QUORUM_BOUNDS
        self._lock = asyncio.Lock()
        self._write_in_thread = wrap(write_atomically)
        self._reached = (bounds.end_offset, bounds.epoch)

    def write_now(self, bounds: Bounds) -> None:
        """Durable on return. Only while nothing else runs.

        Raises:
            OSError: As the disk says.
        """
        write_atomically(self._files, self._path, bounds.encode())
        self.bounds = bounds
        self._reached = (bounds.end_offset, bounds.epoch)

    def reached(self, end_offset: Offset, epoch: Epoch) -> None:
        """The log is durable up to here, and the vote up to there; `keep` will write it down."""
        self._reached = (end_offset, epoch)

    async def keep(self) -> None:
        """Write down now and then what was reached, until cancelled.

        Raises:
            StorageError: The disk failed.
        """
        while True:
            await asyncio.sleep(BOUNDS_EVERY_MS / 1_000)
            async with self._lock:
                end_offset, epoch = self._reached
                bounds = replace(self.bounds, end_offset=end_offset, epoch=epoch)
                if epoch > bounds.epoch_ceiling - EPOCH_STRIDE // 2:
                    bounds = bounds.promising(epoch)
                try:
                    await self._write(bounds)
                except OSError as error:
                    # It says less than it could, and nothing that is wrong.
                    if error.errno not in NO_ROOM:
                        raise StorageError(f"cannot write {self._path}: {error}") from error

    async def promise(self, epoch: Epoch) -> None:
        """The vote file may be of this epoch. Durable on return.

        Raises:
            OSError: As the disk says.
        """
        if epoch <= self.bounds.epoch_ceiling:
            return
        async with self._lock:
            await self._write(self.bounds.promising(epoch))

    async def lower(self, to: Offset) -> None:
        """The log will be cut to `to`. Durable on return.

        Raises:
            OSError: As the disk says.
        """
        async with self._lock:
            self._reached = (min(self._reached[0], to), self._reached[1])
            if self.bounds.end_offset > to:
                await self._write(replace(self.bounds, end_offset=to))

    async def trust(self) -> None:
        """The log is whole again, up to what was reached.

        Raises:
            OSError: As the disk says.
        """
        async with self._lock:
            await self._write(replace(self.bounds, distrust="", end_offset=self._reached[0]))

    async def _write(self, bounds: Bounds) -> None:
        if bounds != self.bounds:
            await self._write_in_thread(self._files, self._path, bounds.encode())
            self.bounds = bounds


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _NUMBER_MAX:
        raise ValueError(f"it says {value!r} where a number should be")
    return value
