"""What no controller would take, found before anything is decided: field → what is allowed there.

Limits on sizes and shapes only. What depends on the cluster (a name that is taken, too few brokers)
is decided by controller/plan and answered row by row.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

from klamm.rpc.status import BadRequestError
from klamm.v1 import admin_pb2 as admin
from klamm.v1 import controller_pb2 as control
from klamm.v1 import records_pb2

TIMEOUT_MS = 30_000
TIMEOUT_MS_MAX = 600_000

TOPICS_MAX = 1_000
RESOURCES_MAX = 1_000
ALTERATIONS_MAX = 1_000
CONFIGS_MAX = 200
CONFIG_VALUE_CHARACTERS_MAX = 32_768
PARTITIONS_MAX = 10_000
"""Of one request, and of one topic."""

REPLICAS_MAX = 100
ENDPOINTS_MAX = 16
LOG_DIRS_MAX = 16
NAME_CHARACTERS_MAX = 249
NAME_ASKED_CHARACTERS_MAX = 1_024
"""Of a topic that is asked for. One that is too long for any is answered in its row, unless a
thousand of them would be too much for an answer."""

HOST_CHARACTERS_MAX = 255
CALLER_CHARACTERS_MAX = 1_024
"""Of a principal and of a request id; both are stored with the decision."""

FEATURES_MAX = 100
FEATURE_LEVEL_MAX = 2**15 - 1
"""Kafka's: 16 bits with a sign."""

ID_BYTES = 16
NODE_ID_MAX = 2**31 - 1
PORT_MAX = 65_535

Violations = dict[str, str]
_Found = Iterator[tuple[str, str]]


def create_topics(request: admin.CreateTopicsRequest) -> Violations:
    found = dict(_call(request.timeout_ms, request.principal, request.request_id))
    found |= _at_most("topics", len(request.topics), TOPICS_MAX)
    seen: set[str] = set()
    for index, topic in enumerate(request.topics[:TOPICS_MAX]):
        at = f"topics[{index}]"
        found |= _name(f"{at}.name", topic.name)
        if topic.name in seen:
            found[f"{at}.name"] = f"{topic.name[:NAME_CHARACTERS_MAX]!r} stands twice"
        seen.add(topic.name)
        found |= _at_most(f"{at}.configs", len(topic.configs), CONFIGS_MAX)
        found |= _at_most(f"{at}.assignments", len(topic.assignments), PARTITIONS_MAX)
        for row, assignment in enumerate(topic.assignments[:PARTITIONS_MAX]):
            replicas = f"{at}.assignments[{row}].broker_ids"
            found |= _at_most(replicas, len(assignment.broker_ids), REPLICAS_MAX)
        for key, value in topic.configs.items():
            found |= _at_most(
                f"{at}.configs[{key[:NAME_CHARACTERS_MAX]!r}]",
                max(len(key), len(value)),
                CONFIG_VALUE_CHARACTERS_MAX,
                "characters",
            )
    return found


def delete_topics(request: admin.DeleteTopicsRequest) -> Violations:
    found = dict(_call(request.timeout_ms, request.principal, request.request_id))
    found |= _at_most("topics", len(request.topics), TOPICS_MAX)
    for index, topic in enumerate(request.topics[:TOPICS_MAX]):
        match topic.WhichOneof("reference"):
            case None:
                found[f"topics[{index}]"] = "needs a name or a topic_id"
            case "topic_id":
                found |= _id(f"topics[{index}].topic_id", topic.topic_id)
            case "name":
                found |= _name(f"topics[{index}].name", topic.name)
    return found


def incremental_alter_configs(request: admin.IncrementalAlterConfigsRequest) -> Violations:
    found = alter_configs_but_rows(request)
    found |= _at_most("resources", len(request.resources), RESOURCES_MAX)
    known = (records_pb2.CONFIG_RESOURCE_TYPE_TOPIC, records_pb2.CONFIG_RESOURCE_TYPE_BROKER)
    for index, resource in enumerate(request.resources[:RESOURCES_MAX]):
        alterations = resource.alterations
        if resource.resource_type not in known:
            at = f"resources[{index}].resource_type"
            found[at] = f"must be TOPIC or BROKER, is {resource.resource_type}"
        if len(resource.resource_name) > NAME_ASKED_CHARACTERS_MAX:
            found |= _name(f"resources[{index}].resource_name", resource.resource_name)
        if len(alterations) > ALTERATIONS_MAX:
            at = f"resources[{index}].alterations"
            found |= _at_most(at, len(alterations), ALTERATIONS_MAX)
        for row, each in enumerate(islice(alterations, ALTERATIONS_MAX)):
            # Names are made where something is wrong: this is asked of thousands.
            for field, what in _alteration(each):
                found[f"resources[{index}].alterations[{row}].{field}"] = what
    return found


def alter_configs_but_rows(request: admin.IncrementalAlterConfigsRequest) -> Violations:
    """Where the rows have been looked at (see requests.set_on_topics)."""
    return dict(_call(request.timeout_ms, request.principal, request.request_id))


def _alteration(each: admin.AlterConfig) -> tuple[tuple[str, str], ...]:
    operation, value = each.operation, each.value
    found: tuple[tuple[str, str], ...] = ()
    if operation not in _OPERATIONS:
        found += (("operation", f"{operation} is none"),)
    elif not (value or operation == _DELETE or each.HasField("value")):
        found += (("value", "is required but for DELETE"),)
    if len(value) > CONFIG_VALUE_CHARACTERS_MAX or len(each.key) > CONFIG_VALUE_CHARACTERS_MAX:
        limit = CONFIG_VALUE_CHARACTERS_MAX
        for field, text in (("key", each.key), ("value", value)):
            found += tuple(_at_most(field, len(text), limit, "characters").items())
    return found


_DELETE = admin.ALTER_CONFIG_OPERATION_DELETE


_OPERATIONS = frozenset(
    {
        admin.ALTER_CONFIG_OPERATION_SET,
        admin.ALTER_CONFIG_OPERATION_DELETE,
        admin.ALTER_CONFIG_OPERATION_APPEND,
        admin.ALTER_CONFIG_OPERATION_SUBTRACT,
    }
)


def register_broker(request: control.RegisterBrokerRequest) -> Violations:
    found = _node("broker_id", request.broker_id)
    found |= _id("incarnation_id", request.incarnation_id)
    found |= _at_most("cluster_id", len(request.cluster_id), NAME_CHARACTERS_MAX, "characters")
    found |= _at_most("rack", len(request.rack), NAME_CHARACTERS_MAX, "characters")
    found |= _at_most("log_dirs", len(request.log_dirs), LOG_DIRS_MAX)
    found |= _at_most("endpoints", len(request.endpoints), ENDPOINTS_MAX)
    if not request.endpoints:
        found["endpoints"] = "a broker has one at least"
    endpoints = request.endpoints[:ENDPOINTS_MAX]
    found |= _each_new("endpoints[{}].name", [each.name for each in endpoints])
    for index, endpoint in enumerate(endpoints):
        at = f"endpoints[{index}]"
        if not 0 < len(endpoint.host) <= HOST_CHARACTERS_MAX:
            found[f"{at}.host"] = f"must have 1..{HOST_CHARACTERS_MAX} characters"
        if not 1 <= endpoint.port <= PORT_MAX:
            found[f"{at}.port"] = f"must be in 1..{PORT_MAX}, is {endpoint.port}"
    for index, directory in enumerate(request.log_dirs[:LOG_DIRS_MAX]):
        found |= _id(f"log_dirs[{index}]", directory)
    return found | _features(request)


def _features(request: control.RegisterBrokerRequest) -> Violations:
    found = _at_most("features", len(request.features), FEATURES_MAX)
    features = request.features[:FEATURES_MAX]
    found |= _each_new("features[{}].name", [each.name for each in features])
    for index, each in enumerate(features):
        if not each.min_level <= each.max_level <= FEATURE_LEVEL_MAX:
            at = f"features[{index}].max_level"
            found[at] = f"must be in {each.min_level}..{FEATURE_LEVEL_MAX}"
    return found


def update_features(request: admin.UpdateFeaturesRequest) -> Violations:
    found = dict(_call(request.timeout_ms, request.principal, request.request_id))
    found |= _at_most("updates", len(request.updates), FEATURES_MAX)
    if not request.updates:
        found["updates"] = "one at least is required"
    updates = request.updates[:FEATURES_MAX]
    found |= _each_new("updates[{}].feature", [each.feature for each in updates])
    for index, each in enumerate(updates):
        at = f"updates[{index}]"
        if each.level > FEATURE_LEVEL_MAX:
            found[f"{at}.level"] = f"must be in 0..{FEATURE_LEVEL_MAX}, is {each.level}"
        if each.upgrade_type not in _UPGRADE_TYPES:
            found[f"{at}.upgrade_type"] = f"{each.upgrade_type} is none"
    return found


_UPGRADE_TYPES = frozenset(admin.FeatureUpgradeType.values())


def session(request: control.SessionRequest) -> Violations:
    found = _node("broker_id", request.broker_id)
    for field in ("broker_epoch", "applied_offset"):
        if getattr(request, field) < 0:
            found[field] = f"must be 0 or more, is {getattr(request, field)}"
    return found


def alter_partition(request: control.AlterPartitionRequest) -> Violations:
    found = _node("broker_id", request.broker_id)
    found |= _at_most("partitions", len(request.partitions), PARTITIONS_MAX)
    for index, row in enumerate(request.partitions[:PARTITIONS_MAX]):
        at = f"partitions[{index}]"
        found |= _id(f"{at}.topic_id", row.topic_id)
        found |= _at_most(f"{at}.new_isr", len(row.new_isr), REPLICAS_MAX)
    return found


def allocate_producer_ids(request: control.AllocateProducerIdsRequest) -> Violations:
    return _node("broker_id", request.broker_id)


def check(violations: Violations) -> None:
    """Raises: BadRequestError: There are some."""
    if violations:
        raise BadRequestError(violations)


def timeout_ms(asked: int) -> int:
    return asked or TIMEOUT_MS


def transfer_leadership(request: admin.TransferLeadershipRequest) -> Violations:
    found = dict(_call(request.timeout_ms, "", ""))
    if request.voter_id < 0:
        found["voter_id"] = f"must be in 0..{NODE_ID_MAX}, is {request.voter_id}"
    return found


def unregister_broker(request: admin.UnregisterBrokerRequest) -> Violations:
    found = dict(_call(request.timeout_ms, request.principal, request.request_id))
    return found | _node("broker_id", request.broker_id)


def change_voters(request: admin.ChangeVotersRequest) -> Violations:
    found = dict(_call(request.timeout_ms, "", ""))
    which = request.WhichOneof("change")
    if which is None:
        return found | {"change": "one of add, remove, replace and update is required"}
    voter: records_pb2.Voter = getattr(request, which)
    if voter.voter_id < 0:
        found[f"{which}.voter_id"] = f"must be in 0..{NODE_ID_MAX}, is {voter.voter_id}"
    if len(voter.directory_id) not in (0, ID_BYTES):
        found[f"{which}.directory_id"] = f"has {ID_BYTES} bytes, or none"
    if voter.HasField("endpoint"):
        host, port = voter.endpoint.host, voter.endpoint.port
        found |= _at_most(
            f"{which}.endpoint.name", len(voter.endpoint.name), NAME_CHARACTERS_MAX, "characters"
        )
        if not 0 < len(host) <= HOST_CHARACTERS_MAX:
            found[f"{which}.endpoint.host"] = f"has 1 to {HOST_CHARACTERS_MAX} characters"
        if not 0 < port <= PORT_MAX:
            found[f"{which}.endpoint.port"] = f"must be in 1..{PORT_MAX}, is {port}"
    elif which == "update":
        found["update.endpoint"] = "is required"
    return found


def _call(timeout: int, principal: str, request_id: str) -> _Found:
    if timeout > TIMEOUT_MS_MAX:
        yield "timeout_ms", f"must be in 1..{TIMEOUT_MS_MAX}, or 0, is {timeout}"
    for field, value in (("principal", principal), ("request_id", request_id)):
        yield from _at_most(field, len(value), CALLER_CHARACTERS_MAX, "characters").items()


def _at_most(field: str, count: int, limit: int, what: str = "items") -> Violations:
    return {} if count <= limit else {field: f"at most {limit} {what}, has {count}"}


def _name(field: str, name: str) -> Violations:
    return _at_most(field, len(name), NAME_ASKED_CHARACTERS_MAX, "characters")


def _each_new(fields: str, names: Sequence[str]) -> Violations:
    """Each stands once, and is a name; `fields` has a place for the index."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen or not 0 < len(name) <= NAME_CHARACTERS_MAX:
            found[fields.format(index)] = f"must be new and not empty, is {name[:80]!r}"
        seen.add(name)
    return found


def _id(field: str, value: bytes) -> Violations:
    return {} if len(value) == ID_BYTES else {field: f"has {ID_BYTES} bytes, not {len(value)}"}


def _node(field: str, value: int) -> Violations:
    return {} if 0 <= value <= NODE_ID_MAX else {field: f"must be 0..{NODE_ID_MAX}, is {value}"}
