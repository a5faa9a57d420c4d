"""Writes data to standard output: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import typer

from klamm.ids import format_uuid

if TYPE_CHECKING:
    from google.protobuf.message import Message

Json = dict[str, Any] | list[Any]

_UUID_BYTES = 16


def write_json(value: Json) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def write_json_line(value: Json) -> None:
    """One of many values: one a line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def write_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns under bold heads; as wide as need be where nobody watches."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(each)) for each in row))
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    console.print(table)


def note(sentence: str) -> None:
    """A message for the person, beside the data."""
    typer.echo(sentence, err=True)


def message_json(message: "Message") -> dict[str, Any]:
    """A protobuf message under its own field names: numbers stay numbers, UUIDs are Kafka's.
    A checksum, which has as many bytes, is in hex.

    Fields that are not there are left out, but a scalar without presence always has a value.
    """
    shown: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.has_presence and not message.HasField(field.name):
            continue
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            shown[field.name] = {key: _value_json(each, field) for key, each in value.items()}
        elif field.is_repeated:
            shown[field.name] = [_value_json(each, field) for each in value]
        else:
            shown[field.name] = _value_json(value, field)
    return shown


def _value_json(value: Any, field: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex() if field.name == "checksum" else uuid_text(value)
    if field.enum_type is not None:
        by_number = field.enum_type.values_by_number
        return by_number[value].name if value in by_number else value
    if hasattr(value, "DESCRIPTOR"):
        return message_json(value)
    return value


def uuid_text(value: bytes) -> str:
    """16 bytes in Kafka's spelling; others, which are no UUID, in hex."""
    return format_uuid(UUID(bytes=value)) if len(value) == _UUID_BYTES else value.hex()


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(str(each) for each in value)
    return str(value)
