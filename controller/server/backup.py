"""All of the metadata as one file's bytes, for whoever asks: made of the image, not of a disk.

    image as fresh as asked for ──slices──▶ header, records, footer ──chunks──▶ caller

The image never changes, so nothing waits for a backup, and it is of one offset. A caller that stops
reading is left after STALL_MS, since its image is held in memory for so long.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from controller.quorum.control import snapshot_pieces
from controller.server.freshness import Freshness
from controller.server.port import Metadata, QuorumView
from klamm.clock import Clock
from klamm.errors import OverloadedError
from klamm.ids import Offset
from klamm.v1 import metadata_pb2 as pb
from klamm.v1 import records_pb2

BACKUPS_MAX = 4
"""At a time, of one controller."""

CHUNK_BYTES = 256 * 1024
"""A chunk is full from there on; a batch is never much more than 32 KiB."""

SLICE_MS = 1
"""So long it is encoded without a rest: commits go on meanwhile."""

REST_MS = 1

STALL_MS = 30_000
"""A caller that has taken no chunk for so long is gone, or as good as that."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some bytes of the file."""

    offset: Offset
    """Up to which the metadata is in the file."""
    position: int
    data: bytes
    record_count: int
    """Of the file, up to the end of this chunk."""
    last: bool


class Backups:
    """One a service."""

    def __init__(
        self,
        quorum: QuorumView,
        metadata: Metadata,
        freshness: Freshness,
        clock: Clock,
        *,
        stall_ms: int = STALL_MS,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._quorum = quorum
        self._metadata = metadata
        self._freshness = freshness
        self._clock = clock
        self._stall_ms = stall_ms
        self._now_ns = now_ns
        self._running = 0

    async def run(self, asked: pb.Consistency) -> AsyncGenerator[Chunk]:
        """A whole file, chunk by chunk. To be iterated by one task, which is cancelled if it rests
        for STALL_MS between two of them.

        Raises:
            BadRequestError: The consistency itself makes no sense.
            UnreachableError: The image could not be had in time, or is known not to be the log's.
            OverloadedError: BACKUPS_MAX are running.
        """
        if self._running >= BACKUPS_MAX:
            raise OverloadedError(f"{BACKUPS_MAX} backups (BACKUPS_MAX) are being taken here")
        self._running += 1
        try:
            offset, pieces = await self._begin(asked)
            # Not a timeout of the whole: only of what the caller takes its time for.
            loop = asyncio.get_running_loop()
            async with (
                aclosing(self._chunks(offset, pieces)) as chunks,
                asyncio.timeout(None) as it,
            ):
                async for chunk in chunks:
                    it.reschedule(loop.time() + self._stall_ms / 1_000)
                    yield chunk
                    it.reschedule(None)
        finally:
            self._running -= 1

    async def _begin(self, asked: pb.Consistency) -> tuple[Offset, Iterator[tuple[bytes, Offset]]]:
        image = await self._freshness.image(asked)
        # From here on nothing is awaited until all that belongs to the image is at hand.
        end, now_ms = image.provenance, self._clock.wall_ms()
        origin = records_pb2.BackupOrigin(
            cluster_id=self._quorum.cluster_id,
            end_offset=end.offset,
            epoch=end.epoch,
            taken_timestamp_ms=now_ms,
            taken_by=self._quorum.node_id,
        )
        pieces = snapshot_pieces(
            image,
            self._quorum.voters,
            last_timestamp_ms=self._metadata.last_timestamp_ms,
            timestamp_ms=now_ms,
            backup=origin,
        )
        return end.offset, pieces

    async def _chunks(
        self, offset: Offset, pieces: Iterator[tuple[bytes, Offset]]
    ) -> AsyncGenerator[Chunk]:
        """Full ones, and the last with whatever is left; the loop gets its turns in between."""
        began_ns, position, waiting, count = self._now_ns(), 0, bytearray(), 0
        for piece, behind in pieces:
            if len(waiting) >= CHUNK_BYTES:
                yield Chunk(offset, position, bytes(waiting), count, last=False)
                position, waiting = position + len(waiting), bytearray()
            waiting += piece
            count = behind
            if self._now_ns() - began_ns >= SLICE_MS * 1_000_000:
                await asyncio.sleep(REST_MS / 1_000)
                began_ns = self._now_ns()
        yield Chunk(offset, position, bytes(waiting), count, last=True)
