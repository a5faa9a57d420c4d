"""The health and metrics endpoint, over real sockets on this machine."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from klamm.errors import StartError
from klamm.telemetry import http
from klamm.telemetry.http import HealthServer, Pages


class Node:
    """What a node would say."""

    def __init__(self) -> None:
        self.not_alive: list[str] = []
        self.not_ready: list[str] = []


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
async def port(node: Node) -> AsyncIterator[int]:
    server = HealthServer(
        Pages(
            not_alive=lambda: node.not_alive,
            not_ready=lambda: node.not_ready,
            metrics=lambda: b"up 1\n",
            metrics_content_type="text/plain",
        )
    )
    yield await server.start("127.0.0.1", 0)
    await server.close()


async def exchange(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    line, *headers = head.decode().split("\r\n")
    return int(line.split()[1]), dict(each.split(": ", 1) for each in headers), body


async def get(port: int, target: str, headers: str = "") -> tuple[int, bytes]:
    status, _, body = await exchange(port, f"GET {target} HTTP/1.1\r\n{headers}\r\n".encode())
    return status, body


async def test_ready_with_reasons(port: int, node: Node) -> None:
    assert await get(port, "/readyz") == (200, b"ok\n")
    node.not_ready = ["fenced", "no active controller is known"]
    assert await get(port, "/readyz") == (503, b"fenced\nno active controller is known\n")
    assert await get(port, "/livez") == (200, b"ok\n")
    node.not_alive = ["the log cannot be written"]
    assert await get(port, "/livez") == (503, b"the log cannot be written\n")


async def test_as_json(port: int, node: Node) -> None:
    node.not_ready = ["fenced"]
    for target, headers in (
        ("/readyz?format=json", ""),
        ("/readyz", "Accept: application/json\r\n"),
    ):
        status, body = await get(port, target, headers)
        assert (status, json.loads(body)) == (503, {"ok": False, "reasons": ["fenced"]})


async def test_metrics(port: int) -> None:
    assert await get(port, "/metrics") == (200, b"up 1\n")


async def test_head_has_no_body(port: int) -> None:
    status, headers, body = await exchange(port, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert (status, headers["Content-Length"], body) == (200, "5", b"")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"\x16\x03\x01 hello\r\n\r\n", 400),
        (b"GET /metrics\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * http.REQUEST_BYTES_MAX + b"\r\n\r\n", 431),
    ],
)
async def test_refusals(port: int, request_: bytes, status: int) -> None:
    assert (await exchange(port, request_))[0] == status


async def test_connections_are_limited(port: int) -> None:
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(http.CONNECTIONS_MAX)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(http.REQUEST_TIMEOUT_S / 2):  # At once, not for want of a request.
        assert await reader.read() == b""
    for each in (writer, *(held_writer for _, held_writer in held)):
        each.close()


async def test_a_client_that_goes_away_harms_nobody(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /met")
    writer.close()
    assert (await get(port, "/livez"))[0] == 200


async def test_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        pages = Pages(
            not_alive=list, not_ready=list, metrics=bytes, metrics_content_type="text/plain"
        )
        with pytest.raises(StartError, match=f"klamm.http.port={taken}: cannot listen"):
            await HealthServer(pages).start("127.0.0.1", taken)
