"""Both ends of a connection: frames in, events and frames out.

    client   open_stream ─▶ send_data … ─▶ end          server   HeadersReceived ─▶ send_headers ─▶
             ◀─ HeadersReceived, DataReceived                    send_data … ─▶ send_trailers

What a peer may not do ends the connection with a GOAWAY that says why (`failure`), or only the
stream, where the RFC says so. Its data counts against two windows: the connection's is given back
as data comes, a stream's as it is read (`consumed`).

Source: RFC 9113.
"""

from collections.abc import Callable

from klamm.http2 import frames
from klamm.http2.events import (
    DataReceived,
    Event,
    GoneAway,
    HeadersReceived,
    PingAnswered,
    StreamDrained,
    StreamReset,
)
from klamm.http2.frames import HEADER_BYTES, PREFACE, Code, ProtocolError, Setting
from klamm.http2.headers import HeaderReader
from klamm.http2.limits import (
    CONNECTION_WINDOW_BYTES,
    CONTINUATIONS_MAX,
    CONTROL_FRAMES_MAX,
    FRAME_BYTES_MAX,
    HEADER_BLOCK_BYTES_MAX,
    STREAMS_MAX,
)
from klamm.http2.outgoing import Outgoing
from klamm.http2.rules import content_length, judge_request, judge_response
from klamm.http2.settings import greeting, read_settings
from klamm.http2.streams import Stream

_STREAM_ID_MAX = 2**31 - 1
DEFAULT_TABLE_BYTES = 4_096


class Connection:
    """Fed by one transport, in order."""

    def __init__(self, *, client: bool) -> None:
        self.failure: ProtocolError | None = None
        """Why it is over; what `take` gives last says so to the peer."""
        self.streams: dict[int, Stream] = {}
        self.going_away = False
        """No new streams: the peer said so, or this end."""
        self.peer_streams_max = STREAMS_MAX
        self._client = client
        self._reader = HeaderReader(judge_response if client else judge_request)
        self._buffer = b""
        self._expected = b"" if client else PREFACE
        self.settled = False
        """The peer's first SETTINGS have come."""
        self._outgoing = Outgoing(self.streams)
        self._events: list[Event] = []
        self._next_stream_id = 1
        self._last_stream_id = 0
        """The latest that the peer opened."""
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._initial_window = frames.DEFAULT_WINDOW_BYTES
        self._closed: dict[int, bool] = {}
        """The latest streams that are over, and whether this end ended them: then more of them may
        be on its way."""
        self._block: tuple[int, int, bytearray, int] | None = None
        """A header block that goes on in CONTINUATIONs: stream, flags, bytes, how many."""
        self._controls = 0
        self._on_frame: dict[int, Callable[[int, int, bytes], None]] = {
            frames.DATA: self._on_data,
            frames.HEADERS: self._on_headers,
            frames.PRIORITY: self._on_priority,
            frames.RST_STREAM: self._on_rst_stream,
            frames.SETTINGS: self._on_settings,
            frames.PUSH_PROMISE: self._on_push_promise,
            frames.PING: self._on_ping,
            frames.GOAWAY: self._on_goaway,
            frames.WINDOW_UPDATE: self._on_window_update,
            frames.CONTINUATION: self._on_continuation,
        }
        self._outgoing.frame(greeting(client=client))

    # ── what comes ───────────────────────────────────────────────────────────────────────────

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes say. After a `failure` nothing is heard any more."""
        if self.failure is not None:
            return []
        self._buffer = self._buffer + data if self._buffer else data
        try:
            self._read()
        except ProtocolError as error:
            self.fail(error)
        events, self._events = self._events, []
        if self._outgoing.drained:
            events += map(StreamDrained, self._outgoing.drained)
            self._outgoing.drained.clear()
        return events

    def _read(self) -> None:
        buffer, at = self._buffer, 0
        try:
            if self._expected:
                at = self._read_preface(buffer)
            size = len(buffer)
            while size - at >= HEADER_BYTES and not self._expected:
                length, kind, flags, stream_id = frames.read_head(buffer, at)
                if length > FRAME_BYTES_MAX:
                    raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
                end = at + HEADER_BYTES + length
                if end > size:
                    break
                payload = buffer[at + HEADER_BYTES : end]
                at = end
                self._frame(kind, flags, stream_id, payload)
        finally:
            self._buffer = buffer[at:] if at else buffer

    def _read_preface(self, buffer: bytes) -> int:
        size = min(len(buffer), len(self._expected))
        if buffer[:size] != self._expected[:size]:
            raise ProtocolError(Code.PROTOCOL_ERROR, "no HTTP/2 preface")
        if size == len(self._expected):
            self._expected = b""
            return size
        return 0

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and kind != frames.CONTINUATION:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a header block is cut in two")
        if not self.settled:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ProtocolError(Code.PROTOCOL_ERROR, "SETTINGS do not come first")
            self.settled = True
        handle = self._on_frame.get(kind)
        if handle is None:
            self._count_control()  # Unknown types are passed over (section 5.5).
            return
        handle(flags, stream_id, payload)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        flow_bytes = len(payload)
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if stream_id == 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "DATA on stream 0")
        self._receive_window -= flow_bytes
        if self._receive_window < 0:
            raise ProtocolError(Code.FLOW_CONTROL_ERROR, "the connection's window")
        if self._receive_window * 2 < CONNECTION_WINDOW_BYTES:
            increment = CONNECTION_WINDOW_BYTES - self._receive_window
            self._receive_window = CONNECTION_WINDOW_BYTES
            self._outgoing.frame(frames.window_update(0, increment))
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended or not stream.heard:
            self._on_closed(stream_id, stream)
            return
        if payload:
            self._controls = 0
        elif not flags & frames.END_STREAM:
            self._count_control()
        stream.received(flow_bytes, len(payload))
        if flow_bytes > len(payload):
            self.consumed(stream_id, flow_bytes - len(payload))
        ended = bool(flags & frames.END_STREAM)
        if ended and not self._may_end(stream):
            return
        self._events.append(DataReceived(stream_id, payload, ended))
        if ended:
            self._remote_ended(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id == 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.PRIORITIZED:
            if len(payload) < 5:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "HEADERS without their priority")
            if int.from_bytes(payload[:4]) & 0x7FFF_FFFF == stream_id:
                raise ProtocolError(Code.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream_id, payload)
            return
        self._block = (stream_id, flags, bytearray(payload), 0)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ProtocolError(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block, count = self._block
        block += payload
        if len(block) > HEADER_BLOCK_BYTES_MAX or count >= CONTINUATIONS_MAX:
            raise ProtocolError(
                Code.ENHANCE_YOUR_CALM,
                f"a header block of more than {HEADER_BLOCK_BYTES_MAX} bytes or "
                f"{CONTINUATIONS_MAX} CONTINUATIONs",
            )
        if flags & frames.END_HEADERS:
            self._block = None
            self._on_block(first_flags, stream_id, bytes(block))
        else:
            self._block = (stream_id, first_flags, block, count + 1)

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        """A whole header block; whatever becomes of its stream, the table must hear of it."""
        stream = self.streams.get(stream_id)
        trailing = stream is not None and stream.heard
        fields = self._reader.read(block, trailing=trailing)
        ended = bool(flags & frames.END_STREAM)
        if stream is None:
            opened = self._opened_by_peer(stream_id)
            if opened is None:
                return
            stream = opened
        elif stream.remote_ended:
            self._on_closed(stream_id, stream)
            return
        if fields.malformed or (trailing and not ended):
            self.reset(stream_id, Code.PROTOCOL_ERROR)
            self._events.append(StreamReset(stream_id, Code.PROTOCOL_ERROR, unprocessed=False))
            return
        if self._client and not trailing and not ended and fields.headers[0][1].startswith("1"):
            return  # Informational; the response is still to come.
        self._controls = 0
        if not trailing:
            stream.heard = True
            stream.content_left = content_length(fields.headers)
        if ended and not self._may_end(stream):
            return
        self._events.append(HeadersReceived(stream_id, fields.headers, ended, trailing))
        if ended:
            self._remote_ended(stream)

    def _opened_by_peer(self, stream_id: int) -> Stream | None:
        """A request's stream; None if it is one that is over, or not taken."""
        if self._client or stream_id <= self._last_stream_id or stream_id % 2 == 0:
            self._on_closed(stream_id, None)
            return None
        self._last_stream_id = stream_id
        if len(self.streams) >= STREAMS_MAX or self.going_away:
            self._count_control()
            self._outgoing.frame(frames.rst_stream(stream_id, Code.REFUSED_STREAM))
            return None
        stream = self.streams[stream_id] = Stream(stream_id, self._initial_window)
        return stream

    def _on_closed(self, stream_id: int, stream: Stream | None) -> None:
        """Something for a stream whose other end is over: in flight as this end ended it, or a
        breach. On one that nobody has opened it is a breach.

        Raises:
            ProtocolError: A breach that the connection does not survive.
        """
        self._check_not_idle(stream_id)
        self._count_control()
        if stream is not None:
            if not stream.remote_ended:
                raise ProtocolError(Code.PROTOCOL_ERROR, f"stream {stream_id}: data come first")
            self.reset(stream_id, Code.STREAM_CLOSED)
            self._events.append(StreamReset(stream_id, Code.STREAM_CLOSED, unprocessed=False))
        elif not self._client and not self._closed.get(stream_id, False):
            code = Code.STREAM_CLOSED if stream_id in self._closed else Code.PROTOCOL_ERROR
            raise ProtocolError(code, f"stream {stream_id} is over")

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._count_control()
        if stream_id == 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "PRIORITY")
        if int.from_bytes(payload[:4]) & 0x7FFF_FFFF == stream_id:
            raise ProtocolError(Code.PROTOCOL_ERROR, "a stream that depends on itself")

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._count_control()
        if len(payload) != 4:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "RST_STREAM")
        if stream_id == 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "RST_STREAM on stream 0")
        self._check_not_idle(stream_id)
        if self._forget(stream_id, ours=False):
            code = int.from_bytes(payload)
            unprocessed = code == Code.REFUSED_STREAM
            self._events.append(StreamReset(stream_id, code, unprocessed))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._count_control()
        if stream_id != 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "an acknowledgement with SETTINGS")
            return
        for setting, value in read_settings(payload):
            self._set(setting, value)
        self._outgoing.frame(frames.head(0, frames.SETTINGS, frames.ACK, 0))

    def _set(self, setting: Setting, value: int) -> None:
        match setting:
            case Setting.HEADER_TABLE_SIZE if value < DEFAULT_TABLE_BYTES:
                self._outgoing.announce_no_table()
            case Setting.MAX_CONCURRENT_STREAMS:
                self.peer_streams_max = min(value, STREAMS_MAX)
            case Setting.INITIAL_WINDOW_SIZE:
                change, self._initial_window = value - self._initial_window, value
                for stream in list(self.streams.values()):
                    if not stream.widen(change):
                        raise ProtocolError(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
                    self._pump(stream)
            case Setting.MAX_FRAME_SIZE:
                self._outgoing.use_frames_of(value)

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ProtocolError(Code.PROTOCOL_ERROR, "PUSH_PROMISE")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._count_control()
        if stream_id != 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != frames.PING_BYTES:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "PING")
        if flags & frames.ACK:
            self._events.append(PingAnswered(payload))
        else:
            self._outgoing.frame(frames.ping(payload, frames.ACK))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id != 0:
            raise ProtocolError(Code.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "GOAWAY")
        self.going_away = True
        last = int.from_bytes(payload[:4]) & 0x7FFF_FFFF
        code = int.from_bytes(payload[4:8])
        self._events.append(GoneAway(last, code))
        if self._client:
            for unprocessed in [each for each in self.streams if each > last]:
                self._forget(unprocessed, ours=False)
                self._events.append(StreamReset(unprocessed, code, unprocessed=True))

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        increment = int.from_bytes(payload) & 0x7FFF_FFFF
        if stream_id == 0:
            if increment == 0:
                raise ProtocolError(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            for over in self._outgoing.widen(increment):
                self._forget(over.stream_id, ours=True)
            return
        self._check_not_idle(stream_id)
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        if increment == 0 or not stream.widen(increment):
            code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
            self.reset(stream_id, code)
            self._events.append(StreamReset(stream_id, code, unprocessed=False))
            return
        self._pump(stream)

    # ── what goes ────────────────────────────────────────────────────────────────────────────

    def take(self) -> bytes:
        """What is to be written now."""
        return self._outgoing.take()

    def open_stream(self, block: bytes) -> int:
        """A client's request; its data follows, and `end`.

        Raises:
            ProtocolError: REFUSED_STREAM: the peer takes no more. Nothing was sent.
        """
        if self.going_away or len(self.streams) >= self.peer_streams_max:
            raise ProtocolError(Code.REFUSED_STREAM, "the peer takes no more streams")
        if self._next_stream_id > _STREAM_ID_MAX:
            raise ProtocolError(Code.REFUSED_STREAM, "the connection's streams are used up")
        stream_id = self._next_stream_id
        self._next_stream_id += 2
        self.streams[stream_id] = Stream(stream_id, self._initial_window)
        self._outgoing.block(stream_id, block, ended=False)
        return stream_id

    def send_headers(self, stream_id: int, block: bytes) -> None:
        """A response's first header block."""
        if stream_id in self.streams:
            self._outgoing.block(stream_id, block, ended=False)

    def send_trailers(self, stream_id: int, block: bytes) -> None:
        """The last of a response, behind its data. The stream is over then, for both."""
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.local_ended:
            stream.local_ended = True
            stream.trailers = block
            self._pump(stream)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """What does not go out now waits in the stream's queue. The stream may be gone."""
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.local_ended:
            self._outgoing.data(stream, data)

    def end(self, stream_id: int) -> None:
        """A client's request has no more data."""
        stream = self.streams.get(stream_id)
        if stream is not None and not stream.local_ended:
            stream.local_ended = True
            self._pump(stream)

    def consumed(self, stream_id: int, count: int) -> None:
        """Bytes of a stream have been read: the peer may send as many more."""
        stream = self.streams.get(stream_id)
        if stream is not None and (increment := stream.returned(count)):
            self._outgoing.frame(frames.window_update(stream_id, increment))

    def reset(self, stream_id: int, code: Code) -> None:
        """Give a stream up. Nothing more comes of it, and no event."""
        self._forget(stream_id, ours=True)
        self._outgoing.frame(frames.rst_stream(stream_id, code))

    def ping(self, payload: bytes) -> None:
        """Ask for a PingAnswered with these 8 bytes."""
        self._outgoing.frame(frames.ping(payload))

    def go_away(self) -> None:
        """Take no new streams; those that run go on."""
        self.going_away = True
        self._outgoing.frame(frames.goaway(self._last_stream_id, Code.NO_ERROR))

    def fail(self, error: ProtocolError) -> None:
        """End the connection for this reason."""
        if self.failure is None:
            self.failure = error
            why = str(error).encode()[:200]
            self._outgoing.frame(frames.goaway(self._last_stream_id, error.code, why))

    def calm(self) -> None:
        """Some time has passed: what the peer sent of little use is forgiven."""
        self._controls = 0

    def _remote_ended(self, stream: Stream) -> None:
        stream.remote_ended = True
        if not self._client:
            return
        if not stream.end_sent:
            # The server has said all; what is left of the request is not wanted.
            self._outgoing.frame(frames.rst_stream(stream.stream_id, Code.NO_ERROR))
        self._forget(stream.stream_id, ours=False)

    def _may_end(self, stream: Stream) -> bool:
        if not stream.content_left:
            return True
        self.reset(stream.stream_id, Code.PROTOCOL_ERROR)
        self._events.append(StreamReset(stream.stream_id, Code.PROTOCOL_ERROR, unprocessed=False))
        return False

    def _pump(self, stream: Stream) -> None:
        if self._outgoing.pump(stream):
            self._forget(stream.stream_id, ours=not stream.remote_ended)

    def _forget(self, stream_id: int, *, ours: bool) -> bool:
        self._outgoing.forget(stream_id)
        if self.streams.pop(stream_id, None) is None:
            return False
        self._closed[stream_id] = ours
        if len(self._closed) > STREAMS_MAX:
            del self._closed[next(iter(self._closed))]
        return True

    def _check_not_idle(self, stream_id: int) -> None:
        """
        Raises:
            ProtocolError: Nobody has opened the stream.
        """
        ours = stream_id % 2 == (1 if self._client else 0)
        latest = self._next_stream_id - 2 if ours and self._client else self._last_stream_id
        if stream_id > latest or (ours and not self._client):
            raise ProtocolError(Code.PROTOCOL_ERROR, f"stream {stream_id} was never opened")

    def _count_control(self) -> None:
        self._controls += 1
        if self._controls > CONTROL_FRAMES_MAX:
            raise ProtocolError(
                Code.ENHANCE_YOUR_CALM, f"more than {CONTROL_FRAMES_MAX} frames of no use"
            )


def _unpadded(payload: bytes) -> bytes:
    """
    Raises:
        ProtocolError: The padding is longer than the frame.
    """
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(Code.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]
