"""One committed metadata write, small and idempotent: what failovers and transfers are timed by."""

import asyncio

from klamm.client.client import ControllerClient
from klamm.errors import IndefiniteError
from klamm.v1 import admin_pb2, records_pb2

TOPIC = "failover"
PARTITIONS = 6
WRITE_DEADLINE_S = 20.0


async def prepare(client: ControllerClient) -> None:
    """Create the topic whose configs are written."""
    topic = admin_pb2.NewTopic(name=TOPIC, num_partitions=PARTITIONS, replication_factor=3)
    topic.configs["min.insync.replicas"] = "2"
    answer = await client.create_topics(admin_pb2.CreateTopicsRequest(topics=[topic]))
    assert answer.results[0].error_code == 0, answer.results[0].error_message


async def write(client: ControllerClient, value: str) -> None:
    """One committed metadata write; again if its outcome is unknown (it is idempotent)."""
    request = admin_pb2.IncrementalAlterConfigsRequest(
        resources=[
            admin_pb2.AlterConfigResource(
                resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
                resource_name=TOPIC,
                alterations=[
                    admin_pb2.AlterConfig(
                        key="retention.ms",
                        operation=admin_pb2.ALTER_CONFIG_OPERATION_SET,
                        value=value,
                    )
                ],
            )
        ]
    )
    async with asyncio.timeout(WRITE_DEADLINE_S):
        while True:
            try:
                answer = await client.incremental_alter_configs(request)
            except IndefiniteError:
                continue
            assert answer.results[0].error_code == 0, answer.results[0].error_message
            return
