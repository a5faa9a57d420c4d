"""Snapshots of a simulated voter: written at random ends, downloaded in chunks, installed at once.

A snapshot's bytes are tokens: one for each record below its end, in an order of its writer's own.
So two nodes' snapshots of one id are the same state in other bytes, and a mixture of them is none.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.raft.effects import (
    AbandonDownload,
    AppendChunk,
    DeleteSnapshot,
    InstallSnapshot,
    LoadSnapshot,
    SendChunk,
    TrimLog,
    VerifySnapshot,
)
from controller.raft.events import (
    SnapshotDamaged,
    SnapshotVerified,
    SnapshotWritten,
    TrimRequested,
)
from controller.raft.messages import FetchSnapshotResponse
from controller.raft.snapshots import Creation, may_create
from controller.raft.voters import voters_at
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from tests.sim.quorum.disk import TOKEN_BYTES, Entry, Snapshot, Token
from tests.sim.quorum.machine import Machine

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node

SnapshotEffect = (
    AppendChunk
    | AbandonDownload
    | VerifySnapshot
    | InstallSnapshot
    | TrimLog
    | DeleteSnapshot
    | LoadSnapshot
)

WRITING_MS = (0.5, 300.0)
DAMAGED = (-1, (-1, "damaged"))


def write(node: "Node") -> None:
    """Begin one of what this node knows to be committed, at the end of some batch; beside."""
    state = node.state
    assert state is not None
    known = range(node.machine.loaded_end + 1, node.applied + 1)
    ends = [each.end_offset for each in node.disk.batches if each.end_offset in known]
    if not ends:
        return
    end = node.world.rng.choice(ends[-5:])
    epoch = node.disk.entries[end - 1][0]
    snapshot_id = OffsetAndEpoch(epoch=Epoch(epoch), offset=Offset(end))
    creation = may_create(state, snapshot_id)
    assert creation is not Creation.INVALID, f"node {node.id} may not write {snapshot_id}"
    if creation is Creation.NEEDLESS:
        return
    snapshot = Snapshot(
        tokens=_tokens(node.id, node.disk.entries[:end]),
        voters=voters_at(state.voter_history, Offset(end)),
    )
    life = node.incarnation

    def done() -> None:
        if node.incarnation == life and node.state is not None and not node.paused:
            node.disk.snapshots.setdefault(snapshot_id, snapshot)
            node.happen(SnapshotWritten(snapshot_id=snapshot_id, size_bytes=snapshot.size_bytes))

    node.world.after(node.world.rng.uniform(*WRITING_MS), done)


def trim(node: "Node") -> None:
    """Retention has had enough of something."""
    assert node.state is not None
    if node.state.snapshots:
        held = node.world.rng.choice(node.state.snapshots)
        node.happen(TrimRequested(held.snapshot_id))


def _tokens(writer: int, entries: list[Entry]) -> tuple[Token, ...]:
    tokens = list(enumerate(entries))
    cut = writer * 3 % len(tokens)
    return tuple(tokens[cut:] + tokens[:cut])


def chunk(node: "Node", effect: SendChunk) -> FetchSnapshotResponse:
    """What the leader answers with; the disk or the line may flip a bit of it."""
    answer, world = effect.response, node.world
    tokens = node.disk.snapshots[answer.snapshot_id].tokens
    first = answer.position // TOKEN_BYTES
    sent = list(tokens[first : first + max(1, effect.max_bytes // TOKEN_BYTES)])
    flipped = not node.disk.decay.is_sound(answer.snapshot_id)
    if flipped or (world.rng.random() < world.faults.chunk_damage and not world.peaceful):
        sent[0] = DAMAGED
    return replace(answer, data=tuple(sent), length=len(sent) * TOKEN_BYTES)


def carry_out(node: "Node", effect: SnapshotEffect) -> None:
    disk, world = node.disk, node.world
    match effect:
        case AppendChunk(snapshot_id=snapshot_id, position=position, data=data):
            assert isinstance(data, tuple)
            part = disk.parts[snapshot_id] = disk.parts.get(snapshot_id, ()) if position else ()
            assert len(part) * TOKEN_BYTES == position, f"node {node.id}: a gap in a download"
            disk.parts[snapshot_id] = part + data
        case AbandonDownload(snapshot_id):
            disk.parts.pop(snapshot_id, None)
        case VerifySnapshot(snapshot_id):
            _verify(node, snapshot_id)
        case InstallSnapshot(snapshot_id):
            world.install(node, snapshot_id)
            world.invariants.truncated(node)
        case TrimLog(to):
            disk.trim(to)
        case DeleteSnapshot(snapshot_id):
            del disk.snapshots[snapshot_id]
        case LoadSnapshot(snapshot_id):
            world.invariants.loading(node, snapshot_id)
            node.machine = Machine()
            node.machine.load(disk.entries[: snapshot_id.offset])
            world.clients.committed(node)


def _sound(tokens: tuple[Token, ...]) -> bool:
    return DAMAGED not in tokens


def _verify(node: "Node", snapshot_id: OffsetAndEpoch) -> None:
    life, world = node.incarnation, node.world
    tokens = node.disk.parts[snapshot_id]

    def done() -> None:
        if node.incarnation != life or node.disk.parts.get(snapshot_id) is not tokens:
            return
        if not _sound(tokens):
            node.happen(SnapshotDamaged(snapshot_id))
            return
        node.disk.durable_parts.add(snapshot_id)
        # The header names the voters as of the end: what was committed says who they were.
        voters = world.invariants.voters_below(snapshot_id.offset)
        node.happen(SnapshotVerified(snapshot_id=snapshot_id, voters=voters))

    world.after(world.rng.uniform(*world.faults.fsync_ms), done)
