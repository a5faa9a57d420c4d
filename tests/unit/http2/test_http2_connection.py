"""Two ends that talk, however their bytes are cut; and what a peer may not do, by its code."""

from collections.abc import Iterable

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klamm.http2 import frames
from klamm.http2.connection import Connection
from klamm.http2.events import DataReceived, Event, GoneAway, HeadersReceived, StreamReset
from klamm.http2.frames import PREFACE, Code
from klamm.http2.headers import HeaderReader, Headers, write_headers
from klamm.http2.limits import (
    CONNECTION_WINDOW_BYTES,
    CONTINUATIONS_MAX,
    CONTROL_FRAMES_MAX,
    FRAME_BYTES_MAX,
    HEADER_BLOCK_BYTES_MAX,
    RESETS_MAX,
    SETTINGS_MAX,
    STREAM_WINDOW_BYTES,
    STREAMS_MAX,
)
from klamm.http2.rules import judge_request

REQUEST: Headers = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "localhost:1"),
    ("content-type", "application/grpc"),
)
BLOCK = write_headers(REQUEST)
ANSWER = write_headers(((":status", "200"), ("content-type", "application/grpc")))
TRAILERS = write_headers((("grpc-status", "0"),))
SETTINGS = frames.settings({})


class Pair:
    """A client and a server, with a wire between them that cuts as it likes."""

    def __init__(self, cuts: Iterable[int] = ()) -> None:
        self.client = Connection(client=True)
        self.server = Connection(client=False)
        self.heard: dict[Connection, list[Event]] = {self.client: [], self.server: []}
        self._cuts = iter(cuts)

    def run(self) -> None:
        """Until neither has anything to say."""
        while any([self._carry(self.client, self.server), self._carry(self.server, self.client)]):
            pass

    def _carry(self, sender: Connection, receiver: Connection) -> bool:
        data = sender.take()
        at = 0
        while at < len(data):
            end = at + next(self._cuts, 1 << 20)
            for event in receiver.receive(data[at:end]):
                self.heard[receiver].append(event)
                if isinstance(event, DataReceived):
                    receiver.consumed(event.stream_id, len(event.data))
            at = end
        assert receiver.failure is None, receiver.failure
        return bool(data)

    def data(self, receiver: Connection, stream_id: int) -> bytes:
        return b"".join(
            each.data
            for each in self.heard[receiver]
            if isinstance(each, DataReceived) and each.stream_id == stream_id
        )


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 5_000), max_size=200),
    messages=st.lists(
        st.tuples(st.integers(0, 300_000), st.integers(0, 300_000)), min_size=1, max_size=12
    ),
)
def test_what_is_sent_arrives_whole_and_in_order_however_it_is_cut(
    cuts: list[int], messages: list[tuple[int, int]]
) -> None:
    pair = Pair(cuts)
    opened = []
    for asked, _ in messages:
        stream_id = pair.client.open_stream(BLOCK)
        opened.append(stream_id)
        pair.client.send_data(stream_id, _bytes(stream_id, asked))
        pair.client.end(stream_id)
    pair.run()
    for stream_id, (asked, answered) in zip(opened, messages, strict=True):
        assert HeadersReceived(stream_id, REQUEST, False, False) in pair.heard[pair.server]
        assert pair.data(pair.server, stream_id) == _bytes(stream_id, asked)
        pair.server.send_headers(stream_id, ANSWER)
        pair.server.send_data(stream_id, _bytes(stream_id + 1, answered))
        pair.server.send_trailers(stream_id, TRAILERS)
    pair.run()
    for stream_id, (_, answered) in zip(opened, messages, strict=True):
        assert pair.data(pair.client, stream_id) == _bytes(stream_id + 1, answered)
        last = [each for each in pair.heard[pair.client] if each[0] == stream_id][-1]
        assert last == HeadersReceived(stream_id, (("grpc-status", "0"),), True, True)
    assert not pair.client.streams
    assert not pair.server.streams


def _bytes(seed: int, size: int) -> bytes:
    return bytes([seed % 251]) * size


def test_data_that_nobody_reads_stop_at_the_windows_and_go_on_when_read() -> None:
    client, server = Connection(client=True), Connection(client=False)
    stream_id = client.open_stream(BLOCK)
    client.receive(server.take())
    client.send_data(stream_id, b"x" * (3 * STREAM_WINDOW_BYTES))
    got = _data(server.receive(client.take()))
    assert got == STREAM_WINDOW_BYTES
    assert _data(server.receive(client.take())) == 0
    while got < 3 * STREAM_WINDOW_BYTES:
        server.consumed(stream_id, STREAM_WINDOW_BYTES)
        client.receive(server.take())
        more = _data(server.receive(client.take()))
        assert 0 < more <= STREAM_WINDOW_BYTES
        got += more


def _data(events: list[Event]) -> int:
    return sum(len(each.data) for each in events if isinstance(each, DataReceived))


def test_a_server_that_goes_away_says_what_it_has_not_done() -> None:
    pair = Pair()
    first = pair.client.open_stream(BLOCK)
    pair.run()
    pair.server.go_away()
    second = pair.client.open_stream(BLOCK)  # On its way as the news comes.
    pair.run()
    assert GoneAway(first, Code.NO_ERROR) in pair.heard[pair.client]
    unprocessed = [each for each in pair.heard[pair.client] if isinstance(each, StreamReset)]
    assert unprocessed == [StreamReset(second, Code.NO_ERROR, unprocessed=True)]
    with pytest.raises(frames.ProtocolError, match="no more streams"):
        pair.client.open_stream(BLOCK)
    pair.server.send_headers(first, ANSWER)
    pair.server.send_trailers(first, TRAILERS)
    pair.run()
    assert not pair.client.streams


def test_what_comes_behind_a_reset_is_passed_over() -> None:
    pair = Pair()
    stream_id = pair.client.open_stream(BLOCK)
    pair.run()
    pair.server.send_headers(stream_id, ANSWER)
    pair.server.send_data(stream_id, b"x" * 1_000)
    pair.client.reset(stream_id, Code.CANCEL)
    pair.run()
    assert StreamReset(stream_id, Code.CANCEL, unprocessed=False) in pair.heard[pair.server]
    other = pair.client.open_stream(BLOCK)
    pair.run()
    assert other in pair.server.streams


def frame(kind: int, payload: bytes, *, flags: int = 0, stream_id: int = 0) -> bytes:
    return frames.head(len(payload), kind, flags, stream_id) + payload


def headers(stream_id: int, *, flags: int = frames.END_HEADERS, block: bytes = BLOCK) -> bytes:
    return frame(frames.HEADERS, block, flags=flags, stream_id=stream_id)


def many(what: bytes, count: int) -> bytes:
    return what * count


BREACHES = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", Code.PROTOCOL_ERROR, False),
    "no settings": (PREFACE + headers(1), Code.PROTOCOL_ERROR, False),
    "a huge frame": (
        frames.head(FRAME_BYTES_MAX + 1, frames.DATA, 0, 1),
        Code.FRAME_SIZE_ERROR,
        True,
    ),
    "too many header bytes": (
        headers(1, flags=0, block=b"\0" * 10)
        + many(frame(frames.CONTINUATION, b"\0" * 16_000, stream_id=1), 3),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "too many continuations": (
        headers(1, flags=0, block=b"")
        + many(frame(frames.CONTINUATION, b"", stream_id=1), CONTINUATIONS_MAX + 1),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "a block that unfolds": (
        headers(1, block=b"\x40\x01a\x7f\x81\x0e" + b"x" * 1_920 + b"\xbe" * 2_000),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "pings without end": (
        many(frames.ping(b"12345678"), CONTROL_FRAMES_MAX + 1),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "settings without end": (
        many(SETTINGS, CONTROL_FRAMES_MAX + 1),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "empty data without end": (
        headers(1) + many(frame(frames.DATA, b"", stream_id=1), CONTROL_FRAMES_MAX + 1),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "more data than the window": (
        headers(1)
        + many(
            frame(frames.DATA, b"x" * FRAME_BYTES_MAX, stream_id=1),
            STREAM_WINDOW_BYTES // FRAME_BYTES_MAX + 1,
        ),
        Code.FLOW_CONTROL_ERROR,
        True,
    ),
    "header bytes in one frame": (
        headers(1, block=b"\x20" * (HEADER_BLOCK_BYTES_MAX + 1)),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "many settings in one frame": (
        frames.head(6 * (SETTINGS_MAX + 1), frames.SETTINGS, 0, 0)
        + b"\0\4\0\0\0\1" * (SETTINGS_MAX + 1),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "calls begun and given up": (
        b"".join(
            headers(each) + frames.rst_stream(each, Code.CANCEL)
            for each in range(1, 2 * RESETS_MAX + 3, 2)
        ),
        Code.ENHANCE_YOUR_CALM,
        True,
    ),
    "data before anything": (frame(frames.DATA, b"x", stream_id=1), Code.PROTOCOL_ERROR, True),
    "a push": (frame(frames.PUSH_PROMISE, b"\0" * 4, stream_id=1), Code.PROTOCOL_ERROR, True),
    "an even stream": (headers(2), Code.PROTOCOL_ERROR, True),
    "no HPACK": (headers(1, block=b"\xff\xff\xff\xff\xff"), Code.COMPRESSION_ERROR, True),
}


@pytest.mark.parametrize("name", BREACHES)
def test_a_breach_ends_the_connection_and_says_why(name: str) -> None:
    data, code, greeted = BREACHES[name]
    server = Connection(client=False)
    server.take()
    server.receive((PREFACE + SETTINGS if greeted else b"") + data)
    assert server.failure is not None
    assert server.failure.code is code
    goodbye = frames.head(0, frames.GOAWAY, 0, 0)[3:4]
    assert goodbye in server.take()
    assert server.receive(headers(3)) == []


def test_limits_stand_in_a_sensible_order() -> None:
    assert FRAME_BYTES_MAX <= STREAM_WINDOW_BYTES <= CONNECTION_WINDOW_BYTES
    assert len(BLOCK) < HEADER_BLOCK_BYTES_MAX


def test_settings_are_acknowledged_before_what_they_allow() -> None:
    """A peer may wait for the one before it looks at the other."""
    no_window = frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 0})
    server = Connection(client=False)
    server.receive(PREFACE + no_window + headers(1, flags=frames.END_HEADERS | frames.END_STREAM))
    server.send_headers(1, ANSWER)
    server.send_data(1, b"xyz")
    server.take()
    server.receive(frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 1}))
    ack = frames.head(0, frames.SETTINGS, frames.ACK, 0)
    assert server.take() == ack + frame(frames.DATA, b"x", stream_id=1)


def test_streams_beyond_the_limit_are_refused_one_by_one() -> None:
    server = Connection(client=False)
    opened = b"".join(headers(each) for each in range(1, 2 * STREAMS_MAX, 2))
    server.receive(PREFACE + SETTINGS + opened)
    server.take()
    over = 2 * STREAMS_MAX + 1
    assert server.receive(headers(over)) == []
    assert server.failure is None
    assert server.take() == frames.rst_stream(over, Code.REFUSED_STREAM)
    assert len(server.streams) == STREAMS_MAX


def test_a_calm_peer_may_ping_for_ever() -> None:
    server = Connection(client=False)
    server.receive(PREFACE + SETTINGS)
    for _ in range(3):
        server.receive(many(frames.ping(b"12345678"), CONTROL_FRAMES_MAX - 10))
        server.calm()
    assert server.failure is None


names = st.sampled_from(["a", "bb", "grpc-timeout", "x-y", "content-type"])
values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
blocks = st.lists(st.lists(st.tuples(names, values), max_size=6), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(lists=blocks, sizes=st.lists(st.sampled_from([0, 60, 200, 4_096]), max_size=4))
def test_remembered_blocks_mean_what_the_table_says(
    lists: list[list[tuple[str, str]]], sizes: list[int]
) -> None:
    """The same fields again and again, through tables that grow, shrink and are emptied."""
    encoder = hpack.Encoder()
    reader = HeaderReader(judge_request)
    shrink = iter(sizes)
    for place, fields in enumerate(lists * 3):
        if place % 4 == 3 and (size := next(shrink, None)) is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields)
        assert reader.read(block, trailing=place % 2 == 1).headers == tuple(fields)


@settings(max_examples=150, deadline=None)
@given(fields=st.lists(st.tuples(names, values), max_size=8))
def test_written_blocks_are_hpack_and_leave_no_trace(fields: list[tuple[str, str]]) -> None:
    decoder = hpack.Decoder()
    decoded = [tuple(each) for each in decoder.decode(write_headers((*REQUEST, *fields)))]
    assert decoded == [*REQUEST, *fields]
    assert not decoder.header_table.dynamic_entries


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400), client=st.booleans(), greeted=st.booleans())
def test_any_bytes_end_in_events_or_a_failure(data: bytes, client: bool, greeted: bool) -> None:
    end = Connection(client=client)
    if client:
        end.open_stream(BLOCK)
    hello = (b"" if client else PREFACE) + SETTINGS
    end.receive(hello + data if greeted else data)
    end.take()


kinds = st.integers(0, 10)
raw_frames = st.lists(
    st.builds(
        lambda kind, flags, stream_id, payload: frame(
            kind, payload, flags=flags, stream_id=stream_id
        ),
        kinds,
        st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D]),
        st.sampled_from([0, 1, 1, 2, 3, 5]),
        st.one_of(st.just(BLOCK), st.just(TRAILERS), st.binary(max_size=12)),
    ),
    max_size=20,
)


@settings(max_examples=400, deadline=None)
@given(sent=raw_frames, client=st.booleans())
def test_any_frames_end_in_events_or_a_failure(sent: list[bytes], client: bool) -> None:
    """And a stream is told of no more once it is over."""
    end = Connection(client=client)
    if client:
        end.open_stream(BLOCK)
    over: set[int] = set()
    for event in end.receive((b"" if client else PREFACE) + SETTINGS + b"".join(sent)):
        if isinstance(event, DataReceived | HeadersReceived):
            assert event.stream_id not in over
            if event.ended:
                over.add(event.stream_id)
    end.take()
