"""Committed batches in, images out: what keeps a node's metadata true.

    batches ──▶ records ──▶ delta ──▶ image ──▶ publishers, in their order
    snapshot ─▶ another image ─▶ the delta between the two ─┘

A publisher that fails is logged and counted, and does not stop the others (KIP-859); a record that
cannot be read stops the node, for it would believe another state than its peers from there on.
"""

import asyncio
import heapq
import itertools
from collections.abc import Iterable, Sequence
from typing import Protocol

from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import iter_batches, read_records, verify_checksum
from klamm.log.records import CorruptBatchError
from klamm.metadata.codec import CONTROLS_OF_THE_LOG, check_controls, replay_record
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.snapshot import difference
from klamm.metadata.snapshot_batches import SnapshotReader
from klamm.telemetry.logs import logger

_log = logger(__name__)

COMPARED_AT_A_TIME = 16
"""Topics of a snapshot; then others get their turn."""


class Publisher(Protocol):
    """Is told of every change, synchronously and in order; must be quick."""

    def publish(self, delta: MetadataDelta, image: MetadataImage) -> None: ...


class MetadataLoader:
    """One a node. Fed in order, each batch once."""

    def __init__(self, publishers: Sequence[Publisher] = ()) -> None:
        self.image: MetadataImage = EMPTY
        self.apply_errors = 0
        """How often a publisher failed (Kafka: metadata-apply-error-count)."""
        self.loaded_bytes = 0
        """Of the log, by this process; a snapshot's are not counted."""
        self.snapshots_loaded = 0
        """Kafka: HandleLoadSnapshotCount."""
        self.last_timestamp_ms = 0
        """Of the last record that is included; the leader's clock."""
        self._publishers = tuple(publishers)
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._gave_up = 0
        """At the most so many of those who wait do so no more."""
        self._order = itertools.count()

    @property
    def end(self) -> OffsetAndEpoch:
        """Up to where the log is included."""
        return self.image.provenance

    def load(self, batches: bytes | memoryview, high_watermark: Offset) -> None:
        """Replay committed batches, which begin where the last ones ended, and publish once.

        Args:
            batches: Whole ones. What is at or above `high_watermark` is left alone.
            high_watermark: End of what is committed.

        Raises:
            CorruptBatchError: They are damaged, or not those that come next.
            UnknownRecordError: A record cannot be read, or does not fit what is before it. Either
                way nothing was taken.
        """
        delta = MetadataDelta(self.image)
        end = self.image.provenance
        for header, batch in iter_batches(batches):
            if header.last_offset >= high_watermark:
                break
            if header.last_offset < end.offset:
                continue
            if header.base_offset != end.offset:
                raise CorruptBatchError(f"offset {header.base_offset}, {end.offset} comes next")
            if not verify_checksum(batch, header=header):
                raise CorruptBatchError(f"the batch at {end.offset} has not its checksum")
            if header.is_control:
                check_controls(batch, CONTROLS_OF_THE_LOG)
            else:
                for record in read_records(batch, limit=len(batch)):
                    replay_record(delta, record)
            end = OffsetAndEpoch(Epoch(header.leader_epoch), Offset(header.last_offset + 1))
            self.loaded_bytes += header.size_bytes
            self.last_timestamp_ms = header.max_timestamp_ms
        if end != self.image.provenance:
            self._publish(delta, delta.apply(end))

    async def load_snapshot(
        self, snapshot_id: OffsetAndEpoch, batches: Iterable[memoryview]
    ) -> None:
        """Be what a snapshot says, header to footer; what is published is one delta.

        Until then what was before stands; also if `batches` raise.

        Raises:
            CorruptSnapshotError: It is damaged, or not whole.
            UnknownRecordError: A record cannot be read.
        """
        reader = SnapshotReader(snapshot_id)
        for batch in batches:
            reader.take(batch)
            await asyncio.sleep(0)
        await self.adopt(reader)

    async def adopt(self, reader: SnapshotReader) -> None:
        """As `load_snapshot`, of one that has been read."""
        before, after = self.image, reader.finish()
        steps, count = difference(before, after), 0
        while True:
            try:
                next(steps)
            except StopIteration as done:
                delta: MetadataDelta = done.value
                break
            count += 1
            if count % COMPARED_AT_A_TIME == 0:
                await asyncio.sleep(0)
        assert self.image is before, "a snapshot is loaded with nothing else beside it"
        self.last_timestamp_ms = reader.last_timestamp_ms
        self.snapshots_loaded += 1
        self._publish(delta, delta.apply(after.provenance))

    def wake(self) -> None:
        """Answer those who wait for what the image includes by now."""
        while self._waiting and self._waiting[0][0] <= self.end.offset:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    async def wait_for(self, offset: Offset, timeout_ms: int) -> None:
        """Wait until the image includes everything below `offset`.

        Raises:
            TimeoutError: It does not, after `timeout_ms`.
        """
        if self.end.offset >= offset:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (offset, next(self._order), future))
        try:
            async with asyncio.timeout(timeout_ms / 1_000):
                await future
        except BaseException:
            self._gave_up += 1
            self._forget_those_who_gave_up()
            raise

    def _forget_those_who_gave_up(self) -> None:
        """Once they are the half: an offset that never comes would keep them for ever."""
        if 2 * self._gave_up > len(self._waiting):
            self._waiting = [each for each in self._waiting if not each[2].done()]
            heapq.heapify(self._waiting)
            self._gave_up = 0

    def _publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
        self.image = image
        for publisher in self._publishers:
            try:
                publisher.publish(delta, image)
            except Exception:
                self.apply_errors += 1
                _log.exception(
                    "metadata-apply-failed",
                    publisher=type(publisher).__name__,
                    offset=self.end.offset,
                )
        self.wake()
