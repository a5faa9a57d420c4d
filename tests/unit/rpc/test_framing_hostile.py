"""Fields of a call that make no sense, as any peer may send them: read as nothing, by name."""

import grpc
import hpack

from klamm.http2 import frames
from klamm.http2.connection import Connection
from klamm.http2.events import HeadersReceived
from klamm.http2.headers import write_headers
from klamm.rpc import framing


def test_a_status_of_thousands_of_digits_is_unknown() -> None:
    """Python makes no number of more than 4,300 of them, and says so by an exception."""
    code, details, _ = framing.status((("grpc-status", "9" * 5_000),))
    assert code is grpc.StatusCode.UNKNOWN
    assert len(details) < 100


def test_bytes_in_no_alphabet_at_all_are_passed_over() -> None:
    """A field's value may be any latin-1; base64 has a plain ValueError for what is not ASCII."""
    headers = (("x-bin", "\xff\xff"), ("y-bin", "AAEC"), ("z-bin", "?"))
    assert framing.metadata(headers) == (("y-bin", b"\x00\x01\x02"),)


def test_a_response_may_end_with_a_block_of_no_fields() -> None:
    connection = Connection(client=True)
    stream_id = connection.open_stream(framing.request_block("a:1", "/a.B/C", None, ()))
    connection.end(stream_id)
    answer = write_headers(((":status", "200"), ("content-type", "application/grpc")))
    both = frames.END_HEADERS | frames.END_STREAM
    data = b"".join(
        (
            frames.settings({}),
            frames.head(len(answer), frames.HEADERS, frames.END_HEADERS, stream_id) + answer,
            frames.head(0, frames.HEADERS, both, stream_id),
        )
    )
    *_, last = connection.receive(data)
    assert last == HeadersReceived(stream_id, (), ended=True, trailing=True)
    assert connection.failure is None


def test_a_block_that_cannot_be_read_is_told_without_addresses_of_memory() -> None:
    connection = Connection(client=False)
    block = b"\xff" + b"\xff" * 20
    data = frames.PREFACE + frames.settings({})
    data += frames.head(len(block), frames.HEADERS, frames.END_HEADERS, 1) + block
    connection.receive(data)
    assert "0x" not in str(connection.failure)
    assert hpack.HPACKDecodingError.__name__ in str(connection.failure)
