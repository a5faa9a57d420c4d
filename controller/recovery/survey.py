"""What stands in the data directory of a controller that has survived. Changes nothing in it.

Every batch is verified. What is behind the first one that does not hold counts as not there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from controller.quorum.bounds import Bounds, read_bounds
from controller.quorum.control import describe_batches
from controller.quorum.installs import voters_of
from controller.quorum.opening import METADATA_LOG
from controller.quorum.quorum_state import QUORUM_STATE, parse_state
from controller.raft.voters import VoterSet
from klamm.directory import META_PROPERTIES, MetaProperties, parse_meta
from klamm.errors import StartError
from klamm.ids import Epoch, Offset, format_uuid
from klamm.log.checkpoint import CorruptCheckpointError, read_whole
from klamm.log.files import Files
from klamm.log.record_batch import iter_batches, read_records
from klamm.log.records import ControlType, CorruptBatchError, control_type
from klamm.log.recovery import whole_batch_in
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles
from klamm.log.unwritten import was_not_written
from klamm.log.verify import find_damage
from klamm.v1 import records_pb2 as pb

UUID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    base_offset: Offset
    next_offset: Offset
    epoch: Epoch
    segment: Path
    position: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """One directory, as it was found."""

    path: Path
    meta: MetaProperties
    epoch: Epoch
    """The latest that it knows of, from vote, bounds or log; -1 if it knows none."""
    voters: VoterSet | None
    """What the last Voters record says; None if there is none."""
    start: Offset
    """Below it only a snapshot tells."""
    start_epoch: Epoch
    batches: tuple[Batch, ...]
    notices: tuple[str, ...]
    """What is damaged, torn or not trusted, in words."""
    trusted: bool
    """It has a vote: its log has not lost what it had acknowledged."""
    whole: bool
    """A node can start on it: nothing in it is damaged or missing but a torn end."""

    @property
    def end_offset(self) -> Offset:
        return self.batches[-1].next_offset if self.batches else self.start

    @property
    def last_epoch(self) -> Epoch:
        return self.batches[-1].epoch if self.batches else self.start_epoch


def locate(path: Path) -> Path:
    """The data directory that `path` is, or holds as `data`.

    Raises:
        StartError: It is neither.
    """
    for each in (path, path / "data"):
        if (each / META_PROPERTIES).is_file():
            return each
    raise StartError(f"{path} is no controller's data directory: it has no {META_PROPERTIES}.")


def read_meta(files: Files, path: Path) -> MetaProperties:
    """Raises: StartError: It is not there, damaged, or of another version."""
    try:
        data = read_whole(files, path / META_PROPERTIES)
    except (OSError, CorruptCheckpointError) as error:
        raise StartError(f"{path / META_PROPERTIES} cannot be read: {error}.") from error
    if data is None:
        raise StartError(f"{path} has no {META_PROPERTIES}.")
    return parse_meta(path / META_PROPERTIES, data)


def survey(files: Files, path: Path) -> Survivor:
    """Read all of one directory.

    Raises:
        StartError: It is no controller's, or cannot be read.
    """
    try:
        return _Survey(files, path).run()
    except OSError as error:
        raise StartError(f"{path} cannot be read: {error}.") from error


class _Survey:
    def __init__(self, files: Files, path: Path) -> None:
        self._files = files
        self._path = path
        self._log = path / METADATA_LOG
        self._notices: list[str] = []
        self._voters: VoterSet | None = None
        self._trusted = True
        self._whole = True
        self._bounds: Bounds | None = None

    def run(self) -> Survivor:
        meta = read_meta(self._files, self._path)
        if not self._files.exists(self._log):
            raise StartError(f"{self._path} has no {METADATA_LOG}: no controller ran there.")
        self._bounds = self._read_bounds()
        start, start_epoch = self._snapshot()
        batches = self._batches(start)
        if batches and batches[-1].next_offset < start:
            batches = ()  # The snapshot stands for all of it: its log was to be removed.
        first = batches[0] if batches else None
        if first is not None and first.base_offset > start:
            self._damage(
                f"the log begins at offset {first.base_offset}, and no sound snapshot says what "
                "was before"
            )
        if first is not None and first.base_offset != start:
            start, start_epoch = first.base_offset, Epoch(-1)
        self._compare_bounds(batches[-1].next_offset if batches else start)
        epoch = max(self._known_epoch(), start_epoch, batches[-1].epoch if batches else Epoch(-1))
        return Survivor(
            path=self._path,
            meta=meta,
            epoch=epoch,
            voters=self._voters,
            start=start,
            start_epoch=start_epoch,
            batches=batches,
            notices=tuple(self._notices),
            trusted=self._trusted,
            whole=self._whole,
        )

    def _known_epoch(self) -> Epoch:
        epoch = Epoch(-1)
        try:
            data = read_whole(self._files, self._log / QUORUM_STATE)
            if data is not None:
                epoch = parse_state(data).epoch
        except (CorruptCheckpointError, ValueError) as error:
            self._notices.append(f"{self._log / QUORUM_STATE} is of no use: {error}")
        bounds = self._bounds
        if bounds is not None:
            epoch = max(epoch, bounds.epoch)
            if bounds.distrust:
                self._doubt(f"the node had no vote: {bounds.distrust}")
        return epoch

    def _read_bounds(self) -> Bounds | None:
        try:
            return read_bounds(self._files, self._path)
        except (CorruptCheckpointError, ValueError) as error:
            self._doubt(f"quorum-bounds is of no use: {error}")
            return None

    def _compare_bounds(self, end: Offset) -> None:
        bounds = self._bounds
        if bounds is not None and end < bounds.end_offset:
            self._damage(f"the log ends at {end}, and was durable up to {bounds.end_offset}")

    def _damage(self, what: str) -> None:
        self._whole = False
        self._doubt(what)

    def _doubt(self, what: str) -> None:
        self._trusted = False
        self._notices.append(what)

    def _snapshot(self) -> tuple[Offset, Epoch]:
        """The latest whole one's end; its voters are noted."""
        snapshots = SnapshotFiles(self._files, self._log)
        for each in reversed(snapshots.list()):
            try:
                snapshots.verify(each)
                self._voters = voters_of(partial(snapshots.read, each))
            except (CorruptSnapshotError, CorruptBatchError, ValueError) as error:
                self._notices.append(str(error))
                continue
            return each.offset, each.epoch
        return Offset(0), Epoch(-1)

    def _batches(self, snapshot_end: Offset) -> tuple[Batch, ...]:
        found: list[Batch] = []
        names = sorted(each for each in self._files.list(self._log) if each.endswith(".log"))
        for name in names:
            data = self._read(name)
            begin = Offset(int(name.removesuffix(".log")))
            if found and found[-1].next_offset != begin:
                self._damage(f"{name} does not begin where the segment before it ends")
                break
            damage = find_damage(data, begin, epochs_sealed=True)
            sound = data if damage is None else data[: damage[0]]
            if damage is not None and not any(data[damage[0] :]):
                damage = None  # Reserved, and not used any more: its log ends there.
            found += self._describe(self._log / name, sound, snapshot_end)
            if damage is not None:
                where = f"{self._log / name}, byte {damage[0]}"
                expected = found[-1].next_offset if found else begin
                if name == names[-1] and self._is_torn(data, damage[0], expected):
                    self._notices.append(f"a torn end, not counted: {where}")
                else:
                    self._damage(f"damaged, and not counted from there on: {where}: {damage[1]}")
                break
        return tuple(found)

    def _is_torn(self, data: bytes, position: int, expected: Offset) -> bool:
        """As recovery judges it (klamm/log/recovery.py)."""
        behind = whole_batch_in(data[position:], expected)
        if behind is None:
            return True
        damaged = data[position : position + behind[0]]
        if self._bounds is None or expected < self._bounds.end_offset:
            return False
        return was_not_written(damaged, position, expected)

    def _read(self, name: str) -> bytes:
        file = self._files.open(self._log / name)
        try:
            return file.read_at(0, file.size)
        finally:
            file.close()

    def _describe(self, segment: Path, data: bytes, snapshot_end: Offset) -> Iterator[Batch]:
        position = 0
        for header, batch in iter_batches(data):
            for described in describe_batches(batch) if header.is_control else ():
                for offset, voters in described.voters:
                    if offset >= snapshot_end:
                        self._voters = voters
            yield Batch(
                base_offset=Offset(header.base_offset),
                next_offset=Offset(header.next_offset),
                epoch=Epoch(header.leader_epoch),
                segment=segment,
                position=position,
                size_bytes=header.size_bytes,
            )
            position += header.size_bytes


def records_from(files: Files, survivor: Survivor, offset: Offset, count_max: int) -> list[str]:
    """The first records from `offset` on, a line each."""
    told: list[str] = []
    for batch in survivor.batches:
        if batch.next_offset <= offset:
            continue
        file = files.open(batch.segment)
        try:
            data = file.read_at(batch.position, batch.size_bytes)
        finally:
            file.close()
        for record in read_records(data):
            if record.offset < offset:
                continue
            if len(told) >= count_max:
                return told
            kind = control_type(record.key) if record.key else None
            what = _told(record.value or b"") if kind is None else _control(kind)
            told.append(f"{record.offset} epoch {batch.epoch} {what}")
    return told


def _told(value: bytes) -> str:
    try:
        record = pb.MetadataRecord.FromString(value)
    except DecodeError:
        return "a record that cannot be read"
    text = _fields(record)
    return text if len(text) <= 160 else text[:160] + "…"


def _control(kind: int) -> str:
    known = kind in {each.value for each in ControlType}
    return ControlType(kind).name.lower() if known else f"control record {kind}"


def _fields(message: Message) -> str:
    """`topic(topic_id=…, name=orders)`: ids as everywhere else, and no field that is not there."""
    shown: list[str] = []
    for field, value in message.ListFields():
        values = list(value) if field.is_repeated and not _is_map(field) else [value]
        for each in values:
            if isinstance(each, Message):
                shown.append(f"{field.name}({_fields(each)})")
            else:
                shown.append(f"{field.name}={_scalar(each)}")
    return ", ".join(shown)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _scalar(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    return format_uuid(UUID(bytes=value)) if len(value) == UUID_BYTES else value.hex()
