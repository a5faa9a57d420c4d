"""Snapshots on their way out: chunk by chunk to followers, observers, and whoever lags far behind.

A snapshot of which a chunk was asked for of late is not deleted: however slow the link, and however
often new ones are written, a download comes to its end, and finds the log behind it still there. It
is let go when whoever asked has fetched from the log as far as the log is to begin.

One that was damaged on this disk is not handed out: whoever needs it waits for the next.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from aiofiles.os import wrap

from controller.quorum.messages import end_to_wire, log_end
from controller.quorum.port import Quorum
from controller.raft.snapshots import CHUNK_BYTES_MAX
from controller.raft.voters import ReplicaKey
from klamm.clock import Clock
from klamm.ids import NO_NODE, Offset, OffsetAndEpoch
from klamm.log.snapshot import CorruptSnapshotError, SnapshotFiles
from klamm.telemetry import logs
from klamm.v1 import quorum_pb2 as pb

_log = logs.logger("controller.quorum")

DOWNLOADS_MAX = 32
"""Snapshot streams at a time; more are refused, and try again."""

ReadChunk = Callable[[OffsetAndEpoch, int, int], bytes]

HELD_AFTER_CHUNK_MS = 60_000
"""For so long after a chunk was asked for, its snapshot stays: the next one, or the log behind it,
will be wanted."""

HOLDS_MAX = 1_024
"""Of replicas that download, or have just done so. Others do without a hold."""


@dataclass(frozen=True, slots=True)
class _Hold:
    end_offset: Offset
    """The snapshot ends here, or what was fetched since: the log is wanted from here on."""
    asked_ms: int


class Downloads:
    """Of one node."""

    def __init__(self, clock: Clock) -> None:
        self.streams = 0
        self._clock = clock
        self._holds: dict[ReplicaKey, _Hold] = {}
        self._checks: dict[OffsetAndEpoch, asyncio.Task[bool | None]] = {}
        """Of those that are held, and were asked for."""

    def asked(self, key: ReplicaKey, wanted: OffsetAndEpoch, quorum: Quorum) -> None:
        """`key` downloads this snapshot, which may not be there."""
        if all(each.snapshot_id != wanted for each in quorum.snapshots):
            return
        if key not in self._holds and len(self._holds) >= HOLDS_MAX:
            self._forget()
            if len(self._holds) >= HOLDS_MAX:
                return
        end_offset = wanted.offset
        if key.node_id == NO_NODE and key in self._holds:
            # There may be several without a name, and they share one hold.
            end_offset = min(end_offset, self._holds[key].end_offset)
        self._holds[key] = _Hold(end_offset, self._clock.monotonic_ms())

    def fetched(self, key: ReplicaKey, end_offset: Offset) -> None:
        """`key` asked for what comes after `end_offset` in the log."""
        hold = self._holds.get(key)
        if hold is not None and end_offset > hold.end_offset and key.node_id != NO_NODE:
            self._holds[key] = replace(hold, end_offset=end_offset)

    async def is_sound(self, wanted: OffsetAndEpoch, quorum: Quorum) -> bool:
        """False: it is not what was written. Looked at whole, once, before its first byte goes out.

        Who gives up waiting does not end the check: it would have to begin anew each time.
        """
        held = [each.snapshot_id for each in quorum.snapshots]
        self._checks = {key: each for key, each in self._checks.items() if key in held}
        if wanted not in held:
            return True
        if wanted in quorum.damaged_snapshots:
            return False
        if wanted not in self._checks:
            look = _check(quorum.snapshot_files, wanted)
            self._checks[wanted] = asyncio.get_running_loop().create_task(look)
        check = self._checks[wanted]
        sound = await asyncio.shield(check)
        if sound is None and self._checks.get(wanted) is check:
            del self._checks[wanted]
        return bool(sound)

    def any_before(self, to: OffsetAndEpoch) -> bool:
        """Is one under way, or just over, by somebody who wants the log from before `to`?"""
        self._forget()
        return any(each.end_offset < to.offset for each in self._holds.values())

    def _forget(self) -> None:
        since_ms = self._clock.monotonic_ms() - HELD_AFTER_CHUNK_MS
        self._holds = {key: each for key, each in self._holds.items() if each.asked_ms > since_ms}


async def _check(snapshots: SnapshotFiles, snapshot_id: OffsetAndEpoch) -> bool | None:
    """None: it could not be read, perhaps for want of an open file; the next who asks tries."""
    try:
        await wrap(snapshots.verify)(snapshot_id)
    except CorruptSnapshotError as error:
        _log.error("a snapshot is damaged; it is not handed out", why=str(error))
        return False
    except OSError as error:
        _log.warning("a snapshot could not be looked at; it is not handed out", why=str(error))
        return None
    return True


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
