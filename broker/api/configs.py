"""DescribeConfigs (key 32) and IncrementalAlterConfigs (key 44), for topics and brokers.

    a topic's key    set on the topic ▶ the broker key that it defaults to ▶ Kafka's default
    a broker's key   its file, environment or command line ▶ Kafka's default

What is set on topics stands in the image. What a broker was started with is read only: nothing of
it can be changed while it runs, and the controllers refuse to try.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter

from broker.api import topic_names
from broker.api.changes import change, request_id
from broker.api.context import BrokerServices, RequestContext
from broker.kafka.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)
from broker.kafka.messages.incremental_alter_configs import (
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from klamm.config.keys import ConfigKey, Kind
from klamm.config.settings import Setting
from klamm.config.topic_keys import BROKER_SYNONYMS, COARSER_UNITS, TOPIC_KEYS
from klamm.errors import ApiError, ErrorCode
from klamm.metadata.records import ResourceType
from klamm.v1 import admin_pb2 as pb
from klamm.v1 import records_pb2

RESOURCES_MAX = 1_000
"""Of one request: the controllers' own limit."""

ALTER_TIMEOUT_MS = 30_000
"""The request carries none; Kafka's `request.timeout.ms`."""


class Source(IntEnum):
    """Where a value comes from (KIP-226)."""

    TOPIC = 1
    STATIC_BROKER = 4
    DEFAULT = 5


_TYPES = {
    Kind.BOOLEAN: 1,
    Kind.STRING: 2,
    Kind.INT: 3,
    Kind.LONG: 5,
    Kind.DOUBLE: 6,
    Kind.LIST: 7,
}
"""Kafka's numbers of a config's type (KIP-569)."""


@dataclass(frozen=True, slots=True)
class _Value:
    """One place where a key, or the key that it defaults to, has a value."""

    name: str
    text: str | None
    source: Source


def topic_entries(
    services: BrokerServices, own: Mapping[str, str], keys: Iterable[str] | None = None
) -> list[DescribeConfigsResourceResult]:
    """Every key of a topic on which `own` is set, or those of `keys` that there are."""
    wanted = TOPIC_KEYS if keys is None else [each for each in keys if each in TOPIC_KEYS]
    entries = []
    for name in wanted:
        chain = _topic_chain(services, own, name)
        entries.append(_entry(TOPIC_KEYS[name], chain, read_only=False))
    return entries


async def alter(
    services: BrokerServices, context: RequestContext, request: IncrementalAlterConfigsRequest
) -> IncrementalAlterConfigsResponse:
    """Answered once this broker's image has the change. Each resource stands for itself."""
    _check_count(len(request.resources))
    twice = _twice(request.resources)
    rows = [
        (each, _STANDS_TWICE if _name(each) in twice else _alter_refusal(each))
        for each in request.resources
    ]
    good = [each for each, refusal in rows if refusal is None]
    results = iter(await _alter(services, context, request, good) if good else ())
    responses = [
        next(results) if refusal is None else _altered(each, refusal) for each, refusal in rows
    ]
    return IncrementalAlterConfigsResponse(responses=responses)


def describe(
    services: BrokerServices, context: RequestContext, request: DescribeConfigsRequest
) -> DescribeConfigsResponse:
    """From this broker's image and file."""
    _check_count(len(request.resources))
    results = []
    for resource in request.resources:
        result = DescribeConfigsResult(
            resource_type=resource.resource_type, resource_name=resource.resource_name
        )
        try:
            result.configs = _described(services, resource)
        except ApiError as error:
            result.error_code = error.code
            result.error_message = error.message
        for entry in result.configs:
            if not request.include_synonyms:
                entry.synonyms = []
            if not request.include_documentation:
                entry.documentation = None
        results.append(result)
    return DescribeConfigsResponse(results=results)


def _check_count(resources: int) -> None:
    if resources > RESOURCES_MAX:
        why = f"{resources} resources are over {RESOURCES_MAX}"
        raise ApiError(ErrorCode.INVALID_REQUEST, why)


def _described(
    services: BrokerServices, resource: DescribeConfigsResource
) -> list[DescribeConfigsResourceResult]:
    name = resource.resource_name
    match resource.resource_type:
        case ResourceType.TOPIC:
            if services.image.topics.named(name) is None:
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"no topic {name!r}")
            own = services.image.config(ResourceType.TOPIC, name)
            return topic_entries(services, own, resource.configuration_keys)
        case ResourceType.BROKER if name == "":
            return []  # What is set for all brokers while they run (KIP-226): nothing can be.
        case ResourceType.BROKER if name == str(services.node_id):
            return _broker_entries(services, resource.configuration_keys)
        case ResourceType.BROKER:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"this is broker {services.node_id}; the configuration of {name!r} is with it",
            )
    raise ApiError(
        ErrorCode.INVALID_REQUEST,
        f"resource type {resource.resource_type} has no configuration here; topics (2) and "
        "brokers (4) have",
    )


def _broker_entries(
    services: BrokerServices, keys: Iterable[str] | None
) -> list[DescribeConfigsResourceResult]:
    settings = services.config.settings.by_key
    wanted = settings if keys is None else [each for each in keys if each in settings]
    return [
        _entry(settings[name].key, _broker_chain(settings[name]), read_only=True) for name in wanted
    ]


def _topic_chain(services: BrokerServices, own: Mapping[str, str], key: str) -> list[_Value]:
    """Where the key has a value, the one that holds first."""
    chain = []
    if key in own:
        chain.append(_Value(key, own[key], Source.TOPIC))
    synonym = BROKER_SYNONYMS.get(key)
    if synonym is None:
        return [*chain, _Value(key, TOPIC_KEYS[key].default, Source.DEFAULT)]
    setting = services.config.settings[synonym]
    if setting.is_default and (coarser := _coarser(services, key)) is not None:
        in_effect = services.config.topic_defaults.text_of(key)
        chain.append(_Value(coarser.key.name, in_effect, Source.STATIC_BROKER))
    elif not setting.is_default:
        chain.append(_Value(synonym, setting.text, Source.STATIC_BROKER))
    chain.append(_Value(synonym, setting.key.default, Source.DEFAULT))
    return chain


def _coarser(services: BrokerServices, key: str) -> Setting | None:
    """The older broker key that is set, in hours or minutes, and stands for the topic's."""
    for name, _ in COARSER_UNITS.get(key, ()):
        setting = services.config.settings[name]
        if not setting.is_default:
            return setting
    return None


def _broker_chain(setting: Setting) -> list[_Value]:
    name, default = setting.key.name, setting.key.default
    chain = []
    if not setting.is_default:
        chain.append(_Value(name, setting.text, Source.STATIC_BROKER))
    elif setting.text != default:
        chain.append(_Value(name, setting.text, Source.DEFAULT))  # The profile's own default.
    if default is not None or not chain:
        chain.append(_Value(name, default, Source.DEFAULT))
    return chain


def _entry(
    key: ConfigKey, chain: list[_Value], *, read_only: bool
) -> DescribeConfigsResourceResult:
    first = chain[0]
    return DescribeConfigsResourceResult(
        name=key.name,
        value=first.text,
        read_only=read_only,
        config_source=first.source,
        synonyms=[
            DescribeConfigsSynonym(name=each.name, value=each.text, source=each.source)
            for each in chain
        ],
        config_type=_TYPES[key.kind],
        documentation=key.doc,
    )


_RESOURCE_TYPES: dict[int, records_pb2.ConfigResourceType.ValueType] = {
    ResourceType.TOPIC: records_pb2.CONFIG_RESOURCE_TYPE_TOPIC,
    ResourceType.BROKER: records_pb2.CONFIG_RESOURCE_TYPE_BROKER,
}
_OPERATIONS = (
    pb.ALTER_CONFIG_OPERATION_SET,
    pb.ALTER_CONFIG_OPERATION_DELETE,
    pb.ALTER_CONFIG_OPERATION_APPEND,
    pb.ALTER_CONFIG_OPERATION_SUBTRACT,
)
"""By Kafka's numbers."""

_DELETE = 1

_STANDS_TWICE = ApiError(ErrorCode.INVALID_REQUEST, "the resource stands twice")

_name = attrgetter("resource_type", "resource_name")


def _twice(resources: list[AlterConfigsResource]) -> Collection[tuple[int, str]]:
    """What stands in more than one row. None of these is done, whatever is wrong with another."""
    names = list(map(_name, resources))
    if len(set(names)) == len(names):
        return ()
    return {each for each, count in Counter(names).items() if count > 1}


def _alter_refusal(resource: AlterConfigsResource) -> ApiError | None:
    if resource.resource_type not in _RESOURCE_TYPES:
        return ApiError(
            ErrorCode.INVALID_REQUEST,
            f"resource type {resource.resource_type} cannot be altered here; topics (2) and "
            "brokers (4) can",
        )
    if len(resource.resource_name) > topic_names.NAME_CHARACTERS_MAX:
        topic = resource.resource_type == ResourceType.TOPIC
        return ApiError(
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if topic else ErrorCode.INVALID_REQUEST,
            f"nothing has a name of {len(resource.resource_name)} characters; "
            f"{topic_names.NAME_CHARACTERS_MAX} are allowed",
        )
    names = [each.name for each in resource.configs]
    if len(set(names)) < len(names):
        return ApiError(ErrorCode.INVALID_REQUEST, "a key stands twice")
    for each in resource.configs:
        if not 0 <= each.config_operation < len(_OPERATIONS):
            return ApiError(
                ErrorCode.INVALID_REQUEST, f"{each.name}: no operation {each.config_operation}"
            )
        if each.value is None and each.config_operation != _DELETE:
            return ApiError(ErrorCode.INVALID_CONFIG, f"{each.name} has no value")
    return None


async def _alter(
    services: BrokerServices,
    context: RequestContext,
    request: IncrementalAlterConfigsRequest,
    resources: list[AlterConfigsResource],
) -> list[AlterConfigsResourceResponse]:
    wire = pb.IncrementalAlterConfigsRequest(
        timeout_ms=ALTER_TIMEOUT_MS,
        validate_only=request.validate_only,
        principal=context.principal,
        request_id=request_id(context),
    )
    for each in resources:
        _add(wire, each)

    async def call(timeout_ms: int) -> pb.IncrementalAlterConfigsResponse:
        return await services.controllers.incremental_alter_configs(wire, timeout_ms)

    try:
        response = await change(services, ALTER_TIMEOUT_MS, call)
    except ApiError as error:
        return [_altered(each, error) for each in resources]
    return [
        AlterConfigsResourceResponse(
            error_code=each.error_code,
            error_message=each.error_message or None,
            resource_type=asked.resource_type,
            resource_name=asked.resource_name,
        )
        for asked, each in zip(resources, response.results, strict=True)
    ]


def _add(wire: pb.IncrementalAlterConfigsRequest, resource: AlterConfigsResource) -> None:
    """Rows are made where they stand, at half the price: there can be a thousand."""
    row = wire.resources.add(
        resource_type=_RESOURCE_TYPES[resource.resource_type],
        resource_name=resource.resource_name,
    )
    for each in resource.configs:
        row.alterations.add(
            key=each.name,
            operation=_OPERATIONS[each.config_operation],
            value=None if each.config_operation == _DELETE else each.value,
        )


def _altered(resource: AlterConfigsResource, error: ApiError) -> AlterConfigsResourceResponse:
    return AlterConfigsResourceResponse(
        error_code=error.code,
        error_message=error.message,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
    )
