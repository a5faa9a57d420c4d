"""What is refused before anything is decided: the field is named, and what is allowed there."""

from collections.abc import Mapping

import pytest

from controller.server import door
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import controller_pb2 as control
from klamm.v1 import records_pb2

ID = b"0123456789abcdef"
LONG = "x" * 1_025
ENDPOINT = records_pb2.Endpoint(name="PLAINTEXT", host="b1", port=9092)


def names(*given: str) -> list[admin.NewTopic]:
    return [admin.NewTopic(name=each) for each in given]


@pytest.mark.parametrize(
    ("found", "fields"),
    [
        # Nothing to say.
        (door.create_topics(admin.CreateTopicsRequest(topics=names("a", "b"))), []),
        (door.create_topics(admin.CreateTopicsRequest()), []),
        # Too much, too long, twice.
        (door.create_topics(admin.CreateTopicsRequest(timeout_ms=600_001)), ["timeout_ms"]),
        (door.create_topics(admin.CreateTopicsRequest(principal="x" * 1_025)), ["principal"]),
        (door.create_topics(admin.CreateTopicsRequest(request_id="x" * 1_025)), ["request_id"]),
        # A name that nothing can have may be answered in its row, unless the answer would not fit.
        (door.create_topics(admin.CreateTopicsRequest(topics=names("x" * 1_024))), []),
        (door.create_topics(admin.CreateTopicsRequest(topics=names(LONG))), ["topics[0].name"]),
        (
            door.delete_topics(admin.DeleteTopicsRequest(topics=[admin.TopicReference(name=LONG)])),
            ["topics[0].name"],
        ),
        (
            door.incremental_alter_configs(
                admin.IncrementalAlterConfigsRequest(
                    resources=[admin.AlterConfigResource(resource_type=2, resource_name=LONG)]
                )
            ),
            ["resources[0].resource_name"],
        ),
        (
            door.create_topics(admin.CreateTopicsRequest(topics=names("a", "b", "a"))),
            ["topics[2].name"],
        ),
        (
            door.create_topics(
                admin.CreateTopicsRequest(topics=names(*(str(each) for each in range(1_001))))
            ),
            ["topics"],
        ),
        (
            door.create_topics(
                admin.CreateTopicsRequest(
                    topics=[admin.NewTopic(name="a", configs={"k": "x" * 32_769})]
                )
            ),
            ["topics[0].configs['k']"],
        ),
        # A topic is named one way or the other.
        (
            door.delete_topics(
                admin.DeleteTopicsRequest(
                    topics=[
                        admin.TopicReference(name="a"),
                        admin.TopicReference(topic_id=ID),
                        admin.TopicReference(),
                        admin.TopicReference(topic_id=b"short"),
                    ]
                )
            ),
            ["topics[2]", "topics[3].topic_id"],
        ),
        # Configs: a kind, an operation, a value.
        (
            door.incremental_alter_configs(
                admin.IncrementalAlterConfigsRequest(
                    resources=[
                        admin.AlterConfigResource(
                            resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
                            alterations=[
                                admin.AlterConfig(
                                    key="k", operation=admin.ALTER_CONFIG_OPERATION_SET
                                ),
                                admin.AlterConfig(key="k"),
                                admin.AlterConfig(
                                    key="k", operation=admin.ALTER_CONFIG_OPERATION_DELETE
                                ),
                                admin.AlterConfig(
                                    key="k" * 32_769, operation=admin.ALTER_CONFIG_OPERATION_DELETE
                                ),
                                admin.AlterConfig(
                                    key="k",
                                    operation=admin.ALTER_CONFIG_OPERATION_SET,
                                    value="x" * 32_769,
                                ),
                            ],
                        ),
                        admin.AlterConfigResource(),
                    ]
                )
            ),
            [
                "resources[0].alterations[0].value",
                "resources[0].alterations[1].operation",
                "resources[0].alterations[3].key",
                "resources[0].alterations[4].value",
                "resources[1].resource_type",
            ],
        ),
        # A broker that says too little of itself.
        (
            door.register_broker(
                control.RegisterBrokerRequest(
                    broker_id=1, incarnation_id=ID, endpoints=[ENDPOINT], log_dirs=[ID]
                )
            ),
            [],
        ),
        (
            door.register_broker(control.RegisterBrokerRequest(broker_id=-1)),
            ["broker_id", "endpoints", "incarnation_id"],
        ),
        (
            door.register_broker(
                control.RegisterBrokerRequest(
                    incarnation_id=ID,
                    endpoints=[ENDPOINT, ENDPOINT, records_pb2.Endpoint(name="B")],
                )
            ),
            ["endpoints[1].name", "endpoints[2].host", "endpoints[2].port"],
        ),
        # A heartbeat.
        (
            door.session(control.SessionRequest(broker_id=1, broker_epoch=-1, applied_offset=-1)),
            ["applied_offset", "broker_epoch"],
        ),
        # ISR proposals.
        (
            door.alter_partition(
                control.AlterPartitionRequest(
                    partitions=[
                        control.AlterPartitionChange(
                            topic_id=ID, new_isr=[control.IsrMember()] * 101
                        ),
                        control.AlterPartitionChange(topic_id=b""),
                    ]
                )
            ),
            ["partitions[0].new_isr", "partitions[1].topic_id"],
        ),
        (
            door.allocate_producer_ids(control.AllocateProducerIdsRequest(broker_id=-2)),
            ["broker_id"],
        ),
        (
            door.change_voters(
                admin.ChangeVotersRequest(
                    remove=records_pb2.Voter(
                        endpoint=records_pb2.Endpoint(name="x" * 250, host="c1", port=9093)
                    )
                )
            ),
            ["remove.endpoint.name"],
        ),
    ],
)
def test_violations(found: Mapping[str, str], fields: list[str]) -> None:
    assert sorted(found) == fields
