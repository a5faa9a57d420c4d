"""Makes the metadata log long, and the state no larger."""

from klamm.client.client import ControllerClient
from klamm.errors import ErrorCode
from klamm.v1 import admin_pb2, records_pb2
from tests.process.running import Running

TOPICS = 100
KEY = "retention.ms"
DEADLINE_S = 60.0


def create_topics(cluster: Running) -> None:
    """What a `ConfigWriter` writes to; asked for again if nobody knows what became of it."""
    topics = [
        admin_pb2.NewTopic(name=f"topic-{each}", num_partitions=1, replication_factor=1)
        for each in range(TOPICS)
    ]

    async def created() -> bool:
        client = ControllerClient(cluster.cluster.controller_addresses)
        try:
            answer = await client.create_topics(admin_pb2.CreateTopicsRequest(topics=topics))
        finally:
            await client.close()
        there = {ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS}
        return all(each.error_code in there for each in answer.results)

    cluster.until(created, "topics", DEADLINE_S)


class ConfigWriter:
    """Alters a config of every topic, again and again: a record of a hundred values a call."""

    def __init__(self, cluster: Running) -> None:
        self.value = 1_000_000
        """The last that was acknowledged, or may have been written."""
        self.ending = False
        self._client = ControllerClient(cluster.cluster.controller_addresses)

    async def write(self, calls: int) -> None:
        for _ in range(calls):
            if self.ending:
                break
            self.value += 1
            resources = [
                admin_pb2.AlterConfigResource(
                    resource_type=records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
                    resource_name=f"topic-{each}",
                    alterations=[
                        admin_pb2.AlterConfig(
                            key=KEY,
                            operation=admin_pb2.ALTER_CONFIG_OPERATION_SET,
                            value=str(self.value),
                        )
                    ],
                )
                for each in range(TOPICS)
            ]
            request = admin_pb2.IncrementalAlterConfigsRequest(resources=resources)
            answer = await self._client.incremental_alter_configs(request)
            assert all(each.error_code == 0 for each in answer.results)

    async def log_end(self) -> int:
        """What is committed by now ends there."""
        return (await self._client.describe_quorum()).quorum.high_watermark

    async def close(self) -> None:
        await self._client.close()


async def open_writer(cluster: Running) -> ConfigWriter:
    return ConfigWriter(cluster)  # Its client belongs to the loop that it is made in.


def begins_at(cluster: Running, name: str) -> int:
    """The first offset of a controller's metadata log."""
    segments = (cluster.directory / name / "data").rglob("__cluster_metadata-0/*.log")
    return min(int(each.stem) for each in segments)


def values(cluster: Running) -> set[str]:
    """Of the config, as the active controller knows them."""
    return {topic.configs[KEY] for topic in cluster.topics()}
