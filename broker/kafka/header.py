"""What stands before every request and response.

    request    size int32 │ api_key int16 │ api_version int16 │ correlation_id int32
               │ client_id nullable string, int16 length always │ tags, if the version is flexible
    response   size int32 │ correlation_id int32 │ tags, if the version is flexible

`size` counts what follows it. A frame, here and in the listener, is what `size` counts. The header
of an ApiVersions response never has tags: the client reads it before it knows what the node can do
(KIP-511). Tags in headers are skipped; Kafka has none yet.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from broker.kafka.api import APIS, ApiKey
from broker.kafka.errors import MalformedFrameError
from broker.kafka.schema import Buffer
from broker.kafka.varint import finish_uvarint, skip_tagged_fields

_REQUEST = Struct(">hhih")
_CORRELATION_ID = Struct(">i")
_RESPONSE = Struct(">ii")
_FLEXIBLE_RESPONSE = Struct(">iib")
_SIZED_REQUEST = Struct(">ihhih")

CLIENT_ID_BYTES_MAX = 0x7FFF


@dataclass(slots=True)
class RequestHeader:
    """What a request is and where its answer goes; not frozen, as one is made for each request."""

    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None
    body: memoryview
    """The rest of the frame. If no such API or version is known it begins after the client id,
    since only a known version says whether tags follow (KIP-511)."""


def read_request_header(frame: memoryview) -> RequestHeader:
    """Read what stands before the body of a request, of any API and version.

    Raises:
        MalformedFrameError: The frame is too short, or the client id is not UTF-8.
    """
    try:
        api_key, api_version, correlation_id, length = _REQUEST.unpack_from(frame)
        position = _REQUEST.size
        client_id = None
        if length >= 0:
            end = position + length
            if end > len(frame):
                raise MalformedFrameError(f"client_id has {length} bytes of {len(frame)}")
            client_id = str(frame[position:end], "utf-8")
            position = end
        elif length != -1:
            raise MalformedFrameError(f"client_id has the length {length}")
        api = APIS.get(api_key)
        if api is not None and api_version >= api.flexible_version and api_version in api:
            position = _skip_tags(frame, position)
    except (MalformedFrameError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise MalformedFrameError(f"request header: {error}") from error
    return RequestHeader(api_key, api_version, correlation_id, client_id, frame[position:])


def response_frame(
    api_key: int, api_version: int, correlation_id: int, body: Sequence[Buffer]
) -> list[Buffer]:
    """A whole response, size first, as buffers to be sent one after the other."""
    size = sum(map(len, body))
    if has_response_tags(api_key, api_version):
        header = _FLEXIBLE_RESPONSE.pack(size + 5, correlation_id, 0)
    else:
        header = _RESPONSE.pack(size + 4, correlation_id)
    return [header, *body]


def request_frame(
    api_key: int,
    api_version: int,
    correlation_id: int,
    client_id: str,
    body: Sequence[Buffer],
) -> list[Buffer]:
    """A whole request, size first, as buffers to be sent one after the other."""
    client = client_id.encode()
    assert len(client) <= CLIENT_ID_BYTES_MAX, "client_id is configured within its limit"
    tags = b"\0" if APIS[api_key].is_flexible(api_version) else b""
    size = _REQUEST.size + len(client) + len(tags) + sum(map(len, body))
    header = _SIZED_REQUEST.pack(size, api_key, api_version, correlation_id, len(client))
    return [header + client + tags, *body]


def read_response_header(
    api_key: int, api_version: int, frame: memoryview
) -> tuple[int, memoryview]:
    """The correlation id and the body of the response to a request of this API and version.

    Raises:
        MalformedFrameError: The frame is too short.
    """
    try:
        (correlation_id,) = _CORRELATION_ID.unpack_from(frame)
        position = _CORRELATION_ID.size
        if has_response_tags(api_key, api_version):
            position = _skip_tags(frame, position)
    except (MalformedFrameError, IndexError, struct.error) as error:
        raise MalformedFrameError(f"response header: {error}") from error
    return correlation_id, frame[position:]


def has_response_tags(api_key: int, api_version: int) -> bool:
    """Whether the header of a response is version 1, which has tags."""
    return api_key != ApiKey.API_VERSIONS and APIS[api_key].is_flexible(api_version)


def _skip_tags(frame: memoryview, position: int) -> int:
    count = frame[position]
    position += 1
    if count == 0:
        return position
    if count > 0x7F:
        count, position = finish_uvarint(frame, count, position)
    return skip_tagged_fields(frame, count, position)
