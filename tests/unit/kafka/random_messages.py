"""Random messages of any API, version and direction, made from the codec's own tables.

Values lean to the edges: nulls, empties, the longest one-byte length and the next, the extremes of
each integer. Where kio is narrower than the protocol (it knows no error code that Kafka has not
named, and makes dates of timestamps) values stay in what it takes.
"""

from random import Random
from struct import calcsize
from typing import Any
from uuid import UUID

from broker.kafka.api import APIS
from broker.kafka.codec import REQUEST, RESPONSE, message_layout
from broker.kafka.layout import FieldLayout, Fresh, StructLayout
from broker.kafka.schema import ZERO_UUID, Kind

EVERY_MESSAGE = [
    (api.key, version, direction)
    for api in APIS.values()
    for version in range(api.min_version, api.max_version + 1)
    for direction in (REQUEST, RESPONSE)
]

TEXTS = ("", "a", "orders", "käfer-☃", "x" * 126, "x" * 127, "x" * 128, "y" * 300)
TIMES_MS = (0, 1, 500, 86_400_000)
ERROR_CODES = range(-1, 120)


def random_message(api_key: int, version: int, direction: str, random: Random) -> Any:
    return random_struct(message_layout(api_key, version, direction), random)


def random_struct(layout: StructLayout, random: Random) -> Any:
    values = {field.name: random_value(field, random) for field in layout.fields}
    for field in layout.tagged:
        if random.random() < 0.5:
            values[field.name] = tagged_value(field, random)
    return layout.cls(**values)


def tagged_value(field: FieldLayout, random: Random) -> Any:
    """Not the default, nor a struct of defaults: writers may leave those out or not."""
    while True:
        value = random_value(field, random)
        default = field.default.make() if isinstance(field.default, Fresh) else field.default
        if value == default or (
            field.struct and not field.is_array and value == field.struct.cls()
        ):
            continue
        return value


def random_value(field: FieldLayout, random: Random) -> Any:
    if field.is_nullable and random.random() < 0.25:
        return None
    if not field.is_array:
        return random_element(field, random)
    counts = (0, 1, 2, 3) if field.kind is Kind.STRUCT else (0, 1, 2, 3, 127, 200)
    return [random_element(field, random) for _ in range(random.choice(counts))]


def random_element(field: FieldLayout, random: Random) -> Any:
    match field.kind:
        case Kind.STRUCT:
            assert field.struct is not None
            return random_struct(field.struct, random)
        case Kind.BOOL:
            return random.random() < 0.5
        case Kind.STRING:
            return random.choice(TEXTS)
        case Kind.BYTES | Kind.RECORDS:
            return random.randbytes(random.choice((0, 1, 61, 127, 128, 300, 2_000)))
        case Kind.UUID:
            return random.choice((ZERO_UUID, UUID(int=random.getrandbits(128))))
        case Kind.FLOAT64:
            return random.choice((0.0, -1.5, random.random()))
        case _:
            return random_integer(field, random)


def random_integer(field: FieldLayout, random: Random) -> int:
    if "error_code" in field.name:
        return random.choice(ERROR_CODES)
    if "time" in field.name or field.name.endswith("_ms"):
        return random.choice(TIMES_MS)
    bits = calcsize(field.kind.value) * 8
    if field.kind is Kind.UINT16:
        return random.choice((0, 1, 9092, 0xFFFF))
    top = 1 << (bits - 1)
    return random.choice((-top, -1, 0, 1, top - 1, random.randrange(-top, top)))
