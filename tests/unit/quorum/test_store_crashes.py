"""Scenarios 37, 38, 39: power cut at every operation of the store; what it had said holds."""

from dataclasses import replace
from random import Random

import pytest

from controller.quorum.known_voters import others_than
from controller.quorum.opening import open_disk
from controller.quorum.store import LogStore
from controller.raft.effects import AppendRecords, SaveQuorumState
from controller.raft.voters import ReplicaKey
from klamm.clock import SystemClock
from klamm.ids import NO_NODE, Epoch, NodeId, Offset
from klamm.log.log import LogConfig
from klamm.log.records import NewRecord
from tests.sim.disk import PowerCutError, SimFiles
from tests.unit.quorum.flushes import flushed
from tests.unit.quorum.test_opening import ROOT, VOTE

OTHERS = others_than(NodeId(1), configured=True)
CONFIG = LogConfig(segment_bytes=300)
"""Rolls with every few batches."""
RESERVES = [0, 10, 150, 1_000]
"""Of files that grow with each append, with most, with a few of a segment, with none of it."""


class Said:
    """What the store has promised so far."""

    def __init__(self) -> None:
        self.epoch = Epoch(0)
        self.saving = Epoch(0)
        self.durable = Offset(0)


async def work(store: LogStore, said: Said) -> None:
    """Append, roll, flush, save, truncate, close: as the driver does, in its order."""
    end = said.durable
    for epoch in (Epoch(1), Epoch(2), Epoch(2_500)):
        said.saving = epoch
        voted = ReplicaKey(node_id=NodeId(2))
        await store.save(SaveQuorumState(epoch=epoch, voted_for=voted, leader=NO_NODE))
        said.epoch = epoch
        for _ in range(4):
            records = (NewRecord(value=b"v" * 30),)
            store.append_records(AppendRecords(base_offset=end, epoch=epoch, records=records))
            end = Offset(end + 1)
        said.durable = await flushed(store)
        bounds = store._bounds
        bounds.write_now(replace(bounds.bounds, end_offset=said.durable, epoch=epoch))
        # What a follower cuts off it does not vouch for any more.
        said.durable = end = Offset(end - 2)
        await store.truncate(end)
    store.close()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("preallocate_bytes", RESERVES)
async def test_at_every_operation(seed: int, preallocate_bytes: int) -> None:
    config = replace(CONFIG, preallocate_bytes=preallocate_bytes)
    operation = 0
    while True:
        files, said = SimFiles(), Said()
        store = LogStore.open(files, ROOT, SystemClock(), config, has_peers=OTHERS)
        files.crash_at_operation = files.operations + operation
        try:
            await work(store, said)
            ended = True
        except PowerCutError:
            ended = False
        files.crash(Random(1_000 * seed + operation))
        lost = files.clone()
        found = open_disk(files, ROOT, config, has_peers=OTHERS)
        assert found.distrust is None, f"operation {operation}: {found.distrust}"
        assert found.saved.epoch in {said.epoch, said.saving}
        assert found.log.end_offset >= said.durable
        if found.saved.epoch > 0:
            # Had the vote been lost as well: it would go on where it has certainly never voted.
            lost.remove(VOTE)
            instead = open_disk(lost, ROOT, config, has_peers=OTHERS).saved
            assert instead.voted_for is None
            assert instead.epoch > found.saved.epoch, f"operation {operation}"
        if ended:
            break
        operation += 1
    assert operation > 60
