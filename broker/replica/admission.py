"""What a producer's batch must be before it is appended. Pure.

    frame ──▶ read_header ──▶ size, shape, checksum, timestamps ──▶ append as it came
                                                   │
                                   refused: ApiError with Kafka's code

The records themselves are opened only where a topic's configuration makes it necessary: a
compacted topic needs keys. All else is in the header, so that a batch of a thousand records costs
what a batch of one does. So a client can have bytes stored that are no records: whoever reads a
partition's records must expect them (`klamm/log/found.py`). Source: Kafka's LogValidator.
"""

import struct

from crc32c import crc32c

from klamm.config.topic import TopicConfig
from klamm.errors import ApiError, ErrorCode
from klamm.log.record_batch import (
    LOG_APPEND_TIME_BIT,
    MAGIC,
    BatchHeader,
    read_header,
    records_fit,
    verify_checksum,
    walk_records,
)
from klamm.log.records import CorruptBatchError

LONG_MAX = (1 << 63) - 1
OPENED_BYTES_MAX = 64 * 1024 * 1024
"""What a batch's records may take, decompressed, where they must be opened."""

_MAGIC_POSITION = 16
_CRC_POSITION = 17
_ATTRIBUTES_POSITION = 21
_MAX_TIMESTAMP_POSITION = 35
_COMPRESSIONS = 5


def admit(batch: memoryview, config: TopicConfig, wall_ms: int) -> BatchHeader:
    """Check a produce request's records for one partition.

    Raises:
        ApiError: CORRUPT_MESSAGE, INVALID_RECORD, MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE,
            INVALID_TIMESTAMP or UNSUPPORTED_COMPRESSION_TYPE; nothing was changed.
    """
    size = len(batch)
    if size > config.max_message_bytes:
        raise ApiError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the batch has {size} bytes, max.message.bytes is {config.max_message_bytes}",
        )
    if size > config.segment_bytes:
        raise ApiError(
            ErrorCode.RECORD_LIST_TOO_LARGE,
            f"the batch has {size} bytes, segment.bytes is {config.segment_bytes}",
        )
    header = _header(batch)
    _check_shape(header)
    _check_timestamps(header, config, wall_ms)
    if "compact" in config.cleanup_policy:
        _check_keys(batch)
    return header


def stamp(batch: memoryview, header: BatchHeader, wall_ms: int) -> None:
    """Write the append time into the header, in place: `message.timestamp.type=LogAppendTime`."""
    attributes = header.attributes | LOG_APPEND_TIME_BIT
    struct.pack_into(">h", batch, _ATTRIBUTES_POSITION, attributes)
    struct.pack_into(">q", batch, _MAX_TIMESTAMP_POSITION, wall_ms)
    struct.pack_into(">I", batch, _CRC_POSITION, crc32c(batch[_ATTRIBUTES_POSITION:]))


def _header(batch: memoryview) -> BatchHeader:
    if len(batch) > _MAGIC_POSITION and batch[_MAGIC_POSITION] != MAGIC:
        raise _invalid(f"batches have magic {MAGIC}, not {batch[_MAGIC_POSITION]}")
    try:
        header = read_header(batch)
        if header is None:
            raise CorruptBatchError("the batch is cut short")
        if header.size_bytes == len(batch) and not verify_checksum(batch):
            raise CorruptBatchError("the checksum does not match the batch's bytes")
    except CorruptBatchError as error:
        raise ApiError(ErrorCode.CORRUPT_MESSAGE, str(error)) from error
    if header.size_bytes != len(batch):
        raise _invalid("a produce request has exactly one batch for each partition")
    return header


def _check_shape(header: BatchHeader) -> None:
    if not 0 < header.records_count == header.last_offset_delta + 1:
        raise _invalid(
            f"records_count is {header.records_count}, "
            f"last_offset_delta is {header.last_offset_delta}"
        )
    if not records_fit(header):
        raise _invalid(f"{header.records_count} records in {header.size_bytes} bytes")
    if header.is_control:
        raise _invalid("clients may not write control batches")
    if header.is_transactional:
        raise ApiError(ErrorCode.INVALID_TXN_STATE, "transactions are not served yet")
    if header.producer_id >= 0 and (header.base_sequence < 0 or header.producer_epoch < 0):
        raise _invalid("an idempotent batch has a base_sequence and a producer_epoch")
    if header.compression_bits >= _COMPRESSIONS:
        raise ApiError(
            ErrorCode.UNSUPPORTED_COMPRESSION_TYPE,
            f"no codec has the number {header.compression_bits}",
        )


def _check_timestamps(header: BatchHeader, config: TopicConfig, wall_ms: int) -> None:
    """By the batch's own bounds: its first and its largest timestamp stand in the header."""
    if config.message_timestamp_type != "CreateTime":
        return
    # The largest is but what the producer says: the first can be larger.
    latest_ms = max(header.base_timestamp_ms, header.max_timestamp_ms)
    if latest_ms - wall_ms > config.message_timestamp_after_max_ms:
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {latest_ms} is more than "
            f"message.timestamp.after.max.ms={config.message_timestamp_after_max_ms} ahead",
        )
    if (
        config.message_timestamp_before_max_ms != LONG_MAX
        and wall_ms - header.base_timestamp_ms > config.message_timestamp_before_max_ms
    ):
        raise ApiError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.base_timestamp_ms} is more than "
            f"message.timestamp.before.max.ms={config.message_timestamp_before_max_ms} ago",
        )


def _check_keys(batch: memoryview) -> None:
    try:
        for at, record in enumerate(walk_records(batch, OPENED_BYTES_MAX)):
            if record.key is None:
                raise _invalid(f"record {at} has no key, and the topic is compacted")
    except CorruptBatchError as error:
        raise _invalid(str(error)) from error


def _invalid(message: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_RECORD, message)
