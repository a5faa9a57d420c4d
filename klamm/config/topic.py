"""A topic's configuration: what is set on it, over what the cluster's nodes default to. Pure.

    topic's own keys  ▶  broker's static keys (log.retention.ms, …)  ▶  Kafka's defaults

`TopicConfig.effective` gives what holds; `violations` says what is wrong with keys that someone
asks to set, key by key, before any is written.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import repeat
from typing import Any

from klamm.config.keys import Kind, Value, field_name
from klamm.config.topic_keys import TOPIC_KEYS
from klamm.frozen import replace

TOPIC_CONFIG_VALUE_CHARACTERS_MAX = 32_767
"""Kafka's: a config value is a short string on the wire."""

VALUES_KEPT = 1_024
"""Of which it is remembered whether they are right."""

JUDGED_TOGETHER = frozenset({"cleanup.policy", "remote.storage.enable"})
"""Keys whose values may exclude each other's; every other is right or wrong by itself."""


@dataclass(frozen=True, kw_only=True)
class TopicConfig:
    """What holds for one topic. Field names are the keys' with `_` for `.`.

    Without slots: one call may give each of a thousand topics another, which is a cheap copy then
    (klamm/frozen.py).
    """

    cleanup_policy: tuple[str, ...]
    compression_type: str
    compression_gzip_level: int
    compression_lz4_level: int
    compression_zstd_level: int
    delete_retention_ms: int
    file_delete_delay_ms: int
    flush_messages: int
    flush_ms: int
    index_interval_bytes: int
    max_compaction_lag_ms: int
    max_message_bytes: int
    message_timestamp_type: str
    message_timestamp_before_max_ms: int
    message_timestamp_after_max_ms: int
    min_cleanable_dirty_ratio: float
    min_compaction_lag_ms: int
    min_insync_replicas: int
    preallocate: bool
    retention_bytes: int
    retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    segment_jitter_ms: int
    segment_ms: int
    unclean_leader_election_enable: bool
    leader_replication_throttled_replicas: tuple[str, ...]
    follower_replication_throttled_replicas: tuple[str, ...]
    remote_storage_enable: bool
    local_retention_ms: int
    local_retention_bytes: int

    @staticmethod
    def effective(own: Mapping[str, str], defaults: "TopicConfig | None" = None) -> "TopicConfig":
        """What holds for a topic with `own` keys set, on nodes with these `defaults`.

        A key or value that this version does not know is passed over: it was checked when it was
        set, perhaps by a newer node, and to stop serving the topic would help nobody.
        """
        values: dict[str, Any] = {}
        for name, text in own.items():
            key = TOPIC_KEYS.get(name)
            if key is not None:
                with suppress(ValueError):
                    values[field_name(name)] = key.parse(text)
        return replace(KAFKA_DEFAULTS if defaults is None else defaults, **values)

    def text_of(self, key: str) -> str:
        """The value of a key, as one would write it."""
        return value_text(getattr(self, field_name(key)))


def value_text(value: Value) -> str:
    """A value as Kafka writes it: booleans in lower case, lists with commas."""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(value)
    return str(value)


def violations(own: Mapping[str, str | None]) -> dict[str, str]:
    """What is wrong with keys that someone asks to set on a topic: key → sentence.

    Empty if nothing is. A value of None is Kafka's null, which no topic key takes.
    """
    found: dict[str, str] = {}
    for name, value in own.items():
        if sentence := _violation(name, value):
            found[name] = sentence
    policies = own.get("cleanup.policy") or ""
    tiered = (own.get("remote.storage.enable") or "").strip().lower() == "true"
    if tiered and "compact" in policies:
        for name in JUDGED_TOGETHER:
            found.setdefault(name, "tiered storage and compaction exclude each other")
    return found


def are_right(name: str, values: Collection[str]) -> bool:
    """Whether `violations` finds nothing in any of many values of one key, each by itself.

    A thousand whole numbers are read and compared in C. Other values are looked at one by one:
    most keys of other kinds have few.
    """
    key = TOPIC_KEYS.get(name)
    longest = max(map(len, values), default=0)
    if key is None or longest > TOPIC_CONFIG_VALUE_CHARACTERS_MAX or not key.takes_all(values):
        return not any(map(_is_wrong, repeat(name), values))
    return True


@lru_cache(VALUES_KEPT)
def _is_wrong(name: str, value: str) -> bool:
    return bool(violations({name: value}))


def _violation(name: str, value: str | None) -> str | None:
    key = TOPIC_KEYS.get(name)
    if key is None:
        return f"Unknown topic config name: {name}"
    if value is None:
        return f"{name} must be {key.allows()}, is null"
    if len(value) > TOPIC_CONFIG_VALUE_CHARACTERS_MAX:
        return f"{name} may have {TOPIC_CONFIG_VALUE_CHARACTERS_MAX} characters, has {len(value)}"
    try:
        parsed = key.parse(value)
    except ValueError:
        return f"{name} must be {key.allows()}, is {value!r}"
    if name == "cleanup.policy" and not parsed:
        return f"{name} must be {key.allows()}, is empty"
    if name.endswith(".throttled.replicas") and not _throttled_replicas(parsed):
        return f"{name} must be * or a list of PARTITION:BROKER, is {value!r}"
    return None


def _throttled_replicas(parsed: Value) -> bool:
    assert isinstance(parsed, tuple), "the key is a list"
    pairs = [each.split(":") for each in parsed]
    return parsed == ("*",) or all(
        len(pair) == 2 and all(number.isdecimal() for number in pair) for pair in pairs
    )


def is_list(name: str) -> bool:
    """Whether APPEND and SUBTRACT make sense for the key (KIP-339)."""
    key = TOPIC_KEYS.get(name)
    return key is not None and key.kind is Kind.LIST


def _kafka_defaults() -> TopicConfig:
    values: dict[str, Any] = {}
    for name, key in TOPIC_KEYS.items():
        assert key.default is not None, f"{name} has no default"
        values[field_name(name)] = key.parse(key.default)
    assert set(values) == {each.name for each in fields(TopicConfig)}, "table and fields differ"
    return TopicConfig(**values)


KAFKA_DEFAULTS = _kafka_defaults()
"""Kafka's own defaults, with nothing set anywhere."""
