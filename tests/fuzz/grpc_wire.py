"""HTTP/2 as a peer may speak it, to a server and to a client: frames, header blocks, gRPC in them.

    input    which end, and how │ how the bytes are cut │ bytes of one connection

Whatever comes, the connection goes on or fails by name; what it said does not depend on how the
bytes were cut; and what it answers is not much more than what it was sent.
"""

from random import Random

import hpack

from klamm.http2 import frames
from klamm.http2.connection import Connection
from klamm.http2.events import DataReceived, Event, HeadersReceived
from klamm.http2.frames import PREFACE
from klamm.http2.headers import Headers
from klamm.rpc import framing
from klamm.rpc.framing import FramingError, MessageReader
from tests.fuzz.target import Choice, Target

MESSAGE_BYTES_MAX = 64 * 1024
ANSWER_BYTES = 64 * 1024
"""What an end may say of its own: its greeting, and why it fails."""
ANSWER_PER_BYTE = 4

REQUEST: Headers = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/klamm.v1.QuorumService/Fetch"),
    (":authority", "localhost:1"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
RESPONSE: Headers = ((":status", "200"), ("content-type", "application/grpc"))
TRAILERS: Headers = (("grpc-status", "0"),)
OTHERS: tuple[tuple[str, str], ...] = (
    ("grpc-timeout", "1S"),
    ("grpc-timeout", "99999999H"),
    ("grpc-encoding", "gzip"),
    ("grpc-status", "9" * 5_000),
    ("grpc-message", "%zz%41"),
    ("grpc-status-details-bin", "AAECAw"),
    ("x-bin", "\xff\xff"),
    ("content-length", "5"),
    ("x", "y" * 200),
)
PATH = framing.request_block("localhost:1", "/klamm.v1.QuorumService/Fetch", 5.0, ())


def grow(random: Random) -> bytes:
    """A connection of a few streams; now and then with something that is not allowed in it."""
    server = random.random() < 0.6
    encoder = hpack.Encoder()
    out = bytearray(PREFACE if server else b"")
    out += frames.settings({})
    for stream_id in range(1, 2 * random.randint(1, 4), 2):
        headers = REQUEST if server else RESPONSE
        if random.random() < 0.4:
            headers += (random.choice(OTHERS),)
        out += _frame(frames.HEADERS, frames.END_HEADERS, stream_id, encoder.encode(headers))
        for _ in range(random.randint(0, 3)):
            message = framing.prefixed(random.randbytes(random.choice((0, 3, 300))))
            out += _frame(frames.DATA, random.randint(0, 1), stream_id, message)
        out += _other(random, stream_id)
        if not server:
            trailers = TRAILERS + (random.choice(OTHERS),) * random.randint(0, 1)
            block = encoder.encode(trailers)
            out += _frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id, block)
    return bytes((int(server), random.randrange(256))) + bytes(out)


def _other(random: Random, stream_id: int) -> bytes:
    return random.choice(
        (
            b"",
            frames.ping(bytes(8)),
            frames.window_update(random.choice((0, stream_id)), random.choice((1, 2**31 - 1))),
            frames.rst_stream(stream_id, 8),
            frames.goaway(stream_id, 0),
            _frame(frames.PRIORITY, 0, stream_id, bytes(5)),
            _frame(frames.CONTINUATION, 0, stream_id, b""),
        )
    )


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return frames.head(len(payload), kind, flags, stream_id) + payload


def check(data: bytes) -> bool:
    choice = Choice(data)
    client = choice.one_of(2) == 0
    cut = choice.one_of(256)
    body = choice.rest
    whole, heard = _connection(client=client), []
    heard = _hear(whole, [body])
    pieces = _connection(client=client)
    if cut:
        again = _hear(pieces, [body[at : at + cut] for at in range(0, len(body), cut)])
        assert (_joined(again), str(pieces.failure)) == (_joined(heard), str(whole.failure))
    _read_calls(heard, client=client)
    answered = len(whole.take())
    assert answered <= ANSWER_BYTES + ANSWER_PER_BYTE * len(body), answered
    return whole.failure is None and bool(heard)


def _connection(*, client: bool) -> Connection:
    connection = Connection(client=client)
    if client:
        for _ in range(3):
            connection.end(connection.open_stream(PATH))
    return connection


def _hear(connection: Connection, pieces: list[bytes]) -> list[Event]:
    heard: list[Event] = []
    for piece in pieces:
        for event in connection.receive(piece):
            heard.append(event)
            if isinstance(event, DataReceived) and event.stream_id in connection.streams:
                connection.consumed(event.stream_id, len(event.data))
    return heard


def _joined(events: list[Event]) -> list[Event]:
    return [each for each in events if isinstance(each, HeadersReceived | DataReceived)]


def _read_calls(events: list[Event], *, client: bool) -> None:
    """What the calls of a server or a client make of them."""
    readers: dict[int, MessageReader] = {}
    for event in events:
        try:
            if isinstance(event, HeadersReceived):
                said = dict(event.headers)
                encoding = said.get("grpc-encoding", "identity")
                readers[event.stream_id] = MessageReader(MESSAGE_BYTES_MAX, encoding)
                framing.metadata(event.headers)
                if client:
                    framing.status(event.headers)
                elif (timeout := said.get("grpc-timeout")) is not None:
                    framing.timeout_s(timeout)
            elif isinstance(event, DataReceived) and event.stream_id in readers:
                for message in readers[event.stream_id].read(event.data):
                    assert len(message) <= MESSAGE_BYTES_MAX
        except FramingError:
            readers.pop(getattr(event, "stream_id", 0), None)


TARGET = Target(name="grpc_wire", grow=grow, check=check, share=20)
