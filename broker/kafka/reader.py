"""Generates the function that reads one message in one version.

For `FetchPartition` of version 9, within its loop:

    s7 = new(FetchPartition)
    s7.last_fetched_epoch = -1
    …
    s7.partition, s7.current_leader_epoch, s7.fetch_offset, s7.log_start_offset, \
        s7.partition_max_bytes = unpack_from_iiqqi(data, pos)
    pos += 28

Bounds: `struct` and indexing refuse to read past the end; a length is held against what is left
before it is sliced, since a slice would not refuse; a count is held against what is left divided
by the fewest bytes that an element takes, before anything is made for it. So the memory taken is
bounded by the frame, and the time by ELEMENTS_MAX besides.

A reader says what is wrong, and not where: that would cost time for each field. The traced reader
of the same table, which keeps the name of the field it is at, is run after a failure.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from uuid import UUID

from broker.kafka.errors import MalformedFrameError
from broker.kafka.layout import FIXED_KINDS, FieldLayout, Fresh, StructLayout
from broker.kafka.schema import STRING_BYTES_MAX, Kind
from broker.kafka.source import Source, UnpackRun
from broker.kafka.varint import (
    TAGGED_FIELD_BYTES_MIN,
    finish_uvarint,
    read_uvarint,
    skip_tagged_fields,
)

ELEMENTS_MAX = 200_000
"""Structs, strings and tagged fields in one message, of all its arrays together. Each takes the
processor half a microsecond and up to a hundred bytes, from as few as two bytes of a frame: without
it a frame of 4 MiB was seen to hold the event loop for three seconds."""

UUIDS_CACHED_MAX = 4_096

READ_ERRORS = (MalformedFrameError, IndexError, struct.error, UnicodeDecodeError)
"""All that a generated reader raises, whatever the bytes."""

Reader = Callable[[memoryview, list[str]], Any]
"""Reads a whole body. The list is where a traced reader keeps the name of the field it is at."""


@lru_cache(maxsize=UUIDS_CACHED_MAX)
def uuid_of(raw: bytes) -> UUID:
    """Topic ids come again and again, and to make a UUID takes longer than all else in a topic."""
    return UUID(bytes=raw)


def compile_reader(layout: StructLayout, description: str, *, traced: bool = False) -> Reader:
    """The reader of `layout`: takes all the bytes it is given, or raises one of READ_ERRORS."""
    generator = _ReaderGenerator(layout, traced)
    reader: Reader = generator.compile(description)
    return reader


class _ReaderGenerator:
    def __init__(self, layout: StructLayout, traced: bool) -> None:
        self._layout = layout
        self._traced = traced
        self._source = Source()
        self._run = UnpackRun(self._source)
        self._source.namespace |= {
            "new": object.__new__,
            "bad": MalformedFrameError,
            "uuid_of": uuid_of,
            "finish_uvarint": finish_uvarint,
            "read_uvarint": read_uvarint,
            "skip_tagged_fields": skip_tagged_fields,
            "unpack_from": struct.unpack_from,
        }

    def compile(self, description: str) -> Any:
        source = self._source
        if not self._layout.has_records:
            # Indexing and slicing bytes is twice as fast as a memoryview, and the copy is small.
            source.line("data = bytes(data)")
        source.line("size = len(data)")
        source.line("pos = 0")
        source.line(f"left = {ELEMENTS_MAX}")
        message = self._struct(self._layout, "")
        self._run.flush()
        self._trace("the end")
        with source.block("if pos != size:"):
            source.line("raise bad(f'{size - pos} bytes follow the message')")
        source.line(f"return {message}")
        return source.compile("read", "data, at", description)

    def _trace(self, path: str) -> None:
        if self._traced:
            self._run.flush()
            self._source.line(f"at[0] = {path!r}")

    # Structs and fields.

    def _struct(self, layout: StructLayout, path: str) -> str:
        """Read a struct; the last run may be left open. Returns the name that holds it."""
        source = self._source
        var = source.name("s")
        cls = layout.cls.__name__
        assert source.namespace.setdefault(cls, layout.cls) is layout.cls, f"two of name {cls}"
        source.line(f"{var} = new({cls})")
        tagged = [(field.name, field.default) for field in layout.tagged]
        for name, default in (*layout.absent, *tagged):
            source.line(f"{var}.{name} = {self._default(default)}")
        for field in layout.fields:
            self._field(field, var, f"{path}.{field.name}" if path else field.name, layout)
        if layout.is_flexible:
            self._tags(layout, var, path)
        return var

    def _default(self, default: object) -> str:
        match default:
            case Fresh():
                make = default.make
                return "[]" if make is list else f"{self._source.constant('make', make)}()"
            case None | bool() | int() | str() | bytes():
                return repr(default)
            case _:
                return self._source.constant("default", default)

    def _field(self, field: FieldLayout, var: str, path: str, layout: StructLayout) -> None:
        self._trace(path)
        target = f"{var}.{field.name}"
        if field.is_array:
            self._array(field, target, path, layout)
        else:
            self._value(field, target, path, layout)

    def _value(self, field: FieldLayout, target: str, path: str, layout: StructLayout) -> None:
        """Read one value into `target`, an attribute or a local name."""
        match field.kind:
            case Kind.UUID:
                raw = self._source.name("raw")
                self._run.add(raw, "16s", f"{target} = uuid_of({raw})")
            case Kind.STRING | Kind.BYTES | Kind.RECORDS:
                self._sized(field, target, layout)
            case Kind.STRUCT:
                self._nested(field, target, path)
            case kind:
                assert kind in FIXED_KINDS
                self._run.add(target, kind.value)

    def _nested(self, field: FieldLayout, target: str, path: str) -> None:
        assert field.struct is not None
        if not field.is_nullable:
            var = self._struct(field.struct, path)
            self._source.line(f"{target} = {var}")
            return
        present = self._source.name("n")
        self._run.add(present, "b")
        self._run.flush()
        with self._source.block(f"if {present} == 1:"):
            var = self._struct(field.struct, path)
            self._run.flush()
            self._source.line(f"{target} = {var}")
        with self._source.block(f"elif {present} == -1:"):
            self._source.line(f"{target} = None")
        with self._source.block("else:"):
            self._source.line(
                f"raise bad(f'{{{present}}} says neither that a struct is nor is not')"
            )

    def _length(self, is_flexible: bool, classic: str, most: int | None = None) -> str:
        """Read a length or count, as the name that holds it: -1 is null, and `most` the limit."""
        n = self._source.name("n")
        if not is_flexible:
            self._run.add(n, classic)
            self._run.flush()
            return n
        self._run.add(n, "B")
        self._run.flush()
        with self._source.block(f"if {n} > 127:"):
            self._source.line(f"{n}, pos = finish_uvarint(data, {n}, pos)")
            if most is not None:
                with self._source.block(f"if {n} > {most + 1}:"):
                    self._source.line(f"raise bad(f'{{{n} - 1}} bytes are over {most}')")
        self._source.line(f"{n} -= 1")
        return n

    def _refuse_null(self, field: FieldLayout, target: str, n: str) -> None:
        """The branch for a length below 0: null, or refused."""
        with self._source.block(f"if {n} < 0:"):
            if field.is_nullable:
                with self._source.block(f"if {n} != -1:"):
                    self._source.line(f"raise bad(f'the length is {{{n}}}')")
                self._source.line(f"{target} = None")
            else:
                self._source.line(f"raise bad(f'the length is {{{n}}}, and null is not allowed')")

    def _sized(self, field: FieldLayout, target: str, layout: StructLayout) -> None:
        source = self._source
        is_string = field.kind is Kind.STRING
        most = STRING_BYTES_MAX if is_string else None
        n = self._length(layout.is_flexible, "h" if is_string else "i", most)
        self._refuse_null(field, target, n)
        with source.block("else:"):
            source.line(f"end = pos + {n}")
            with source.block("if end > size:"):
                source.line(
                    f"raise bad(f'the length is {{{n}}}, and {{size - pos}} bytes are left')"
                )
            match field.kind:
                case Kind.STRING:
                    source.line(f"{target} = str(data[pos:end], 'utf-8')")
                case Kind.BYTES:
                    source.line(f"{target} = bytes(data[pos:end])")
                case _:
                    source.line(f"{target} = data[pos:end]")
            source.line("pos = end")

    def _array(self, field: FieldLayout, target: str, path: str, layout: StructLayout) -> None:
        source = self._source
        n = self._length(layout.is_flexible, "i")
        self._refuse_null(field, target, n)
        least = field.element.min_bytes(layout.is_flexible)
        with source.block("else:"):
            with source.block(f"if {n} * {least} > size - pos:"):
                source.line(f"raise bad(f'{{{n}}} elements, and {{size - pos}} bytes are left')")
            if field.kind in FIXED_KINDS:
                source.line(
                    f"{target} = list(unpack_from(f'>{{{n}}}{field.kind.value}', data, pos))"
                )
                source.line(f"pos += {n} * {least}")
                return
            self._spend(n)
            items, item = source.name("items"), source.name("item")
            source.line(f"{items} = []")
            with source.block(f"for _ in range({n}):"):
                if field.kind is Kind.STRUCT:
                    assert field.struct is not None
                    item = self._struct(field.struct, f"{path}[]")
                else:
                    self._value(field.element, item, path, layout)
                self._run.flush()
                source.line(f"{items}.append({item})")
            source.line(f"{target} = {items}")

    def _spend(self, count: str) -> None:
        self._source.line(f"left -= {count}")
        with self._source.block("if left < 0:"):
            self._source.line(f"raise bad('over {ELEMENTS_MAX} elements in one message')")

    # Tagged fields (KIP-482).

    def _tags(self, layout: StructLayout, var: str, path: str) -> None:
        source = self._source
        self._trace(f"{path} tags".lstrip())
        count = source.name("tags")
        self._run.add(count, "B")
        self._run.flush()
        with source.block(f"if {count}:"):
            with source.block(f"if {count} > 127:"):
                source.line(f"{count}, pos = finish_uvarint(data, {count}, pos)")
            self._spend(count)
            if not layout.tagged:
                source.line(f"pos = skip_tagged_fields(data, {count}, pos)")
                return
            with source.block(f"if {count} * {TAGGED_FIELD_BYTES_MIN} > size - pos:"):
                source.line(f"raise bad(f'{{{count}}} tagged fields in {{size - pos}} bytes')")
            tag, last, stop = source.name("tag"), source.name("last"), source.name("stop")
            source.line(f"{last} = -1")
            with source.block(f"for _ in range({count}):"):
                source.line(f"{tag}, pos = read_uvarint(data, pos)")
                source.line(f"{stop}, pos = read_uvarint(data, pos)")
                source.line(f"{stop} += pos")
                with source.block(f"if {tag} <= {last}:"):
                    source.line(f"raise bad(f'tag {{{tag}}} follows tag {{{last}}}')")
                with source.block(f"if {stop} > size:"):
                    source.line(f"raise bad(f'tag {{{tag}}} is longer than what is left')")
                source.line(f"{last} = {tag}")
                self._known_tags(layout, var, path, tag, stop)

    def _known_tags(self, layout: StructLayout, var: str, path: str, tag: str, stop: str) -> None:
        source = self._source
        word = "if"
        for field in layout.tagged:
            with source.block(f"{word} {tag} == {field.tag}:"):
                self._field(field, var, f"{path}.{field.name}".lstrip("."), layout)
                self._run.flush()
                with source.block(f"if pos != {stop}:"):
                    source.line(f"raise bad(f'tag {{{tag}}} is not as long as it says')")
            word = "elif"
        with source.block("else:"):
            source.line(f"pos = {stop}")
