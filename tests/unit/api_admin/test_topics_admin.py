"""CreateTopics and DeleteTopics: what is refused here, what goes on, and what comes back."""

import asyncio
from uuid import UUID

import pytest

from broker.kafka.api import ApiKey
from broker.kafka.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from broker.kafka.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from klamm.errors import (
    ApiError,
    CommitUnknownError,
    ErrorCode,
    KlammError,
    NotControllerError,
    OverloadedError,
    UnreachableError,
)
from klamm.rpc.status import BadRequestError
from tests.unit.api_admin.asking import ask, versions
from tests.unit.api_admin.one_broker import OneBroker

CREATE, DELETE = ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS


def topic(name: str, partitions: int = 2, replicas: int = 1, **keys: str | None) -> CreatableTopic:
    return CreatableTopic(
        name=name,
        num_partitions=partitions,
        replication_factor=replicas,
        configs=[
            CreatableTopicConfig(name=key.replace("_", "."), value=value)
            for key, value in keys.items()
        ],
    )


def creation(*topics: CreatableTopic, validate_only: bool = False) -> CreateTopicsRequest:
    return CreateTopicsRequest(topics=list(topics), timeout_ms=500, validate_only=validate_only)


@pytest.mark.parametrize("version", versions(CREATE))
async def test_created_and_in_this_brokers_image(one: OneBroker, version: int) -> None:
    request = creation(topic("orders", retention_ms="1000"))
    (row,) = (await ask(one, CREATE, request, version)).topics
    image = one.metadata.image.topics.named("orders")
    assert image is not None
    assert one.metadata.waited == [one.metadata.image.provenance.offset]
    assert (row.name, row.error_code, row.error_message) == ("orders", 0, None)
    if version >= 7:
        assert row.topic_id == image.topic_id
    if version >= 5:
        assert (row.num_partitions, row.replication_factor) == (2, 1)
        by_name = {each.name: each for each in row.configs}
        assert (by_name["retention.ms"].value, by_name["retention.ms"].config_source) == ("1000", 1)
        assert by_name["segment.bytes"].config_source == 5


async def test_the_decision_names_its_cause(one: OneBroker) -> None:
    await ask(one, CREATE, creation(topic("orders")))
    (request,) = one.controllers.asked
    assert request.principal == "User:ANONYMOUS"
    assert request.request_id == "test at 127.0.0.1"
    assert request.timeout_ms == 500


async def test_bad_rows_do_not_spoil_good_ones(one: OneBroker) -> None:
    assigned = topic("assigned", partitions=3)
    assigned.assignments = [CreatableReplicaAssignment(partition_index=0, broker_ids=[1])]
    response = await ask(
        one,
        CREATE,
        creation(
            topic("twice"),
            topic("good"),
            topic("twice", partitions=9),
            topic("no good"),
            topic("x" * 250),
            topic("null", retention_ms=None),
            assigned,
            topic("wide", replicas=3),
        ),
    )
    assert {each.name: ErrorCode(each.error_code).name for each in response.topics} == {
        "twice": "INVALID_REQUEST",
        "good": "NONE",
        "no good": "INVALID_TOPIC_EXCEPTION",
        "x" * 250: "INVALID_TOPIC_EXCEPTION",
        "null": "INVALID_CONFIG",
        "assigned": "INVALID_REQUEST",
        "wide": "INVALID_REPLICATION_FACTOR",
    }
    assert all(each.error_message for each in response.topics if each.error_code)
    assert [each.name for each in one.controllers.asked[0].topics] == ["good", "wide"]


async def test_too_many_are_refused_before_they_are_asked_for(one: OneBroker) -> None:
    response = await ask(one, CREATE, creation(*(topic(f"t{each}") for each in range(1_001))))
    assert {each.error_code for each in response.topics} == {ErrorCode.INVALID_REQUEST}
    assert not one.controllers.asked


async def test_only_validated(one: OneBroker) -> None:
    (row,) = (await ask(one, CREATE, creation(topic("orders"), validate_only=True))).topics
    assert (row.error_code, row.topic_id) == (0, UUID(int=0))
    assert not one.metadata.image.topics.by_name


FAILURES: list[tuple[KlammError, ErrorCode, str]] = [
    (ApiError(ErrorCode.POLICY_VIOLATION, "no"), ErrorCode.POLICY_VIOLATION, "no"),
    (BadRequestError({"topics": "at most 3"}), ErrorCode.INVALID_REQUEST, "topics: at most 3"),
    (UnreachableError("none"), ErrorCode.REQUEST_TIMED_OUT, "nothing was changed"),
    (NotControllerError(), ErrorCode.REQUEST_TIMED_OUT, "nothing was changed"),
    (OverloadedError("inbox"), ErrorCode.REQUEST_TIMED_OUT, "nothing was changed"),
    (CommitUnknownError("lost"), ErrorCode.REQUEST_TIMED_OUT, "it may have happened"),
]


@pytest.mark.parametrize(("failure", "code", "says"), FAILURES)
async def test_failures_say_whether_it_happened(
    one: OneBroker, failure: KlammError, code: ErrorCode, says: str
) -> None:
    one.controllers.failure = failure
    (created,) = (await ask(one, CREATE, creation(topic("orders")))).topics
    assert (created.error_code, says in created.error_message) == (code, True)
    (deleted,) = (await ask(one, DELETE, by_name("orders"))).responses
    assert (deleted.error_code, says in deleted.error_message) == (code, True)


async def test_done_and_not_known_here_in_time(one: OneBroker) -> None:
    one.metadata.is_late = True
    (row,) = (await ask(one, CREATE, creation(topic("orders")))).topics
    assert row.error_code == ErrorCode.REQUEST_TIMED_OUT
    assert "it is done" in row.error_message


def by_name(*names: str) -> DeleteTopicsRequest:
    return DeleteTopicsRequest(
        topics=[DeleteTopicState(name=each) for each in names],
        topic_names=list(names),
        timeout_ms=500,
    )


@pytest.mark.parametrize("version", versions(DELETE))
async def test_deleted_by_name(one: OneBroker, version: int) -> None:
    await ask(one, CREATE, creation(topic("orders")))
    gone, unknown = (await ask(one, DELETE, by_name("orders", "nope"), version)).responses
    assert (gone.name, gone.error_code) == ("orders", 0)
    assert (unknown.name, unknown.error_code) == ("nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
    assert not one.metadata.image.topics.by_name
    assert one.metadata.waited[-1] == one.metadata.image.provenance.offset


async def test_deleted_by_a_name_that_none_can_have(one: OneBroker) -> None:
    await ask(one, CREATE, creation(topic("orders")))
    answer = await ask(one, DELETE, by_name("x" * 32_767, "orders"))
    assert [each.error_code for each in answer.responses] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NONE,
    ]


async def test_deleted_by_id(one: OneBroker) -> None:
    await ask(one, CREATE, creation(topic("orders")))
    (topic_id,) = one.metadata.image.topics.by_id
    rows = [
        DeleteTopicState(name=None, topic_id=topic_id),
        DeleteTopicState(name="both", topic_id=topic_id),
        DeleteTopicState(name=None),
        DeleteTopicState(name=None, topic_id=UUID(int=5)),
    ]
    responses = (await ask(one, DELETE, DeleteTopicsRequest(topics=rows, timeout_ms=1))).responses
    assert [(each.name, ErrorCode(each.error_code).name) for each in responses] == [
        ("orders", "NONE"),
        ("both", "INVALID_REQUEST"),
        (None, "INVALID_REQUEST"),
        (None, "UNKNOWN_TOPIC_ID"),
    ]


async def test_a_client_that_goes_does_not_hang_the_broker(one: OneBroker) -> None:
    one.controllers.gate = asyncio.Event()
    asked = asyncio.create_task(ask(one, CREATE, creation(topic("orders"))))
    while not one.controllers.asked:
        await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
