"""DescribeConfigs and IncrementalAlterConfigs: where a value comes from, and where it goes."""

from pathlib import Path
from typing import Any

import pytest

from broker.kafka.api import ApiKey
from broker.kafka.messages.create_topics import CreatableTopic, CreateTopicsRequest
from broker.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
)
from broker.kafka.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    IncrementalAlterConfigsRequest,
)
from klamm.config.topic_keys import TOPIC_KEYS
from klamm.errors import ApiError, ErrorCode, UnreachableError
from klamm.metadata.records import ConfigRecord, ResourceType
from tests.unit.api_admin.asking import ask, versions
from tests.unit.api_admin.one_broker import ME, OneBroker

DESCRIBE, ALTER = ApiKey.DESCRIBE_CONFIGS, ApiKey.INCREMENTAL_ALTER_CONFIGS
TOPIC, BROKER = 2, 4
SET, DELETE, APPEND = 0, 1, 2
OWN, STATIC, DEFAULT = 1, 4, 5


async def describe(
    one: OneBroker, kind: int, name: str, *keys: str, version: int | None = None
) -> Any:
    request = DescribeConfigsRequest(
        resources=[
            DescribeConfigsResource(
                resource_type=kind, resource_name=name, configuration_keys=list(keys) or None
            )
        ],
        include_synonyms=True,
        include_documentation=True,
    )
    (result,) = (await ask(one, DESCRIBE, request, version)).results
    return result


async def create(one: OneBroker, name: str = "orders") -> None:
    row = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    await ask(one, ApiKey.CREATE_TOPICS, CreateTopicsRequest(topics=[row]))


def put(one: OneBroker, kind: ResourceType, name: str, key: str, value: str) -> None:
    one.metadata.write(ConfigRecord(resource_type=kind, resource_name=name, key=key, value=value))


@pytest.mark.parametrize("version", versions(DESCRIBE))
async def test_every_key_of_a_topic(one: OneBroker, version: int) -> None:
    await create(one)
    result = await describe(one, TOPIC, "orders", version=version)
    assert [each.name for each in result.configs] == list(TOPIC_KEYS)
    for each in result.configs:
        assert (each.config_source, each.read_only, each.is_sensitive) == (DEFAULT, False, False)
        assert each.synonyms
        assert bool(each.documentation) == (version >= 3)
        assert bool(each.config_type) == (version >= 3)


async def test_where_a_topics_value_comes_from(one: OneBroker) -> None:
    """The nearest wins; the others are told as synonyms, in their order."""
    await create(one)
    put(one, ResourceType.TOPIC, "orders", "retention.ms", "1")
    (entry,) = (await describe(one, TOPIC, "orders", "retention.ms")).configs
    assert (entry.value, entry.config_source, entry.config_type) == ("1", OWN, 5)
    assert [(each.name, each.value, each.source) for each in entry.synonyms] == [
        ("retention.ms", "1", OWN),
        ("log.retention.ms", "604800000", DEFAULT),
    ]


@pytest.mark.parametrize(
    ("given", "synonym", "value"),
    [
        ({"log_retention_ms": "7"}, "log.retention.ms", "7"),
        ({"log_retention_hours": "2"}, "log.retention.hours", "7200000"),
        ({"log_retention_ms": "7", "log_retention_hours": "2"}, "log.retention.ms", "7"),
    ],
)
async def test_the_brokers_file_is_the_topics_default(
    given: dict[str, str], synonym: str, value: str, tmp_path: Any
) -> None:
    one = OneBroker(tmp_path, **given)
    await create(one)
    (entry,) = (await describe(one, TOPIC, "orders", "retention.ms")).configs
    assert (entry.value, entry.config_source) == (value, STATIC)
    assert entry.synonyms[0].name == synonym


async def test_the_broker_itself(tmp_path: Path) -> None:
    voters = "1@one:9093,2@two:9093"
    one = OneBroker(tmp_path, controller_quorum_voters=voters, log_segment_bytes="5000")
    result = await describe(one, BROKER, str(ME))
    by_name = {each.name: each for each in result.configs}
    assert by_name["controller.quorum.voters"].value == voters
    segment = by_name["log.segment.bytes"]
    assert (segment.value, segment.config_source) == ("5000", STATIC)
    assert [(each.value, each.source) for each in segment.synonyms] == [
        ("5000", STATIC),
        ("1073741824", DEFAULT),
    ]
    assert all(each.read_only for each in result.configs)
    assert by_name["broker.rack"].value is None
    assert by_name["socket.request.max.bytes"].value == "104857600"


async def test_nothing_is_set_for_all_brokers(one: OneBroker) -> None:
    result = await describe(one, BROKER, "")
    assert (result.error_code, result.configs) == (0, [])


async def test_only_the_keys_asked_for_and_no_more_than_asked(one: OneBroker) -> None:
    await create(one)
    row = DescribeConfigsResource(
        resource_type=TOPIC,
        resource_name="orders",
        configuration_keys=["segment.bytes", "no.such.key"],
    )
    (result,) = (await ask(one, DESCRIBE, DescribeConfigsRequest(resources=[row]))).results
    (entry,) = result.configs
    assert (entry.name, entry.synonyms, entry.documentation) == ("segment.bytes", [], None)


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        (TOPIC, "nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "2", ErrorCode.INVALID_REQUEST),
        (BROKER, "one", ErrorCode.INVALID_REQUEST),
        (8, "1", ErrorCode.INVALID_REQUEST),
        (0, "", ErrorCode.INVALID_REQUEST),
    ],
)
async def test_resources_without_configs(
    one: OneBroker, kind: int, name: str, code: ErrorCode
) -> None:
    result = await describe(one, kind, name)
    assert (result.error_code, result.configs) == (code, [])
    assert result.error_message


def alteration(kind: int, name: str, *rows: tuple[str, int, str | None]) -> AlterConfigsResource:
    return AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            AlterableConfig(name=key, config_operation=operation, value=value)
            for key, operation, value in rows
        ],
    )


@pytest.mark.parametrize("version", versions(ALTER))
async def test_altered_and_read_back(one: OneBroker, version: int) -> None:
    await create(one)
    for operation, value, read, source in (
        (SET, "1000", "1000", OWN),
        (DELETE, None, "604800000", DEFAULT),
    ):
        row = alteration(TOPIC, "orders", ("retention.ms", operation, value))
        request = IncrementalAlterConfigsRequest(resources=[row])
        (result,) = (await ask(one, ALTER, request, version)).responses
        assert (result.error_code, result.resource_name) == (0, "orders")
        (entry,) = (await describe(one, TOPIC, "orders", "retention.ms")).configs
        assert (entry.value, entry.config_source) == (read, source)


async def test_each_resource_for_itself(one: OneBroker) -> None:
    rows = [
        alteration(8, "logger", ("a", SET, "b")),
        alteration(TOPIC, "orders", ("retention.ms", SET, "1")),
        alteration(TOPIC, "twice", ("a", SET, "1"), ("a", DELETE, None)),
        alteration(TOPIC, "operation", ("a", 4, "1")),
        alteration(TOPIC, "null", ("a", SET, None)),
        alteration(BROKER, "", ("log.segment.bytes", SET, "5000")),
        alteration(TOPIC, "of two rows", ("retention.ms", SET, "1")),
        alteration(TOPIC, "of two rows", ("retention.ms", SET, None)),
    ]
    response = await ask(one, ALTER, IncrementalAlterConfigsRequest(resources=rows))
    codes = [(each.resource_name, ErrorCode(each.error_code).name) for each in response.responses]
    assert codes == [
        ("logger", "INVALID_REQUEST"),
        ("orders", "NONE"),
        ("twice", "INVALID_REQUEST"),
        ("operation", "INVALID_REQUEST"),
        ("null", "INVALID_CONFIG"),
        ("", "NONE"),
        ("of two rows", "INVALID_REQUEST"),
        ("of two rows", "INVALID_REQUEST"),
    ]
    assert all(each.error_message for each in response.responses if each.error_code)


async def test_long_texts_are_refused_in_their_rows(one: OneBroker) -> None:
    """As long as a string can be on the wire; the sentence about it is one too."""
    await create(one)
    text = "x" * 32_767
    rows = [
        alteration(TOPIC, text, ("retention.ms", SET, "1")),
        alteration(BROKER, text, ("retention.ms", SET, "1")),
        alteration(TOPIC, "null", (text, SET, None)),
        alteration(TOPIC, "orders", ("retention.ms", SET, "1000")),
    ]
    response = await ask(one, ALTER, IncrementalAlterConfigsRequest(resources=rows))
    codes = [ErrorCode(each.error_code).name for each in response.responses]
    assert codes == [
        "UNKNOWN_TOPIC_OR_PARTITION",
        "INVALID_REQUEST",
        "INVALID_CONFIG",
        "NONE",
    ]
    (asked,) = one.controllers.asked[1:]
    assert [each.resource_name for each in asked.resources] == ["orders"]
    one.controllers.failure = ApiError(ErrorCode.INVALID_CONFIG, f"retention.ms is {text!r}")
    response = await ask(one, ALTER, IncrementalAlterConfigsRequest(resources=rows[3:]))
    assert [each.error_code for each in response.responses] == [ErrorCode.INVALID_CONFIG]


async def test_controllers_that_cannot_be_reached(one: OneBroker) -> None:
    one.controllers.failure = UnreachableError("none")
    rows = [alteration(TOPIC, "orders", ("retention.ms", SET, "1"))]
    (row,) = (await ask(one, ALTER, IncrementalAlterConfigsRequest(resources=rows))).responses
    assert row.error_code == ErrorCode.REQUEST_TIMED_OUT


async def test_too_many_resources(one: OneBroker) -> None:
    rows = [DescribeConfigsResource(resource_type=TOPIC, resource_name="x")] * 1_001
    with pytest.raises(ApiError, match="1001 resources are over 1000"):
        await ask(one, DESCRIBE, DescribeConfigsRequest(resources=rows))
