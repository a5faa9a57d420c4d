"""Incremental alterations of configs (KIP-339; spec kraft 2.12)."""

from collections import Counter
from collections.abc import Collection, Container, Mapping
from enum import IntEnum
from functools import lru_cache, partial
from itertools import compress, repeat
from operator import ne
from typing import NamedTuple

from immutables import Map

from controller.plan.decision import Decision
from controller.plan.ledger import View
from klamm.config.topic import JUDGED_TOGETHER, KAFKA_DEFAULTS, are_right, is_list, violations
from klamm.config.topic_keys import TOPIC_KEYS
from klamm.errors import ApiError, ErrorCode
from klamm.metadata.config_records import ROWS_MIN, column, may_be_packed, packed
from klamm.metadata.image import NOTHING_SET
from klamm.metadata.records import ConfigRecord, MetadataRecord, ResourceType

CONFIGS_KEPT = 1_024
"""Sets of configs whose violations are remembered."""


class Operation(IntEnum):
    """Kafka's numbers."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Alteration(NamedTuple):
    """A NamedTuple for its price, as the two below: a call can have thousands."""

    key: str
    operation: Operation
    value: str | None = None
    """None only for DELETE."""


class AlterResource(NamedTuple):
    resource_type: ResourceType
    resource_name: str
    alterations: tuple[Alteration, ...]


class AlterResult(NamedTuple):
    resource_type: ResourceType
    resource_name: str
    error: ErrorCode = ErrorCode.NONE
    message: str = ""


class SetOnTopics(NamedTuple):
    """One key, set on each of many topics: the usual large call, in columns."""

    key: str
    names: tuple[str, ...]
    values: tuple[str, ...]
    """One a name."""

    @property
    def resources(self) -> tuple[AlterResource, ...]:
        """The same, row by row."""
        return tuple(
            AlterResource(ResourceType.TOPIC, name, (Alteration(self.key, Operation.SET, value),))
            for name, value in zip(self.names, self.values, strict=True)
        )


Asked = tuple[AlterResource, ...] | SetOnTopics


def alter(
    view: View, asked: Asked, *, validate_only: bool = False
) -> Decision[tuple[AlterResult, ...]]:
    """Each resource is atomic, and independent of the others. Unchanged values write nothing.

    One that stands twice is refused in each of its rows, as Kafka does: none is what was meant.
    """
    if isinstance(asked, SetOnTopics):
        decision = _set_on_topics(view, asked)
        if decision is not None:
            return Decision((), decision.results) if validate_only else decision
        asked = asked.resources
    records: list[ConfigRecord] = []
    results: list[AlterResult] = []
    resources = [each[:2] for each in asked]
    twice = _twice(resources)
    for resource, each in zip(resources, asked, strict=True):
        try:
            if resource in twice:
                raise ApiError(ErrorCode.INVALID_REQUEST, "the resource stands twice")
            records += _altered(view, each)
        except ApiError as error:
            results.append(_result(each, error.code, error.message))
        else:
            results.append(AlterResult(*resource))
    written = packed(records) if may_be_packed(view.image) else records
    return Decision(() if validate_only else tuple(written), tuple(results))


def _twice(resources: list[tuple[ResourceType, str]]) -> Collection[tuple[ResourceType, str]]:
    if len(set(resources)) == len(resources):
        return ()
    return {each for each, count in Counter(resources).items() if count > 1}


def _set_on_topics(view: View, asked: SetOnTopics) -> Decision[tuple[AlterResult, ...]] | None:
    """What `alter` decides of the rows, by the column; None if there is anything to refuse."""
    key, names, values = asked
    image = view.image
    if len(set(names)) < len(names) or not all(map(image.topics.by_name.__contains__, names)):
        return None
    if key in JUDGED_TOGETHER or not are_right(key, set(values)):
        return None
    topics = zip(repeat(ResourceType.TOPIC), names, strict=False)
    before = [own.get(key) for own in map(image.configs.get, topics, repeat(NOTHING_SET))]
    done = zip(repeat(ResourceType.TOPIC), names, repeat(ErrorCode.NONE), repeat(""), strict=False)
    changed = list(map(ne, before, values))
    if not all(changed):
        names, values = tuple(compress(names, changed)), tuple(compress(values, changed))
    return Decision(_set(view, key, names, values), tuple(map(_RESULT, done)))


_RESULT = partial(tuple.__new__, AlterResult)
"""As its _make, without a call of Python a row."""


def _set(
    view: View, key: str, names: tuple[str, ...], values: tuple[str, ...]
) -> tuple[MetadataRecord, ...]:
    if len(names) >= ROWS_MIN and may_be_packed(view.image):
        return (column(ResourceType.TOPIC, key, names, values),)
    topic = ResourceType.TOPIC
    return tuple(map(ConfigRecord, repeat(topic), names, repeat(key), values))


def _altered(view: View, asked: AlterResource) -> list[ConfigRecord]:
    _check_exists(view, asked)
    kind, name, alterations = asked
    own = view.image.config(kind, name)
    if len(alterations) > 1:
        keys = [each.key for each in alterations]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ApiError(ErrorCode.INVALID_REQUEST, f"{', '.join(twice)} stands twice")
    wanted = {each.key: _value(own.get(each.key), each) for each in alterations}
    set_keys = {key: value for key, value in wanted.items() if value is not None}
    wrong: Mapping[str, str] = {}
    if set_keys:
        kept = own.items() if len(set_keys) == len(wanted) else _without(own, wanted)
        wrong = _violations(frozenset({**dict(kept), **set_keys}.items()))
    if wrong:
        wrong = {key: wrong[key] for key in sorted(wrong) if key in set_keys}
    if wrong:
        raise ApiError(ErrorCode.INVALID_CONFIG, "; ".join(dict.fromkeys(wrong.values())))
    return [
        ConfigRecord(kind, name, key, value)
        for key, value in wanted.items()
        if value != own.get(key)
    ]


def _without(own: Map[str, str], keys: Container[str]) -> list[tuple[str, str]]:
    return [(key, value) for key, value in own.items() if key not in keys]


@lru_cache(CONFIGS_KEPT)
def _violations(config: frozenset[tuple[str, str]]) -> Mapping[str, str]:
    """What is wrong with a topic's configs, all together. Many topics have the same ones."""
    return violations(dict(config))


def _check_exists(view: View, asked: AlterResource) -> None:
    name = asked.resource_name
    if asked.resource_type is ResourceType.TOPIC:
        if not name:
            raise ApiError(ErrorCode.INVALID_REQUEST, "a topic's configs need the topic's name")
        if name not in view.image.topics.by_name:
            raise ApiError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}")
        return
    # Brokers read their own keys at start; what is dynamic of them comes with a later release.
    raise ApiError(
        ErrorCode.INVALID_CONFIG,
        "broker configs are read from the broker's file and environment at start; "
        "only topic configs can be altered while it runs",
    )


def _value(before: str | None, alteration: Alteration) -> str | None:
    """The value that the key is to have; None: its default again."""
    key, value = alteration.key, alteration.value
    if alteration.operation is Operation.DELETE:
        return None
    if value is None:
        raise ApiError(ErrorCode.INVALID_CONFIG, f"{key}: a value is missing")
    if alteration.operation is Operation.SET:
        return value
    if key in TOPIC_KEYS and not is_list(key):
        raise ApiError(
            ErrorCode.INVALID_CONFIG,
            f"Config value append is not allowed for config key: {key}; it is no list",
        )
    present = before if before is not None else _default(key)
    items = [item for item in present.split(",") if item]
    given = [item.strip() for item in value.split(",") if item.strip()]
    if alteration.operation is Operation.APPEND:
        return ",".join([*items, *(item for item in given if item not in items)])
    return ",".join(item for item in items if item not in given)


def _default(key: str) -> str:
    return KAFKA_DEFAULTS.text_of(key) if key in TOPIC_KEYS else ""


def _result(
    asked: AlterResource, error: ErrorCode = ErrorCode.NONE, message: str = ""
) -> AlterResult:
    return AlterResult(
        resource_type=asked.resource_type,
        resource_name=asked.resource_name,
        error=error,
        message=message,
    )
