"""One uptime of this broker: registered, heartbeating, unfenced, stopped in order.

    register ──▶ FENCED ──applied own registration, and `ready`──▶ UNFENCED ──`shut_down`──▶ done
                   ▲                                                  │
                   └───── fenced by the controller, still heartbeating┘

The stream is itself the sign of life. When it breaks it is opened again at once, with the same
broker epoch, at whichever controller leads by then; only a controller that does not know the epoch
makes the broker register again. (KIP-631; kraft.md 2.5, 2.6, 3.2, 3.3.)
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from klamm.client.client import ControllerClient, SessionStream
from klamm.clock import Clock
from klamm.errors import ApiError, ErrorCode, KlammError, StartError
from klamm.ids import DirectoryId, NodeId, Offset
from klamm.metadata.codec import features_to_proto
from klamm.metadata.features import supported
from klamm.metadata.records import Endpoint
from klamm.rpc.status import BadRequestError, ConnectionLostError
from klamm.telemetry.logs import logger
from klamm.v1 import controller_pb2 as pb
from klamm.v1 import records_pb2

_log = logger(__name__)

NOT_REGISTERED = Offset(-1)
"""The broker epoch before the first registration, and on the wire that of no clean shutdown."""

HEARTBEAT_GAP_MS = 20
"""Between two heartbeats whose cause is news and not the clock."""

REGISTER_ATTEMPT_MS = 5_000
REOPEN_PAUSE_MS = (2, 20)
"""Between a session that broke and the next, drawn evenly, so that brokers do not march."""

_FINAL = frozenset(
    {
        ErrorCode.INCONSISTENT_CLUSTER_ID,
        ErrorCode.INVALID_REGISTRATION,
        ErrorCode.UNSUPPORTED_VERSION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.POLICY_VIOLATION,
    }
)
"""Refusals of a registration that no waiting will change."""

_FORGOTTEN = frozenset({ErrorCode.STALE_BROKER_EPOCH, ErrorCode.BROKER_ID_NOT_REGISTERED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What this broker says of itself."""

    cluster_id: str
    broker_id: NodeId
    incarnation_id: UUID
    """Made anew at each start of the process."""
    endpoints: tuple[Endpoint, ...]
    """The inter-broker listener first."""
    rack: str | None
    directory_id: DirectoryId
    previous_broker_epoch: Offset
    """Of the last clean shutdown, or NOT_REGISTERED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionTimes:
    heartbeat_interval_ms: int
    session_timeout_ms: int
    registration_timeout_ms: int


class BrokerSession:
    """Owned by the task that runs `run`; the others only set what they wish for."""

    def __init__(
        self,
        client: ControllerClient,
        registration: Registration,
        times: SessionTimes,
        clock: Clock,
        *,
        on_registered: Callable[[], None] = lambda: None,
        on_standing: Callable[[bool], None] = lambda fenced: None,
    ) -> None:
        """
        Args:
            on_registered: Called when `broker_epoch` is new, before the first heartbeat with it.
            on_standing: Called whenever the broker is fenced (True) or unfenced.
        """
        self._client = client
        self._registration = registration
        self._times = times
        self._clock = clock
        self._on_registered = on_registered
        self._on_standing = on_standing
        self.broker_epoch = NOT_REGISTERED
        self.fenced = True
        self._applied = Offset(0)
        self._ready = False
        self._want_shut_down = False
        self._may_stop = asyncio.Event()
        self._unfenced = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def connected(self) -> bool:
        """A controller answered on the present stream."""
        return self._connected

    _connected = False

    def applied(self, offset: Offset) -> None:
        """This broker's image includes the log up to `offset`; the controller is told."""
        self._applied = offset
        self._news.set()

    def ready(self) -> None:
        """The replicas stand and the listeners serve: ask to be unfenced."""
        self._ready = True
        self._news.set()

    async def wait_unfenced(self) -> None:
        await self._unfenced.wait()

    async def shut_down(self, timeout_ms: int, unreachable_ms: int) -> bool:
        """Ask to stop, and wait for leave: leaders moved away, and known to all.

        Args:
            timeout_ms: At most so long in all.
            unreachable_ms: At most so long while no controller answers.

        Returns:
            Whether leave was given. Without it the others find out by themselves.
        """
        if self.broker_epoch == NOT_REGISTERED:
            return False
        self._want_shut_down = True
        self._news.set()
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        lonely_ms = self._clock.monotonic_ms() + unreachable_ms
        while not self._may_stop.is_set():
            now_ms = self._clock.monotonic_ms()
            if self._connected:
                lonely_ms = now_ms + unreachable_ms
            if now_ms >= min(deadline_ms, lonely_ms):
                return False
            try:
                async with asyncio.timeout(min(100, deadline_ms - now_ms) / 1_000):
                    await self._may_stop.wait()
            except TimeoutError:
                continue
        return True

    # ── Registration ──────────────────────────────────────────────────────────────────────────

    async def register(self) -> None:
        """Begin the uptime.

        Raises:
            StartError: Refused for good, or not accepted in time.
        """
        began_ms = self._clock.monotonic_ms()
        duplicate_ms = self._times.session_timeout_ms + self._times.heartbeat_interval_ms
        told = ""
        while True:
            try:
                response = await self._client.register_broker(
                    _register_request(self._registration),
                    min(REGISTER_ATTEMPT_MS, self._times.registration_timeout_ms),
                )
            except KlammError as error:
                waited_ms = self._clock.monotonic_ms() - began_ms
                self._give_up(error, waited_ms, duplicate_ms)
                if str(error) != told:
                    _log.warning("registration refused, trying again", reason=error)
                    told = str(error)
                await asyncio.sleep(random.uniform(0.05, 0.25))
                continue
            self.broker_epoch = Offset(response.broker_epoch)
            _log.info("registered", broker_epoch=self.broker_epoch)
            self._on_registered()
            return

    def _give_up(self, error: KlammError, waited_ms: int, duplicate_ms: int) -> None:
        """Raise if more waiting is in vain."""
        me = self._registration.broker_id
        if isinstance(error, BadRequestError):
            raise StartError(f"the controllers refuse this broker: {error}.") from None
        if isinstance(error, ApiError):
            if error.code in _FINAL:
                raise StartError(
                    f"the controllers refuse this broker for good: {error.message}."
                ) from None
            if error.code == ErrorCode.DUPLICATE_BROKER_REGISTRATION and waited_ms >= duplicate_ms:
                raise StartError(
                    f"another process is running as broker {me}: {error.message}. Give this one a "
                    f"node.id of its own, or stop the other."
                ) from None
        if waited_ms >= self._times.registration_timeout_ms:
            raise StartError(
                f"broker {me} could not register within {waited_ms} ms: {error}."
            ) from None

    # ── Heartbeats ────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Register, and heartbeat until cancelled.

        Raises:
            StartError: The controllers do not accept this uptime, or not any more.
        """
        if self.broker_epoch == NOT_REGISTERED:
            await self.register()
        while True:
            error = await self._one_session()
            self._connected = False
            if isinstance(error, ApiError) and error.code in _FORGOTTEN:
                _log.warning("session refused", reason=error)
                self._stand(fenced=True)
                await self.register()
            else:
                _log.info("session broke", reason=error)
            low, high = REOPEN_PAUSE_MS
            await asyncio.sleep(random.uniform(low, high) / 1_000)

    async def _one_session(self) -> KlammError:
        """From a stream's opening to what ended it."""
        try:
            stream = await self._client.open_session(self._times.session_timeout_ms)
        except KlammError as error:
            return error
        sender = asyncio.create_task(self._send(stream), name="heartbeat")
        receiver = asyncio.create_task(self._receive(stream), name="heartbeat answers")
        replaced = asyncio.create_task(
            self._client.controllers.wait_other_leader(stream.address), name="another controller"
        )
        tasks: tuple[asyncio.Task[object], ...] = (receiver, sender, replaced)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            # In order of `tasks`: the receiving side knows best why a stream ended.
            for failure in (task.exception() for task in tasks if task in done):
                if isinstance(failure, KlammError):
                    self._client.session_broke(stream, failure)
                    return failure
                if failure is not None:
                    raise failure
            return ConnectionLostError(f"{stream.address} leads no more")
        finally:
            for task in tasks:
                task.cancel()
            stream.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, stream: SessionStream) -> None:
        while True:
            self._news.clear()
            await stream.send(
                pb.SessionRequest(
                    broker_id=self._registration.broker_id,
                    broker_epoch=self.broker_epoch,
                    applied_offset=self._applied,
                    want_fence=not self._ready,
                    want_shut_down=self._want_shut_down,
                )
            )
            await asyncio.sleep(HEARTBEAT_GAP_MS / 1_000)
            try:
                async with asyncio.timeout(self._times.heartbeat_interval_ms / 1_000):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _receive(self, stream: SessionStream) -> None:
        """Answers come at each heartbeat at the latest; a silent controller is a lost one."""
        silence_ms = max(self._times.session_timeout_ms // 2, self._times.heartbeat_interval_ms + 1)
        while True:
            try:
                async with asyncio.timeout(silence_ms / 1_000):
                    answer = await stream.receive()
            except TimeoutError:
                raise ConnectionLostError(
                    f"{stream.address} answers no heartbeat since {silence_ms} ms"
                ) from None
            self._connected = True
            self._stand(fenced=answer.is_fenced)
            if answer.should_shut_down:
                self._may_stop.set()

    def _stand(self, *, fenced: bool) -> None:
        if fenced == self.fenced:
            return
        self.fenced = fenced
        if fenced:
            self._unfenced.clear()
        else:
            self._unfenced.set()
        _log.info("fenced" if fenced else "unfenced", broker_epoch=self.broker_epoch)
        self._on_standing(fenced)


def _register_request(registration: Registration) -> pb.RegisterBrokerRequest:
    request = pb.RegisterBrokerRequest(
        cluster_id=registration.cluster_id,
        broker_id=registration.broker_id,
        incarnation_id=registration.incarnation_id.bytes,
        endpoints=[
            records_pb2.Endpoint(
                name=each.name,
                host=each.host,
                port=each.port,
                security_protocol=each.security_protocol,
            )
            for each in registration.endpoints
        ],
        log_dirs=[registration.directory_id.bytes],
        previous_broker_epoch=registration.previous_broker_epoch,
        features=features_to_proto(supported()),
    )
    if registration.rack is not None:
        request.rack = registration.rack
    return request
