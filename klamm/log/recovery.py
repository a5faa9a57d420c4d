"""What a log is made of after a crash: every batch checked, the torn tail cut, the rest kept.

    closed whole, or durable before the recovery point       may have been cut by a crash
    ├── segment ──┼── segment ──┤                  ├── segment ──┼── segment ─▓▓▓
    tail only: from the last index entry on        every batch: length, magic, CRC-32C,
                                                   offsets without a gap, epochs that never fall

A crash tears only what was written last, so a damaged batch with whole ones behind it is not a torn
tail: it is damage to what was durable, and to cut there would lose it silently. The metadata log
refuses such a start (OnCorruption.REFUSE); a partition, which has other replicas, cuts and says so.
But what was not synced gets to the disk in any order: in the last segment, and from the offset on
from which nobody knows it to be durable, sectors of zeros with whole batches behind them are a torn
tail too (unwritten.py). Zeros from its last whole batch to the end of the file are what was
reserved there (preallocation.py), and no batch: they go without a word, but in a partition, which
reserves nothing. Should batches have been lost as such zeros that were durable, the next segment
begins behind them, or quorum-bounds does. Recovery may itself be cut off anywhere: it is the same
the next time.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from klamm.errors import CorruptLogError, LaterFormatError
from klamm.ids import LOG_START, NO_EPOCH, Epoch, Offset, OffsetAndEpoch
from klamm.log import checkpoint
from klamm.log.epochs import EpochChain
from klamm.log.files import Files
from klamm.log.index import RELATIVE_OFFSET_MAX, CorruptIndexError
from klamm.log.record_batch import (
    HEADER_BYTES,
    MAGIC_AT,
    OFFSET_MAX,
    BatchHeader,
    epoch_is_sealed_or_bare,
    is_whole_but_for_magic,
    later_batch,
    peek_header,
    verify_checksum,
)
from klamm.log.records import CorruptBatchError
from klamm.log.segment import Segment
from klamm.log.unwritten import was_not_written

SCAN_BYTES = 1024 * 1024
SEARCH_PASSES_MAX = 16
"""A search behind damage reads as much as so often the whole. Bytes that are made to look like
headers, which a client can have stored, would else cost the square of their number."""
SEARCH_OFFSETS_MAX = 2**31
"""How much further than expected a batch's offset may be to be taken for one of this log."""

_SEGMENT_NAME_DIGITS = 20
_NOT_SYNCED = "sectors of it were never written, and nobody knew it to be durable"


class OnCorruption(Enum):
    """What to do about a damaged batch that whole ones follow."""

    REFUSE = "refuse"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One thing that recovery took away."""

    path: str
    position: int
    """Where the file now ends; 0 and the path of a whole file if that is gone."""
    bytes_cut: int
    reason: str
    followed_by: Offset | None
    """The first whole batch that stood behind the damage, and is lost too. None: a torn tail."""

    def __str__(self) -> str:
        what = "a torn tail" if self.followed_by is None else f"and offset {self.followed_by} on"
        where = f"{self.bytes_cut} bytes from byte {self.position} of {self.path}"
        return f"{where}, {what}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What an `open` did, for the shell to log."""

    batches_checked: int
    bytes_checked: int
    cuts: tuple[Cut, ...]


@dataclass(frozen=True, slots=True)
class Damage:
    position: int
    reason: str


class Recoverer:
    """One recovery of one directory. `segments`, `chain` and `report` are the outcome."""

    def __init__(
        self,
        files: Files,
        directory: Path,
        *,
        index_interval_bytes: int,
        on_corruption: OnCorruption,
        epochs_sealed: bool = False,
        known_durable: Offset | None = None,
    ) -> None:
        self.segments: list[Segment] = []
        self._files = files
        self._directory = directory
        self._interval_bytes = index_interval_bytes
        self._on_corruption = on_corruption
        self._epochs_sealed = epochs_sealed
        self._known_durable = known_durable
        self._epochs: list[Epoch] = []
        self._starts: list[Offset] = []
        self._end = Offset(0)
        self._batches_checked = 0
        self._bytes_checked = 0
        self._cuts: list[Cut] = []

    @property
    def chain(self) -> EpochChain:
        start = OffsetAndEpoch(epoch=NO_EPOCH, offset=self.segments[0].base_offset)
        return EpochChain(start, tuple(self._epochs), tuple(self._starts), self._end)

    @property
    def report(self) -> Recovery:
        return Recovery(
            batches_checked=self._batches_checked,
            bytes_checked=self._bytes_checked,
            cuts=tuple(self._cuts),
        )

    def run(self, recovery_point: Offset, clean_shutdown: bool) -> None:
        """Recover; where there is no log, begin one."""
        bases = self._bases() or [LOG_START]
        self.segments = [
            Segment(self._files, self._directory, base, self._interval_bytes) for base in bases
        ]
        try:
            self._recover(bases, recovery_point, clean_shutdown)
        except BaseException:
            for segment in self.segments:
                with suppress(OSError):
                    segment.close()
            raise

    def _recover(self, bases: list[Offset], recovery_point: Offset, clean_shutdown: bool) -> None:
        durable = sum(base <= recovery_point for base in bases) - 1
        trusted = self._trust(len(bases) if clean_shutdown else max(durable, 0))
        if trusted < len(bases):
            self._scan_from(trusted)
        self.segments[-1].go_on(self._end)

    def _bases(self) -> list[Offset]:
        bases: list[Offset] = []
        for name in self._files.list(self._directory):
            stem, _, suffix = name.rpartition(".")
            if f".{suffix}" == checkpoint.TMP_SUFFIX:
                self._files.remove(self._directory / name)
            elif suffix == "log" and _is_base(stem):
                bases.append(Offset(int(stem)))
        return bases

    def _trust(self, count: int) -> int:
        """Take up to `count` segments as they are, if ends and epochs prove true; say how many.

        The end of each is checked against the start of the next, and each epoch's first batch
        against the checkpoint; what does not hold is scanned whole.
        """
        try:
            starts = checkpoint.read_epochs(self._files, self._directory) if count else None
        except checkpoint.CorruptCheckpointError:
            starts = None
        if starts is None:
            return self._trust_nothing()
        last_epoch = NO_EPOCH
        for trusted, segment in enumerate(self.segments[:count]):
            tail = self._tail_of(segment)
            following = self.segments[trusted + 1 : trusted + 2]
            if tail is None or any(tail.offset != each.base_offset for each in following):
                count = trusted
                break
            segment.end_offset = self._end = tail.offset
            last_epoch = max(last_epoch, tail.epoch)
        if count == 0:
            return self._trust_nothing()
        starts = tuple(each for each in starts if each[1] < self._end)
        if (starts[-1][0] if starts else NO_EPOCH) != last_epoch:
            return self._trust_nothing()
        if not self._epochs_begin_at(starts):
            return self._trust_nothing()
        self._epochs = [epoch for epoch, _ in starts]
        self._starts = [offset for _, offset in starts]
        return count

    def _trust_nothing(self) -> int:
        self._end = self.segments[0].base_offset
        return 0

    def _tail_of(self, segment: Segment) -> OffsetAndEpoch | None:
        """Where a segment ends, found from its last index entry on; None if that fails."""
        try:
            entry = segment.last_entry()
        except CorruptIndexError:
            return None
        if entry is None:
            return self._check_tail(segment, 0, segment.base_offset)
        try:
            _, header = next(segment.walk(entry.position))
        except (CorruptLogError, StopIteration):
            return None
        if header.last_offset != entry.last_offset:
            return None
        return self._check_tail(segment, entry.position, Offset(header.base_offset))

    def _check_tail(self, segment: Segment, position: int, offset: Offset) -> OffsetAndEpoch | None:
        tail = _Scan(segment, position, offset, NO_EPOCH, self._epochs_sealed)
        for _ in tail:
            self._batches_checked += 1
        self._bytes_checked += tail.position - position
        if tail.damage is not None:
            return None
        return OffsetAndEpoch(epoch=tail.epoch, offset=tail.offset)

    def _epochs_begin_at(self, starts: tuple[checkpoint.EpochStart, ...]) -> bool:
        """Does each epoch begin where the checkpoint says, the first with the log?"""
        before = None
        for epoch, offset in starts:
            header = self._batch_at(offset)
            if header is None or (header.base_offset, header.leader_epoch) != (offset, epoch):
                return False
            if before is None and offset != self.segments[0].base_offset:
                return False
            if before is not None:
                last = self._batch_at(Offset(offset - 1))
                if last is None or last.leader_epoch != before:
                    return False
            before = epoch
        return True

    def _batch_at(self, offset: Offset) -> BatchHeader | None:
        for segment in self.segments:
            if segment.base_offset <= offset < segment.end_offset:
                for _, header in segment.walk(segment.position_of(offset)):
                    return header
        return None

    def _scan_from(self, first: int) -> None:
        """Check every batch from segment `first` on, and cut at the first damage."""
        for at, segment in enumerate(self.segments[first:], first):
            if at > 0 and segment.base_offset != self._end:
                if self._proves_what_was_before(segment):
                    before = self.segments[at - 1]
                    reason = f"offsets {self._end} to {segment.base_offset} are missing after it"
                    self._cut(at - 1, Damage(before.size_bytes, reason))
                else:
                    self._remove_from(at)
                return
            if at == 0:
                self._end = segment.base_offset
            damage = self._scan(segment)
            if damage is not None and self._was_reserved(at, damage.position):
                segment.cut_tail(damage.position)
            elif damage is not None:
                self._cut(at, damage)
                return
            if at < len(self.segments) - 1:
                segment.write_indexes()

    def _scan(self, segment: Segment) -> Damage | None:
        segment.begin_indexes()
        last_epoch = self._epochs[-1] if self._epochs else NO_EPOCH
        scan = _Scan(segment, 0, self._end, last_epoch, self._epochs_sealed)
        for position, header in scan:
            if not self._epochs or header.leader_epoch != self._epochs[-1]:
                self._epochs.append(Epoch(header.leader_epoch))
                self._starts.append(Offset(header.base_offset))
            segment.note_batch(header, position)
            self._batches_checked += 1
        self._end = scan.offset
        self._bytes_checked += scan.position
        return scan.damage

    def _cut(self, at: int, damage: Damage) -> None:
        segment = self.segments[at]
        rest = segment.read(damage.position, segment.size_bytes)
        found = whole_batch_in(rest, self._end)
        followed_by = None if found is None else found[1]
        if followed_by is None:
            later = filter(self._proves_what_was_before, self.segments[at + 1 :])
            followed_by = next((each.base_offset for each in later), None)
        if found is not None and self._was_not_synced(at, damage.position, rest[: found[0]]):
            damage = Damage(damage.position, f"{damage.reason}; {_NOT_SYNCED}")
        elif followed_by is not None and self._on_corruption is OnCorruption.REFUSE:
            raise CorruptLogError(
                str(segment.path),
                damage.position,
                f"{damage.reason}; whole batches follow from offset {followed_by}, so this is no "
                "torn tail and cutting it would lose what was durable. Restore the file, or "
                "remove the directory and let the node fetch everything anew",
            )
        self._remove_from(at + 1)
        if damage.position == segment.size_bytes:
            return
        self._cuts.append(
            Cut(
                path=str(segment.path),
                position=damage.position,
                bytes_cut=segment.size_bytes - damage.position,
                reason=damage.reason,
                followed_by=followed_by,
            )
        )
        segment.cut_tail(damage.position)

    def _was_reserved(self, at: int, position: int) -> bool:
        """Zeros to the end. A partition reserves nothing: at its end they are appends, and lost."""
        told = self._on_corruption is OnCorruption.TRUNCATE and at == len(self.segments) - 1
        return not told and self.segments[at].zeros_from(position)

    def _proves_what_was_before(self, segment: Segment) -> bool:
        """Were the segments before it written? Synced, if the log syncs one before the next is."""
        return segment.size_bytes > 0 or self._on_corruption is OnCorruption.REFUSE

    def _was_not_synced(self, at: int, position: int, damaged: bytes) -> bool:
        """Did a power cut take it, and not what was written behind it?"""
        known = self._known_durable
        if known is None or self._end < known or at < len(self.segments) - 1:
            return False
        return was_not_written(damaged, position, self._end)

    def _remove_from(self, first: int) -> None:
        """Remove segments from `first` on, the last one first: what is left is a prefix."""
        if first >= len(self.segments):
            return
        for segment in reversed(self.segments[first:]):
            size_bytes = segment.size_bytes
            self._cuts.append(
                Cut(
                    path=str(segment.path),
                    position=0,
                    bytes_cut=size_bytes,
                    reason="the segment before it does not reach up to it",
                    followed_by=segment.base_offset if size_bytes else None,
                )
            )
            segment.remove()
        del self.segments[first:]
        self._files.sync_directory(self._directory)


def _is_base(stem: str) -> bool:
    """Is this the first offset of a segment? There are digits that int() does not take."""
    digits = len(stem) == _SEGMENT_NAME_DIGITS and stem.isascii() and stem.isdigit()
    return digits and int(stem) < OFFSET_MAX


class _Scan:
    """Each whole, sound batch from a position on; then where and why it stopped."""

    def __init__(
        self,
        segment: Segment,
        position: int,
        offset: Offset,
        epoch: Epoch,
        epochs_sealed: bool,
    ) -> None:
        self.position = position
        self.offset = offset
        self.epoch = epoch
        self.damage: Damage | None = None
        self._segment = segment
        self._window = memoryview(b"")
        self._window_start = position
        self._epochs_sealed = epochs_sealed

    def __iter__(self) -> "_Scan":
        return self

    def __next__(self) -> tuple[int, BatchHeader]:
        if self.position == self._segment.size_bytes:
            raise StopIteration
        header = self._read()
        if isinstance(header, str):
            self.damage = Damage(self.position, header)
            raise StopIteration
        at = self.position
        self.position += header.size_bytes
        self.offset = header.next_offset
        self.epoch = Epoch(header.leader_epoch)
        return at, header

    def _read(self) -> BatchHeader | str:
        """The next batch's header, having checked the whole batch; or what is wrong with it."""
        left = self._segment.size_bytes - self.position
        if left < HEADER_BYTES:
            return f"{left} bytes are left, less than a header"
        try:
            header = peek_header(self._view(HEADER_BYTES))
        except CorruptBatchError as error:
            self._check_version(left)
            return str(error)
        if header.size_bytes > left:
            return f"a batch of {header.size_bytes} bytes, of which {left} are there"
        if not verify_checksum(self._view(header.size_bytes)):
            return "the checksum is not that of the bytes"
        if header.base_offset != self.offset:
            return f"offset {header.base_offset} where {self.offset} should be"
        if header.last_offset - self._segment.base_offset > RELATIVE_OFFSET_MAX:
            return f"offset {header.last_offset} is more than a segment holds"
        if self._epochs_sealed and not epoch_is_sealed_or_bare(header):
            return f"epoch {header.leader_epoch}, and {header.base_sequence} under the checksum"
        if header.leader_epoch < self.epoch:
            return f"epoch {header.leader_epoch} after {self.epoch}"
        return header

    def _check_version(self, left: int) -> None:
        """Raises: LaterFormatError: It would be cut for being what it is."""
        magic, size = later_batch(self._view(HEADER_BYTES), self.offset) or (0, 0)
        if not HEADER_BYTES <= size <= left or is_whole_but_for_magic(self._view(size)[:size]):
            return
        what = f"a record batch of magic {magic}"
        raise LaterFormatError(str(self._segment.path), self.position, what)

    def _view(self, size: int) -> memoryview:
        """`size` bytes from the position on, which the file has."""
        at = self.position - self._window_start
        if len(self._window) < at + size:
            data = self._segment.read_some(self.position, max(SCAN_BYTES, size))
            self._window, self._window_start, at = memoryview(data), self.position, 0
        return self._window[at:]


def whole_batch_in(raw: bytes, expected: Offset) -> tuple[int, Offset] | None:
    """Position and base offset of the first sound batch in what is damaged; None: a torn end.

    One at the very beginning is sound but for its place, which no torn write explains: an epoch
    before it is wrong, or batches are missing. A damaged length cannot be believed, so every
    byte is tried that could be a batch's magic; until SEARCH_PASSES_MAX, when the next that looks
    like one is taken for one.
    """
    data = memoryview(raw)
    budget_bytes = SEARCH_PASSES_MAX * len(raw)
    magic = raw.find(b"\x02", MAGIC_AT)
    while magic >= 0:
        start = magic - MAGIC_AT
        magic = raw.find(b"\x02", magic + 1)
        if len(raw) - start < HEADER_BYTES:
            return None
        try:
            header = peek_header(raw, start)
        except CorruptBatchError:
            continue
        if not expected <= header.base_offset < expected + SEARCH_OFFSETS_MAX:
            continue
        if start + header.size_bytes > len(raw):
            continue
        budget_bytes -= header.size_bytes
        if budget_bytes < 0 or verify_checksum(data[start : start + header.size_bytes]):
            return start, Offset(header.base_offset)
    return None
