"""Every order of everything that can befall a few real cores, in a world with bounds.

python -m tests.sim.model.search                       what CI explores
python -m tests.sim.model.search --nodes 3 --epochs 3 --crashes 1 --seconds 3600

A state of the world is each node's state and disk, and the messages under way: any may be the next
to arrive, or never be; one may arrive twice. Nodes stand, flush, crash, propose and resign at any
moment. Breadth first, so the first trouble that is found is one of the shortest; each step of a
core is held against the model, too.

    election safety       no two nodes lead one epoch
    log matching          two logs with the same epoch at one offset are the same up to there
    leader completeness   who leads has all that was committed in the epochs before
    state machine safety  what is committed at an offset stays so, at every node
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import NamedTuple

from controller.raft.state import Leader
from tests.sim.model import tiny
from tests.sim.model.tiny import Calls, Message, Node, Turn
from tests.sim.model.witness import Witness


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Of the world."""

    nodes: int = 3
    epochs: int = 2
    """The last that anybody enters."""
    records: int = 0
    """That are proposed, beside those that leaders write by themselves."""
    under_way: int = 1
    """Messages; of more than that, some are lost, whichever."""
    crashes: int = 0
    repeats: int = 0
    """Messages that arrive twice."""
    resigns: int = 0
    slow_disks: bool = False
    """An fsync ends at any time, or never; or else at once."""
    judged: bool = True
    """By the model; or else by the four properties alone."""


class Left(NamedTuple):
    """Of what is bounded."""

    records: int
    crashes: int
    repeats: int
    resigns: int


Committed = tuple[tuple[int, int, int], ...]
"""By offset: epoch and author of the record, and the epoch in which it was committed first."""


class State(NamedTuple):
    nodes: tuple[int, ...]
    messages: tuple[int, ...]
    left: Left
    leaders: tuple[int, ...]
    """By epoch: who was seen to lead it; -1."""
    committed: Committed


class Seen(NamedTuple):
    """What is asked of a node, found once."""

    records: tuple[tuple[int, int], ...]
    """Epoch and author, by offset."""
    committed: int
    epoch: int
    leads: bool


class Outcome(NamedTuple):
    node: int
    sent: tuple[int, ...]


@dataclass
class Search:
    bounds: Bounds
    states: int = 0
    transitions: int = 0
    complete: bool = False
    """All was seen."""
    calls: Calls = field(default_factory=lambda: Calls({}, []))

    def __post_init__(self) -> None:
        self._nodes: list[tuple[Node, Seen, Witness]] = []
        self._node_numbers: dict[Node, int] = {}
        self._messages: list[Message] = []
        self._message_numbers: dict[Message, int] = {}
        self._outcomes: dict[tuple[int, object], tuple[Outcome, ...]] = {}
        self._matching: set[tuple[int, int]] = set()

    def run(self, seconds: float = 1e9, states_max: int = 1 << 62) -> None:
        """Until all is seen, or until there is no time left.

        Raises:
            AssertionError: Something does not hold; with the events that lead there.
        """
        bounds = self.bounds
        began = time.monotonic()
        nodes = tuple(self._begun(tiny.begin(each, bounds.nodes)) for each in range(bounds.nodes))
        left = Left(bounds.records, bounds.crashes, bounds.repeats, bounds.resigns)
        first = State(nodes, (), left, (-1,) * (bounds.epochs + 1), ())
        came: dict[State, tuple[State, str] | None] = {first: None}
        level = [first]
        while level:
            found: list[State] = []
            for state in level:
                if len(came) >= states_max or time.monotonic() - began > seconds:
                    self.states = len(came)
                    return
                try:
                    for what, after in self._after(state):
                        self.transitions += 1
                        if after not in came:
                            came[after] = (state, what)
                            found.append(after)
                except AssertionError as error:
                    raise AssertionError(f"{error}\n{self._tell(came, state)}") from error
            level = found
        self.states, self.complete = len(came), True

    # ── what may come next ───────────────────────────────────────────────────────────────────

    def _after(self, state: State) -> Iterator[tuple[str, State]]:
        for at, node in enumerate(state.nodes):
            for what, outcome, left in self._moves(state, node):
                yield from self._reached(state, at, what, outcome, state.messages, left)
            if state.left.crashes:
                left = state.left._replace(crashes=state.left.crashes - 1)
                kept = tuple(
                    each
                    for each in state.messages
                    if self._messages[each].to != at or self._messages[each].response is None
                )
                for outcome in self._crashes(node):
                    yield from self._reached(state, at, "crash", outcome, kept, left)
        for place, number in enumerate(state.messages):
            message = self._messages[number]
            rest = state.messages[:place] + state.messages[place + 1 :]
            at = message.to
            for outcome in self._delivered(state.nodes[at], number):
                yield from self._reached(state, at, "message", outcome, rest, state.left)
                if state.left.repeats:
                    left = state.left._replace(repeats=state.left.repeats - 1)
                    yield from self._reached(state, at, "again", outcome, state.messages, left)

    def _moves(self, state: State, node: int) -> Iterator[tuple[str, Outcome, Left]]:
        """What a node does by itself."""
        left, calls = state.left, self.calls
        own: list[tuple[str, Callable[[Node], Turn | None], Left]] = [
            ("flush", lambda node: tiny.flush(node, calls), left),
            ("stand", lambda node: tiny.campaign(node, calls, self.bounds.epochs), left),
            ("fetch", lambda node: tiny.fetch_again(node, calls), left),
            ("tell", lambda node: tiny.tell(node, calls), left),
        ]
        if left.records:
            fewer = left._replace(records=left.records - 1)
            own.append(("propose", lambda node: tiny.propose(node, calls), fewer))
        if left.resigns:
            fewer = left._replace(resigns=left.resigns - 1)
            own.append(("resign", lambda node: tiny.resign(node, calls), fewer))
        for what, turn, after in own:
            for outcome in self._outcome(node, what, turn):
                yield what, outcome, after

    def _delivered(self, node: int, number: int) -> tuple[Outcome, ...]:
        message = self._messages[number]
        return self._outcome(node, number, lambda node: tiny.deliver(node, message, self.calls))

    def _outcome(
        self, number: int, what: object, turn: Callable[[Node], Turn | None]
    ) -> tuple[Outcome, ...]:
        """Once for each node and event: a core is a function."""
        known = self._outcomes.get((number, what))
        if known is None:
            node, _, witness = self._nodes[number]
            done = turn(node)
            # A successor that is named stands, too: not beyond the last epoch.
            within = done is not None and done.state.epoch <= self.bounds.epochs
            known = (self._judged(done, witness),) if done is not None and within else ()
            self._outcomes[number, what] = known
        return known

    def _judged(self, turn: Turn, witness: Witness) -> Outcome:
        sent = turn.sent
        steps = turn.steps
        flushed = None if self.bounds.slow_disks else tiny.flush(turn.node, self.calls)
        while flushed is not None:
            turn, sent, steps = flushed, sent + flushed.sent, steps + flushed.steps
            flushed = tiny.flush(turn.node, self.calls)
        if self.bounds.judged:
            witness = witness.copy()
            for each in steps:
                witness.goes_on(each.before)
                witness.stepped(*each)
                witness.finished()
        return Outcome(self._number(turn.node, witness), tuple(map(self._message, sent)))

    def _crashes(self, number: int) -> tuple[Outcome, ...]:
        known = self._outcomes.get((number, "crash"))
        if known is None:
            node, _, witness = self._nodes[number]
            found = []
            for after in tiny.crashes(node):
                reborn = witness
                if self.bounds.judged:
                    reborn = witness.copy()
                    reborn.started(after.state)
                found.append(Outcome(self._number(after, reborn), ()))
            standing = tiny.campaign(node, self.calls, self.bounds.epochs)
            if standing is not None and standing.sent_before_saving:
                # It has asked for votes, and died before its own was on the disk.
                asked = tuple(map(self._message, standing.sent_before_saving))
                found += [each._replace(sent=asked) for each in found]
            known = self._outcomes[number, "crash"] = tuple(found)
        return known

    def _begun(self, node: Node) -> int:
        witness = Witness()
        witness.started(node.state)
        return self._number(node, witness)

    def _number(self, node: Node, witness: Witness) -> int:
        number = self._node_numbers.setdefault(node, len(self._nodes))
        if number == len(self._nodes):
            witness.goes_on(node.state)
            self._nodes.append((node, _seen(node), witness))
        return number

    def _message(self, message: Message) -> int:
        number = self._message_numbers.setdefault(message, len(self._messages))
        if number == len(self._messages):
            self._messages.append(message)
        return number

    # ── what must hold ───────────────────────────────────────────────────────────────────────

    def _reached(
        self, state: State, at: int, what: str, outcome: Outcome, rest: tuple[int, ...], left: Left
    ) -> Iterator[tuple[str, State]]:
        nodes = state.nodes
        leaders, committed = state.leaders, state.committed
        if outcome.node != nodes[at]:
            nodes = (*nodes[:at], outcome.node, *nodes[at + 1 :])
            leaders, committed = self._check(state, nodes, at)
        messages = sorted({*rest, *outcome.sent}) if outcome.sent else rest
        told = f"{what} {at}"
        if len(messages) <= self.bounds.under_way:
            yield told, State(nodes, tuple(messages), left, leaders, committed)
            return
        for kept in combinations(messages, self.bounds.under_way):
            yield told, State(nodes, kept, left, leaders, committed)

    def _check(
        self, state: State, nodes: tuple[int, ...], at: int
    ) -> tuple[tuple[int, ...], Committed]:
        me = self._nodes[nodes[at]][1]
        leaders, committed = state.leaders, state.committed
        for other in nodes:
            self._match(nodes[at], other)
        if me.leads:
            epoch = me.epoch
            assert leaders[epoch] in (-1, at), f"{leaders[epoch]} and {at} lead epoch {epoch}"
            if leaders[epoch] < 0:
                leaders = (*leaders[:epoch], at, *leaders[epoch + 1 :])
                for offset, record in enumerate(committed):
                    has = me.records[offset : offset + 1] == (record[:2],)
                    assert has or record[2] >= epoch, f"{at} leads {epoch} without {offset}"
        known = min(me.committed, len(committed))
        for offset in range(known):
            was = committed[offset][:2]
            assert me.records[offset] == was, f"{at} commits another record at {offset}"
        committed += tuple((*each, me.epoch) for each in me.records[known : me.committed])
        return leaders, committed

    def _match(self, one: int, other: int) -> None:
        if one == other or (one, other) in self._matching:
            return
        mine, theirs = self._nodes[one][1].records, self._nodes[other][1].records
        end = next(
            (
                offset + 1
                for offset in range(min(len(mine), len(theirs)) - 1, -1, -1)
                if mine[offset][0] == theirs[offset][0]
            ),
            0,
        )
        assert mine[:end] == theirs[:end], f"logs that do not match: {mine} and {theirs}"
        self._matching |= {(one, other), (other, one)}

    def _tell(self, came: dict[State, tuple[State, str] | None], state: State) -> str:
        """How it came to that."""
        words: list[str] = []
        here: State | None = state
        while here is not None:
            step = came[here]
            here = None if step is None else step[0]
            words += [] if step is None else [step[1]]
        return " → ".join(reversed(words))


def _seen(node: Node) -> Seen:
    records = tuple((each.epoch, each.author) for each in node.disk.log for _ in range(each.size))
    state = node.state
    return Seen(records, state.high_watermark, state.epoch, isinstance(state.role, Leader))


CI = (
    Bounds(nodes=2, records=1, crashes=1, repeats=1, slow_disks=True),
    Bounds(nodes=3, records=0),
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Explore all that can befall a few real cores.")
    for name, value in asdict(Bounds()).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(option, type=int, help=f"(default {value})")
    parser.add_argument("--seconds", type=float, default=1e9, help="at most")
    arguments = vars(parser.parse_args())
    seconds = arguments.pop("seconds")
    named = {name: value for name, value in arguments.items() if value is not None}
    for bounds in (Bounds(**named),) if named else CI:
        search = Search(bounds)
        began = time.process_time()
        try:
            search.run(seconds)
        except AssertionError as error:
            print(error)
            return 1
        took = time.process_time() - began
        whole = "all" if search.complete else "not all"
        print(
            f"{bounds}: {search.states:,} states, {search.transitions:,} transitions, {whole}, "
            f"{len(search._nodes):,} states of a node, {took:.1f} s, nothing found",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
