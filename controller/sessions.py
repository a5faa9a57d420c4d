"""Brokers' sessions: who is alive, as far as this controller hears. Soft state, off the log.

    stream open, heartbeats        alive
    stream broken                  alive for a short grace: reopened in it, nothing happened
    silent                         alive until broker.session.timeout.ms since it was last heard

A session ends when its broker is to be fenced, and begins again with the next heartbeat: a process
that was paused goes on where it was, on the stream that it has. Sessions are of one reign; streams
are of the process, and outlive an election that this controller loses and wins again.

Time is an argument. A controller that was itself asleep has heard nobody, which says nothing of
them: it forgives them the time by which it came late (KAFKA-15019's false fencings).
"""

from dataclasses import dataclass

from klamm.ids import NodeId, Offset

LATE_MS = 50
"""A tick that comes later than this finds a loop that lagged."""

CATCH_UP_MS = 50
"""What came in while the loop lagged gets so long to be heard, before anybody is fenced."""

NEVER_MS = 1 << 62


@dataclass(slots=True, kw_only=True)
class Session:
    """One broker's."""

    broker_id: NodeId
    broker_epoch: Offset
    heard_ms: int
    stream: int = 0
    """Names the stream that is open; 0 if none is."""
    broken_ms: int | None = None
    """Since when there is none, if there was one."""
    applied_offset: Offset = Offset(0)  # noqa: RUF009 - an int
    shutdown_offset: Offset | None = None
    """End of the decision that began its controlled shutdown."""


class Sessions:
    """All of them, on the active controller; empty elsewhere."""

    def __init__(self, session_timeout_ms: int, grace_ms: int) -> None:
        self._session_timeout_ms = session_timeout_ms
        self._grace_ms = grace_ms
        self._by_id: dict[NodeId, Session] = {}
        self._open: dict[NodeId, tuple[int, Offset]] = {}
        """The newest stream of each broker that has one, and the uptime that it is of."""
        self._streams = 0

    def clear(self) -> None:
        """Forget who is alive. Streams stay known: they end when they end."""
        self._by_id.clear()

    def begin(self, broker_id: NodeId, broker_epoch: Offset, now_ms: int) -> Session:
        """A fresh session: of a new uptime, under a new controller, or after silence."""
        stream, epoch = self._open.get(broker_id, (0, broker_epoch))
        session = Session(
            broker_id=broker_id,
            broker_epoch=broker_epoch,
            heard_ms=now_ms,
            stream=stream if epoch == broker_epoch else 0,
        )
        self._by_id[broker_id] = session
        return session

    def find(self, broker_id: NodeId) -> Session | None:
        return self._by_id.get(broker_id)

    def opened(self, broker_id: NodeId, broker_epoch: Offset, now_ms: int) -> int:
        """A stream is open, and takes the place of an older one. Its name."""
        self._streams += 1
        self._open[broker_id] = (self._streams, broker_epoch)
        session = self._of(broker_id, broker_epoch, now_ms)
        session.stream = self._streams
        session.broken_ms = None
        session.heard_ms = now_ms
        return self._streams

    def heard(
        self, broker_id: NodeId, broker_epoch: Offset, applied_offset: Offset, now_ms: int
    ) -> Session:
        """A heartbeat: its session, which it begins if there was none."""
        session = self._of(broker_id, broker_epoch, now_ms)
        session.heard_ms = now_ms
        session.applied_offset = max(session.applied_offset, applied_offset)
        return session

    def _of(self, broker_id: NodeId, broker_epoch: Offset, now_ms: int) -> Session:
        session = self._by_id.get(broker_id)
        if session is None or session.broker_epoch != broker_epoch:
            return self.begin(broker_id, broker_epoch, now_ms)
        return session

    def broke(self, broker_id: NodeId, stream: int, now_ms: int) -> None:
        """A stream is gone; if it was the open one, the grace begins."""
        if self._open.get(broker_id, (0,))[0] == stream:
            del self._open[broker_id]
        session = self._by_id.get(broker_id)
        if session is not None and session.stream == stream:
            session.stream = 0
            session.broken_ms = now_ms

    def alive(self, broker_id: NodeId, now_ms: int) -> bool:
        """Whether a second process with this id is to be refused."""
        session = self._by_id.get(broker_id)
        if session is None or session.broken_ms is not None:
            return False
        return now_ms < session.heard_ms + self._session_timeout_ms

    def deadline_ms(self, session: Session) -> int:
        silent_ms = session.heard_ms + self._session_timeout_ms
        if session.broken_ms is None:
            return silent_ms
        return min(silent_ms, session.broken_ms + self._grace_ms)

    def next_deadline_ms(self) -> int:
        """When somebody is to be fenced, if nothing more is heard."""
        return min((self.deadline_ms(each) for each in self._by_id.values()), default=NEVER_MS)

    def expired(self, now_ms: int) -> tuple[Session, ...]:
        """Those whose time is over, by id. They end: a decision must follow."""
        gone = sorted(
            (each for each in self._by_id.values() if self.deadline_ms(each) <= now_ms),
            key=lambda session: session.broker_id,
        )
        for session in gone:
            del self._by_id[session.broker_id]
        return tuple(gone)

    def forgive(self, late_ms: int) -> None:
        """Everybody gets the time that this controller was away, and some to be heard in."""
        for session in self._by_id.values():
            session.heard_ms += late_ms + CATCH_UP_MS
            if session.broken_ms is not None:
                session.broken_ms += late_ms + CATCH_UP_MS

    def lowest_applied(self, brokers: tuple[NodeId, ...]) -> Offset:
        """Up to where all of these have applied the metadata log."""
        applied = [
            session.applied_offset
            for broker_id in brokers
            if (session := self._by_id.get(broker_id)) is not None
        ]
        return min(applied, default=Offset(NEVER_MS))
