"""Snapshots of the simulated nodes: written while they run, trimmed to, loaded by those behind.

What stands in one is a checksum of every batch below its end: what a node loads is held against
what was committed.
"""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager

from aiofiles.os import wrap

from controller.quorum import downloads
from controller.quorum.control import build_snapshot_footer, build_snapshot_header
from controller.quorum.node import QuorumNode
from controller.quorum.port import SnapshotPoint
from controller.raft import download
from klamm.errors import KlammError, StorageError
from klamm.ids import Offset
from klamm.log.record_batch import build_batch
from klamm.log.records import NewRecord
from tests.sim.chance import exponential
from tests.sim.driver.world import Node, World

RECORDS_A_BATCH = 40


@contextmanager
def small() -> Iterator[None]:
    """Chunks of which a snapshot here takes several, and nobody kept waiting for a laggard."""
    patches = (
        (download, "CHUNK_BYTES_FIRST", 700),
        (download, "CHUNK_BYTES_MIN", 200),
        (download, "CHUNK_BYTES_MAX", 1_500),
        (downloads, "HELD_AFTER_CHUNK_MS", 300),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for owner, name, was in before:
            setattr(owner, name, was)


class Snapshots:
    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"snapshots {world.seed}")
        self._every_s = self._rng.choice((0.2, 0.8, 1e9))

    async def go_on(self) -> None:
        """Until cancelled."""
        world, rng = self._world, self._rng
        while True:
            await asyncio.sleep(exponential(rng, self._every_s))
            running = [node for node in world.nodes if node.running]
            if not running:
                continue
            node = rng.choice(running)
            assert node.quorum is not None
            held = node.quorum.snapshots
            if held and rng.random() < 0.4:
                node.quorum.trim(rng.choice(held).snapshot_id)
            else:
                world.network.spawn(node.incarnation, self._write, node, node.quorum)

    async def _write(self, node: Node, quorum: QuorumNode) -> None:
        end = node.recorder.end
        try:
            point = quorum.snapshot_point(end) if end else None
        except StorageError:
            return  # It ends over it.
        if point is None:
            return
        data = encode(point, self._world.history.checksums(end))
        try:
            part = quorum.snapshot_files.create(point.snapshot_id)
            part.append(data)
            await wrap(part.finish)()
        except (OSError, KlammError):
            return  # The next one may fare better.
        quorum.snapshot_written(point.snapshot_id, len(data))
        self._world.tell("snapshot", node.incarnation, end)


def encode(point: SnapshotPoint, values: list[bytes]) -> bytes:
    epoch = point.snapshot_id.epoch
    batches = [
        build_snapshot_header(point.voters, epoch=epoch, last_timestamp_ms=0, timestamp_ms=0)
    ]
    offset = 2
    for first in range(0, len(values), RECORDS_A_BATCH):
        records = [NewRecord(value=each) for each in values[first : first + RECORDS_A_BATCH]]
        batches.append(
            build_batch(
                records,
                base_offset=Offset(offset),
                leader_epoch=epoch,
                timestamp_ms=0,
                base_sequence=epoch,
            )
        )
        offset += len(records)
    batches.append(build_snapshot_footer(Offset(offset), epoch=epoch, timestamp_ms=0))
    return b"".join(batches)
