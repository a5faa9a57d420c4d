"""A snapshot of the metadata, fetched from a controller and read as it comes.

    FetchSnapshot(position) ─▶ chunk ─▶ whole batches ─▶ SnapshotReader       nothing on a disk
             ▲                   │
             └── the next one: twice as large if it came fast, half as large if it came slowly

Two controllers' files of one snapshot say the same and need not be the same bytes: a download that
breaks begins anew at another.
"""

import asyncio

from klamm.client.node import Node
from klamm.clock import Clock, SystemClock
from klamm.ids import Epoch, OffsetAndEpoch
from klamm.log.record_batch import HEADER_BYTES, peek_header
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError, format_name
from klamm.metadata.snapshot_batches import SnapshotReader
from klamm.rpc.status import ConnectionLostError
from klamm.rpc.stream import MessageStream
from klamm.v1 import quorum_pb2 as pb

CHUNK_BYTES_FIRST = 64 * 1024
CHUNK_BYTES = (4 * 1024, 4 * 1024 * 1024)
"""The smallest and the largest that is asked for."""

CHUNK_MS = 500
"""A chunk that took longer was too large for the link; one of a quarter of it, too small."""

CHUNK_MS_MAX = 10_000
"""A controller that sent no chunk for so long is left for another."""

BATCH_BYTES_MAX = 8 * 1024 * 1024
"""No batch of a snapshot is larger."""

SnapshotStream = MessageStream[pb.FetchSnapshotRequest, pb.FetchSnapshotResponse]


async def download(
    node: Node,
    caller: pb.Caller,
    epoch: Epoch,
    snapshot_id: OffsetAndEpoch,
    clock: Clock | None = None,
) -> SnapshotReader:
    """All of a snapshot, read.

    Raises:
        ConnectionLostError: The controller is silent, gone, or has it no more.
        CorruptSnapshotError: What came is no snapshot.
        UnknownRecordError: It holds a record that cannot be read.
    """
    clock = clock or SystemClock()
    reader, rest, position = SnapshotReader(snapshot_id), bytearray(), 0
    chunk_bytes = CHUNK_BYTES_FIRST
    stream: SnapshotStream = MessageStream(node.quorum.FetchSnapshot(), node.address)
    try:
        while True:
            began_ms = clock.monotonic_ms()
            await stream.send(
                pb.FetchSnapshotRequest(
                    caller=caller,
                    epoch=epoch,
                    snapshot_id=pb.OffsetAndEpoch(
                        offset=snapshot_id.offset, epoch=snapshot_id.epoch
                    ),
                    position=position,
                    max_bytes=chunk_bytes,
                    observer=True,
                )
            )
            answer = await _chunk(stream, position)
            chunk_bytes = _sized(chunk_bytes, clock.monotonic_ms() - began_ms)
            position += len(answer.chunk)
            rest += answer.chunk
            await _read(reader, rest, snapshot_id)
            if position >= answer.size_bytes:
                break
    finally:
        stream.close()
    if rest:
        raise CorruptSnapshotError(f"{format_name(snapshot_id)}: {len(rest)} bytes behind its end")
    return reader


def refusal_name(error: pb.QuorumError.ValueType) -> str:
    """A newer controller's reason has a number only."""
    known = pb.QuorumError.DESCRIPTOR.values_by_number.get(error)
    return str(error) if known is None else known.name


async def _chunk(stream: SnapshotStream, position: int) -> pb.FetchSnapshotResponse:
    try:
        async with asyncio.timeout(CHUNK_MS_MAX / 1_000):
            answer = await stream.receive()
    except TimeoutError:
        raise ConnectionLostError(f"no chunk in {CHUNK_MS_MAX} ms") from None
    if answer.error != pb.QUORUM_ERROR_UNSPECIFIED:
        raise ConnectionLostError(f"refused: {refusal_name(answer.error)}")
    if answer.position != position or not answer.chunk:
        raise ConnectionLostError(f"sent no chunk at {position}")
    return answer


def _sized(chunk_bytes: int, took_ms: int) -> int:
    """What to ask for next."""
    low, high = CHUNK_BYTES
    if took_ms > CHUNK_MS:
        return max(low, chunk_bytes // 2)
    if took_ms < CHUNK_MS // 4:
        return min(high, chunk_bytes * 2)
    return chunk_bytes


async def _read(reader: SnapshotReader, rest: bytearray, snapshot_id: OffsetAndEpoch) -> None:
    """Take the whole batches at the front of `rest` away, and read them."""
    data, at = bytes(rest), 0
    while len(data) - at >= HEADER_BYTES:
        try:
            size = peek_header(data, at).size_bytes
        except CorruptBatchError as error:
            raise CorruptSnapshotError(f"{format_name(snapshot_id)}: {error}") from error
        if size > BATCH_BYTES_MAX:
            raise CorruptSnapshotError(f"{format_name(snapshot_id)}: a batch of {size} bytes")
        if len(data) - at < size:
            break
        reader.take(memoryview(data)[at : at + size])
        at += size
        await asyncio.sleep(0)
    del rest[:at]
