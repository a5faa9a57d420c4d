"""Our tables against Kafka's message definitions, as kafka-python ships them: field by field.

Not compared: the defaults of nullable fields and of tagged structs, where we say null and Kafka
has an empty value, and Produce 0-2, which Kafka 4 no longer defines.
"""

import re
from functools import cache
from typing import Any

import pytest
from kafka.protocol.schemas.load_json import load_json

from broker.kafka.api import APIS, NEVER, ApiKey
from broker.kafka.codec import REQUEST, RESPONSE, message_layout
from broker.kafka.layout import FieldLayout, Fresh, StructLayout
from broker.kafka.schema import Kind, Versions
from tests.unit.kafka.random_messages import EVERY_MESSAGE

SPELLED = {kind.name.lower(): kind for kind in Kind}
EMPTY = {Kind.STRING: "", Kind.BYTES: b"", Kind.RECORDS: b"", Kind.BOOL: False}


def snake_case(name: str) -> str:
    name = name[0].upper() + name[1:]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@cache
def definition(api_key: int, direction: str) -> tuple[dict[str, Any], dict[str, Any]]:
    loaded = load_json(APIS[api_key].name + direction)
    structs = {each["name"]: each["fields"] for each in loaded.get("commonStructs", [])}
    return loaded, structs


@pytest.mark.parametrize(("api_key", "version", "direction"), EVERY_MESSAGE)
def test_every_field_is_as_kafka_defines_it(api_key: ApiKey, version: int, direction: str) -> None:
    loaded, structs = definition(api_key, direction)
    if version not in Versions.parse(loaded["validVersions"]):
        assert api_key is ApiKey.PRODUCE
        return
    compare(message_layout(api_key, version, direction), loaded["fields"], structs, version)


def compare(
    ours: StructLayout, theirs: list[dict[str, Any]], structs: dict[str, Any], version: int
) -> None:
    present = [field for field in theirs if version in Versions.parse(field["versions"])]
    tagged = [
        field for field in present if version in Versions.parse(field.get("taggedVersions", "none"))
    ]
    untagged = [field for field in present if field not in tagged]
    tagged.sort(key=lambda field: int(field["tag"]))
    assert [field.name for field in ours.fields] == [snake_case(f["name"]) for f in untagged]
    assert [(field.name, field.tag) for field in ours.tagged] == [
        (snake_case(field["name"]), field["tag"]) for field in tagged
    ]
    for field, defined in zip((*ours.fields, *ours.tagged), (*untagged, *tagged), strict=True):
        compare_field(field, defined, structs, version)


def compare_field(
    ours: FieldLayout, theirs: dict[str, Any], structs: dict[str, Any], version: int
) -> None:
    assert ours.is_array is theirs["type"].startswith("[]")
    name = theirs["type"].removeprefix("[]")
    kind = SPELLED.get(name, Kind.STRUCT)
    assert ours.kind is kind, ours.name
    assert ours.is_nullable is (version in Versions.parse(theirs.get("nullableVersions", "none")))
    if kind is Kind.STRUCT:
        assert ours.struct is not None
        assert ours.struct.cls.__name__.removeprefix("Request") == name
        compare(ours.struct, theirs.get("fields") or structs[name], structs, version)
    compare_default(ours, theirs, kind)


def compare_default(ours: FieldLayout, theirs: dict[str, Any], kind: Kind) -> None:
    default = theirs.get("default")
    if default == "null":
        assert ours.default is None, ours.name
    elif ours.default is None:
        assert ours.is_nullable or kind is Kind.STRUCT, ours.name
    elif ours.is_array or kind is Kind.STRUCT:
        assert isinstance(ours.default, Fresh), ours.name
    elif kind is Kind.UUID:
        assert ours.default.int == 0
    elif kind in EMPTY:
        assert str(ours.default).lower() == str(default or EMPTY[kind]).lower(), ours.name
    else:
        assert ours.default == int(str(default or 0), 0), ours.name


@pytest.mark.parametrize("api_key", list(APIS))
@pytest.mark.parametrize("direction", [REQUEST, RESPONSE])
def test_versions_are_as_kafka_defines_them(api_key: ApiKey, direction: str) -> None:
    loaded, _ = definition(api_key, direction)
    api = APIS[api_key]
    valid = Versions.parse(loaded["validVersions"])
    assert loaded["apiKey"] == api_key
    assert api.max_version in valid
    assert api.min_version == (0 if api_key is ApiKey.PRODUCE else valid.first)
    flexible = loaded["flexibleVersions"]
    assert api.flexible_version == (NEVER if flexible == "none" else Versions.parse(flexible).first)


def test_every_api_key_is_in_the_table() -> None:
    assert set(APIS) == set(ApiKey)
