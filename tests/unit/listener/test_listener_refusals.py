"""What bad input gets: an error that names the thing, its connection closed, the node unharmed."""

import asyncio
import logging
import struct
from typing import Any

import pytest

from broker.api.produce import UnacknowledgedProduceError
from broker.kafka.api import PRODUCE_MIN_VERSION, ApiKey
from broker.kafka.errors import MalformedFrameError
from broker.kafka.header import read_response_header
from broker.kafka.messages.api_versions import ApiVersionsRequest
from broker.kafka.messages.produce import (
    PartitionProduceData,
    ProduceRequest,
    TopicProduceData,
)
from klamm.errors import ApiError, ErrorCode, UnreachableError
from tests.unit.listener.live import COORDINATOR, VERSION, Later, ask, connect, hosts, listening

LIMIT = "10000"


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(each)["fields"] for each in caplog.records if each.getMessage() == event]


def header(key: int, version: int, client_id: bytes = b"") -> bytes:
    return struct.pack(">hhih", key, version, 7, len(client_id)) + client_id


def sized(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


@pytest.mark.parametrize(
    ("data", "api", "reason"),
    [
        # No frame.
        (struct.pack(">i", -1), "-", "-1 bytes"),
        (struct.pack(">i", 10_001), "-", "10001 bytes; allowed are 0 to 10000"),
        (struct.pack(">i", 2**31 - 1), "-", "socket.request.max.bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "-", "bytes; allowed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "-", "bytes; allowed"),
        # No header.
        (sized(b""), "?", "header"),
        (sized(b"\0\x0a\0\1"), "?", "header"),
        (sized(struct.pack(">hhih", 10, 1, 7, 500)), "?", "client_id has 500 bytes"),
        (sized(struct.pack(">hhih", 10, 1, 7, -2)), "?", "client_id has the length -2"),
        (sized(header(10, 1, b"\xff\xfe")), "?", "utf-8"),
        # No message.
        (sized(header(10, 1)), "FindCoordinator", "FindCoordinatorRequest version 1"),
        (sized(header(10, 1) + b"\0\1k\0more"), "FindCoordinator", "4 bytes follow"),
        (sized(header(10, 1) + b"\x7f\xffk"), "FindCoordinator", "key"),
        # Not served.
        (sized(header(999, 0)), "key 999", "key 999 is not served here"),
        (sized(header(-1, 0)), "key -1", "is not served here"),
        (sized(header(1, 11)), "Fetch", "Fetch is not served here"),
        (sized(header(10, 7)), "FindCoordinator", "versions 0 to 6; version 7"),
        (sized(header(10, -1)), "FindCoordinator", "version -1"),
    ],
)
async def test_no_request_of_this_broker(
    data: bytes, api: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with listening({COORDINATOR: Later().handle}, socket_request_max_bytes=LIMIT) as it:
        bad, good = await connect(it), await connect(it)
        bad.writer.write(data)
        assert await bad.is_closed()
        (line,) = lines(caplog, "connection closed")
        assert line["api"] == api
        assert reason in str(line["reason"])
        assert str(line["peer"]).startswith("127.0.0.1:")
        assert not caplog.records[-1].exc_info
        assert (await good.ask(COORDINATOR, VERSION, ask("fine"))).host == "fine"
        await good.close()


async def test_what_came_before_the_bad_frame_is_answered() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as it:
        client = await connect(it)
        client.writer.write(
            client.frame(COORDINATOR, VERSION, ask("later"))
            + client.frame(COORDINATOR, VERSION, ask("at once"))
            + struct.pack(">i", -1)
        )
        await handler.asked.wait()
        handler.answer("later")
        assert await hosts(client, 2) == ["later", "at once"]
        assert await client.is_closed()


@pytest.mark.parametrize("version", [5, 99, 32_767, -1])
async def test_api_versions_of_the_future_is_answered_in_version_0(version: int) -> None:
    async with listening({COORDINATOR: Later().handle}) as it:
        client = await connect(it)
        client.writer.write(sized(header(18, version, b"x") + b"whatever follows"))
        frame = await client.receive()
        correlation_id, code, count = struct.unpack_from(">ihi", frame)
        rows = list(struct.iter_unpack(">hhh", frame[10:]))
        assert (correlation_id, code, count) == (7, ErrorCode.UNSUPPORTED_VERSION, len(rows))
        assert (18, 0, 4) in rows
        # The connection goes on, in a version that is served.
        answer = await client.ask(ApiKey.API_VERSIONS, 0, ApiVersionsRequest())
        assert answer.error_code == ErrorCode.NONE
        await client.close()


@pytest.mark.parametrize("name", ["", "-x", "a b", "käfer"])
async def test_a_client_must_have_a_name(name: str) -> None:
    async with listening({COORDINATOR: Later().handle}) as it:
        client = await connect(it)
        request = ApiVersionsRequest(client_software_name=name, client_software_version="1")
        answer = await client.ask(ApiKey.API_VERSIONS, 3, request)
        assert answer.error_code == ErrorCode.INVALID_REQUEST
        await client.close()


def produce(acks: int) -> ProduceRequest:
    data = PartitionProduceData(index=4, records=b"")
    return ProduceRequest(acks=acks, topic_data=[TopicProduceData(name="t", partition_data=[data])])


@pytest.mark.parametrize("version", range(PRODUCE_MIN_VERSION))
async def test_versions_advertised_only_for_old_librdkafka(version: int) -> None:
    def handle(*_: Any) -> Any:
        raise AssertionError("it does not come here")

    async with listening({ApiKey.PRODUCE: handle}) as it:
        client = await connect(it)
        answer = await client.ask(ApiKey.PRODUCE, version, produce(acks=1))
        (row,) = answer.responses[0].partition_responses
        assert (row.index, row.error_code) == (4, ErrorCode.UNSUPPORTED_VERSION)
        client.writer.write(client.frame(ApiKey.PRODUCE, version, produce(acks=0)))
        assert await client.is_closed()


async def test_a_failed_produce_without_acks_closes(caplog: pytest.LogCaptureFixture) -> None:
    def handle(*_: Any) -> Any:
        raise UnacknowledgedProduceError("t-4: NOT_LEADER_OR_FOLLOWER: not here")

    async with listening({ApiKey.PRODUCE: handle}) as it:
        client = await connect(it)
        client.writer.write(client.frame(ApiKey.PRODUCE, 9, produce(acks=0)))
        assert await client.is_closed()
        (line,) = lines(caplog, "connection closed")
        assert "NOT_LEADER_OR_FOLLOWER" in str(line["reason"])


async def broken_later(*_: Any) -> Any:
    raise RuntimeError("secret detail")


def broken_now(*_: Any) -> Any:
    raise RuntimeError("secret detail")


def unwritable(*_: Any) -> Any:
    return "no message at all"


@pytest.mark.parametrize("handle", [broken_now, broken_later, unwritable])
async def test_a_bug_is_an_error_to_its_client_and_a_traceback_in_the_log(
    handle: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening({COORDINATOR: handle}) as it:
        client = await connect(it)
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("x")))
        frame = await client.receive()
        assert b"secret" not in frame
        _, body = read_response_header(COORDINATOR, VERSION, memoryview(frame))
        assert struct.unpack_from(">h", body, 4) == (ErrorCode.UNKNOWN_SERVER_ERROR,)
        assert await client.is_closed()
        (record,) = [each for each in caplog.records if each.getMessage() == "handler failed"]
        assert record.exc_info


async def too_much_later(*_: Any) -> Any:
    raise MalformedFrameError("1000 are over 10")


def too_much_now(*_: Any) -> Any:
    raise MalformedFrameError("1000 are over 10")


@pytest.mark.parametrize("handle", [too_much_now, too_much_later])
async def test_more_than_a_handler_takes(handle: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with listening({COORDINATOR: handle}) as it:
        client = await connect(it)
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("x")))
        assert await client.is_closed()
        (line,) = lines(caplog, "connection closed")
        assert "1000 are over 10" in str(line["reason"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError(ErrorCode.INVALID_REQUEST, "no"), ErrorCode.INVALID_REQUEST),
        (UnreachableError("nobody"), ErrorCode.REQUEST_TIMED_OUT),
    ],
)
async def test_a_refusal_of_a_whole_request_keeps_the_connection(
    error: Exception, code: ErrorCode
) -> None:
    def handle(services: Any, context: Any, request: Any) -> Any:
        raise error

    async with listening({COORDINATOR: handle}) as it:
        client = await connect(it)
        for _ in range(2):
            assert (await client.ask(COORDINATOR, VERSION, ask("x"))).error_code == code
        await client.close()


async def test_a_wait_that_is_given_up_closes_and_sends_nothing_after_it() -> None:
    handler = Later()
    async with listening({COORDINATOR: handler.handle}) as it:
        client = await connect(it)
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("later")))
        client.writer.write(client.frame(COORDINATOR, VERSION, ask("second")))
        while len(handler.seen) < 2:
            handler.asked.clear()
            await handler.asked.wait()
        handler.waiting["later"].cancel()
        async with asyncio.timeout(2):  # At once, and not because it lingers.
            assert await client.is_closed()
