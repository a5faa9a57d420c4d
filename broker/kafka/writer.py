"""Generates the function that writes one message in one version.

For `FetchPartition` of version 9, within its loop:

    out += pack_iiqqi(s7.partition, s7.current_leader_epoch, s7.fetch_offset,
        s7.log_start_offset, s7.partition_max_bytes)

The result is a list of buffers, to be sent one after the other: records of more than
RECORDS_COPIED_MAX bytes stand in it as they were given, uncopied.

Fields that the version does not have are left out without a word, as Kafka does with those it
calls ignorable. Tagged fields are left out if they have their defaults.
"""

import struct
from collections.abc import Callable
from typing import Any

from broker.kafka.layout import FIXED_KINDS, FieldLayout, Fresh, StructLayout
from broker.kafka.schema import STRING_BYTES_MAX, Buffer, Kind
from broker.kafka.source import Source
from broker.kafka.varint import write_uvarint

RECORDS_COPIED_MAX = 1_024
"""Below it a copy is cheaper than one more buffer in a scatter write."""

WRITE_ERRORS = (struct.error, AttributeError, TypeError, ValueError, OverflowError)
"""All that a generated writer raises for a message that its version cannot carry."""

Writer = Callable[[Any], list[Buffer]]

TAG_MAX = 0x7F
"""Of the tags that are written, so that one byte is enough for a tag and for how many there are."""


def compile_writer(layout: StructLayout, description: str) -> Writer:
    """The writer of `layout`: returns buffers, or raises one of WRITE_ERRORS."""
    writer: Writer = _WriterGenerator(layout).compile(description)
    return writer


def append_records(parts: list[Buffer], out: bytearray, records: Any) -> bytearray:
    """Put records after `out`; returns the bytearray to go on with."""
    if isinstance(records, tuple):
        parts.append(out)
        parts.extend(records)
        return bytearray()
    if len(records) <= RECORDS_COPIED_MAX:
        out += records
        return out
    parts.append(out)
    parts.append(records)
    return bytearray()


def records_length(records: tuple[Buffer, ...]) -> int:
    return sum(map(len, records))


class _WriterGenerator:
    def __init__(self, layout: StructLayout) -> None:
        self._layout = layout
        self._source = Source()
        self._formats = ""
        self._values: list[str] = []
        self._source.namespace |= {
            "write_uvarint": write_uvarint,
            "append_records": append_records,
            "records_length": records_length,
            "pack": struct.pack,
        }

    def compile(self, description: str) -> Any:
        source = self._source
        source.line("out = bytearray()")
        if self._layout.has_records:
            source.line("parts = []")
        self._struct(self._layout, "message")
        self._flush()
        if self._layout.has_records:
            with source.block("if out:"):
                source.line("parts.append(out)")
            source.line("return parts")
        else:
            source.line("return [out]")
        return source.compile("write", "message", description)

    # Runs of fixed-size fields.

    def _run(self, form: str, value: str) -> None:
        """Write `value` with the struct format `form`, in one pack with its neighbours."""
        self._formats += form
        self._values.append(value)

    def _flush(self) -> None:
        if self._values:
            self._source.line(f"out += {self._packed()}")
        self._formats, self._values = "", []

    def _packed(self) -> str:
        return f"{self._source.packer(self._formats, 'pack')}({', '.join(self._values)})"

    def _length(self, is_flexible: bool, form: str, n: str, most: int | None = None) -> None:
        """Write a length or count in the local name `n`: -1 is null. Ends the run.

        `most` is its limit, where the format itself has none.
        """
        if not is_flexible:
            self._run(form, n)
            self._flush()
            return
        source = self._source
        before, values = self._formats, list(self._values)
        source.line(f"{n} += 1")
        with source.block(f"if {n} < 128:"):
            self._run("B", n)
            self._flush()
        self._formats, self._values = before, values
        with source.block("else:"):
            if most is not None:
                with source.block(f"if {n} > {most + 1}:"):
                    source.line(f"raise ValueError(f'{{{n} - 1}} bytes are over {most}')")
            self._flush()
            source.line(f"out += write_uvarint({n})")

    # Structs and fields.

    def _struct(self, layout: StructLayout, var: str) -> None:
        for field in layout.fields:
            self._field(field, f"{var}.{field.name}", layout)
        if not layout.is_flexible:
            return
        if layout.tagged:
            self._tags(layout, var)
        else:
            self._run("B", "0")

    def _field(self, field: FieldLayout, value: str, layout: StructLayout) -> None:
        if field.is_array:
            self._array(field, value, layout)
        else:
            self._value(field, value, layout)

    def _value(self, field: FieldLayout, value: str, layout: StructLayout) -> None:
        match field.kind:
            case Kind.UUID:
                self._run("16s", f"{value}.bytes")
            case Kind.STRING | Kind.BYTES | Kind.RECORDS:
                self._sized(field, value, layout)
            case Kind.STRUCT:
                self._nested(field, value)
            case kind:
                assert kind in FIXED_KINDS
                self._run(kind.value, value)

    def _nested(self, field: FieldLayout, value: str) -> None:
        assert field.struct is not None
        var = self._source.name("s")
        self._source.line(f"{var} = {value}")
        if not field.is_nullable:
            self._struct(field.struct, var)
            return
        self._flush()
        with self._source.block(f"if {var} is None:"):
            self._source.line(r"out += b'\xff'")
        with self._source.block("else:"):
            self._run("b", "1")
            self._struct(field.struct, var)
            self._flush()

    def _sized(self, field: FieldLayout, value: str, layout: StructLayout) -> None:
        source = self._source
        data, n = source.name("data"), source.name("n")
        length = f"len({data})"
        if field.kind is Kind.RECORDS:
            length += f" if type({data}) is not tuple else records_length({data})"
        encode = ".encode()" if field.kind is Kind.STRING else ""
        if field.is_nullable:
            source.line(f"{data} = {value}")
            with source.block(f"if {data} is None:"):
                source.line(f"{n} = -1")
                source.line(f"{data} = b''")
            with source.block("else:"):
                if encode:
                    source.line(f"{data} = {data}{encode}")
                source.line(f"{n} = {length}")
        else:
            source.line(f"{data} = {value}{encode}")
            source.line(f"{n} = {length}")
        is_string = field.kind is Kind.STRING
        most = STRING_BYTES_MAX if is_string else None
        self._length(layout.is_flexible, "h" if is_string else "i", n, most)
        if field.kind is Kind.RECORDS:
            with source.block(f"if {n}:"):
                source.line(f"out = append_records(parts, out, {data})")
        else:
            source.line(f"out += {data}")

    def _array(self, field: FieldLayout, value: str, layout: StructLayout) -> None:
        source = self._source
        items, n, item = source.name("items"), source.name("n"), source.name("item")
        source.line(f"{items} = {value}")
        if field.is_nullable:
            with source.block(f"if {items} is None:"):
                source.line(f"{n} = -1")
                source.line(f"{items} = ()")
            with source.block("else:"):
                source.line(f"{n} = len({items})")
        else:
            source.line(f"{n} = len({items})")
        self._length(layout.is_flexible, "i", n)
        if field.kind in FIXED_KINDS:
            source.line(f"out += pack(f'>{{len({items})}}{field.kind.value}', *{items})")
            return
        with source.block(f"for {item} in {items}:"):
            if field.kind is Kind.STRUCT:
                assert field.struct is not None
                self._struct(field.struct, item)
            else:
                self._value(field.element, item, layout)
            self._flush()

    # Tagged fields (KIP-482).

    def _tags(self, layout: StructLayout, var: str) -> None:
        source = self._source
        count = source.name("tags")
        source.line(f"{count} = 0")
        conditions = [(field, self._differs(field, var)) for field in layout.tagged]
        for _, condition in conditions:
            with source.block(f"if {condition}:"):
                source.line(f"{count} += 1")
        self._run("B", count)
        self._flush()
        with source.block(f"if {count}:"):
            for field, condition in conditions:
                assert field.tag is not None
                assert field.tag <= TAG_MAX, f"tag {field.tag} of {field.name}"
                with source.block(f"if {condition}:"):
                    held = source.name("held")
                    source.line(f"{held} = out")
                    source.line("out = bytearray()")
                    self._field(field, f"{var}.{field.name}", layout)
                    self._flush()
                    source.line(f"{held}.append({field.tag})")
                    source.line(f"{held} += write_uvarint(len(out))")
                    source.line(f"{held} += out")
                    source.line(f"out = {held}")

    def _differs(self, field: FieldLayout, var: str) -> str:
        """The condition under which a tagged field is written."""
        value = f"{var}.{field.name}"
        match field.default:
            case None:
                return f"{value} is not None"
            case Fresh():
                assert field.is_array, "a tagged struct that is not there is None"
                return value
            case False:
                return value
            case int() | str():
                return f"{value} != {field.default!r}"
            case _:
                return f"{value} != {self._source.constant('default', field.default)}"
