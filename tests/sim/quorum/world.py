"""A quorum in one heap of events, driven by one seed.

World(seed).run(60_000)    misfortunes for sixty simulated seconds, then peace; raises
                           AssertionError with the last events if anything does not hold
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from hashlib import blake2b
from operator import itemgetter

from controller.raft.effects import Effect
from controller.raft.events import Event
from controller.raft.messages import Response
from controller.raft.state import SavedState
from klamm.ids import Offset, OffsetAndEpoch
from tests.sim.chance import exponential
from tests.sim.quorum.clients import Clients
from tests.sim.quorum.faults import Faults, of_seed
from tests.sim.quorum.invariants import Invariants
from tests.sim.quorum.members import Members
from tests.sim.quorum.network import DEATH_HEARD_MS, Network
from tests.sim.quorum.node import Node
from tests.sim.quorum.snapshots import trim, write
from tests.sim.quorum.troubles import Troubles

HEAL_MS = 20_000.0
"""After the last misfortune there must be a leader and a commit within so long."""

TROUBLE_MS = 45_000.0
"""So long a seed's trouble lasts, if nobody says otherwise."""

EVENTS_KEPT = 8
"""Of each node; shown when something does not hold."""

LINE_CHARACTERS_MAX = 300

Happening = tuple[int, float, int, Event, tuple[Effect, ...]]
"""Step, when, to whom, and what came of it."""


class World:
    """Same seed, same history."""

    look_at_votes = True
    """Hold each vote against the disk as it leaves. A mutant turns it off, to be seen otherwise."""
    is_judged = True
    """Hold each step against the model (tests/sim/model)."""
    look_at_trust = True
    """Let nobody vote or stand who is not whole. As above."""

    def __init__(
        self,
        seed: int,
        faults: Faults | None = None,
        *,
        profile: str | None = None,
        traced: bool = False,
    ) -> None:
        """A seed draws its faults by its turn in the rotation, or by the profile that is named."""
        self.seed = seed
        self.profile, drawn = of_seed(seed, profile)
        self.faults = faults or drawn
        self.rng = random.Random(f"world {seed}")
        self.now_ms = 0.0
        self.steps = 0
        self.trace = blake2b(digest_size=16) if traced else None
        """A running hash of every event and effect, in every particular."""
        self.trouble_ms = TROUBLE_MS
        self.answers: dict[tuple[int, int, int], Callable[[Response], None]] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.network = Network(self.rng, self.faults, self.after)
        self.invariants = Invariants()
        self.clients = Clients(self)
        self.nodes = [
            Node(self, node_id, self.faults.voters)
            for node_id in range(self.faults.voters + self.faults.observers)
        ]
        self.last: list[deque[Happening]] = [deque(maxlen=EVENTS_KEPT) for _ in self.nodes]
        self.troubles = Troubles(self)
        self.members = Members(self)
        self.peaceful = False

    # ── what nodes ask of the world ──────────────────────────────────────────────────────────

    def after(self, delay_ms: float, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._count, call))

    def offset(self, value: int) -> Offset:
        return Offset(value)

    @property
    def voters(self) -> list[Node]:
        return self.nodes[: self.faults.voters]

    def save(self, node: Node, saved: SavedState) -> None:
        node.disk.saved = saved
        self.invariants.saved(node, saved)

    def flush(self, node: Node, end_offset: int) -> None:
        node.disk.flush(end_offset)

    def install(self, node: Node, snapshot_id: OffsetAndEpoch) -> None:
        node.disk.install(snapshot_id, self.invariants.voters_below(snapshot_id.offset))

    def stream(
        self, follower: int, leader: int, *, upward: bool, deliver: Callable[[], None]
    ) -> None:
        def broke(heard_ms: float) -> None:
            for one, other in ((follower, leader), (leader, follower)):
                node = self.nodes[one]
                incarnation = node.incarnation

                def tell(node: Node = node, other: int = other, life: int = incarnation) -> None:
                    if node.incarnation == life:
                        node.stream_lost(other)

                self.after(heard_ms, tell)

        self.network.stream(follower, leader, upward=upward, deliver=deliver, broke=broke)

    def peer_died(self, dead: int) -> None:
        """All its streams break; those whose link is cut do not hear of it."""
        for node in self.nodes:
            if node.id == dead:
                continue
            self.network.break_stream((dead, node.id))
            self.network.break_stream((node.id, dead))
            if (dead, node.id) in self.network.cut:
                continue
            incarnation = node.incarnation

            def tell(node: Node = node, life: int = incarnation) -> None:
                if node.incarnation == life:
                    node.stream_lost(dead)

            self.after(self.rng.uniform(*DEATH_HEARD_MS), tell)

    def note(self, node_id: int, event: Event, effects: tuple[Effect, ...]) -> None:
        self.steps += 1
        self.last[node_id].append((self.steps, self.now_ms, node_id, event, effects))
        if self.trace is not None:
            told = f"{self.now_ms!r} {node_id} {event!r} {effects!r}\n"
            self.trace.update(told.encode())

    # ── what is asked of the voters ──────────────────────────────────────────────────────────

    def _propose(self) -> None:
        self.after(exponential(self.rng, self.faults.proposal_every_ms), self._propose)
        leaders = [node for node in self.nodes if node.leads and not node.paused]
        if leaders:
            count = self.rng.randint(1, self.faults.proposal_records)
            self.clients.propose(self.rng.choice(leaders), count)

    def _snapshot(self, what: Callable[[Node], None], every_ms: float) -> None:
        """Some node writes a snapshot, or begins its log at one."""
        again_ms = exponential(self.rng, every_ms / len(self.nodes))
        self.after(again_ms, lambda: self._snapshot(what, every_ms))
        node = self.rng.choice(self.nodes)
        if node.state is not None and not node.paused:
            what(node)

    def _read(self) -> None:
        self.after(exponential(self.rng, self.faults.read_every_ms), self._read)
        node = self.rng.choice(self.nodes)
        if node.state is not None and not node.paused:
            clients = self.clients
            kinds = (clients.read, clients.read, clients.read, clients.follow, clients.look)
            self.rng.choice(kinds)(node)

    # ── running ──────────────────────────────────────────────────────────────────────────────

    def run(self, trouble_ms: float = TROUBLE_MS) -> None:
        """Trouble, then peace, then progress."""
        self.trouble_ms = trouble_ms
        try:
            self._run()
        except Exception as error:
            words = str(error) if isinstance(error, AssertionError) else repr(error)
            raise AssertionError(self.tell(words)) from error

    def _run(self) -> None:
        for node in self.nodes:
            self.troubles.set_clock(node)
            self.after(self.rng.uniform(0, 50), lambda node=node: self.troubles.restart(node))
        self.troubles.go_on()
        self.after(0, self._propose)
        self.after(0, self._read)
        self.members.go_on()
        self._snapshot(write, self.faults.snapshot_every_ms)
        self._snapshot(trim, self.faults.trim_every_ms)
        self.until(self.trouble_ms)
        self.troubles.make_peace()
        committed = len(self.invariants.committed)
        self.until(self.now_ms + HEAL_MS)
        self.check_progress(committed)
        self.clients.check()

    def check_progress(self, committed_before: int) -> None:
        """25: a leader, commits, and the same log everywhere but for its last moments."""
        leaders = [node.id for node in self.nodes if node.leads]
        if self.troubles.has_lost_a_majority():
            return  # Nobody can know what was committed: it waits for an administrator.
        assert len(leaders) == 1, f"after peace there lead {leaders}"
        committed = len(self.invariants.committed)
        assert committed > committed_before, "no commit after peace"
        behind = [
            node.id
            for node in self.nodes
            if node.disk.end_offset < committed - 200
            and not self.troubles.waits_in_vain(node, self.nodes[leaders[0]])
        ]
        assert not behind, f"{behind} did not catch up"

    def until(self, until_ms: float) -> None:
        while self._heap and self._heap[0][0] <= until_ms:
            self.now_ms, _, call = heapq.heappop(self._heap)
            self.network.now_ms = self.now_ms
            call()
        self.now_ms = until_ms

    def tell(self, what: str) -> str:
        """What happened, the last events of each node, and how to see it again."""
        lines = [
            f"  {at:9.1f} ms  node {who}  {event}  →  {out}"[:LINE_CHARACTERS_MAX]
            for _, at, who, event, out in sorted(itertools.chain(*self.last), key=itemgetter(0))
        ]
        lines.append(f"again: {self.again()}")
        return f"seed {self.seed} ({self.profile}): {what}\n" + "\n".join(lines)

    def again(self) -> str:
        """The command that runs this very history."""
        words = [f"python -m tests.sim.quorum.replay {self.seed} --profile {self.profile}"]
        _, drawn = of_seed(self.seed, self.profile)
        for name, value in asdict(self.faults).items():
            if value != getattr(drawn, name):
                words.append(f"--set {name}=" + repr(value).replace(" ", ""))
        if self.trouble_ms != TROUBLE_MS:
            words.append(f"--ms {self.trouble_ms!r}")
        return " ".join(words)
