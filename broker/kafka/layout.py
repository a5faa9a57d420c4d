"""What lies on the wire in one version: the tables of `messages/`, resolved.

A `StructLayout` is a dataclass at one version of its API: the fields that this version has, in
order, each with its type, and structs within structs laid out in turn. Readers and writers are
generated from it.
"""

import dataclasses
import types
import typing
from dataclasses import dataclass
from functools import cache
from struct import calcsize
from typing import Any

from broker.kafka.schema import EVERY, WIRE, Kind, Versions, Wire

STRUCT_DEPTH_MAX = 8
"""No message nests as deep; none is recursive, so that no input can nest deeper than its table."""

FIXED_KINDS = frozenset(kind for kind in Kind if kind.value in {"?", "b", "h", "H", "i", "q", "d"})
"""Kinds that are one number of fixed size, with their struct format as value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldLayout:
    """One field in one version."""

    name: str
    kind: Kind
    """Of the field, or of an array's elements."""
    struct: "StructLayout | None"
    is_array: bool
    is_nullable: bool
    tag: int | None
    default: Any

    @property
    def element(self) -> "FieldLayout":
        """One element of an array; Kafka has no null elements."""
        assert self.is_array
        return dataclasses.replace(self, is_array=False, is_nullable=False, tag=None)

    def min_bytes(self, is_flexible: bool) -> int:
        """The fewest bytes that the field takes; never 0, so that every count has a bound."""
        if self.is_array:
            return 1 if is_flexible else 4
        match self.kind:
            case Kind.STRING:
                return 1 if is_flexible else 2
            case Kind.BYTES | Kind.RECORDS:
                return 1 if is_flexible else 4
            case Kind.STRUCT:
                assert self.struct is not None
                return 1 if self.is_nullable else self.struct.min_bytes
            case _:
                return calcsize(self.kind.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class StructLayout:
    """One struct in one version."""

    cls: type
    is_flexible: bool
    fields: tuple[FieldLayout, ...]
    """In the order of the wire."""
    tagged: tuple[FieldLayout, ...]
    """In ascending order of tags. Not on the wire if they have their defaults."""
    absent: tuple[tuple[str, Any], ...]
    """Names and defaults of the fields that this version does not have."""

    @property
    def min_bytes(self) -> int:
        fields = sum(field.min_bytes(self.is_flexible) for field in self.fields)
        return max(1, fields + self.is_flexible)

    @property
    def has_records(self) -> bool:
        return any(
            field.kind is Kind.RECORDS or (field.struct is not None and field.struct.has_records)
            for field in self.fields
        )


class Fresh:
    """A default that is made anew each time: an empty list, or a struct."""

    def __init__(self, make: typing.Callable[[], object]) -> None:
        self.make = make


def layout_of(cls: type, version: int, is_flexible: bool, depth: int = 0) -> StructLayout:
    """Lay out a message, or any struct of one, as it is in `version` of its API."""
    assert depth <= STRUCT_DEPTH_MAX, f"{cls.__name__} nests deeper than {STRUCT_DEPTH_MAX}"
    fields: list[FieldLayout] = []
    tagged: list[FieldLayout] = []
    absent: list[tuple[str, Any]] = []
    for declared in _declared(cls):
        if version not in declared.wire.versions:
            absent.append((declared.name, declared.default))
            continue
        nested = None
        if declared.struct is not None:
            nested = layout_of(declared.struct, version, is_flexible, depth + 1)
        field = FieldLayout(
            name=declared.name,
            kind=declared.kind,
            struct=nested,
            is_array=declared.is_array,
            is_nullable=declared.is_nullable(version),
            tag=declared.wire.tag,
            default=declared.default,
        )
        (fields if field.tag is None else tagged).append(field)
    tagged.sort(key=lambda field: -1 if field.tag is None else field.tag)
    return StructLayout(
        cls=cls,
        is_flexible=is_flexible,
        fields=tuple(fields),
        tagged=tuple(tagged),
        absent=tuple(absent),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    """A field of a message's dataclass, for all versions."""

    name: str
    wire: Wire
    kind: Kind
    struct: type | None
    is_array: bool
    is_optional: bool
    default: Any

    def is_nullable(self, version: int) -> bool:
        """Whether null is on the wire; a tagged struct is None when it is not there at all."""
        if not self.is_optional or (self.wire.tag is not None and self.kind is Kind.STRUCT):
            return False
        return self.wire.nullable is None or version in self.wire.nullable


_PLAIN = Wire(versions=Versions.parse(EVERY), nullable=None, tag=None)


@cache
def _declared(cls: type) -> tuple[_Declared, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_declare(field, hints[field.name]) for field in dataclasses.fields(cls))


def _declare(field: "dataclasses.Field[Any]", hint: Any) -> _Declared:
    wire: Wire = field.metadata.get(WIRE, _PLAIN)
    is_optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
    if is_optional:
        (hint,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
    is_array = typing.get_origin(hint) is list
    if is_array:
        (hint,) = typing.get_args(hint)
    is_struct = isinstance(hint, type)
    default = field.default
    if default is dataclasses.MISSING:
        default = Fresh(typing.cast("typing.Callable[[], object]", field.default_factory))
    return _Declared(
        name=field.name,
        wire=wire,
        kind=Kind.STRUCT if is_struct else hint.__metadata__[0],
        struct=hint if is_struct else None,
        is_array=is_array,
        is_optional=is_optional,
        default=default,
    )
