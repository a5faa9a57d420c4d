"""What a peer leaves open, does not read, or asks for in small coin: it ends, or costs little."""

import pytest

from klamm.http2 import frames
from klamm.http2.connection import Connection
from klamm.http2.events import HeadersReceived, StreamReset
from klamm.http2.frames import PREFACE, Code, ProtocolError
from klamm.http2.headers import write_headers
from klamm.http2.limits import (
    CONTROL_FRAMES_MAX,
    FRAME_BYTES_MAX,
    RESETS_MAX,
    SETTINGS_FRAMES_MAX,
    STREAMS_MAX,
    UNFINISHED_LOOKS_MAX,
    UNREAD_LOOKS_MAX,
)
from klamm.http2.outgoing import Outgoing
from klamm.http2.streams import Stream
from tests.unit.http2.test_http2_connection import ANSWER, BLOCK, SETTINGS, TRAILERS, frame, headers

ENOUGH = UNFINISHED_LOOKS_MAX + 2


def greeted_server() -> Connection:
    server = Connection(client=False)
    server.receive(PREFACE + SETTINGS)
    server.take()
    return server


@pytest.mark.parametrize(
    "said",
    [b"", PREFACE[:10], PREFACE, PREFACE + SETTINGS[:5]],
    ids=["nothing", "half a preface", "no settings", "half of them"],
)
def test_a_greeting_that_does_not_end_is_over_after_some_looks(said: bytes) -> None:
    server = Connection(client=False)
    server.receive(said)
    for _ in range(ENOUGH):
        server.calm()
    assert server.failure is not None


def test_a_header_block_that_is_kept_open_is_over_however_it_goes_on() -> None:
    server = greeted_server()
    server.receive(headers(1, flags=0))
    for _ in range(ENOUGH):
        server.receive(frame(frames.CONTINUATION, b"", stream_id=1))
        server.calm()
    assert server.failure is not None
    assert server.failure.code is Code.ENHANCE_YOUR_CALM


def test_a_frame_that_comes_byte_by_byte_is_taken_if_it_ends_and_over_if_not() -> None:
    whole = headers(1) + frame(frames.DATA, b"x" * 3_000, stream_id=1)
    server = greeted_server()
    events = [event for at in range(len(whole)) for event in server.receive(whole[at : at + 1])]
    assert [type(each).__name__ for each in events] == ["HeadersReceived", "DataReceived"]
    server.receive(frames.head(FRAME_BYTES_MAX, frames.DATA, 0, 1))
    for _ in range(ENOUGH):
        server.receive(b"x")
        server.calm()
    assert server.failure is not None


def test_who_is_merely_slow_or_idle_is_left_alone() -> None:
    server = greeted_server()
    server.receive(headers(1))
    for _ in range(10 * ENOUGH):
        server.receive(frame(frames.DATA, b"x", stream_id=1)[:5])
        server.calm()
        server.receive(frame(frames.DATA, b"x", stream_id=1)[5:])
    for _ in range(10 * ENOUGH):
        server.calm()
    assert server.failure is None
    assert 1 in server.streams


def test_a_whole_answer_that_nobody_reads_is_dropped_and_one_that_is_read_slowly_is_not() -> None:
    server = greeted_server()
    server.receive(headers(1, flags=frames.END_HEADERS | frames.END_STREAM))
    server.receive(headers(3, flags=frames.END_HEADERS | frames.END_STREAM))
    for stream_id in (1, 3):
        server.send_headers(stream_id, ANSWER)
        server.send_data(stream_id, b"x" * 100_000)
        server.send_trailers(stream_id, TRAILERS)
    held = server.waiting_bytes
    assert held == 200_000 - frames.DEFAULT_WINDOW_BYTES
    for _ in range(UNREAD_LOOKS_MAX + 1):
        server.receive(frames.window_update(0, 10) + frames.window_update(3, 10))
        server.calm()
    assert list(server.streams) == [3]
    assert server.waiting_bytes < 100_000
    server.reset(3, Code.CANCEL)
    assert server.waiting_bytes == 0


def test_a_window_that_opens_by_a_byte_asks_one_stream_not_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = greeted_server()
    streams = range(1, 2 * STREAMS_MAX, 2)
    for stream_id in streams:
        server.receive(headers(stream_id))
        server.send_data(stream_id, b"x" * 20_000)
    asked = 0
    pump = Outgoing.pump

    def counted(self: Outgoing, stream: object) -> bool:
        nonlocal asked
        asked += 1
        return pump(self, stream)  # type: ignore[arg-type]

    monkeypatch.setattr(Outgoing, "pump", counted)
    for _ in range(100):
        server.receive(frames.window_update(0, 1))
    assert asked == 100


def test_window_sizes_of_one_frame_touch_a_stream_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would cost a thousand streams each: a kilobyte a tenth of a second."""
    server = greeted_server()
    for stream_id in range(1, 100, 2):
        server.receive(headers(stream_id))
    touched: list[int] = []
    widen = Stream.widen
    monkeypatch.setattr(
        Stream, "widen", lambda it, by: touched.append(it.stream_id) or widen(it, by)
    )
    window = int(frames.Setting.INITIAL_WINDOW_SIZE).to_bytes(2)
    sizes = (frames.DEFAULT_WINDOW_BYTES + 10, 0, 7)
    payload = b"".join(window + each.to_bytes(4) for each in sizes)
    server.receive(frame(frames.SETTINGS, payload))
    assert server.failure is None
    assert len(touched) == len(server.streams) == 50
    assert {each.send_window for each in server.streams.values()} == {7}


def test_settings_again_and_again_are_too_many_however_useful_the_rest_is() -> None:
    change = frames.settings({frames.Setting.INITIAL_WINDOW_SIZE: 7})
    useful = frame(frames.DATA, b"x", stream_id=1)
    server = greeted_server()
    server.receive(headers(1))
    for _ in range(3):
        for _ in range(SETTINGS_FRAMES_MAX - 1):
            server.receive(change + useful)
        server.calm()
        assert server.failure is None
    for _ in range(SETTINGS_FRAMES_MAX + 1):
        server.receive(change + useful)
    assert server.failure is not None
    assert server.failure.code is Code.ENHANCE_YOUR_CALM


def test_a_server_that_says_goodbye_again_and_again_is_left() -> None:
    client = Connection(client=True)
    client.receive(SETTINGS)
    client.receive(frames.goaway(0, 0) * (CONTROL_FRAMES_MAX + 1))
    assert client.failure is not None
    assert client.failure.code is Code.ENHANCE_YOUR_CALM


def test_an_empty_block_behind_an_answer_is_taken() -> None:
    """It names no status; that is for gRPC to say."""
    client = Connection(client=True)
    stream_id = client.open_stream(BLOCK)
    client.receive(SETTINGS + headers(stream_id, block=ANSWER))
    flags = frames.END_HEADERS | frames.END_STREAM
    (event,) = client.receive(headers(stream_id, flags=flags, block=b""))
    assert isinstance(event, HeadersReceived)
    assert event.headers == ()


def test_informational_answers_without_end_are_too_many() -> None:
    client = Connection(client=True)
    stream_id = client.open_stream(BLOCK)
    early = headers(stream_id, block=write_headers(((":status", "103"),)))
    client.receive(SETTINGS + early * 2_000)
    assert client.failure is not None
    assert client.failure.code is Code.ENHANCE_YOUR_CALM


def test_streams_that_the_peer_makes_us_reset_are_counted_as_its_own() -> None:
    """Resets that are provoked cost a call each, like those that are sent."""
    server = greeted_server()
    first = server.receive(headers(1) + frames.window_update(1, 0))
    assert isinstance(first[-1], StreamReset)
    for stream_id in range(3, 2 * RESETS_MAX + 4, 2):
        server.receive(headers(stream_id) + frames.window_update(stream_id, 0))
    assert server.failure is not None


def test_numbers_of_streams_run_out_and_it_is_said() -> None:
    client = Connection(client=True)
    client._next_stream_id = 2**31 - 1
    assert not client.used_up
    client.open_stream(BLOCK)
    assert client.used_up
    with pytest.raises(ProtocolError, match="used up"):
        client.open_stream(BLOCK)
