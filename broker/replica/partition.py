"""This broker's copy of one partition: its log, its role, and who waits for it.

    produce ──▶ append_as_leader ──▶ Log ──▶ leader.on_appended ──▶ effects
    fetch   ──▶ read_as_leader   ──▶ (a follower's: leader.on_follower_fetched) ──▶ Log.read
    leader  ──▶ on_fetch_answered ─▶ follower.on_fetch_answered ──▶ append, truncate, start anew

The shell around the cores: it carries their effects out, in order, and decides nothing itself.
Called on the loop only and never suspended, so each call sees and leaves a whole state. What the
disk refuses puts the partition offline: from then on everything is KAFKA_STORAGE_ERROR.
"""

from collections import deque
from collections.abc import Callable

from broker.replica import admission, follower, leader, producer_state
from broker.replica.exchange import Appended, FetchedRow, FetchRow, Surroundings
from broker.replica.flushing import Flushing
from broker.replica.follower import (
    AppendRecords,
    BackOff,
    FetchAnswer,
    FetchPosition,
    FollowerState,
    StartAt,
    TruncateTo,
)
from broker.replica.isr import IsrAnswer, IsrChange
from broker.replica.leader import AdvanceHighWatermark, LeaderState, ProposeIsr
from broker.replica.producer_memory import ProducerMemory, incoming
from broker.replica.purgatory import FetchWatchers, OffsetWaits
from klamm.config.topic import TopicConfig
from klamm.errors import ApiError, ErrorCode, NoSpaceError, StorageError
from klamm.ids import NO_EPOCH, NO_NODE, Epoch, Offset, OffsetAndEpoch, TopicId
from klamm.ids import TopicPartition as Name
from klamm.log.found import FoundRecord, UnreadableRecordsError
from klamm.log.log import Log
from klamm.log.record_batch import (
    BatchHeader,
    assign_offsets,
    iter_batches,
    verify_checksum,
)
from klamm.log.records import CorruptBatchError
from klamm.metadata.image import PartitionImage
from klamm.telemetry.logs import logger

_log = logger(__name__)

CHANGE_BYTES = 1 << 40
"""More than any fetch waits for."""


class Partition:
    """Made and given its roles by the manager."""

    def __init__(
        self,
        name: Name,
        topic_id: TopicId,
        data: Log,
        producers: ProducerMemory,
        high_watermark: Offset,
        config: TopicConfig,
        surroundings: Surroundings,
    ) -> None:
        self.name = name
        self.topic_id = topic_id
        self.log = data
        self.producers = producers
        self.config = config
        self.high_watermark = Offset(
            max(data.log_start_offset, min(high_watermark, data.end_offset))
        )
        self.leader: LeaderState | None = None
        self.follower: FollowerState | None = None
        self.offline: str | None = None
        """Why, if it is."""
        self.waits = OffsetWaits()
        self.watchers: FetchWatchers = {}
        self.bytes_appended = 0
        """Ever since the start; what has come since a fetch was parked is a difference. Any other
        change counts as more than anybody waits for."""
        self.bytes_committed = 0
        """As `bytes_appended`, of what is below the high watermark."""
        self._uncommitted: deque[tuple[Offset, int]] = deque()
        """For each batch that is not committed its end offset, and `bytes_appended` there."""
        self.bytes_produced = 0
        self.records_produced = 0
        self.bytes_consumed = 0
        self.isr_shrinks = 0
        self.isr_expands = 0
        self._flushing = Flushing(data)
        self._surroundings = surroundings

    # Roles.

    @property
    def leader_epoch(self) -> Epoch:
        if self.leader is not None:
            return self.leader.reign.leader_epoch
        return NO_EPOCH if self.follower is None else self.follower.leader_epoch

    @property
    def log_start_offset(self) -> Offset:
        return self.log.log_start_offset

    def become_leader(self, image: PartitionImage) -> None:
        """Lead, or hear of a change in an epoch that this replica leads already."""
        around, now_ms = self._surroundings, self._surroundings.clock.monotonic_ms()
        minimum = self.config.min_insync_replicas
        if self.leader is not None and self.leader.reign.leader_epoch == image.leader_epoch:
            self._carry_out(leader.on_metadata(self.leader, image, minimum, now_ms, around.active))
            return
        self.follower = None
        self._carry_out(
            leader.lead(
                image,
                me=around.me,
                end_offset=self.log.end_offset,
                high_watermark=self.high_watermark,
                min_insync=minimum,
                lag_time_max_ms=around.lag_time_max_ms,
                now_ms=now_ms,
                active=around.active,
            )
        )
        self._on_changed()

    def become_follower(self, image: PartitionImage) -> bool:
        """Follow, or nobody if nobody leads. True: the leader epoch is new."""
        known = self.follower
        if known is not None and known.leader_epoch == image.leader_epoch:
            return False
        self.leader = None
        self.follower = FollowerState(
            leader=image.leader,
            leader_epoch=image.leader_epoch,
            partition_epoch=image.partition_epoch,
            high_watermark=self.high_watermark,
        )
        self.waits.settle_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._on_changed()
        return True

    def reconfigure(self, config: TopicConfig) -> None:
        self.config = config

    def retire(self) -> None:
        """It is deleted or moved away: nobody is to wait for it."""
        self.leader = self.follower = None
        self._flushing.end()
        self.waits.settle_all(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        self._on_changed()

    def takes_flush(self, now_ms: int) -> bool:
        """See `Flushing`."""
        return self.offline is None and self._flushing.takes(now_ms, self.config)

    def on_flush_failed(self, error: StorageError | OSError) -> None:
        self._flushing.again()
        if not isinstance(error, NoSpaceError):
            self._failed(error)

    def on_time_passed(self, now_ms: int) -> None:
        if self.leader is not None:
            self._carry_out(leader.on_time_passed(self.leader, now_ms, self._surroundings.active))

    # The leader's side.

    def leading(self, current_leader_epoch: Epoch = NO_EPOCH) -> LeaderState:
        """The state, if this replica leads and the caller knows of the same epoch.

        Raises:
            ApiError: KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH (the caller's is old),
                UNKNOWN_LEADER_EPOCH (ours is), NOT_LEADER_OR_FOLLOWER.
        """
        if self.offline is not None:
            raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: {self.offline}")
        if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:
            code = (
                ErrorCode.FENCED_LEADER_EPOCH
                if current_leader_epoch < self.leader_epoch
                else ErrorCode.UNKNOWN_LEADER_EPOCH
            )
            raise ApiError(code, f"{self.name} is in leader epoch {self.leader_epoch} here")
        if self.leader is None:
            raise ApiError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER, f"this broker does not lead {self.name}"
            )
        return self.leader

    def append_as_leader(self, batch: memoryview, needs_in_sync: bool) -> Appended:
        """Append a producer's batch; its offsets are written into `batch` itself.

        Args:
            needs_in_sync: acks=all: refuse while fewer than `min.insync.replicas` are in sync.

        Raises:
            ApiError: Nothing was appended; or it was, and `flush.messages` cannot be kept.
        """
        state = self.leading()
        if needs_in_sync and not leader.has_enough_in_sync(state):
            raise ApiError(
                ErrorCode.NOT_ENOUGH_REPLICAS,
                f"{len(state.reign.isr)} in sync, {state.reign.min_insync} needed",
            )
        around = self._surroundings
        wall_ms = around.clock.wall_ms()
        header = admission.admit(batch, self.config, wall_ms)
        if header.producer_id != producer_state.NO_PRODUCER_ID:
            verdict = producer_state.check(self.producers.table, incoming(header))
            if isinstance(verdict, producer_state.Duplicate):
                return Appended(verdict.base_offset, Offset(verdict.last_offset + 1), -1)
            if verdict is not ErrorCode.NONE:
                raise ApiError(verdict, f"producer {header.producer_id} on {self.name}")
        append_time_ms = -1
        if self.config.message_timestamp_type != "CreateTime":
            append_time_ms = wall_ms
            admission.stamp(batch, header, wall_ms)
        base_offset = state.end_offset
        assign_offsets(batch, base_offset, state.reign.leader_epoch)
        now_ms = around.clock.monotonic_ms()
        self._append(batch)
        self.producers.on_appended(header, base_offset, now_ms)
        self.bytes_produced += len(batch)
        self.records_produced += header.records_count
        unflushed = self._flush_if_due(header.records_count, now_ms)
        end_offset = self.log.end_offset
        self._uncommitted.append((end_offset, self.bytes_appended))
        self._carry_out(leader.on_appended(state, end_offset, now_ms, around.active))
        for parked in self.watchers:
            parked.wake()
        if unflushed is not None:
            raise unflushed
        return Appended(base_offset, end_offset, append_time_ms)

    def read_as_leader(self, row: FetchRow, at_least_one_batch: bool) -> FetchedRow:
        """Read for a consumer up to the high watermark, for a follower up to the end.

        A follower's fetch also tells what it has, before its own records are read: so it hears
        of the high watermark that it has moved.

        Raises:
            ApiError: As `leading`, and OFFSET_OUT_OF_RANGE.
        """
        state = self.leading(row.current_leader_epoch)
        diverging = self._divergence(row)
        if diverging is not None:
            return self._fetched(b"", diverging)
        if not self.log.log_start_offset <= row.fetch_offset <= state.end_offset:
            raise self._out_of_range(row.fetch_offset)
        bound = state.end_offset
        if row.replica_id >= 0:
            if row.acknowledges:
                self._on_follower_fetched(state, row)
        else:
            bound = state.high_watermark
        if row.fetch_offset >= bound or not (row.max_bytes > 0 or at_least_one_batch):
            return self._fetched(b"")
        try:
            records = self.log.read(
                row.fetch_offset, row.max_bytes, bound, min_one_batch=at_least_one_batch
            )
        except (OSError, StorageError, CorruptBatchError) as error:
            raise self._failed(error) from error
        if row.replica_id < 0:
            self.bytes_consumed += len(records)
        return self._fetched(records)

    def end_of_epoch(self, epoch: Epoch) -> OffsetAndEpoch | None:
        """The largest epoch up to `epoch`, and where it ends. None: not known here (KIP-101)."""
        if epoch < 0 or epoch > self.leader_epoch:
            return None
        if epoch == self.leader_epoch:
            return OffsetAndEpoch(epoch, self.log.end_offset)
        return self.log.epochs.end_of(epoch)

    def since(self, timestamp_ms: int) -> FoundRecord | None:
        """The first record of that time or later, committed or not.

        Raises:
            ApiError: CORRUPT_MESSAGE: a client's batch that can be stored, and not be looked into.
                KAFKA_STORAGE_ERROR: the disk failed, or what it holds is damaged.
        """
        return self._looked_up(lambda: self.log.offset_for_timestamp(timestamp_ms))

    def youngest_record(self) -> FoundRecord | None:
        """The first with the largest timestamp, committed or not. Raises as `since`."""
        return self._looked_up(self.log.youngest_record)

    # The follower's side.

    def fetch_position(self) -> FetchPosition | None:
        if self.follower is None or self.follower.leader == NO_NODE or self.offline is not None:
            return None
        return follower.position_of(self.follower, self.log.epochs)

    def on_fetch_answered(self, answer: FetchAnswer, records: bytes | memoryview) -> ErrorCode:
        """Take the leader's answer in. Other than NONE: ask again later."""
        if self.follower is None or self.offline is not None:
            return ErrorCode.NONE
        self.follower, effects = follower.on_fetch_answered(self.follower, answer, self.log.epochs)
        error = ErrorCode.NONE
        try:
            for effect in effects:
                match effect:
                    case AppendRecords():
                        self._append_as_follower(records, answer.high_watermark)
                    case TruncateTo(offset):
                        self._truncate_to(offset)
                    case StartAt(offset):
                        self._start_at(offset)
                    case BackOff(code):
                        error = code
        except CorruptBatchError as corrupt:
            _log.warning("corrupt fetch", partition=self.name, error=corrupt)
            error = ErrorCode.CORRUPT_MESSAGE
        except ApiError as offline:
            error = offline.code
        except NoSpaceError as full:
            error = self._no_room(full).code
        except (OSError, StorageError) as failure:
            self._failed(failure)
        self.high_watermark = self.follower.high_watermark
        return error

    def _append_as_follower(
        self, records: bytes | memoryview, leader_high_watermark: Offset
    ) -> None:
        state = self.follower
        assert state is not None, "only a follower appends what it has fetched"
        view = memoryview(records)
        now_ms = self._surroundings.clock.monotonic_ms()
        end, headers = _whole_batches(view, self.log.end_offset)
        self.log.append(view[:end])
        self.bytes_appended += end
        for header in headers:
            self.producers.on_appended(header, Offset(header.base_offset), now_ms)
            self._flush_if_due(header.records_count, now_ms)
        self.follower = follower.on_caught_up_to(state, self.log.end_offset, leader_high_watermark)

    def _truncate_to(self, offset: Offset) -> None:
        _log.info(
            "truncated",
            partition=self.name,
            end_offset=self.log.end_offset,
            to=offset,
            high_watermark=self.high_watermark,
        )
        self.log.truncate_to(offset)
        self.producers.on_truncated(self.log, self._surroundings.clock.monotonic_ms())

    def _start_at(self, offset: Offset) -> None:
        _log.info("started anew", partition=self.name, at=offset)
        self.log.truncate_fully_and_start_at(offset)
        self.producers = ProducerMemory()

    # Effects.

    def _carry_out(self, step: leader.Step) -> None:
        self.leader, effects = step
        for effect in effects:
            match effect:
                case AdvanceHighWatermark(high_watermark):
                    self._on_high_watermark(self.leader, high_watermark)
                case ProposeIsr(change):
                    self._propose(change)

    def _on_high_watermark(self, state: LeaderState, high_watermark: Offset) -> None:
        self.high_watermark = high_watermark
        while self._uncommitted and self._uncommitted[0][0] <= high_watermark:
            self.bytes_committed = self._uncommitted.popleft()[1]
        enough = leader.has_enough_in_sync(state)
        code = ErrorCode.NONE if enough else ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        self.waits.settle_to(high_watermark, code)
        self._wake_all()

    def _propose(self, change: IsrChange) -> None:
        _log.info(
            "isr proposed",
            partition=self.name,
            isr=list(change.isr),
            leader_epoch=change.leader_epoch,
            partition_epoch=change.partition_epoch,
        )
        before = 0 if self.leader is None else len(self.leader.reign.isr)

        def answered(answer: IsrAnswer) -> None:
            _log.info("isr answered", partition=self.name, error=answer.error.name)
            if answer.error is ErrorCode.NONE:
                self.isr_shrinks += len(change.isr) < before
                self.isr_expands += len(change.isr) > before
            if self.leader is not None:
                now_ms, active = self._surroundings.clock.monotonic_ms(), self._surroundings.active
                self._carry_out(leader.on_isr_answered(self.leader, change, answer, now_ms, active))

        submit = self._surroundings.alter_partition.submit
        submit(self.topic_id, self.name.partition, change, answered)

    def _on_follower_fetched(self, state: LeaderState, row: FetchRow) -> None:
        fetch = leader.FollowerFetch(
            broker_id=row.replica_id,
            broker_epoch=row.replica_epoch,
            fetch_offset=row.fetch_offset,
        )
        now_ms = self._surroundings.clock.monotonic_ms()
        self._carry_out(leader.on_follower_fetched(state, fetch, now_ms, self._surroundings.active))

    def _looked_up(self, look: Callable[[], FoundRecord | None]) -> FoundRecord | None:
        try:
            return look()
        except UnreadableRecordsError as error:
            raise ApiError(ErrorCode.CORRUPT_MESSAGE, f"{self.name}: {error}") from error
        except (OSError, StorageError, CorruptBatchError) as error:
            raise self._failed(error) from error

    def _divergence(self, row: FetchRow) -> OffsetAndEpoch | None:
        """Where the asker's log and this one part, if they do (KIP-595)."""
        if row.last_fetched_epoch < 0 or row.fetch_offset < self.log.log_start_offset:
            return None
        end = self.log.epochs.end_of(row.last_fetched_epoch)
        if end.epoch < row.last_fetched_epoch or end.offset < row.fetch_offset:
            return end
        return None

    def _out_of_range(self, offset: Offset) -> ApiError:
        return ApiError(
            ErrorCode.OFFSET_OUT_OF_RANGE,
            f"{self.name} is [{self.log.log_start_offset}, {self.log.end_offset}), not {offset}",
        )

    def _fetched(
        self, records: bytes | memoryview, diverging: OffsetAndEpoch | None = None
    ) -> FetchedRow:
        return FetchedRow(
            records=records,
            high_watermark=self.high_watermark,
            log_start_offset=self.log.log_start_offset,
            diverging=diverging,
        )

    def _append(self, batch: memoryview) -> None:
        try:
            self.log.append(batch)
        except NoSpaceError as error:
            raise self._no_room(error) from error
        except (OSError, StorageError) as error:
            raise self._failed(error) from error
        self.bytes_appended += len(batch)

    def _flush_if_due(self, records: int, now_ms: int) -> ApiError | None:
        """See `Flushing`. An error: not yet."""
        try:
            full = self._flushing.on_appended(records, now_ms, self.config)
        except (OSError, StorageError) as error:
            raise self._failed(error) from error
        return None if full is None else self._no_room(full)

    def _no_room(self, error: NoSpaceError) -> ApiError:
        """Nothing was done; the partition stays online, and goes on when there is room."""
        self._surroundings.found_no_room(error)
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: {error}")

    def _failed(self, error: OSError | StorageError | CorruptBatchError) -> ApiError:
        """Take the partition offline: what is on the disk is no longer known."""
        self.offline = f"its log cannot be used: {error}"
        _log.error("partition offline", partition=self.name, error=error)
        self.waits.settle_all(ErrorCode.KAFKA_STORAGE_ERROR)
        self._on_changed()
        return ApiError(ErrorCode.KAFKA_STORAGE_ERROR, f"{self.name}: {self.offline}")

    def _on_changed(self) -> None:
        """Another leader, or none: whoever waits is to look again."""
        self.bytes_appended += CHANGE_BYTES
        self.bytes_committed = self.bytes_appended
        self._uncommitted.clear()
        self._wake_all()

    def _wake_all(self) -> None:
        for parked in self.watchers:
            parked.wake()


def _whole_batches(records: memoryview, at: Offset) -> tuple[int, list[BatchHeader]]:
    """The end of the last whole batch, and the headers.

    Raises:
        CorruptBatchError: A checksum does not match, or a batch does not follow on from `at`.
    """
    headers: list[BatchHeader] = []
    end = 0
    for header, batch in iter_batches(records):
        if not verify_checksum(batch):
            raise CorruptBatchError(f"the checksum of the batch at offset {header.base_offset}")
        if header.base_offset != at:
            raise CorruptBatchError(f"a batch at offset {header.base_offset}, not {at}")
        at = header.next_offset
        headers.append(header)
        end += len(batch)
    return end, headers
