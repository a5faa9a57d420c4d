"""The APIs of a broker, each with its handler: the table from which the registry is made."""

from collections.abc import Mapping

from broker.api import (
    api_versions,
    cluster,
    configs,
    coordinator,
    features,
    fetch,
    groups,
    init_producer_id,
    list_offsets,
    metadata,
    offset_for_leader_epoch,
    produce,
    topics,
)
from broker.api.context import Handler
from broker.api.registry import Registry
from broker.kafka.api import ApiKey, served


def registry() -> Registry:
    """A new one for a broker, with what its handlers keep between requests."""
    handlers: dict[ApiKey, Handler] = {
        ApiKey.PRODUCE: produce.handle,
        ApiKey.FETCH: fetch.handle,
        ApiKey.LIST_OFFSETS: list_offsets.handle,
        ApiKey.OFFSET_FOR_LEADER_EPOCH: offset_for_leader_epoch.handle,
        **control_handlers(),
    }
    table = served([*handlers, ApiKey.API_VERSIONS]).values()
    return Registry.of({**handlers, ApiKey.API_VERSIONS: api_versions.handler(table)})


def control_handlers() -> Mapping[ApiKey, Handler]:
    """Those that are not the data path."""
    return {
        ApiKey.METADATA: metadata.handler(),
        ApiKey.CREATE_TOPICS: topics.create,
        ApiKey.DELETE_TOPICS: topics.delete,
        ApiKey.DESCRIBE_CONFIGS: configs.describe,
        ApiKey.INCREMENTAL_ALTER_CONFIGS: configs.alter,
        ApiKey.UPDATE_FEATURES: features.update,
        ApiKey.DESCRIBE_CLUSTER: cluster.handle,
        ApiKey.FIND_COORDINATOR: coordinator.handle,
        ApiKey.INIT_PRODUCER_ID: init_producer_id.handle,
        ApiKey.JOIN_GROUP: groups.join,
        ApiKey.SYNC_GROUP: groups.sync,
        ApiKey.HEARTBEAT: groups.heartbeat,
        ApiKey.LEAVE_GROUP: groups.leave,
        ApiKey.OFFSET_COMMIT: groups.commit,
        ApiKey.OFFSET_FETCH: groups.fetch_offsets,
        ApiKey.LIST_GROUPS: groups.list_all,
        ApiKey.DESCRIBE_GROUPS: groups.describe,
        ApiKey.DELETE_GROUPS: groups.delete,
    }
