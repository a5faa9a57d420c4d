"""Holds each step of each real driver against the model (tests/sim/model; scenario 26)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controller.quorum import driver
from controller.quorum.driver import QuorumDriver
from controller.quorum.node import QuorumNode
from controller.raft.effects import Effects
from controller.raft.events import Event, Moment
from controller.raft.state import RaftState
from controller.raft.voters import ReplicaKey
from tests.sim.model.witness import Witness
from tests.sim.planting import Mutant, planted


class Judge:
    """A witness for each node and its disk."""

    def __init__(self) -> None:
        self._witnesses: dict[ReplicaKey, Witness] = {}

    @property
    def transitions(self) -> int:
        return sum(each.transitions for each in self._witnesses.values())

    def started(self, quorum: QuorumNode) -> None:
        """A process has found what is on its disk."""
        state = quorum._driver.state
        self.witness(state).started(state)

    def witness(self, state: RaftState) -> Witness:
        """Of the replica that is in this state."""
        return self._witnesses.setdefault(state.config.key, Witness(undoes=True))


@contextmanager
def judged(judge: Callable[[], Judge]) -> Iterator[None]:
    """The drivers' steps are looked at."""
    honest, honest_stepped = vars(driver)["step"], QuorumDriver._stepped

    def step(before: RaftState, event: Event, moment: Moment) -> tuple[RaftState, Effects]:
        after, effects = honest(before, event, moment)
        judge().witness(before).stepped(before, event, after, effects)
        return after, effects

    def stepped(self: QuorumDriver, before: RaftState, after: RaftState) -> None:
        honest_stepped(self, before, after)
        judge().witness(self.state).finished()

    patches = [(driver, "step", step), (QuorumDriver, "_stepped", stepped)]
    with planted(Mutant("judged", "nothing", lambda: list(patches))):
        yield
