"""Bytes to messages and messages to bytes, for every API and version in `api.APIS`.

    decode_request(ApiKey.FETCH, 12, body) ─▶ messages.fetch.FetchRequest
    encode_response(ApiKey.FETCH, 12, FetchResponse(…)) ─▶ [buffer, buffer, …]

Both directions for both: a broker answers requests, and its replica fetcher makes them. A reader
or writer is compiled at its first use, in a millisecond, and kept.

No message is read or written by hand. Tried for a Produce of one partition: 1.0 us in place of 1.5,
of some twenty for the whole request, which does not pay for a second way through hostile bytes.
"""

from importlib import import_module
from typing import Any

from broker.kafka.api import APIS
from broker.kafka.errors import (
    MalformedFrameError,
    UnsupportedVersionError,
    UnwritableMessageError,
)
from broker.kafka.layout import StructLayout, layout_of
from broker.kafka.reader import READ_ERRORS, Reader, compile_reader
from broker.kafka.schema import Buffer
from broker.kafka.writer import WRITE_ERRORS, Writer, compile_writer

CONTROL_BYTES_MAX = 8 * 1024 * 1024
"""Of a message that carries no records; a fetch of 200,000 partitions is within it."""

_readers: dict[tuple[int, int, str], tuple[Reader, int]] = {}
_traced_readers: dict[tuple[int, int, str], Reader] = {}
_writers: dict[tuple[int, int, str], Writer] = {}

REQUEST = "Request"
RESPONSE = "Response"

NO_LIMIT = 0x7FFFFFFF
"""The size of a frame is an int32, and the listener has its own limit."""


# Any: the message's class depends on the key; a handler names the one that it is registered for.
def decode_request(api_key: int, api_version: int, body: memoryview) -> Any:
    """Read the body of a request, all of it.

    Records in it are views into `body`; all else is copied.

    Raises:
        MalformedFrameError: It is not a request of this API and version.
        UnsupportedVersionError: There is no such API, or not in this version.
    """
    return _decode(api_key, api_version, REQUEST, body)


def decode_response(api_key: int, api_version: int, body: memoryview) -> Any:
    """Read the body of a response, all of it. As `decode_request`."""
    return _decode(api_key, api_version, RESPONSE, body)


def encode_request(api_key: int, api_version: int, message: object) -> list[Buffer]:
    """Write the body of a request, as buffers to be sent one after the other.

    Records of some size are among them as they are in the message, uncopied.

    Raises:
        UnwritableMessageError: A value in it that this version cannot carry.
        UnsupportedVersionError: There is no such API, or not in this version.
    """
    return _encode(api_key, api_version, REQUEST, message)


def encode_response(api_key: int, api_version: int, message: object) -> list[Buffer]:
    """Write the body of a response. As `encode_request`."""
    return _encode(api_key, api_version, RESPONSE, message)


def message_class(api_key: int, direction: str) -> type:
    """The dataclass of an API's messages; `direction` is REQUEST or RESPONSE.

    Modules of messages are loaded as they are needed: a broker serves half of the APIs.
    """
    api = APIS[api_key]
    module = import_module(f"broker.kafka.messages.{api.module}")
    cls: type = getattr(module, api.name + direction)
    return cls


def message_layout(api_key: int, api_version: int, direction: str) -> StructLayout:
    """The table of one message in one version.

    Raises:
        UnsupportedVersionError: There is no such API, or not in this version.
    """
    api = APIS.get(api_key)
    if api is None or api_version not in api:
        raise UnsupportedVersionError(api_key, api_version)
    return layout_of(message_class(api_key, direction), api_version, api.is_flexible(api_version))


def _decode(api_key: int, api_version: int, direction: str, body: memoryview) -> Any:
    key = (api_key, api_version, direction)
    reader, bytes_max = _readers.get(key) or _make_reader(key)
    if len(body) > bytes_max:
        raise MalformedFrameError(f"{_describe(*key)}: {len(body)} bytes are over {bytes_max}")
    try:
        return reader(body, [])
    except READ_ERRORS as error:
        reason = str(error)
    # Not within `except`: an error in the context would keep the body alive with its traceback.
    raise MalformedFrameError(f"{_describe(*key)}: {_explain(key, body, reason)}")


def _encode(api_key: int, api_version: int, direction: str, message: object) -> list[Buffer]:
    key = (api_key, api_version, direction)
    writer = _writers.get(key) or _make_writer(key)
    try:
        return writer(message)
    except WRITE_ERRORS as error:
        raise UnwritableMessageError(f"{_describe(*key)}: {error}") from error


def _make_reader(key: tuple[int, int, str]) -> tuple[Reader, int]:
    layout = message_layout(*key)
    bytes_max = NO_LIMIT if layout.has_records else CONTROL_BYTES_MAX
    made = _readers[key] = (compile_reader(layout, _describe(*key)), bytes_max)
    return made


def _make_writer(key: tuple[int, int, str]) -> Writer:
    made = _writers[key] = compile_writer(message_layout(*key), _describe(*key))
    return made


def _explain(key: tuple[int, int, str], body: memoryview, reason: str) -> str:
    """Read once more, with a reader that knows at which field it is."""
    traced = _traced_readers.get(key)
    if traced is None:
        layout = message_layout(*key)
        traced = _traced_readers[key] = compile_reader(layout, _describe(*key), traced=True)
    at = [""]
    try:
        traced(body, at)
    except READ_ERRORS as error:
        reason = str(error)
    return f"{at[0]}: {reason}"


def _describe(api_key: int, api_version: int, direction: str) -> str:
    return f"{APIS[api_key].name}{direction} version {api_version}"
