"""Which APIs there are, and in which versions.

Two tables are kept apart: `APIS` is what the codec can read and write; what a broker advertises
is `served(…)`, an API with a handler each, in versions within the codec's.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum

from broker.kafka.schema import VERSION_MAX


class ApiKey(IntEnum):
    """Kafka's API keys, of the APIs that the codec knows. Names are Kafka's."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    DESCRIBE_QUORUM = 55
    UPDATE_FEATURES = 57
    DESCRIBE_CLUSTER = 60
    DESCRIBE_TOPIC_PARTITIONS = 75


@dataclass(frozen=True, slots=True)
class Api:
    """An API as the codec knows it. Versions are inclusive."""

    key: ApiKey
    min_version: int
    max_version: int
    flexible_version: int
    """The first with compact lengths and tagged fields (KIP-482)."""

    def __contains__(self, version: int) -> bool:
        return self.min_version <= version <= self.max_version

    @property
    def name(self) -> str:
        """Kafka's name: `OffsetForLeaderEpoch`."""
        return self.key.name.title().replace("_", "")

    @property
    def module(self) -> str:
        """Its file under `messages/`."""
        return self.key.name.lower()

    def is_flexible(self, version: int) -> bool:
        return version >= self.flexible_version


NEVER = VERSION_MAX + 1
"""The flexible version of an API that has none."""

APIS: Mapping[int, Api] = {
    api.key: api
    for api in (
        Api(ApiKey.PRODUCE, 0, 11, 9),
        Api(ApiKey.FETCH, 4, 17, 12),
        Api(ApiKey.LIST_OFFSETS, 1, 9, 6),
        Api(ApiKey.METADATA, 0, 13, 9),
        Api(ApiKey.OFFSET_COMMIT, 2, 9, 8),
        Api(ApiKey.OFFSET_FETCH, 1, 9, 6),
        Api(ApiKey.FIND_COORDINATOR, 0, 6, 3),
        Api(ApiKey.JOIN_GROUP, 0, 9, 6),
        Api(ApiKey.HEARTBEAT, 0, 4, 4),
        Api(ApiKey.LEAVE_GROUP, 0, 5, 4),
        Api(ApiKey.SYNC_GROUP, 0, 5, 4),
        Api(ApiKey.DESCRIBE_GROUPS, 0, 5, 5),
        Api(ApiKey.LIST_GROUPS, 0, 5, 3),
        Api(ApiKey.SASL_HANDSHAKE, 0, 1, NEVER),
        Api(ApiKey.API_VERSIONS, 0, 4, 3),
        Api(ApiKey.CREATE_TOPICS, 2, 7, 5),
        Api(ApiKey.DELETE_TOPICS, 1, 6, 4),
        Api(ApiKey.DELETE_RECORDS, 0, 2, 2),
        Api(ApiKey.INIT_PRODUCER_ID, 0, 5, 2),
        Api(ApiKey.OFFSET_FOR_LEADER_EPOCH, 2, 4, 4),
        Api(ApiKey.DESCRIBE_CONFIGS, 1, 4, 4),
        Api(ApiKey.ALTER_CONFIGS, 0, 2, 2),
        Api(ApiKey.DESCRIBE_LOG_DIRS, 1, 4, 2),
        Api(ApiKey.CREATE_PARTITIONS, 0, 3, 2),
        Api(ApiKey.DELETE_GROUPS, 0, 2, 2),
        Api(ApiKey.ELECT_LEADERS, 0, 2, 2),
        Api(ApiKey.INCREMENTAL_ALTER_CONFIGS, 0, 1, 1),
        Api(ApiKey.DESCRIBE_QUORUM, 0, 2, 0),
        Api(ApiKey.UPDATE_FEATURES, 0, 2, 0),
        Api(ApiKey.DESCRIBE_CLUSTER, 0, 2, 0),
        Api(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, 0, 0),
    )
}

PRODUCE_MIN_VERSION = 3
"""What the Produce handler takes: the first version of record batches with magic 2. It answers
0-2 with UNSUPPORTED_VERSION. They are advertised nevertheless, because librdkafka before 2.8 takes
a higher minimum for a broker that cannot decompress, and sends everything uncompressed without a
word (KAFKA-18659)."""


def served(
    keys: Iterable[ApiKey], max_versions: Mapping[ApiKey, int] | None = None
) -> dict[int, Api]:
    """The table that a broker advertises: an API per handler, ordered by key.

    Args:
        keys: The APIs that have a handler. No other may be advertised.
        max_versions: Lower maxima than the codec's, where a handler cannot do more yet.
    """
    maxima = max_versions or {}
    table: dict[int, Api] = {}
    for key in sorted(keys):
        api = APIS[key]
        last = maxima.get(key, api.max_version)
        assert last in api, f"{key.name} {last} is not within {api.min_version}-{api.max_version}"
        table[key] = replace(api, max_version=last)
    return table
