"""How one node reaches another over gRPC.

    idle ── a call, or somebody wants it ready ──▶ connecting ──▶ ready
     ▲                                              │    ▲          │ the connection broke
     └──────── the connection broke ────────────────┼────┼──────────┘
                                                    ▼    │ RECONNECT_MS later
                                              transient failure: calls fail at once

Calls beyond what the server takes at once wait for one of the others to end, until their deadlines:
nothing of them has been sent.

A peer that was away is tried again after RECONNECT_MS, and not after up to two minutes, as on the
internet. One that dies silently (a cut cable, a paused machine) is found by keepalive (link.py); a
killed one is noticed by the kernel at once.

Neither connection nor attempts keep their channel: one that is dropped and was not closed takes
them with it, once the last of its calls is over.
"""

import asyncio
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from klamm.rpc.calls import ClientCall, ClientLink
from klamm.rpc.framing import Metadata
from klamm.rpc.status import NEVER_SENT

if TYPE_CHECKING:
    from typing import Self

RECONNECT_MS = 50
"""Between two attempts."""

CONNECT_MS = (250, 2_000)
"""For one attempt, doubled from the first to the last: a first packet that a cut link swallowed is
sent again only after a second, so a new attempt is better; a far peer is reached all the same."""

NEXT_ADDRESS_MS = 100
"""The next of a name's addresses is tried beside the one that has not answered in this time."""

WAITING_MAX = 4_096
"""Calls that wait for the connection, or for a stream of it; more fail at once."""

State = grpc.ChannelConnectivity


class Channel(grpc.aio.Channel):
    """To one address. Made on the loop that uses it; connects at its first call."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._state = State.IDLE
        self._changed = asyncio.Event()
        self._link: ClientLink | None = None
        self._links: dict[ClientLink, None] = {}
        """With those that go away, and still have calls."""
        self._attempt: asyncio.Task[None] | None = None
        self._failures = 0
        self._why = ""
        self._waiting: dict[ClientCall, None] = {}

    def __del__(self) -> None:
        for link in self._links:
            # Whoever collects garbage may be any thread. A loop that is closed has no sockets.
            with suppress(RuntimeError):
                link.close_soon("its channel is gone")

    # ── calls ────────────────────────────────────────────────────────────────────────────────

    def unary_unary(self, method: str, *coding: Any, **codings: Any) -> Any:
        return _Method(self, method, *coding, unary=True, **codings)

    def unary_stream(self, method: str, *coding: Any, **codings: Any) -> Any:
        return _Method(self, method, *coding, unary=True, **codings)

    def stream_unary(self, method: str, *coding: Any, **codings: Any) -> Any:
        return _Method(self, method, *coding, unary=False, **codings)

    def stream_stream(self, method: str, *coding: Any, **codings: Any) -> Any:
        return _Method(self, method, *coding, unary=False, **codings)

    def begin(self, call: ClientCall) -> None:
        """Send it now, or once the connection stands; or fail it, if there can be none."""
        if self._link is not None and not self._link.connection.full:
            call.attach(self._link)
            return
        if self._state is State.TRANSIENT_FAILURE:
            call.end(grpc.StatusCode.UNAVAILABLE, self._unconnected())
        elif len(self._waiting) >= WAITING_MAX:
            why = f"{NEVER_SENT}: {WAITING_MAX} calls to {self.address} wait already"
            call.end(grpc.StatusCode.UNAVAILABLE, why)
        else:
            self._waiting[call] = None
            call.add_done_callback(self._waits_no_more)
            if self._link is None:
                self._connect()

    def check_open(self) -> None:
        """
        Raises:
            grpc.aio.UsageError: It is closed.
        """
        if self._state is State.SHUTDOWN:
            raise grpc.aio.UsageError("the channel is closed")

    def _waits_no_more(self, call: ClientCall) -> None:
        self._waiting.pop(call, None)

    def serve_waiting(self) -> None:
        """A call is over: send those that wait, as many as the server takes now."""
        while self._waiting and self._link is not None and not self._link.connection.full:
            call = next(iter(self._waiting))
            del self._waiting[call]
            call.attach(self._link)

    # ── the connection ───────────────────────────────────────────────────────────────────────

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if try_to_connect and self._state is State.IDLE:
            self._connect()
        return self._state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self._state is last_observed_state:
            self.check_open()
            await self._changed.wait()
        self.check_open()

    async def channel_ready(self) -> None:
        while (state := self.get_state(try_to_connect=True)) is not State.READY:
            await self.wait_for_state_change(state)

    async def close(self, grace: float | None = None) -> None:
        """Break the connection; calls end UNAVAILABLE, those that were never sent say so."""
        if self._state is State.SHUTDOWN:
            return
        self._become(State.SHUTDOWN)
        if self._attempt is not None:
            self._attempt.cancel()
        self._fail_waiting(f"{NEVER_SENT}: the channel is closed")
        self._link = None
        for link in list(self._links):
            link.close("the channel is closed")

    async def __aenter__(self) -> "Self":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool | None:
        await self.close()
        return None

    def _connect(self) -> None:
        if self._attempt is None or self._attempt.done():
            self._become(State.CONNECTING)
            loop = asyncio.get_running_loop()
            attempts = _attempts(weakref.ref(self))
            self._attempt = loop.create_task(attempts, name=f"connect {self.address}")

    async def attempt(self) -> bool:
        """One, to connect; whether it did."""
        self._become(State.CONNECTING)
        first_ms, last_ms = CONNECT_MS
        limit_ms = min(first_ms << min(self._failures, 8), last_ms)
        try:
            async with asyncio.timeout(limit_ms / 1_000):
                link = await self._open_link()
        except Exception as error:
            # Not OSError alone: an address that is none is ValueError, OverflowError or even
            # IndexError to asyncio, and would end this task with calls that wait for ever.
            self._why = str(error) or f"nobody answers within {limit_ms} ms"
            self._failures += 1
            self._become(State.TRANSIENT_FAILURE)
            self._fail_waiting(self._unconnected())
            return False
        self._failures = 0
        self._link = link
        self._become(State.READY)
        self.serve_waiting()
        return True

    async def _open_link(self) -> ClientLink:
        """
        Raises:
            OSError: There is no server.
        """
        loop = asyncio.get_running_loop()
        host, _, port = self.address.rpartition(":")
        ready: asyncio.Future[None] = loop.create_future()

        def is_ready(_: ClientLink) -> None:
            if not ready.done():
                ready.set_result(None)

        this = weakref.ref(self)

        def has_ended(link: ClientLink, why: str) -> None:
            if not ready.done():
                ready.set_exception(ConnectionError(why))
            if (channel := this()) is not None:
                channel.lost(link, why)

        def is_free() -> None:
            if (channel := this()) is not None:
                channel.serve_waiting()

        address = self.address

        def make_link() -> ClientLink:
            return ClientLink(address, is_ready, has_ended, is_free)

        try:
            _, link = await loop.create_connection(
                make_link,
                host.strip("[]"),
                int(port),
                happy_eyeballs_delay=NEXT_ADDRESS_MS / 1_000,
            )
        except BaseException:
            ready.cancel()  # What becomes of a connection that came too late, nobody asks.
            raise
        self._links[link] = None
        try:
            await ready
            if link.closed or link.connection.going_away:
                # While it was still about to be handed over; `has_ended` has come too early.
                raise ConnectionError("the server left as soon as it had spoken")
        except BaseException:
            link.close("not in time")
            self._links.pop(link, None)
            raise
        return link

    def lost(self, link: ClientLink, why: str) -> None:
        """It takes no more calls, or is closed."""
        if link.closed:
            self._links.pop(link, None)
        if link is self._link:
            self._link = None
            self._why = why
            self._become(State.IDLE)
            if self._waiting:
                self._connect()

    def _become(self, state: grpc.ChannelConnectivity) -> None:
        if self._state is state or self._state is State.SHUTDOWN:
            return
        self._state = state
        self._changed.set()
        self._changed = asyncio.Event()

    def _unconnected(self) -> str:
        return f"{NEVER_SENT}: no connection to {self.address}: {self._why}"

    def _fail_waiting(self, why: str) -> None:
        waiting, self._waiting = self._waiting, {}
        for call in waiting:
            call.end(grpc.StatusCode.UNAVAILABLE, why)


async def _attempts(of: "weakref.ref[Channel]") -> None:
    """Until one succeeds, or nobody has the channel any more."""
    while (channel := of()) is not None and not await channel.attempt():
        del channel
        await asyncio.sleep(RECONNECT_MS / 1_000)


class _Method:
    """One method of a channel, to be called again and again."""

    def __init__(
        self,
        channel: Channel,
        path: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        *,
        unary: bool,
        **_: object,
    ) -> None:
        self._channel = channel
        self._path = path
        self._coding = (request_serializer, response_deserializer)
        self._unary = unary

    def __call__(
        self,
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        **_: object,
    ) -> ClientCall:
        self._channel.check_open()
        call = ClientCall(
            self._path,
            *self._coding,
            timeout_s=timeout,
            metadata=cast("Metadata", tuple(metadata or ())),
            channel=self._channel,
        )
        if self._unary:
            try:
                call.send(request)
            except Exception:
                call.end(grpc.StatusCode.INTERNAL, "the request is no message")
                raise
            call.end_writing()
        self._channel.begin(call)
        return call


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`. Connects at its first call; close it when done."""
    return Channel(address)
