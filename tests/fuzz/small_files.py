"""The small files of a node: checkpoints, quorum-state, quorum-bounds, meta.properties,
what a broker leaves at a clean shutdown.

    input    which │ how │ the file

Half of those that carry a checksum are given the right one.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from uuid import UUID

from crc32c import crc32c

from broker.replica.producer_memory import ProducerMemory
from broker.replica.producer_state import ProducedBatch, Producer
from broker.replica.storage import parse_clean_shutdown
from controller.quorum.bounds import Bounds
from controller.quorum.quorum_state import format_state, parse_state
from controller.raft.state import SavedState
from controller.raft.voters import ReplicaKey
from klamm.directory import META_PROPERTIES, MetaProperties, parse_meta
from klamm.errors import StartError
from klamm.ids import DirectoryId, Epoch, NodeId, Offset, TopicPartition
from klamm.log.checkpoint import (
    LEADER_EPOCH_CHECKPOINT,
    REPLICATION_OFFSET_CHECKPOINT,
    CorruptCheckpointError,
    read_epochs,
    read_offsets,
    write_epochs,
    write_offsets,
)
from tests.fuzz.target import Choice, Target
from tests.sim.disk import SimFiles

END = Offset(7)
DIRECTORY = Path("/data")
META = DIRECTORY / META_PROPERTIES
OFFSETS = DIRECTORY / REPLICATION_OFFSET_CHECKPOINT


def grow(random: Random) -> bytes:
    which = random.randrange(len(FILES))
    return bytes((which, random.randrange(2))) + _GROW[which](random)


def check(data: bytes) -> bool:
    choice = Choice(data)
    which, seal = choice.one_of(len(FILES)), choice.one_of(2)
    return FILES[which](_sealed(choice.rest) if seal else choice.rest)


def _sealed(data: bytes) -> bytes:
    """With the right checksum, if there is a place for one."""
    for place in (b',"crc32c":"', b"checksum.crc32c="):
        body, found, tail = data.rpartition(place)
        if found:
            seal = f"{crc32c(body):08x}".encode()
            return body + found + seal + tail[len(seal) :]
    return data


def _files(path: Path, data: bytes) -> SimFiles:
    files = SimFiles()
    files.make_directory(path.parent)
    files.replace_content(path, data)
    return files


def check_epochs(data: bytes) -> bool:
    files = _files(DIRECTORY / LEADER_EPOCH_CHECKPOINT, data)
    try:
        starts = read_epochs(files, DIRECTORY)
    except CorruptCheckpointError:
        return False
    assert starts is not None
    write_epochs(files, DIRECTORY, starts)
    assert read_epochs(files, DIRECTORY) == starts
    return True


def check_offsets(data: bytes) -> bool:
    files = _files(OFFSETS, data)
    try:
        offsets = read_offsets(files, OFFSETS)
    except CorruptCheckpointError:
        return False
    write_offsets(files, OFFSETS, offsets)
    assert read_offsets(files, OFFSETS) == offsets
    return True


def check_quorum_state(data: bytes) -> bool:
    try:
        saved = parse_state(data)
    except ValueError:
        return False
    assert parse_state(format_state(saved)) == saved
    return True


def check_meta(data: bytes) -> bool:
    try:
        meta = parse_meta(META, data)
    except StartError:
        return False
    assert parse_meta(META, meta.encode()) == meta
    return True


def check_bounds(data: bytes) -> bool:
    try:
        bounds = Bounds.decode(data)
    except ValueError:
        return False
    assert Bounds.decode(bounds.encode()) == bounds
    return True


def check_producers(data: bytes) -> bool:
    memory, again = ProducerMemory(), ProducerMemory()
    if not memory.restore(data, END, 0):
        return False
    assert again.restore(memory.snapshot(END), END, 0)
    assert again.table == memory.table
    return True


def check_clean_shutdown(data: bytes) -> bool:
    epoch = parse_clean_shutdown(data)
    assert -1 <= epoch < 2**63
    return epoch >= 0


FILES: tuple[Callable[[bytes], bool], ...] = (
    check_epochs,
    check_offsets,
    check_quorum_state,
    check_meta,
    check_bounds,
    check_producers,
    check_clean_shutdown,
)


def _grow_epochs(random: Random) -> bytes:
    files = _files(DIRECTORY / LEADER_EPOCH_CHECKPOINT, b"")
    rows = sorted({random.choice((0, 1, 5, 2**31 - 1)) for _ in range(3)})
    write_epochs(files, DIRECTORY, [(Epoch(row), Offset(row * 7)) for row in rows])
    return files.content(DIRECTORY / LEADER_EPOCH_CHECKPOINT)


def _grow_offsets(random: Random) -> bytes:
    files = _files(OFFSETS, b"")
    rows = {
        TopicPartition(random.choice(("a", "b.c", "d-1")), each): Offset(random.randrange(2**40))
        for each in range(random.randint(0, 3))
    }
    write_offsets(files, OFFSETS, rows)
    return files.content(OFFSETS)


def _grow_quorum_state(random: Random) -> bytes:
    voted = ReplicaKey(
        node_id=NodeId(2), directory_id=DirectoryId(UUID(int=random.getrandbits(99)))
    )
    return format_state(
        SavedState(
            epoch=Epoch(random.randrange(9)),
            voted_for=random.choice((None, voted)),
            leader=NodeId(random.randint(-1, 3)),
        )
    )


def _grow_meta(random: Random) -> bytes:
    meta = MetaProperties(
        cluster_id="fuzz",
        node_id=NodeId(random.randrange(9)),
        directory_id=DirectoryId(UUID(int=random.getrandbits(120))),
    )
    return meta.encode()


def _grow_bounds(random: Random) -> bytes:
    return Bounds(
        end_offset=Offset(random.randrange(2**40)),
        epoch=Epoch(random.randrange(9)),
        epoch_ceiling=Epoch(1_000),
        distrust=random.choice(("", "its end was torn")),
    ).encode()


def _grow_producers(random: Random) -> bytes:
    memory = ProducerMemory()
    batch = ProducedBatch(
        first_sequence=0,
        last_sequence=random.randrange(9),
        base_offset=Offset(2),
        last_offset=Offset(2),
    )
    producer = Producer(epoch=0, batches=(batch,) * random.randrange(3), seen_ms=0)
    memory.table = memory.table.set(random.randrange(99), producer)
    return memory.snapshot(END)


def _grow_clean_shutdown(random: Random) -> bytes:
    return b'{"version": 0, "brokerEpoch": %d}' % random.randrange(2**40)


_GROW = (
    _grow_epochs,
    _grow_offsets,
    _grow_quorum_state,
    _grow_meta,
    _grow_bounds,
    _grow_producers,
    _grow_clean_shutdown,
)

TARGET = Target(name="small_files", grow=grow, check=check, share=15)
