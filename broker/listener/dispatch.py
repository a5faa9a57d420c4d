"""One frame to its answer: header, version, message, handler, response; and what may go wrong.

    frame ─▶ header ─▶ registry ─▶ decode ─▶ handle ─▶ encode ─▶ response frame
               │          │          │         │
             no sense   unknown    no sense   raised
               └──────────┴────┬─────┘         └─▶ an error response where the API has one
                               ▼
                        ConnectionFault: the connection is closed, and the log has one line

The exception is ApiVersions in an unknown version, which is answered in version 0 with
UNSUPPORTED_VERSION and all that is served, so that the client comes down (KIP-511).
"""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from time import perf_counter

from broker.api import refusals
from broker.api.api_versions import unsupported_version_response
from broker.api.context import ANONYMOUS, Answer, BrokerServices, Encoded, RequestContext
from broker.api.registry import Registry, Served
from broker.kafka.api import APIS, ApiKey
from broker.kafka.codec import decode_request, encode_response
from broker.kafka.errors import MalformedFrameError, UnwritableMessageError
from broker.kafka.header import RequestHeader, read_request_header, response_frame
from broker.kafka.quirks import as_meant
from broker.kafka.schema import Buffer
from broker.listener.counting import RequestCounts
from klamm.errors import ErrorCode, KlammError
from klamm.telemetry.logs import logger

log = logger(__name__)

CONTEXTS_MAX = 64
"""Of one connection: a client uses some thirty kinds of request under one name."""


class ConnectionFault(KlammError):
    """Why a connection has to be closed. The sentence is for the log; clients see the close."""

    def __init__(self, reason: str, api: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        """A word for the metrics: `malformed`, `unsupported`, `unanswerable`."""
        self.api = api


@dataclass(slots=True, eq=False)
class Client:
    """Who is at the other end of one connection."""

    host: str
    port: int
    listener: str
    contexts: dict[tuple[int, int, str | None], RequestContext]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(slots=True, eq=False)
class Reply:
    """One request's answer on its way: `awaited` until it is there, then `frame`."""

    served: Served
    version: int
    correlation_id: int
    client: Client
    request: object | None
    """None while it waits, for requests that carry records: they would stay in memory."""
    began_s: float
    awaited: Awaitable[Answer] | None = None
    frame: list[Buffer] | None = None
    """What to send; empty if nothing is; None: not known yet."""
    is_last: bool = False
    """Its handler broke; the connection is closed once it has been sent."""


class Dispatcher:
    """Answers frames for all connections of a broker."""

    def __init__(self, registry: Registry, services: BrokerServices) -> None:
        self._registry = registry.by_key
        self._services = services
        self._unsupported = unsupported_version_response(registry.advertised)
        self._counts: Mapping[int, RequestCounts] = {
            key: RequestCounts(each.api.name) for key, each in registry.by_key.items()
        }

    def dispatch(self, frame: bytearray, client: Client) -> Reply | list[Buffer]:
        """Answer, or begin to. A list of buffers is the whole response.

        Raises:
            ConnectionFault: No answer is possible; close the connection.
        """
        began_s = perf_counter()
        try:
            header = read_request_header(memoryview(frame))
        except MalformedFrameError as error:
            raise ConnectionFault("malformed", "?", str(error)) from None
        served = self._registry.get(header.api_key)
        if served is None or not _knows(header):
            return self._unknown(header)
        try:
            body = as_meant(header.api_key, header.api_version, header.body)
            request = decode_request(header.api_key, header.api_version, body)
        except MalformedFrameError as error:
            raise ConnectionFault("malformed", served.api.name, str(error)) from None
        reply = Reply(served, header.api_version, header.correlation_id, client, request, began_s)
        if header.api_version < served.serves_from:
            self._fail(reply, ErrorCode.UNSUPPORTED_VERSION)
            return reply
        self._handle(reply, header, client)
        return reply.frame if reply.frame is not None and not reply.is_last else reply

    def finish(self, reply: Reply, answer: Answer) -> None:
        """What `reply` waited for is there.

        Raises:
            ConnectionFault: As `dispatch`.
        """
        counts = self._counts[reply.served.api.key]
        counts.remote_s(perf_counter() - reply.began_s)
        reply.awaited = None
        self._encode(reply, answer)

    def broke(self, reply: Reply, error: BaseException) -> None:
        """What `reply` waited for ended with `error`. As `finish`."""
        reply.awaited = None
        self._broke(reply, error)

    def _handle(self, reply: Reply, header: RequestHeader, client: Client) -> None:
        context = client.contexts.get((header.api_key, header.api_version, header.client_id))
        if context is None:
            context = _new_context(header, client)
        try:
            answer = reply.served.handle(self._services, context, reply.request)
        except Exception as error:
            self._broke(reply, error)
            return
        counts = self._counts[header.api_key]
        counts.local_s(perf_counter() - reply.began_s)
        if answer is None or not hasattr(answer, "__await__"):
            self._encode(reply, answer)
            return
        reply.awaited = answer
        if reply.served.api.key is ApiKey.PRODUCE:
            reply.request = None

    def _encode(self, reply: Reply, answer: Answer) -> None:
        served = reply.served
        error_code = 0
        try:
            body = _body(served, reply.version, answer)
            error_code = getattr(answer, "error_code", 0)
        except Exception as error:
            self._broke(reply, error)
            return
        key = served.api.key
        reply.frame = (
            [] if body is None else response_frame(key, reply.version, reply.correlation_id, body)
        )
        self._counts[key].answered(error_code)

    def _broke(self, reply: Reply, error: BaseException) -> None:
        """A handler raised: on purpose, for a whole request, or because of a bug."""
        if isinstance(error, MalformedFrameError):  # Well-formed, and more than it takes.
            raise ConnectionFault("malformed", reply.served.api.name, str(error)) from None
        if isinstance(error, UnwritableMessageError) or not isinstance(error, KlammError):
            _log_bug(reply, error)
            reply.is_last = True
        self._fail(reply, refusals.code_of(error), str(error))

    def _fail(self, reply: Reply, code: ErrorCode, sentence: str = "") -> None:
        """Answer all of the request with `code`; where that cannot be, close."""
        served = reply.served
        key = served.api.key
        self._counts[key].answered(code)
        answer = None
        if reply.request is not None:
            answer = refusals.refused(key, reply.version, reply.request, code)
        if answer is None:
            why = sentence or f"version {reply.version} is not served"
            raise ConnectionFault("unanswerable", served.api.name, f"{code.name}: {why}")
        body = encode_response(key, reply.version, answer)
        reply.frame = response_frame(key, reply.version, reply.correlation_id, body)

    def _unknown(self, header: RequestHeader) -> list[Buffer]:
        if header.api_key == ApiKey.API_VERSIONS and ApiKey.API_VERSIONS in self._registry:
            self._counts[ApiKey.API_VERSIONS].answered(ErrorCode.UNSUPPORTED_VERSION)
            body = encode_response(ApiKey.API_VERSIONS, 0, self._unsupported)
            return response_frame(ApiKey.API_VERSIONS, 0, header.correlation_id, body)
        api = APIS.get(header.api_key)
        name = f"key {header.api_key}" if api is None else api.name
        served = self._registry.get(header.api_key)
        what = "is not served here"
        if served is not None:
            what = f"is served in versions {served.api.min_version} to {served.api.max_version}"
        raise ConnectionFault(
            "unsupported", name, f"{name} {what}; version {header.api_version} was asked for"
        )


def _knows(header: RequestHeader) -> bool:
    """Whether the codec can read it; what is advertised lies within."""
    return header.api_version in APIS[header.api_key]


def _body(served: Served, version: int, answer: Answer) -> list[Buffer] | None:
    if answer is None:
        return None
    if isinstance(answer, Encoded):
        return list(answer.body)
    return encode_response(served.api.key, version, answer)


def _log_bug(reply: Reply, error: BaseException) -> None:
    """The traceback goes to the log, and nowhere else."""
    try:
        raise error
    except BaseException:
        log.exception(
            "handler failed", api=reply.served.api.name, version=reply.version, peer=reply.client
        )


def _new_context(header: RequestHeader, client: Client) -> RequestContext:
    if len(client.contexts) >= CONTEXTS_MAX:
        client.contexts.clear()
    key = (header.api_key, header.api_version, header.client_id)
    context = client.contexts[key] = RequestContext(
        api_key=ApiKey(header.api_key),
        api_version=header.api_version,
        client_id=header.client_id,
        principal=ANONYMOUS,
        listener=client.listener,
        client_host=client.host,
    )
    return context
