"""The usual large request is read in one pass, and means what its rows mean (KIP-339)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.plan.configs import AlterResult, SetOnTopics
from controller.server import admin_service, door, requests
from klamm.errors import ErrorCode
from klamm.ids import Offset
from klamm.metadata.config_records import ROWS_MIN
from klamm.metadata.records import ResourceType
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import records_pb2

TOPIC = records_pb2.CONFIG_RESOURCE_TYPE_TOPIC
SET = admin.ALTER_CONFIG_OPERATION_SET

Row = tuple[int, int, str, int, str | None]
"""Resource type, alterations, key, operation, value."""

USUAL: Row = (TOPIC, 1, "k", SET, "1")


def request(rows: list[Row]) -> admin.IncrementalAlterConfigsRequest:
    made = admin.IncrementalAlterConfigsRequest()
    for number, (kind, count, key, operation, value) in enumerate(rows):
        resource = made.resources.add(resource_name=f"t{number}")
        resource.resource_type = records_pb2.ConfigResourceType.ValueType(kind)
        for _ in range(count):
            each = resource.alterations.add(key=key, value=value)
            each.operation = admin.AlterConfigOperation.ValueType(operation)
    return made


ROWS = st.tuples(
    st.sampled_from([0, TOPIC, records_pb2.CONFIG_RESOURCE_TYPE_BROKER]),
    st.integers(0, 2),
    st.sampled_from(["", "k", "l"]),
    st.sampled_from([0, SET, *admin.AlterConfigOperation.values(), 9]),
    st.sampled_from([None, "", "1", "2"]),
)


@given(st.integers(0, ROWS_MIN + 2), st.lists(ROWS, max_size=2))
def test_columns_say_what_the_rows_say(usual: int, others: list[Row]) -> None:
    asked = request([*others, *[USUAL] * usual])
    columns = requests.set_on_topics(asked)
    if columns is not None:
        assert not door.incremental_alter_configs(asked)
        assert columns.resources == requests.alter_resources(asked)
    assert (columns is None) >= (usual + len(others) < ROWS_MIN)
    assert (columns is not None) >= (usual >= ROWS_MIN and not others)


@pytest.mark.parametrize(
    "odd",
    [
        (records_pb2.CONFIG_RESOURCE_TYPE_BROKER, 1, "k", SET, "1"),
        (TOPIC, 0, "k", SET, "1"),
        (TOPIC, 2, "k", SET, "1"),
        (TOPIC, 1, "l", SET, "1"),
        (TOPIC, 1, "k", admin.ALTER_CONFIG_OPERATION_APPEND, "1"),
        (TOPIC, 1, "k", SET, ""),
        (TOPIC, 1, "k", SET, None),
        (TOPIC, 1, "k", SET, "x" * (door.CONFIG_VALUE_CHARACTERS_MAX + 1)),
    ],
)
@pytest.mark.parametrize("at", [0, ROWS_MIN])
def test_one_row_that_is_another_makes_it_another_request(odd: Row, at: int) -> None:
    rows = [USUAL] * ROWS_MIN
    rows.insert(at, odd)
    assert requests.set_on_topics(request(rows)) is None


def test_limits_are_the_doors() -> None:
    named = request([USUAL] * ROWS_MIN)
    named.resources[3].resource_name = "x" * (door.NAME_ASKED_CHARACTERS_MAX + 1)
    assert requests.set_on_topics(named) is None
    key = "k" * (door.CONFIG_VALUE_CHARACTERS_MAX + 1)
    assert requests.set_on_topics(request([(TOPIC, 1, key, SET, "1")] * ROWS_MIN)) is None
    whole = request([USUAL] * door.RESOURCES_MAX)
    columns = requests.set_on_topics(whole)
    assert isinstance(columns, SetOnTopics)
    assert len(columns.names) == door.RESOURCES_MAX
    assert requests.set_on_topics(request([USUAL] * (door.RESOURCES_MAX + 1))) is None
    whole.timeout_ms = door.TIMEOUT_MS_MAX + 1
    assert door.alter_configs_but_rows(whole).keys() == {"timeout_ms"}


def test_each_row_is_answered() -> None:
    results = (
        AlterResult(ResourceType.TOPIC, "t"),
        AlterResult(ResourceType.BROKER, "1", ErrorCode.INVALID_CONFIG, "no"),
    )
    expected = admin.IncrementalAlterConfigsResponse(
        results=[
            admin.AlterConfigResult(resource_type=TOPIC, resource_name="t"),
            admin.AlterConfigResult(
                resource_type=records_pb2.CONFIG_RESOURCE_TYPE_BROKER,
                resource_name="1",
                error_code=ErrorCode.INVALID_CONFIG,
                error_message="no",
            ),
        ],
        committed_offset=7,
    )
    assert admin_service._altered(results, Offset(7)) == expected
