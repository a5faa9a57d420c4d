"""What goes wrong, and when: misfortunes at seeded times, and crashes at the worst moments.

A kind of trouble is a method here, and its name in `kinds` if the seed's faults have it. Peace ends
them all: whole links, no loss, room on the disks, everybody up and awake.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.raft.effects import (
    AppendControl,
    AppendRecords,
    Commit,
    Effect,
    InstallSnapshot,
    LoadSnapshot,
    SendRequest,
    SendResponse,
    TrimLog,
    VerifySnapshot,
)
from controller.raft.messages import Request, VoteRequest, VoteResponse
from controller.raft.voters import ReplicaKey, VoterSet
from klamm.ids import NodeId
from tests.sim.chance import exponential
from tests.sim.quorum import decay
from tests.sim.quorum.faults import CALM

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node
    from tests.sim.quorum.world import World

SOON_MS = (0.0, 20.0)
"""A crash that a message brings comes so long after it was sent."""


class Troubles:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.rng = world.rng
        self.faults = world.faults
        self.crashes = 0
        self.most_are_wiped = False
        self.counts: dict[str, int] = {}
        """How often each kind has befallen somebody."""
        self.kinds = ["heal"]
        """More often named, more often drawn."""
        self.kinds += ["crash", "crash_leader", "crash_all"] if self.faults.crash else []
        self.kinds += ["cut", "cut_one_way", "isolate"] if self.faults.cut else []
        self.kinds += ["clog"] if self.faults.clog else []
        self.kinds += ["pause", "pause"] if self.faults.pause else []
        self.kinds += ["fill_disk"] if self.faults.full_disk else []
        self.kinds += ["empty_disk"] if self.faults.empty_disk else []
        self.kinds += ["wipe", "wipe", "wipe_most"] if self.faults.wiped_disk else []
        self.kinds += ["slow_disk"] if self.faults.slow_disk else []
        self.kinds += ["transfer", "transfer"] if self.faults.transfer else []
        self.kinds += ["flip", "flip"] if self.faults.flips else []
        self.kinds += ["lie", "lie"] if self.faults.lying_disk else []
        self.kinds += ["scatter"] if self.faults.torn else []
        self.kinds += ["lose_vote"] if self.faults.lost_vote else []

    def set_clock(self, node: "Node") -> None:
        """A machine's clock begins anywhere when it is booted, and runs at its own speed."""
        if self.faults.clock_rates != (1.0, 1.0):
            node.clock_base_ms = self.rng.choice((0.0, 1e6, 1e9)) * self.rng.random()
            node.clock_rate = self.rng.uniform(*self.faults.clock_rates)

    def go_on(self) -> None:
        """From now until there is peace."""
        world = self.world
        if world.peaceful:
            return
        world.after(exponential(self.rng, self.faults.misfortune_every_ms), self._misfortune)

    def make_peace(self) -> None:
        world = self.world
        world.peaceful = True
        world.network.cut.clear()
        world.network.faults = replace(CALM, fsync_ms=self.faults.fsync_ms)
        for node in world.nodes:
            node.disk.is_full = False
            node.fsync_ms = self.faults.fsync_ms
            node.resume()
            self.restart(node)

    def _misfortune(self) -> None:
        if self.world.peaceful:
            return
        self.go_on()
        kind, victim = self.rng.choice(self.kinds), self.rng.choice(self.world.nodes)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        getattr(self, f"_{kind}")(victim)

    # ── of a node ────────────────────────────────────────────────────────────────────────────

    def crash(self, node: "Node") -> None:
        self.crashes += 1
        node.crash()
        self.world.after(self.rng.uniform(*self.faults.downtime_ms), lambda: self.restart(node))

    def restart(self, node: "Node") -> None:
        if node.state is None:
            node.start()

    def _crash(self, victim: "Node") -> None:
        self.crash(victim)

    def _crash_leader(self, victim: "Node") -> None:
        for node in self.world.nodes:
            if node.leads:
                self.crash(node)

    def _crash_all(self, victim: "Node") -> None:
        for node in self.world.nodes:
            self.crash(node)

    def _pause(self, victim: "Node") -> None:
        victim.paused = victim.state is not None
        self.world.after(self.rng.uniform(10, 4_000), victim.resume)

    def _transfer(self, victim: "Node") -> None:
        """Whoever leads is asked to hand over: to the victim, be it fit or not, or to anybody."""
        target = self.rng.choice((None, NodeId(victim.id)))
        for node in self.world.nodes:
            if node.leads and not node.paused:
                self.world.clients.transfer(node, target)

    def after_effect(self, node: "Node", effect: Effect) -> None:
        """Crash it, at the worst moments more often than at others."""
        if self.world.peaceful or not self.faults.crash:
            return
        chance = self.faults.crash_at_effect
        match effect:
            case SendResponse(response=VoteResponse(vote_granted=True)):
                chance += self.faults.crash_after_vote
            case SendRequest(request=VoteRequest(pre_vote=False)):
                chance += self.faults.crash_after_asking
            case AppendRecords() | AppendControl() if node.leads:
                chance += self.faults.crash_after_append
            case Commit() if node.leads:
                chance += self.faults.crash_after_commit
            case InstallSnapshot() | LoadSnapshot() | VerifySnapshot() | TrimLog():
                chance += self.faults.crash_at_install
            case _:
                pass
        if chance and self.rng.random() < chance:
            self.crash(node)

    def after_request(self, sender: "Node", to: int, request: Request) -> None:
        """Crash one of its ends soon, if it is of the kind that this seed dwells on."""
        faults = self.faults
        if type(request).__name__ != faults.crash_soon_after or self.world.peaceful:
            return
        if self.rng.random() >= faults.crash_soon:
            return
        victim = self.rng.choice((sender, self.world.nodes[to]))
        life = victim.incarnation

        def strike() -> None:
            if victim.incarnation == life and not self.world.peaceful:
                self.crash(victim)

        self.world.after(self.rng.uniform(*SOON_MS), strike)

    # ── of a disk ────────────────────────────────────────────────────────────────────────────

    def _fill_disk(self, victim: "Node") -> None:
        """No write succeeds until there is room again; a voter that cannot write ends."""
        victim.disk.is_full = True

        def make_room() -> None:
            victim.disk.is_full = False

        self.world.after(self.rng.uniform(10, 3_000), make_room)

    def _empty_disk(self, victim: "Node") -> None:
        """It crashes, and comes back with another disk, which is empty (scenario 19).

        Of every committed record a good copy stays: less than half of the voters lose their disks,
        and none before everybody's log names all of them.
        """
        others = [each for each in self.world.voters if each is not victim]
        lost = sum(each.is_new_disk for each in others) + 1
        named = all(each.is_new_disk or each.disk.names_disks for each in self.world.voters)
        if victim.id < self.faults.voters and named and 2 * lost < self.faults.voters:
            self.crash(victim)
            victim.replace_disk()

    def _wipe(self, victim: "Node") -> None:
        """A minority at a time; what was on the disks is on others."""
        if self._may_ail(victim) and victim in self.world.voters and not self.most_are_wiped:
            self.crash(victim)
            victim.wipe_disk()

    def _wipe_most(self, victim: "Node") -> None:
        """A majority at once, and once only. Who has most keeps it, so all that was committed.

        Not while others are not whole: of what was committed the copy might be theirs.
        """
        voters = self.world.voters
        if self.most_are_wiped or any(_is_lost(each) for each in voters):
            return
        self.most_are_wiped = True
        keeper = max(voters, key=lambda each: each.disk.durable_chain_end)
        others = [each for each in voters if each is not keeper]
        for each in self.rng.sample(others, len(voters) // 2 + 1):
            self.crash(each)
            each.wipe_disk()
        if self.rng.random() < 0.5:
            self.crash(keeper)

    def has_lost_a_majority(self) -> bool:
        """Are too few left of the disks that the longest log names?"""
        voters = self.world.voters
        best = max(voters, key=lambda each: each.disk.durable_chain_end)
        named = best.disk.voters()
        if self.faults.lost_vote and named:
            return self._renewed_a_majority(named[-1][1])
        if not self.faults.wiped_disk:
            return False
        left = sum(
            each.config.key == ReplicaKey(node_id=one.node_id, directory_id=one.directory_id)
            and not each.disk.decay.distrust
            for one in (named[-1][1].voters if named else ())
            for each in voters
        )
        return 2 * left <= len(voters)

    def waits_in_vain(self, node: "Node", leader: "Node") -> bool:
        """It was removed and does not know it: as a voter that lost its vote it went on above the
        quorum's epochs, and is refused until somebody empties its disk."""
        named = leader.disk.voters()
        removed = bool(named) and not named[-1][1].admits(node.config.key)
        removed = removed and node.is_voter_by_its_log
        above = node.state is not None and leader.state is not None
        above = above and node.state.epoch > leader.state.epoch
        return self.faults.lost_vote and removed and above

    def _renewed_a_majority(self, voters: VoterSet) -> bool:
        """Who lost its vote and did not know that it had just been added is another replica now,
        and the one that was added is as lost as its disk (controller/quorum/identity.py)."""
        gone = set().union(*(each.given_up for each in self.world.nodes))
        left = sum(
            one.directory_id is None
            or ReplicaKey(node_id=one.node_id, directory_id=one.directory_id) not in gone
            for one in voters.voters
        )
        return left < voters.majority

    def _may_ail(self, victim: "Node") -> bool:
        """Fewer than half of the voters are not whole, at any time; observers as they like."""
        voters = self.world.voters
        lost = sum(_is_lost(each) for each in voters if each != victim)
        return victim not in voters or 2 * (lost + 1) < len(voters)

    def _may_rot(self, victim: "Node") -> bool:
        """As above, and all voters count: who is not named does not, until a leader hears it."""
        best = max(self.world.voters, key=lambda each: each.disk.durable_chain_end)
        return self._may_ail(victim) and best.disk.names_disks

    def _flip(self, victim: "Node") -> None:
        """A bit; at times found at once, by a start."""
        if not self._may_rot(victim):
            return
        if self.rng.random() < 0.7:
            decay.flip_record(victim)
        else:
            decay.flip_snapshot(victim)
        if self.rng.random() < 0.5:
            self.crash(victim)

    def _lie(self, victim: "Node") -> None:
        if self._may_rot(victim) and victim.state is not None:
            victim.disk.decay.lies = True
            self.crash(victim)

    def _scatter(self, victim: "Node") -> None:
        """Of one voter, or of all at once: it is no loss."""
        for each in self.world.nodes if self.rng.random() < 0.3 else (victim,):
            if each.state is not None:
                each.disk.decay.scatters = True
                self.crash(each)

    def _lose_vote(self, victim: "Node") -> None:
        """A voter's, or one that nobody needs; not of who is a voter and does not know it."""
        if victim.is_new_disk:
            return
        self.crash(victim)
        others = (decay.is_a_voters(each.disk, victim.config) for each in self.world.nodes)
        if decay.is_a_voters(victim.disk, victim.config) or not any(others):
            decay.lose_vote(victim)

    def _slow_disk(self, victim: "Node") -> None:
        victim.fsync_ms = self.rng.choice(((50.0, 300.0), (500.0, 2_000.0)))

        def mend() -> None:
            victim.fsync_ms = self.faults.fsync_ms

        self.world.after(self.rng.uniform(100, 5_000), mend)

    # ── of links ─────────────────────────────────────────────────────────────────────────────

    def _cut(self, victim: "Node") -> None:
        other = self.rng.choice(self.world.nodes).id
        self.world.network.cut |= {(victim.id, other), (other, victim.id)}

    def _cut_one_way(self, victim: "Node") -> None:
        self.world.network.cut.add((victim.id, self.rng.choice(self.world.nodes).id))

    def _isolate(self, victim: "Node") -> None:
        self.world.network.cut |= self._links_of(victim)

    def _clog(self, victim: "Node") -> None:
        """Swizzle (FoundationDB): links of some stop one by one, and return in another order."""
        network, nodes = self.world.network, self.world.nodes
        some = self.rng.sample(nodes, self.rng.randint(1, len(nodes)))
        last_ms = 0.0
        for node in some:
            last_ms += self.rng.uniform(0, 500)
            self.world.after(last_ms, lambda node=node: network.cut.update(self._links_of(node)))
        self.rng.shuffle(some)
        for node in some:
            last_ms += self.rng.uniform(0, 500)
            self.world.after(
                last_ms, lambda node=node: network.cut.difference_update(self._links_of(node))
            )

    def _links_of(self, node: "Node") -> set[tuple[int, int]]:
        """To be united with others; never iterated."""
        if self.world.peaceful:
            return set()
        others = [each.id for each in self.world.nodes]
        return {(node.id, each) for each in others} | {(each, node.id) for each in others}

    def _heal(self, victim: "Node") -> None:
        self.world.network.cut.clear()


def _is_lost(node: "Node") -> bool:
    """It may not have what it once acknowledged; at a first start there was nothing."""
    return node.is_new_disk or (node.disk.decay.ails and not node.disk.decay.is_first)
