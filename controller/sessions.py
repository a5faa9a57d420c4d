"""Brokers' sessions: who is alive, as far as this controller hears. Soft state, off the log.

    stream open, heartbeats        alive
    stream broken                  alive for a short grace: reopened in it, nothing happened
    silent                         alive until broker.session.timeout.ms since it was last heard

Time is an argument. A controller that was itself asleep has heard nobody, which says nothing of
them: `tick` grants everybody the time by which it came late (KAFKA-15019's false fencings).
"""

from dataclasses import dataclass

from klamm.ids import NodeId, Offset

LATE_MS = 100
"""A tick that comes later than this finds a loop that lagged."""

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
        self._streams = 0

    def clear(self) -> None:
        self._by_id.clear()

    def begin(self, broker_id: NodeId, broker_epoch: Offset, now_ms: int) -> None:
        """A fresh session: of a new uptime, or under a new controller."""
        self._by_id[broker_id] = Session(
            broker_id=broker_id, broker_epoch=broker_epoch, heard_ms=now_ms
        )

    def find(self, broker_id: NodeId) -> Session | None:
        return self._by_id.get(broker_id)

    def opened(self, broker_id: NodeId, broker_epoch: Offset, now_ms: int) -> int:
        """A stream is open, and takes the place of an older one. Its name."""
        session = self._by_id.get(broker_id)
        if session is None or session.broker_epoch != broker_epoch:
            self.begin(broker_id, broker_epoch, now_ms)
            session = self._by_id[broker_id]
        self._streams += 1
        session.stream = self._streams
        session.broken_ms = None
        session.heard_ms = now_ms
        return self._streams

    def heard(self, broker_id: NodeId, applied_offset: Offset, now_ms: int) -> None:
        session = self._by_id.get(broker_id)
        if session is not None:
            session.heard_ms = now_ms
            session.applied_offset = max(session.applied_offset, applied_offset)

    def broke(self, broker_id: NodeId, stream: int, now_ms: int) -> None:
        """A stream is gone; if it was the open one, the grace begins."""
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

    def expired(self, now_ms: int) -> tuple[NodeId, ...]:
        """Whose time is over, by id. They are forgotten: a decision must follow."""
        gone = sorted(
            each.broker_id for each in self._by_id.values() if self.deadline_ms(each) <= now_ms
        )
        for broker_id in gone:
            del self._by_id[broker_id]
        return tuple(gone)

    def forgive(self, late_ms: int) -> None:
        """Everybody gets the time that this controller was away."""
        for session in self._by_id.values():
            session.heard_ms += late_ms
            if session.broken_ms is not None:
                session.broken_ms += late_ms

    def lowest_applied(self, brokers: tuple[NodeId, ...]) -> Offset:
        """Up to where all of these have applied the metadata log."""
        applied = [
            session.applied_offset
            for broker_id in brokers
            if (session := self._by_id.get(broker_id)) is not None
        ]
        return min(applied, default=Offset(NEVER_MS))
