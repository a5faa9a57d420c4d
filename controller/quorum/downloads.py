"""Snapshots on their way out: chunk by chunk to followers, observers, and whoever lags far behind.

A snapshot of which a chunk was asked for of late is not deleted: however slow the link, and however
often new ones are written, a download comes to its end, and finds the log behind it still there.
"""

from collections.abc import Callable

from controller.quorum.messages import end_to_wire, log_end
from controller.quorum.port import Quorum
from controller.raft.snapshots import CHUNK_BYTES_MAX
from klamm.clock import Clock
from klamm.ids import OffsetAndEpoch
from klamm.v1 import quorum_pb2 as pb

DOWNLOADS_MAX = 32
"""Snapshot streams at a time; more are refused, and try again."""

ReadChunk = Callable[[OffsetAndEpoch, int, int], bytes]

HELD_AFTER_CHUNK_MS = 60_000
"""For so long after a chunk was asked for, its snapshot stays: the next one, or the log behind it,
will be wanted."""


class Downloads:
    """Of one node."""

    def __init__(self, clock: Clock) -> None:
        self.streams = 0
        self._clock = clock
        self._asked_ms: dict[OffsetAndEpoch, int] = {}

    def asked(self, wanted: OffsetAndEpoch, quorum: Quorum) -> None:
        """Somebody downloads this snapshot, which may not be there."""
        if any(each.snapshot_id == wanted for each in quorum.snapshots):
            self._asked_ms[wanted] = self._clock.monotonic_ms()

    def any_before(self, to: OffsetAndEpoch) -> bool:
        """Is one under way, or just over, of a snapshot older than `to`?"""
        since_ms = self._clock.monotonic_ms() - HELD_AFTER_CHUNK_MS
        self._asked_ms = {key: at for key, at in self._asked_ms.items() if at > since_ms}
        return any(each.offset < to.offset for each in self._asked_ms)


def observe(
    quorum: Quorum, request: pb.FetchSnapshotRequest, read: ReadChunk
) -> pb.FetchSnapshotResponse:
    """A chunk for an observer, from any controller's disk.

    Raises:
        ValueError: The request makes no sense.
    """
    wanted = log_end(request.snapshot_id)
    answer = pb.FetchSnapshotResponse(
        epoch=quorum.epoch,
        leader_id=quorum.leader,
        snapshot_id=end_to_wire(wanted),
        position=request.position,
    )
    sizes = {each.snapshot_id: each.size_bytes for each in quorum.snapshots}
    if wanted not in sizes:
        answer.error = pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND
        return answer
    answer.size_bytes = sizes[wanted]
    if request.position >= answer.size_bytes:
        answer.error = pb.QUORUM_ERROR_POSITION_OUT_OF_RANGE
        return answer
    max_bytes = max(1, min(request.max_bytes, CHUNK_BYTES_MAX))
    answer.chunk = read(wanted, request.position, max_bytes)
    if not answer.chunk:
        answer.error = pb.QUORUM_ERROR_SNAPSHOT_NOT_FOUND
    return answer
