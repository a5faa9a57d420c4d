"""Sees every step of one replica, over all its lives, and holds it against the model."""

from collections.abc import Sequence

from controller.raft.effects import Effect
from controller.raft.events import Event, NoRoomFound
from controller.raft.state import RaftState
from tests.sim.model import reading
from tests.sim.model.allowed import allowed
from tests.sim.model.heard import Heard
from tests.sim.model.lives import reborn
from tests.sim.model.terms import Replica, Saves


class NotAllowedError(AssertionError):
    """A transition that the model does not know."""

    def __init__(self, who: int, wrong: str) -> None:
        super().__init__(f"not allowed: {who} {wrong}")
        self.place = ("the model", wrong.partition(" ")[0])
        """Which kind it is, by the verb; for whoever looks for a smaller run of the same."""


class Witness:
    """Of a node, and of one replica after the other."""

    def __init__(self, *, undoes: bool = False) -> None:
        """A replica `undoes` a step that found no room on its disk, or it ends there."""
        self.transitions = 0
        self._undo: tuple[RaftState | None, Replica, Heard] | None = None
        self._undoes = undoes
        self._state: RaftState | None = None
        self._now: Replica
        self._heard: Heard
        self._before: tuple[Replica, Saves]
        """Before the last step, which a crash may have cut short."""

    def started(self, state: RaftState) -> None:
        """From what stood on the disk. With another directory id it is another replica."""
        now = reading.replica(state, None, None)
        saved = Saves(now.epoch, now.vote)
        if self._state is not None and self._now.me == now.me:
            before, was = self._before
            self._judge(reborn(before, self._now, (was, self._heard.saved), now))
        self._state, self._now, self._heard = state, now, Heard(saved)
        self._before = now, saved
        self._heard.leader = now.leader

    def stepped(
        self, before: RaftState, event: Event, after: RaftState, effects: Sequence[Effect]
    ) -> None:
        """The core has made a step."""
        if before is not self._state and isinstance(event, NoRoomFound):
            assert self._undo is not None
            self._state, self._now, self._heard = self._undo
        assert before is self._state, "a step that was not seen"
        self.transitions += 1
        was, heard = self._now, self._heard
        if self._undoes:
            self._undo = before, was, heard.copy()
        cause = reading.cause(event, before)
        now = was if after is before else reading.replica(after, was, before)
        deeds = reading.deeds(effects) if effects else []
        self._before = was, heard.saved
        self._state, self._now = after, now
        heard.hear(was, cause, now)
        self._judge(allowed(was, heard, cause, now, deeds))
        heard.say(cause, deeds)

    def finished(self) -> None:
        """All that the last step has ordered is done."""
        self._before = self._now, self._heard.saved

    def copy(self) -> "Witness":
        """Of the same past, for another future."""
        other = Witness()
        other.transitions, other._state = self.transitions, self._state
        other._now, other._before = self._now, self._before
        other._heard = self._heard.copy()
        return other

    def goes_on(self, state: RaftState) -> None:
        """With an equal state, but for times."""
        self._state = state

    def _judge(self, wrong: str | None) -> None:
        if wrong is not None:
            raise NotAllowedError(self._now.me.id, wrong)
