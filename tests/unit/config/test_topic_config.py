"""A topic's configs: what holds, and what may not be set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.config.broker import BrokerConfig
from klamm.config.keys import ConfigKey, Kind
from klamm.config.topic import KAFKA_DEFAULTS, TopicConfig, are_right, is_list, violations
from klamm.config.topic_keys import BROKER_SYNONYMS, TOPIC_KEYS


def test_its_own_keys_then_the_nodes_then_kafkas() -> None:
    defaults = BrokerConfig.for_tests(
        min_insync_replicas="2", log_segment_bytes="1024"
    ).topic_defaults
    held = TopicConfig.effective({"segment.bytes": "2048"}, defaults)
    assert (held.segment_bytes, held.min_insync_replicas, held.max_message_bytes) == (
        2_048,
        2,
        1_048_588,
    )


def test_what_a_newer_node_set_is_passed_over() -> None:
    held = TopicConfig.effective({"new.key": "1", "compression.type": "new", "retention.ms": "1"})
    assert held.compression_type == "producer"
    assert held.retention_ms == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention.ms", "-2"),
        ("min.insync.replicas", "0"),
        ("segment.bytes", "13"),
        ("cleanup.policy", "shred"),
        ("cleanup.policy", ""),
        ("message.timestamp.type", "createtime"),
        ("min.cleanable.dirty.ratio", "1.1"),
        ("min.cleanable.dirty.ratio", "0.2_5"),
        ("segment.bytes", "1_600"),
        ("preallocate", "maybe"),
        ("max.message.bytes", "9999999999"),
        ("leader.replication.throttled.replicas", "1-2"),
        ("retention.ms", None),
        ("segment.ms", "x" * 32_768),
        ("no.such.key", "1"),
    ],
)
def test_refused_with_the_key_in_the_sentence(key: str, value: str | None) -> None:
    found = violations({key: value, "flush.ms": "1"})
    assert list(found) == [key]
    assert key in found[key]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("retention.ms", "-1"),
        ("cleanup.policy", "compact,delete"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
        ("preallocate", "TRUE"),
        ("flush.messages", "9223372036854775807"),
    ],
)
def test_taken(key: str, value: str) -> None:
    assert violations({key: value}) == {}


def test_many_values_are_right_if_each_is() -> None:
    assert are_right("segment.bytes", ["1600", " 15 "])
    assert not are_right("segment.bytes", ["1600", "1_600"])


def test_tiered_and_compacted_exclude_each_other() -> None:
    assert violations({"remote.storage.enable": "true", "cleanup.policy": "compact"})
    assert violations({"remote.storage.enable": " TRUE", "cleanup.policy": "compact"})
    assert not violations({"remote.storage.enable": "FALSE", "cleanup.policy": "compact"})


def test_the_defaults_are_kafkas() -> None:
    assert {key: KAFKA_DEFAULTS.text_of(key) for key in TOPIC_KEYS} == {
        key: TOPIC_KEYS[key].default for key in TOPIC_KEYS
    }


def test_every_synonym_is_a_brokers_key_of_the_same_type() -> None:
    settings = BrokerConfig.for_tests().settings
    for topic_key, broker_key in BROKER_SYNONYMS.items():
        assert settings[broker_key].key.kind is TOPIC_KEYS[topic_key].kind


def test_lists() -> None:
    assert is_list("cleanup.policy")
    assert not is_list("retention.ms")
    assert not is_list("no.such.key")


@given(st.dictionaries(st.sampled_from(sorted(TOPIC_KEYS)), st.text(max_size=20), max_size=4))
def test_what_is_not_refused_holds(own: dict[str, str]) -> None:
    """Whatever `violations` lets through, `effective` takes as it stands, and shows so again."""
    if violations(own):
        return
    held = TopicConfig.effective(own)
    for key in own:
        assert TOPIC_KEYS[key].parse(held.text_of(key)) == TOPIC_KEYS[key].parse(own[key])


@given(
    st.sampled_from([*TOPIC_KEYS, "no.such.key"]),
    st.lists(
        st.one_of(
            st.integers(-3, 2**63 + 1).map(str),
            st.sampled_from([str(2**31 - 1), str(2**31), str(2**63 - 1), "0.5", "true", "delete"]),
            st.from_regex(r"\A[ \t\x1c\x85\xa0]?[-+_]?[0-9\u0661]{0,3}_?[0-9]\s?\Z"),
            st.sampled_from(["", "nan", "1:2,2:1", "*", "1" * 5_000, " " * 40_000 + "1"]),
        ),
        max_size=4,
    ),
)
def test_many_values_of_a_key_are_right_if_each_is(key: str, values: list[str]) -> None:
    assert are_right(key, values) == (not any(violations({key: value}) for value in values))


@given(st.integers(), st.sampled_from([k for k in TOPIC_KEYS.values() if k.kind is Kind.INT]))
def test_ranges_are_kept(number: int, key: ConfigKey) -> None:
    assert key.minimum is not None
    assert key.maximum is not None
    fits = key.minimum <= number <= key.maximum
    assert bool(violations({key.name: str(number)})) is not fits
