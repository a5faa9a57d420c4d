"""What a peer has done. Streams are named by their number."""

from typing import NamedTuple

from klamm.http2.headers import Headers


class HeadersReceived(NamedTuple):
    """A request, a response, or what comes behind its data (then `trailing`)."""

    stream_id: int
    headers: Headers
    ended: bool
    trailing: bool


class DataReceived(NamedTuple):
    """The receiver gives the bytes back to the window by `Connection.consumed`."""

    stream_id: int
    data: bytes
    ended: bool


class StreamReset(NamedTuple):
    """Either end gave the stream up; nothing more comes of it."""

    stream_id: int
    code: int
    unprocessed: bool
    """The peer says that it has done nothing with it."""


class StreamDrained(NamedTuple):
    """All that was sent on the stream has gone out to the transport."""

    stream_id: int


class PingAnswered(NamedTuple):
    payload: bytes


class GoneAway(NamedTuple):
    """The peer takes no new streams; those after `last_stream_id` it has not processed."""

    last_stream_id: int
    code: int


Event = HeadersReceived | DataReceived | StreamReset | StreamDrained | PingAnswered | GoneAway
