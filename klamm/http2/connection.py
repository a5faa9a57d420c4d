"""Both ends of a connection: frames in, events and frames out.

    client   open_stream ─▶ send_data … ─▶ end          server   HeadersReceived ─▶ send_headers ─▶
             ◀─ HeadersReceived, DataReceived                    send_data … ─▶ send_trailers

What a peer may not do ends the connection with a GOAWAY that says why (`failure`), or only the
stream, where the RFC says so. Its data counts against two windows: the connection's is given back
as data comes, a stream's as it is read (`consumed`).

Source: RFC 9113.
"""

from collections import OrderedDict
from collections.abc import Callable

from klamm.http2 import frames
from klamm.http2.conduct import Conduct, check_block, check_order
from klamm.http2.events import (
    DataReceived,
    Event,
    GoneAway,
    HeadersReceived,
    PingAnswered,
    StreamDrained,
    StreamReset,
)
from klamm.http2.frames import HEADER_BYTES, PREFACE, Code, ProtocolError, Setting, read_head
from klamm.http2.headers import HeaderReader
from klamm.http2.limits import (
    CONNECTION_WINDOW_BYTES,
    FRAME_BYTES_MAX,
    STREAMS_MAX,
    UNREAD_LOOKS_MAX,
)
from klamm.http2.outgoing import Outgoing
from klamm.http2.rules import judge_request, judge_response
from klamm.http2.settings import greeting, read_settings
from klamm.http2.streams import Stream

_STREAM_ID_MAX = 2**31 - 1


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
        self._partial = bytearray()
        """Of a frame that is not whole yet."""
        self._wanted = 0
        """Bytes that must be there before it is worth a look."""
        self._greeted = client
        self.settled = False
        """The peer's first SETTINGS have come."""
        self._outgoing = Outgoing(self.streams)
        self.take = self._outgoing.take
        """What is to be written now."""
        self._events: list[Event] = []
        self._next_stream_id = 1
        self._last_stream_id = 0
        """The latest that the peer opened."""
        self._receive_window = CONNECTION_WINDOW_BYTES
        self._initial_window = frames.DEFAULT_WINDOW_BYTES
        self._closed: OrderedDict[int, bool] = OrderedDict()
        """The latest streams that are over, and whether this end ended them: then more of them may
        be on its way."""
        self._block: tuple[int, int, bytearray, int] | None = None
        """A header block that goes on in CONTINUATIONs: stream, flags, bytes, how many."""
        self._conduct = Conduct()
        on_frame: dict[int, Callable[[int, int, bytes], None]] = {
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
        self._on_frame = (
            {kind: handle for kind, handle in on_frame.items() if kind not in frames.OF_STREAMS},
            {kind: handle for kind, handle in on_frame.items() if kind not in frames.OF_CONNECTION},
        )
        """What the connection itself may get, and what a stream may."""
        self._outgoing.frame(greeting(client=client))

    # ── what comes ───────────────────────────────────────────────────────────────────────────

    def receive(self, data: bytes) -> list[Event]:
        """What the bytes say. After a `failure` nothing is heard any more."""
        if self.failure is not None:
            return []
        if self._partial:
            self._partial += data
            if len(self._partial) < self._wanted:
                return []
            data = bytes(self._partial)
            self._partial.clear()
        try:
            at = self._read(data)
            if at < len(data):
                self._partial += data[at:]
        except ProtocolError as error:
            self.fail(error)
        events, self._events = self._events, []
        if self._outgoing.drained:
            events += map(StreamDrained, self._outgoing.drained)
            self._outgoing.drained.clear()
        return events

    def _read(self, data: bytes) -> int:
        """The frames that are whole; returns where the rest begins."""
        at = 0 if self._greeted else self._read_preface(data)
        self._wanted = HEADER_BYTES if self._greeted else 0
        size = len(data)
        while size - at >= HEADER_BYTES and self._greeted:
            length_and_kind, flags, stream_id = read_head(data, at)
            length, kind = length_and_kind >> 8, length_and_kind & 0xFF
            if length > FRAME_BYTES_MAX:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            end = at + HEADER_BYTES + length
            if end > size:
                self._wanted = HEADER_BYTES + length
                break
            payload = data[at + HEADER_BYTES : end]
            at = end
            stream_id &= _STREAM_ID_MAX  # The bit above is nobody's.
            handle = self._on_frame[stream_id != 0].get(kind)
            if handle is None or self._block is not None or not self.settled:
                check_order(kind, flags, stream_id, self._block is not None, self.settled)
                self.settled = True
            if handle is not None:
                handle(flags, stream_id, payload)
            else:
                self._conduct.control()  # Unknown types are passed over (section 5.5).
        if at and self._block is None:
            self._conduct.advanced = True
        return at

    def _read_preface(self, data: bytes) -> int:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ProtocolError(Code.PROTOCOL_ERROR, "no HTTP/2 preface")
        self._greeted = len(data) >= len(PREFACE)
        return len(PREFACE) if self._greeted else 0

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        flow_bytes = len(payload)
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        self._receive_window -= flow_bytes
        if self._receive_window * 2 < CONNECTION_WINDOW_BYTES:
            if self._receive_window < 0:
                raise ProtocolError(Code.FLOW_CONTROL_ERROR, "the connection's window")
            increment = CONNECTION_WINDOW_BYTES - self._receive_window
            self._receive_window = CONNECTION_WINDOW_BYTES
            self._outgoing.frame(frames.window_update(0, increment))
        stream = self.streams.get(stream_id)
        if stream is None or stream.remote_ended or not stream.heard:
            self._on_closed(stream_id, stream)
            return
        if payload:
            self._conduct.useful()
        elif not flags & frames.END_STREAM:
            self._conduct.control()
        stream.received(flow_bytes, len(payload))
        if flow_bytes > len(payload):
            self.consumed(stream_id, flow_bytes - len(payload))
        ended = flags & frames.END_STREAM != 0
        if ended and not self._may_end(stream):
            return
        self._events.append(DataReceived(stream_id, payload, ended))
        if ended:
            self._remote_ended(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.PRIORITIZED:
            frames.check_priority(payload[: frames.PRIORITY_BYTES], stream_id)
            payload = payload[frames.PRIORITY_BYTES :]
        if flags & frames.END_HEADERS:
            check_block(len(payload))
            self._on_block(flags, stream_id, payload)
            return
        self._block = (stream_id, flags, bytearray(payload), 0)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream_id:
            raise ProtocolError(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block, count = self._block
        block += payload
        check_block(len(block), count + 1)
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
            self._breach(stream_id, Code.PROTOCOL_ERROR)
            return
        informational = self._client and not trailing and fields.headers[0][1].startswith("1")
        if informational and not ended:
            self._conduct.control()
            return  # The response is still to come.
        self._conduct.useful()
        if not trailing:
            stream.heard = True
            stream.content_left = fields.content_length
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
            self._conduct.control()
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
        self._conduct.control()
        if stream is not None:
            if not stream.remote_ended:
                raise ProtocolError(Code.PROTOCOL_ERROR, f"stream {stream_id}: data come first")
            self._breach(stream_id, Code.STREAM_CLOSED)
        elif not self._client and not self._closed.get(stream_id, False):
            code = Code.STREAM_CLOSED if stream_id in self._closed else Code.PROTOCOL_ERROR
            raise ProtocolError(code, f"stream {stream_id} is over")

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._conduct.control()
        frames.check_priority(payload, stream_id)

    def _on_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._conduct.control()
        self._conduct.reset()
        if len(payload) != 4:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "RST_STREAM")
        self._check_not_idle(stream_id)
        if self._forget(stream_id, ours=False):
            code = int.from_bytes(payload)
            self._events.append(StreamReset(stream_id, code, code == Code.REFUSED_STREAM))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & frames.ACK:
            self._conduct.control()
            if payload:
                raise ProtocolError(Code.FRAME_SIZE_ERROR, "an acknowledgement with SETTINGS")
            return
        self._conduct.settings()
        window = self._initial_window
        for setting, value in read_settings(payload):
            self._set(setting, value)
        # Acknowledged before anything that the new values allow (section 6.5.3).
        self._outgoing.frame(frames.head(0, frames.SETTINGS, frames.ACK, 0))
        if self._initial_window > window:
            for stream in list(self.streams.values()):
                self._pump(stream)

    def _set(self, setting: Setting, value: int) -> None:
        match setting:
            case Setting.HEADER_TABLE_SIZE if value < frames.DEFAULT_TABLE_BYTES:
                self._outgoing.announce_no_table()
            case Setting.MAX_CONCURRENT_STREAMS:
                self.peer_streams_max = min(value, STREAMS_MAX)
            case Setting.INITIAL_WINDOW_SIZE if value != self._initial_window:
                change, self._initial_window = value - self._initial_window, value
                for stream in list(self.streams.values()):
                    if not stream.widen(change):
                        raise ProtocolError(Code.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE")
            case Setting.MAX_FRAME_SIZE:
                self._outgoing.use_frames_of(value)

    def _on_push_promise(self, flags: int, stream_id: int, payload: bytes) -> None:
        raise ProtocolError(Code.PROTOCOL_ERROR, "PUSH_PROMISE")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._conduct.control()
        if len(payload) != frames.PING_BYTES:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "PING")
        if flags & frames.ACK:
            self._events.append(PingAnswered(payload))
        else:
            self._outgoing.frame(frames.ping(payload, frames.ACK))

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._conduct.control()
        if len(payload) < 8:
            raise ProtocolError(Code.FRAME_SIZE_ERROR, "GOAWAY")
        self.going_away = True
        last = int.from_bytes(payload[:4]) & 0x7FFF_FFFF
        self._events.append(GoneAway(last, code := int.from_bytes(payload[4:8])))
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
            self._breach(stream_id, Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR)
            return
        self._pump(stream)

    # ── what goes ────────────────────────────────────────────────────────────────────────────

    @property
    def waiting_bytes(self) -> int:
        """Of data that wait for the peer's windows."""
        return self._outgoing.waiting_bytes

    @property
    def full(self) -> bool:
        """The peer takes no stream beside those that are open."""
        return len(self.streams) >= self.peer_streams_max

    @property
    def used_up(self) -> bool:
        """Every stream's number has been given out: new calls need a new connection."""
        return self._next_stream_id > _STREAM_ID_MAX

    def open_stream(self, block: bytes) -> int:
        """A client's request; its data follows, and `end`.

        Raises:
            ProtocolError: REFUSED_STREAM: the peer takes no more. Nothing was sent.
        """
        if self.going_away or self.full:
            raise ProtocolError(Code.REFUSED_STREAM, "the peer takes no more streams")
        if self.used_up:
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
        """A look's time has passed (klamm/rpc/link.py): what is not finished or not read ends."""
        unfinished = bool(self._partial) or self._block is not None or not self.settled
        try:
            self._conduct.look(unfinished=unfinished)
        except ProtocolError as error:
            self.fail(error)
        for stream in list(self.streams.values()):
            if stream.trailers is not None and stream.queue:
                stream.unread_looks += 1
                if stream.unread_looks > UNREAD_LOOKS_MAX:
                    self.reset(stream.stream_id, Code.CANCEL)

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
        self._breach(stream.stream_id, Code.PROTOCOL_ERROR)
        return False

    def _breach(self, stream_id: int, code: Code) -> None:
        """What the peer did ends the stream, and no more than that."""
        self._conduct.reset()
        self.reset(stream_id, code)
        self._events.append(StreamReset(stream_id, code, unprocessed=False))

    def _pump(self, stream: Stream) -> None:
        if self._outgoing.pump(stream):
            self._forget(stream.stream_id, ours=not stream.remote_ended)

    def _forget(self, stream_id: int, *, ours: bool) -> bool:
        stream = self.streams.pop(stream_id, None)
        if stream is None:
            return False
        self._outgoing.forget(stream)
        self._closed[stream_id] = ours
        if len(self._closed) > STREAMS_MAX:
            self._closed.popitem(last=False)
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
