"""Follows one leader broker: one task, one connection, all partitions that it leads for us.

    follow(partition) ─┐
                       ▼
    ┌─▶ Fetch (long poll, many partitions, by topic id) ──▶ leader
    │        │
    └── each answer to its Partition: append, truncate, high watermark, or back off

A new partition does not wait for the end of a long poll: the poll is cut short by closing its
connection. A partition that the leader does not yet lead in its own eyes is asked for again after
a few milliseconds, and the poll of the others ends by then.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from broker.kafka.messages.fetch import (
    EpochEndOffset,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
    ReplicaState,
)
from broker.replica.follower import FetchAnswer, FetchPosition
from broker.replica.link import Connect, Link
from klamm.clock import Clock
from klamm.config.broker import BrokerConfig
from klamm.errors import ErrorCode
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch, TopicId, TopicPartition
from klamm.telemetry.logs import logger

_log = logger(__name__)

BACKOFF_MIN_MS = 2
"""Of a partition, doubled with each refusal up to `replica.fetch.backoff.ms`; and of the
connection."""

CONNECT_BACKOFF_MAX_MS = 500


class FollowedPartition(Protocol):
    """What the fetcher knows of a partition."""

    @property
    def topic_id(self) -> TopicId: ...

    @property
    def name(self) -> TopicPartition: ...

    @property
    def log_start_offset(self) -> Offset: ...

    def fetch_position(self) -> FetchPosition | None:
        """What to ask for; None: nothing, it follows nobody or its directory is offline."""
        ...

    def on_fetch_answered(self, answer: FetchAnswer, records: bytes | memoryview) -> ErrorCode:
        """Take the answer in. Other than NONE: ask again later."""
        ...


@dataclass(slots=True)
class _Followed:
    partition: FollowedPartition
    backoff_ms: int = 0
    retry_at_ms: int = 0
    asked: FetchPosition | None = None


class Fetcher:
    """Made and stopped by the manager; `follow` and `unfollow` at any time."""

    def __init__(
        self,
        leader: NodeId,
        host: str,
        port: int,
        *,
        broker_epoch: Callable[[], int],
        connect: Connect,
        config: BrokerConfig,
        clock: Clock,
    ) -> None:
        self.leader = leader
        self.host = host
        self.port = port
        self.broken_ms: int | None = None
        """Since when the leader has not answered on the connection that it broke."""
        self._broker_epoch = broker_epoch
        self._connect = connect
        self._config = config
        self._clock = clock
        self._followed: dict[tuple[TopicId, int], _Followed] = {}
        self._link: Link | None = None
        self._polling = False
        self._cut_short = False
        self._was_cut = False
        """The last fetch was; the next is answered at once, and not cut."""
        self._something_to_do = asyncio.Event()
        self._turn = 0

    def __len__(self) -> int:
        return len(self._followed)

    def follow(self, partition: FollowedPartition) -> None:
        """Begin to fetch, or, with a new leader epoch, fetch at once what was being backed off."""
        key = (partition.topic_id, partition.name.partition)
        self._followed[key] = _Followed(partition)
        self._something_to_do.set()
        if self._polling and not self._was_cut and self._link is not None:
            # Not again before the next is answered: who is told of one partition after the other
            # would never hear of those that it follows already.
            self._cut_short = self._was_cut = True
            self._link.close()

    def unfollow(self, partition: FollowedPartition) -> None:
        self._followed.pop((partition.topic_id, partition.name.partition), None)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                if not self._followed:
                    self._something_to_do.clear()
                    await self._something_to_do.wait()
                self._link = await self._connected()
                await self._poll_until_broken(self._link)
        finally:
            if self._link is not None:
                self._link.close()

    async def _connected(self) -> Link:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(OSError),
            wait=wait_exponential(
                multiplier=BACKOFF_MIN_MS / 1_000, max=CONNECT_BACKOFF_MAX_MS / 1_000
            ),
            reraise=True,
        )
        link: Link = await retrying(self._connect, self.host, self.port)
        return link

    async def _poll_until_broken(self, link: Link) -> None:
        self._cut_short = False
        while self._followed:
            now_ms = self._clock.monotonic_ms()
            request, wait_ms = self._next_request(now_ms)
            if not request.topics:
                await self._pause(wait_ms)
                continue
            self._polling = True
            try:
                timeout_ms = wait_ms + self._config.replica_socket_timeout_ms
                response = await link.fetch(request, timeout_ms)
            except OSError as error:
                if not self._cut_short:
                    self.broken_ms = self._clock.monotonic_ms()
                    _log.info("fetch failed", leader=self.leader, error=error)
                    # One pause between two connections: a leader that accepts and hangs up at
                    # once must not be asked in a tight circle.
                    await self._pause(BACKOFF_MIN_MS)
                return
            finally:
                self._polling = False
            self.broken_ms = None
            self._was_cut = False
            self._on_response(response)

    async def _pause(self, wait_ms: int) -> None:
        """Wait, but no longer than until something new is to be followed."""
        self._something_to_do.clear()
        try:
            async with asyncio.timeout(max(wait_ms, 1) / 1_000):
                await self._something_to_do.wait()
        except TimeoutError:
            pass

    def _next_request(self, now_ms: int) -> tuple[FetchRequest, int]:
        """The next fetch, and how long it may be parked: no longer than the next back-off."""
        wait_ms = self._config.replica_fetch_wait_max_ms
        topics: dict[TopicId, list[FetchPartition]] = {}
        for (topic_id, partition), followed in self._in_turn():
            followed.asked = None
            if followed.retry_at_ms > now_ms:
                wait_ms = min(wait_ms, followed.retry_at_ms - now_ms)
                continue
            asked = followed.asked = followed.partition.fetch_position()
            if asked is None:
                continue
            row = FetchPartition(
                partition=partition,
                current_leader_epoch=asked.current_leader_epoch,
                fetch_offset=asked.fetch_offset,
                last_fetched_epoch=asked.last_fetched_epoch,
                log_start_offset=followed.partition.log_start_offset,
                partition_max_bytes=self._config.replica_fetch_max_bytes,
            )
            topics.setdefault(topic_id, []).append(row)
        request = FetchRequest(
            replica_state=ReplicaState(
                replica_id=self._config.node_id, replica_epoch=self._broker_epoch()
            ),
            max_wait_ms=0 if self._was_cut else wait_ms,
            min_bytes=self._config.replica_fetch_min_bytes,
            max_bytes=self._config.replica_fetch_response_max_bytes,
            topics=[FetchTopic(topic_id=id_, partitions=rows) for id_, rows in topics.items()],
        )
        return request, wait_ms

    def _in_turn(self) -> Iterator[tuple[tuple[TopicId, int], _Followed]]:
        """All, each time from another one on, so that a full response starves none."""
        items = list(self._followed.items())
        self._turn = (self._turn + 1) % len(items)
        yield from items[self._turn :]
        yield from items[: self._turn]

    def _on_response(self, response: FetchResponse) -> None:
        now_ms = self._clock.monotonic_ms()
        error = ErrorCode(response.error_code)
        if error is not ErrorCode.NONE:
            for followed in self._followed.values():
                self._back_off(followed, error, now_ms)
            return
        for topic in response.responses:
            for row in topic.partitions:
                known = self._followed.get((TopicId(topic.topic_id), row.partition_index))
                if known is not None and known.asked is not None:
                    self._on_answer(known, known.asked, row, now_ms)

    def _on_answer(
        self, followed: _Followed, asked: FetchPosition, row: PartitionData, now_ms: int
    ) -> None:
        records = row.records
        assert records is None or isinstance(records, bytes | bytearray | memoryview)
        diverging = row.diverging_epoch
        answer = FetchAnswer(
            position=asked,
            error=ErrorCode(row.error_code),
            high_watermark=Offset(row.high_watermark),
            log_start_offset=Offset(row.log_start_offset),
            diverging=None if diverging is None else _offset_and_epoch(diverging),
            has_records=bool(records),
        )
        error = followed.partition.on_fetch_answered(answer, records or b"")
        if error is ErrorCode.NONE:
            followed.backoff_ms = 0
        else:
            self._back_off(followed, error, now_ms)

    def _back_off(self, followed: _Followed, error: ErrorCode, now_ms: int) -> None:
        followed.backoff_ms = min(
            max(followed.backoff_ms * 2, BACKOFF_MIN_MS), self._config.replica_fetch_backoff_ms
        )
        followed.retry_at_ms = now_ms + followed.backoff_ms
        _log.debug(
            "fetch refused",
            partition=followed.partition.name,
            leader=self.leader,
            error=error.name,
            retry_in_ms=followed.backoff_ms,
        )


def _offset_and_epoch(wire: EpochEndOffset) -> OffsetAndEpoch:
    return OffsetAndEpoch(epoch=Epoch(wire.epoch), offset=Offset(wire.end_offset))
