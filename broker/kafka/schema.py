"""What a field is on the wire: the vocabulary in which `messages/` are written.

A message is a dataclass. The annotation says the type, and `wire` says the rest where there is a
rest to say:

    @dataclass(slots=True, kw_only=True)
    class FetchPartition:
        partition: Int32 = 0                                   every version, default 0
        log_start_offset: Int64 = wire("5+", default=-1)       since version 5
        topic: String = wire("0-12", default="")               until version 12
        rack: String | None = None                             nullable wherever it is
        topics: list[Topic] | None = array("0+", nullable="1+")  nullable since version 1
        cluster_id: String | None = wire("12+", default=None, tag=0)   a tagged field (KIP-482)

A field that a version does not have is not written, and reads as its default. Defaults are
Kafka's, with one exception: a tagged struct that is not there is None, where Kafka has a struct
of defaults. Messages are not frozen: they live for one request, and the reader fills them in
place, which takes a third of the time.

Source: https://kafka.apache.org/protocol, KIP-482 for tagged fields and compact lengths.
"""

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

ZERO_UUID = UUID(int=0)
"""Kafka's "no id"."""


STRING_BYTES_MAX = 0x7FFF
"""In UTF-8. The classic length is an int16, and Kafka takes no more from a compact one."""


class Kind(Enum):
    """How a value lies on the wire. The value is the struct format of those of fixed size."""

    BOOL = "?"
    INT8 = "b"
    INT16 = "h"
    UINT16 = "H"
    INT32 = "i"
    INT64 = "q"
    FLOAT64 = "d"
    UUID = "16s"
    STRING = "string"
    BYTES = "bytes"
    RECORDS = "records"
    STRUCT = "struct"


Bool = Annotated[bool, Kind.BOOL]
Int8 = Annotated[int, Kind.INT8]
Int16 = Annotated[int, Kind.INT16]
UInt16 = Annotated[int, Kind.UINT16]
Int32 = Annotated[int, Kind.INT32]
Int64 = Annotated[int, Kind.INT64]
Float64 = Annotated[float, Kind.FLOAT64]
Uuid = Annotated[UUID, Kind.UUID]
String = Annotated[str, Kind.STRING]
Bytes = Annotated[bytes, Kind.BYTES]
"""Copied out of the frame: it may outlive it."""

Buffer = bytes | bytearray | memoryview
"""Bytes that go to a socket as they are."""

Records = Annotated[memoryview | bytes, Kind.RECORDS]
"""Record batches end to end. Read: a view into the frame, no copy, valid as long as the frame's
buffer is not reused. Written: by reference."""

RecordsOut = Annotated[memoryview | bytes | tuple[memoryview | bytes, ...], Kind.RECORDS]
"""As `Records`; may be written from several buffers, as a read over two segments gives."""

EVERY = "0+"


@dataclass(frozen=True, slots=True)
class Versions:
    """An inclusive range of an API's versions, in Kafka's spelling: `4+`, `0-12`, `7`, `none`."""

    first: int
    last: int

    def __contains__(self, version: int) -> bool:
        return self.first <= version <= self.last

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @classmethod
    def parse(cls, text: str) -> "Versions":
        if text == "none":
            return NO_VERSIONS
        if text.endswith("+"):
            return cls(int(text[:-1]), VERSION_MAX)
        first, _, last = text.partition("-")
        return cls(int(first), int(last or first))


VERSION_MAX = 0x7FFF
"""A version is an int16."""

NO_VERSIONS = Versions(VERSION_MAX + 1, VERSION_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """What a field's annotation does not say."""

    versions: Versions
    nullable: Versions | None
    """None: wherever the annotation says `| None`."""
    tag: int | None
    """The tag of a tagged field, which may be left out and skipped."""


WIRE = "wire"
"""The key of `Wire` in a dataclass field's metadata."""


# Any: a dataclass field's default stands where its value will be, and so has every type.
def wire(
    versions: str,
    *,
    default: Any = dataclasses.MISSING,
    nullable: str | None = None,
    tag: int | None = None,
) -> Any:
    """A field that not every version has, or that is nullable or tagged in some only."""
    return dataclasses.field(default=default, metadata={WIRE: _wire(versions, nullable, tag)})


def array(versions: str = EVERY, *, nullable: str | None = None, tag: int | None = None) -> Any:
    """An array whose default is empty. One whose default is null is `wire(…, default=None)`."""
    return dataclasses.field(default_factory=list, metadata={WIRE: _wire(versions, nullable, tag)})


def struct(kind: type[object], versions: str = EVERY) -> Any:
    """An untagged struct, whose default is the struct's own."""
    return dataclasses.field(default_factory=kind, metadata={WIRE: _wire(versions, None, None)})


def _wire(versions: str, nullable: str | None, tag: int | None) -> Wire:
    return Wire(
        versions=Versions.parse(versions),
        nullable=None if nullable is None else Versions.parse(nullable),
        tag=tag,
    )
