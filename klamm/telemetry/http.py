"""A small HTTP server for machines that watch: /metrics, /livez, /readyz.

    GET /livez    200 ok                                    the process does its work
    GET /readyz   200 ok | 503 and a reason a line          it may be sent work
    GET /metrics  200 Prometheus text

One request a connection. As JSON with `Accept: application/json` or `?format=json`:
`{"ok": false, "reasons": ["no active controller is known"]}`. Every limit has a name below.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from klamm.errors import StartError
from klamm.telemetry.logs import logger

REQUEST_BYTES_MAX = 8_192
REQUEST_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 64

_log = logger(__name__)

Reasons = Callable[[], Sequence[str]]
"""Why not: sentences for people; empty is yes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What a node has to say, asked anew for each request."""

    not_alive: Reasons
    not_ready: Reasons
    metrics: Callable[[], bytes]
    metrics_content_type: str


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


class HealthServer:
    """Serves `Pages` until closed."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._server: asyncio.Server | None = None
        self._open = 0

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port that was bound.

        Raises:
            StartError: The address cannot be bound.
        """
        try:
            self._server = await asyncio.start_server(
                self._serve, host or None, port, limit=REQUEST_BYTES_MAX
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(
                f"klamm.http.port={port}: cannot listen on {host or '*'}:{port}: {reason}. "
                "Choose another port, or 0 for any."
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening. Requests that are being answered are dropped."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._open >= CONNECTIONS_MAX:
            writer.close()
            return
        self._open += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head_only, answer = await self._answer(reader)
                writer.write(_encode(answer, head_only=head_only))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            _log.debug("http client went away or was too slow")
        finally:
            self._open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[bool, _Answer]:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            too_large = f"a request may have {REQUEST_BYTES_MAX} bytes\n".encode()
            return False, _Answer("431 Request Header Fields Too Large", too_large)
        line, _, headers = request.decode("latin-1").partition("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            return False, _Answer("400 Bad Request", b"not an HTTP request\n")
        method, target, _version = words
        if method not in {"GET", "HEAD"}:
            return False, _Answer("405 Method Not Allowed", b"GET or HEAD\n")
        return method == "HEAD", self._page(target, headers.lower())

    def _page(self, target: str, headers: str) -> _Answer:
        path, _, query = target.partition("?")
        as_json = "format=json" in query or "accept: application/json" in headers
        match path:
            case "/metrics":
                pages = self._pages
                return _Answer("200 OK", pages.metrics(), pages.metrics_content_type)
            case "/livez" | "/healthz":
                return _verdict(self._pages.not_alive(), as_json=as_json)
            case "/readyz":
                return _verdict(self._pages.not_ready(), as_json=as_json)
        return _Answer("404 Not Found", b"/metrics, /livez or /readyz\n")


def _verdict(reasons: Sequence[str], *, as_json: bool) -> _Answer:
    status = "503 Service Unavailable" if reasons else "200 OK"
    if as_json:
        body = json.dumps({"ok": not reasons, "reasons": list(reasons)}) + "\n"
        return _Answer(status, body.encode(), "application/json")
    return _Answer(status, "".join(f"{each}\n" for each in reasons or ("ok",)).encode())


def _encode(answer: _Answer, *, head_only: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (b"" if head_only else answer.body)
