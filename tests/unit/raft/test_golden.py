"""Whole conversations, word for word: tests/golden/raft, one page each.

A change in them is a change in the protocol's behaviour; a reviewer reads it as a diff.
`python -m tests.unit.raft.test_golden` writes them anew.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from controller.raft import events as ev
from controller.raft.voters import AddVoter, RemoveVoter, ReplicaKey
from klamm.ids import NodeId
from tests.unit.raft.conversation import Conversation
from tests.unit.raft.test_membership_properties import member

PAGE_LINES = 72
PAGES = Path(__file__).resolve().parents[2] / "golden" / "raft"


def first_election() -> Conversation:
    world = Conversation(1)
    world.run(50)
    return world


def commit() -> Conversation:
    world = led(2)
    world.note("a proposal: one round trip, and every disk once")
    world.propose("x")
    world.run(world.now_ms + 10)
    return world


def busy() -> Conversation:
    world = led(2)
    world.note("a write each 3 ms: one voter is told of each, the other now and then of several")
    quiet = len(world.page)
    for value in "abcdefghij":
        world.propose(value)
        world.run(world.now_ms + 3)
        if value == "b":
            del world.page[quiet:]  # Nobody rests before it has been told twice.
    del world.page[PAGE_LINES:]
    return world


def leader_killed() -> Conversation:
    world = led(3)
    leader = leader_of(world)
    world.note(f"{leader} is killed")
    world.crash(leader)
    world.run(world.now_ms + 60)
    world.note(f"{leader} comes back")
    world.start(leader)
    world.run(world.now_ms + 60)
    return world


def one_bad_link() -> Conversation:
    world = led(4)
    leader = leader_of(world)
    follower = next(each for each in world.disks if each != leader)
    world.note(f"the stream between {leader} and {follower} breaks, and nothing else")
    world.cut = {(leader, follower), (follower, leader)}
    world._step(follower, ev.StreamLost(leader))
    world.run(world.now_ms + 60)
    return world


def laggard() -> Conversation:
    """Row 106."""
    world = led(6)
    leader = leader_of(world)
    away = next(each for each in world.disks if each != leader)
    world.note(f"{away} is away while others write; {leader} writes a snapshot, and trims its log")
    world.crash(away)
    quiet = len(world.page)
    for value in ("a", "b", "c"):
        world.propose(value)
        world.run(world.now_ms + 10)
    del world.page[quiet:]
    end = world.states[leader].log.end
    world._step(leader, ev.SnapshotWritten(snapshot_id=end, size_bytes=150_000))
    world._step(leader, ev.TrimRequested(end))
    quiet = len(world.page)
    world.propose("d")
    world.run(world.now_ms + 10)
    del world.page[quiet:]
    world.note(f"{away} comes back, and the others go on to write")
    world.start(away)
    world.run(world.now_ms + 30)
    world.propose("e")
    world.run(world.now_ms + 20)
    return world


def resign() -> Conversation:
    world = led(5)
    leader = leader_of(world)
    world.note(f"{leader} resigns")
    world._step(leader, ev.ResignRequested(world.states[leader].epoch))
    world.run(world.now_ms + 20)
    return world


def transfer() -> Conversation:
    world = led(5)
    leader = leader_of(world)
    world.note(f"{leader} is to hand over while a write is under way, and is asked for another")
    world.propose("under way")
    world.transfer(NodeId(3))
    world.propose("too late")
    world.run(world.now_ms + 9)
    return world


def transfer_refused() -> Conversation:
    world = led(8)
    leader = leader_of(world)
    target = next(each for each in world.disks if each != leader)
    world.note(f"{leader} cannot hear {target}, has a write under way, and is to hand over to it")
    world.cut = {(target, leader)}
    world.propose("under way")
    world.transfer(target)
    world.run(world.now_ms + 10)
    world.note(f"the stream with {target} breaks: {leader} goes on, and takes writes again")
    world._step(leader, ev.StreamLost(target))
    world.propose("taken")
    world.run(world.now_ms + 8)
    return world


def diverged() -> Conversation:
    world = led(6)
    leader = leader_of(world)
    world.note(f"{leader} appends what nobody gets, and is cut off until it gives up")
    world.cut = {(leader, each) for each in world.disks} | {(each, leader) for each in world.disks}
    world.propose("lost")
    quiet = len(world.page)
    world.run(world.now_ms + 1_500)
    del world.page[quiet:]
    world.note("the others have elected and committed; the link is whole again")
    world.propose("kept")
    world.run(world.now_ms + 10)
    del world.page[quiet + 2 :]
    world.cut = set()
    world.run(world.now_ms + 700)
    page = world.page[quiet + 2 :]
    end = next(at for at, line in enumerate(page) if "appends at" in line and "cuts" not in line)
    world.page[quiet + 2 :] = page[: end + 1]
    return world


def reads() -> Conversation:
    world = led(7)
    world.note("two reads: the second shares no round that began before it")
    world.read()
    world.read()
    world.run(world.now_ms + 10)
    return world


def voter_added() -> Conversation:
    world = led(8, size=1, spares=1)
    world.note("2 has followed all along; its vote counts from the record's append")
    world.change(AddVoter(voter=member(2)))
    world.run(world.now_ms + 10)
    world.note("a write takes both of them now")
    world.propose("x")
    world.run(world.now_ms + 10)
    return world


def leader_removed() -> Conversation:
    world = led(9)
    leader = leader_of(world)
    world.note(f"{leader} removes itself: it leads on without counting itself, then hands over")
    world.change(RemoveVoter(key=ReplicaKey(node_id=leader)))
    world.run(world.now_ms + 30)
    return world


def led(seed: int, size: int = 3, spares: int = 0) -> Conversation:
    """Elected, and quiet; what was said until then is another page."""
    world = Conversation(seed, size, spares)
    world.run(100)
    assert world.leader() is not None
    world.page.clear()
    return world


def leader_of(world: Conversation) -> NodeId:
    leader = world.leader()
    assert leader is not None
    return leader


CONVERSATIONS: dict[str, Callable[[], Conversation]] = {
    "first-election": first_election,
    "commit": commit,
    "busy": busy,
    "leader-killed": leader_killed,
    "one-bad-link": one_bad_link,
    "laggard": laggard,
    "resign": resign,
    "transfer": transfer,
    "transfer-refused": transfer_refused,
    "diverged": diverged,
    "reads": reads,
    "voter-added": voter_added,
    "leader-removed": leader_removed,
}


def page_of(name: str) -> str:
    return "\n".join(CONVERSATIONS[name]().page).strip("\n") + "\n"


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_conversation(name: str) -> None:
    page = (PAGES / f"{name}.txt").read_text()
    assert page_of(name) == page
    assert page.count("\n") <= PAGE_LINES, "one page each"


if __name__ == "__main__":
    PAGES.mkdir(parents=True, exist_ok=True)
    for each in CONVERSATIONS:
        (PAGES / f"{each}.txt").write_text(page_of(each))
