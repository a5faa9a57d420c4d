"""Snapshots of the metadata, written beside everything else, and the old ones cleaned away.

    committed bytes, or time ──due──▶ the present image ──slices──▶ .part ──fsync, rename──▶ quorum
    every CLEAN_MS ──too large, too old──▶ the log begins at a later snapshot
    the disk is full ──at once──▶ the log begins at the latest snapshot

The image never changes, so nothing waits for the writing: the loop encodes for SLICE_US at a time
and rests REST_MS; the disk is written to in another thread, a little at a time, so that an fsync of
the log never stands behind a large one. Each controller writes its own, one at a time.

Source: KIP-630, kraft.md 1.11 and 4.3.
"""

import asyncio
import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from controller.decisions import DecisionLog
from controller.plan.retention import Kept, Trigger, log_begins_at, log_begins_at_for_room
from controller.quorum.control import snapshot_pieces
from controller.quorum.port import Quorum
from klamm.clock import Clock
from klamm.config.controller import ControllerConfig
from klamm.errors import KlammError, StateDivergedError
from klamm.ids import Offset, OffsetAndEpoch
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError, PartFile, format_name
from klamm.metadata.snapshot_batches import last_timestamp_ms
from klamm.telemetry import metrics
from klamm.telemetry.logs import logger

_log = logger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

LOOK_MS = 500
"""How often it is looked whether one is due."""

CLEAN_MS = 60_000
RETRY_MS = 60_000
"""After one that could not be written."""

NO_ROOM_RETRY_MS = 5_000
"""After one that found no room: what is older than the others has made way by then."""

SLICE_US = 500
"""So long it is encoded without a rest."""

REST_MS = 3

SYNC_BYTES = 512 * 1024
"""Written at the most before it is made durable."""

HEADER_BYTES_MAX = 1024 * 1024
"""Read to learn a snapshot's age."""


class Snapshots:
    """One a controller process."""

    def __init__(
        self,
        quorum: Quorum,
        log: DecisionLog,
        config: ControllerConfig,
        clock: Clock,
        rng: random.Random,
        *,
        now_ns: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._quorum = quorum
        self._log = log
        self._config = config
        self._clock = clock
        self._rng = rng
        self._now_ns = now_ns
        self._trigger = self._draw()
        self._since_bytes = 0
        self._since_ms = clock.monotonic_ms()
        self._seen_loaded = 0
        self._retry_ms = 0
        self._clean_ms = 0
        self._no_room = False
        """The last one found none, and nothing was cleaned since."""
        self._timestamps: dict[OffsetAndEpoch, int] = {}

    @property
    def age_ms(self) -> int:
        """Since the last one was written here, or since the start."""
        return self._clock.monotonic_ms() - self._since_ms

    @property
    def loaded(self) -> int:
        return self._log.loader.snapshots_loaded

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_MS / 1_000)
            await self.look()

    async def look(self) -> None:
        """Write one if it is due, and clean if that is; what fails is tried again later."""
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._retry_ms and self._due(now_ms):
            try:
                await self.write()
                self._clean_ms = 0
            except (KlammError, OSError, ValueError) as error:
                full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                wait_ms = NO_ROOM_RETRY_MS if full else RETRY_MS
                self._retry_ms = self._clock.monotonic_ms() + wait_ms
                self._no_room = full
                metrics.SNAPSHOT_ERRORS.inc()
                _log.warning("a snapshot was not written", why=str(error))
        try:
            if now_ms >= self._clean_ms or self._no_room or self._quorum.is_full():
                self._clean_ms = now_ms + CLEAN_MS
                await self.clean()
        except (KlammError, OSError) as error:
            _log.warning("old snapshots were not looked at", why=str(error))

    async def write(self) -> OffsetAndEpoch | None:
        """One of all that is committed now; its id, or None if there is none to write.

        Raises:
            OSError: The disk failed, or is full; nothing of it is left.
            StateDivergedError: The state is not the one that the log states.
        """
        if self._log.agreement.disagreement is not None:
            raise StateDivergedError("the state is not the one of the log; it is not written down")
        image, loader = self._log.image, self._log.loader
        since_bytes, timestamp_ms = loader.loaded_bytes, loader.last_timestamp_ms
        point = self._quorum.snapshot_point(image.provenance.offset)
        self._begin_anew(since_bytes)
        if point is None:
            return None
        began_ms = self._clock.monotonic_ms()
        part = self._quorum.snapshot_files.create(point.snapshot_id)
        try:
            pieces = snapshot_pieces(
                image,
                point.voters,
                last_timestamp_ms=timestamp_ms,
                timestamp_ms=self._clock.wall_ms(),
            )
            await self._fill(part, pieces)
            size_bytes = part.position
            await _in_thread(part.finish)
        except BaseException:
            part.abandon()
            raise
        self._timestamps[point.snapshot_id] = timestamp_ms
        self._quorum.snapshot_written(point.snapshot_id, size_bytes)
        _log.info(
            "a snapshot was written",
            file=format_name(point.snapshot_id),
            size_bytes=size_bytes,
            took_ms=self._clock.monotonic_ms() - began_ms,
        )
        return point.snapshot_id

    async def clean(self) -> None:
        """Let the log begin later, if it is too large or too old, or the disk is full.

        See `plan/retention`.
        """
        full = self._no_room or self._quorum.is_full()
        self._no_room = False
        held = self._quorum.snapshots
        if len(held) < 2 and not full:
            return
        known = {each.snapshot_id: await self._timestamp_ms(each.snapshot_id) for each in held}
        self._timestamps = known
        damaged = self._quorum.damaged_snapshots
        kept = [
            Kept(
                snapshot_id=each.snapshot_id,
                size_bytes=each.size_bytes,
                last_timestamp_ms=known[each.snapshot_id],
                damaged=each.snapshot_id in damaged,
            )
            for each in held
        ]
        if full:
            begin = log_begins_at_for_room(kept)
        else:
            begin = log_begins_at(
                kept,
                self._quorum.log_bytes,
                now_ms=self._clock.wall_ms(),
                retention_bytes=self._config.metadata_max_retention_bytes,
                retention_ms=self._config.metadata_max_retention_ms,
            )
        if begin is None or begin.offset <= self._quorum.log_start_offset:
            return
        if self._quorum.trim(begin):
            _log.info("the metadata log begins at a later snapshot", offset=begin.offset, full=full)
        else:
            _log.info("an older snapshot is being downloaded; it stays for now")

    def _due(self, now_ms: int) -> bool:
        loader = self._log.loader
        if loader.snapshots_loaded != self._seen_loaded:
            self._seen_loaded = loader.snapshots_loaded
            self._begin_anew(loader.loaded_bytes)
        since_bytes = loader.loaded_bytes - self._since_bytes
        latest = [each.snapshot_id for each in self._quorum.snapshots[-1:]]
        if since_bytes > 0 and not self._quorum.damaged_snapshots.isdisjoint(latest):
            return True
        return self._trigger.due(since_bytes, now_ms - self._since_ms)

    def _begin_anew(self, loaded_bytes: int) -> None:
        self._since_bytes = loaded_bytes
        self._since_ms = self._clock.monotonic_ms()
        self._trigger = self._draw()

    def _draw(self) -> Trigger:
        return Trigger(
            bytes_max=self._config.metadata_log_max_record_bytes_between_snapshots,
            interval_ms=self._config.metadata_log_max_snapshot_interval_ms,
            spread=self._rng.random(),
        )

    async def _fill(self, part: PartFile, pieces: Iterator[tuple[bytes, Offset]]) -> None:
        began_ns, synced = self._now_ns(), 0
        for piece, _ in pieces:
            if piece:
                await _in_thread(part.append, piece)
            if part.position - synced >= SYNC_BYTES:
                await _in_thread(part.sync)
                synced = part.position
            if self._now_ns() - began_ns >= SLICE_US * 1_000:
                await asyncio.sleep(REST_MS / 1_000)
                began_ns = self._now_ns()

    async def _timestamp_ms(self, snapshot_id: OffsetAndEpoch) -> int:
        if snapshot_id not in self._timestamps:
            data = await _in_thread(
                self._quorum.snapshot_files.read, snapshot_id, 0, HEADER_BYTES_MAX
            )
            try:
                self._timestamps[snapshot_id] = last_timestamp_ms(data)
            except (CorruptBatchError, CorruptSnapshotError):
                # It is gone by now, or damaged: its age is of no use for anything.
                return self._clock.wall_ms()
        return self._timestamps[snapshot_id]


async def _in_thread(work: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Returns, or is cancelled, only once `work` has ended: nobody closes a file beneath it."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
