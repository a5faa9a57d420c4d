"""What a broker's data directory holds of partitions.

    <log.dir>/
      orders-3/                        one partition, named by its topic: a Log
        partition.metadata             the topic's id: which life of the name it belongs to
        producers.snapshot             left by a clean shutdown, beside the log's end
      orders-3.<topic id>-delete/      on its way out; removed at leisure, and at the next start
      orders-3.<number>-stray/         nobody's, since it names no topic id; left for a person
      replication-offset-checkpoint    high watermarks, every few seconds
      .kafka_cleanshutdown             the broker epoch of a clean shutdown, until the next start

Synchronous: `load` and the removals belong in a thread. Source: Kafka's LogManager.
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

from broker.replica.producer_memory import ProducerMemory
from klamm.clock import Clock
from klamm.config.topic import TopicConfig
from klamm.errors import StorageError
from klamm.ids import Offset, TopicId, TopicPartition, format_uuid, parse_uuid
from klamm.log import checkpoint
from klamm.log.files import Files
from klamm.log.log import Log, LogConfig
from klamm.telemetry.logs import logger

_log = logger(__name__)

T = TypeVar("T")
R = TypeVar("R")

PARTITION_METADATA = "partition.metadata"
PRODUCERS_SNAPSHOT = "producers.snapshot"
HIGH_WATERMARKS = checkpoint.REPLICATION_OFFSET_CHECKPOINT
DELETE_SUFFIX = "-delete"
STRAY_SUFFIX = "-stray"

CLOSES_AT_ONCE = 16
"""Partitions that are made durable side by side: a disk does many syncs with one of its own."""

_PARTITION_DIRECTORY = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249})-(?P<partition>\d{1,10})")


@dataclass(slots=True)
class Stored:
    """One partition as it lies on the disk."""

    topic_id: TopicId
    log: Log
    producers: ProducerMemory


class PartitionStorage:
    """The partitions in one data directory."""

    def __init__(self, files: Files, directory: Path, clock: Clock) -> None:
        self._files = files
        self._directory = directory
        self._clock = clock
        self._unsynced: list[Path] = []
        self._writing = threading.Lock()
        """Held while what the periodic checkpoint writes is written: a stop may meet its thread,
        whose task was cancelled."""
        self.clean_shutdown_epoch = -1
        """The broker epoch that the last clean shutdown has left; known after `load`."""
        self.failed: set[TopicPartition] = set()
        """Partitions that are there and could not be opened. Membership only."""

    def load(self, config: TopicConfig) -> dict[TopicPartition, Stored]:
        """Open every partition that is there, recovering what a crash has torn.

        What was on its way out is removed. A directory whose log cannot be opened is left as it
        is, and its partition comes up offline.
        """
        self.clean_shutdown_epoch = self._take_clean_shutdown_epoch()
        found: dict[TopicPartition, Stored] = {}
        for entry in self._files.list(self._directory):
            path = self._directory / entry
            if entry.endswith(DELETE_SUFFIX):
                self._remove_tree(path)
                continue
            match = _PARTITION_DIRECTORY.fullmatch(entry)
            if match is None or not self._files.exists(path / PARTITION_METADATA):
                continue
            name = TopicPartition(match["topic"], int(match["partition"]))
            topic_id = self._topic_id(path)
            if topic_id is None:
                _log.warning("no topic id", path=path)
                continue
            try:
                found[name] = self._open(name, topic_id, config)
            except (OSError, StorageError) as error:
                _log.error("log cannot be opened", partition=name, error=error)
                self.failed.add(name)
        return found

    def create(self, name: TopicPartition, topic_id: TopicId, config: TopicConfig) -> Stored:
        """A new, empty partition.

        Nothing is synced on the way: with some hundred partitions at once the loop would stand
        still for seconds. `sync_new` follows in a thread.

        Raises:
            OSError, StorageError: As the disk says; nothing is left of it, as far as that goes.
        """
        path = self._path(name)
        if self._files.exists(path):
            self._files.rename(path, self._stray_path(name))
        try:
            self._files.make_directory(path)
            file = self._files.open(path / PARTITION_METADATA)
            try:
                file.append(f"version: 0\ntopic_id: {format_uuid(topic_id)}\n".encode())
            finally:
                file.close()
            made = self._open(name, topic_id, config)
        except (OSError, StorageError):
            with suppress(OSError):
                self._remove_tree(path)
            raise
        self._unsynced.append(path)
        return made

    def sync_new(self) -> None:
        """Make the names and ids of new partitions durable."""
        with self._writing:
            new, self._unsynced = self._unsynced, []
            _side_by_side(self._sync_new, new)
            if new:
                self._files.sync_directory(self._directory)

    def _sync_new(self, path: Path) -> None:
        if self._files.exists(path / PARTITION_METADATA):
            file = self._files.open(path / PARTITION_METADATA)
            file.sync()
            file.close()
            self._files.sync_directory(path)

    def set_aside(self, name: TopicPartition, stored: Stored) -> Path:
        """Take a partition out of its place; returns the path to be removed.

        Nothing is synced on the way, as nobody will read it: see `create`.
        """
        stored.log.abandon()
        doomed = self._directory / f"{name}.{stored.topic_id.hex}{DELETE_SUFFIX}"
        if self._files.exists(doomed):
            self._remove_tree(doomed)
        self._files.rename(self._path(name), doomed)
        return doomed

    def remove(self, path: Path) -> None:
        self._remove_tree(path)

    def read_high_watermarks(self) -> dict[TopicPartition, Offset]:
        """Empty if there is none, or a damaged one: they are then found anew from the leaders."""
        try:
            return checkpoint.read_offsets(self._files, self._directory / HIGH_WATERMARKS)
        except checkpoint.CorruptCheckpointError as error:
            _log.warning("checkpoint damaged", error=error)
            return {}

    def write_high_watermarks(self, offsets: Mapping[TopicPartition, Offset]) -> None:
        with self._writing:
            checkpoint.write_offsets(self._files, self._directory / HIGH_WATERMARKS, offsets)

    def _take_clean_shutdown_epoch(self) -> int:
        """The broker epoch that the last clean shutdown has left, or -1; asked once."""
        data = self._read(self._directory, checkpoint.CLEAN_SHUTDOWN)
        if data is None:
            return -1
        self._files.remove(self._directory / checkpoint.CLEAN_SHUTDOWN)
        self._files.sync_directory(self._directory)
        return parse_clean_shutdown(data)

    def close(self, partitions: Iterable[tuple[TopicPartition, Stored]], broker_epoch: int) -> None:
        """Leave everything on the disk, and say so; unless something could not be closed."""
        closed = _side_by_side(lambda each: self._close(*each), partitions)
        self.sync_new()
        if all(closed) and not self.failed:
            marker = json.dumps({"version": 0, "brokerEpoch": broker_epoch})
            self._write(self._directory, checkpoint.CLEAN_SHUTDOWN, marker.encode())

    def _close(self, name: TopicPartition, stored: Stored) -> bool:
        data = stored.log
        try:
            if data.end_offset > data.log_start_offset or stored.producers.table:
                snapshot = stored.producers.snapshot(data.end_offset)
                self._write(self._path(name), PRODUCERS_SNAPSHOT, snapshot)
            data.close()
        except (OSError, StorageError) as error:
            _log.error("log not closed", partition=name, error=error)
            return False
        return True

    def _open(self, name: TopicPartition, topic_id: TopicId, config: TopicConfig) -> Stored:
        path = self._path(name)
        data = Log.open(
            self._files, path, log_config(config), clean_shutdown=self.clean_shutdown_epoch >= 0
        )
        for cut in data.recovery.cuts:
            _log.warning(
                "log cut",
                path=cut.path,
                position=cut.position,
                bytes_cut=cut.bytes_cut,
                reason=cut.reason,
            )
        producers = ProducerMemory()
        now_ms = self._clock.monotonic_ms()
        snapshot = self._read(path, PRODUCERS_SNAPSHOT)
        if snapshot is not None:
            self._files.remove(path / PRODUCERS_SNAPSHOT)
        if snapshot is None or not producers.restore(snapshot, data.end_offset, now_ms):
            producers.replay(data, data.log_start_offset, now_ms)
        return Stored(topic_id, data, producers)

    def _topic_id(self, path: Path) -> TopicId | None:
        text = (self._read(path, PARTITION_METADATA) or b"").decode(errors="replace")
        for line in text.splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "topic_id":
                try:
                    return TopicId(parse_uuid(value.strip()))
                except ValueError:
                    break
        return None

    def _remove_tree(self, directory: Path) -> None:
        for entry in self._files.list(directory):
            self._files.remove(directory / entry)
        self._files.remove_directory(directory)

    def _stray_path(self, name: TopicPartition) -> Path:
        numbers = (self._directory / f"{name}.{number}{STRAY_SUFFIX}" for number in count())
        return next(path for path in numbers if not self._files.exists(path))

    def _path(self, name: TopicPartition) -> Path:
        return self._directory / str(name)

    def _read(self, directory: Path, name: str) -> bytes | None:
        return checkpoint.read_whole(self._files, directory / name)

    def _write(self, directory: Path, name: str, data: bytes) -> None:
        checkpoint.write_atomically(self._files, directory / name, data)


def _side_by_side(work: Callable[[T], R], of: Iterable[T]) -> list[R]:
    """In threads; the first error is raised once all have ended."""
    with ThreadPoolExecutor(CLOSES_AT_ONCE, thread_name_prefix="partitions") as threads:
        return list(threads.map(work, of))


def parse_clean_shutdown(data: bytes) -> int:
    """The broker epoch in Kafka's `.kafka_cleanshutdown`; -1 if it says none."""
    try:
        epoch = json.loads(data)["brokerEpoch"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1
    return epoch if type(epoch) is int and 0 <= epoch < 2**63 else -1


def log_config(config: TopicConfig) -> LogConfig:
    return LogConfig(
        segment_bytes=config.segment_bytes,
        index_interval_bytes=config.index_interval_bytes,
        index_bytes_max=config.segment_index_bytes,
    )
