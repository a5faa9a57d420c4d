"""Begins the new generation in the chosen directory.

    log, replayed ─▶ snapshot, under no name yet ─▶ quorum-recovery-EPOCH.json
                  ─▶ quorum-state: the new epoch ─▶ the snapshot has its name

The snapshot is of the state that the log comes to, for a new generation (`raised`), far above the
log's end, and names the chosen node as the only voter: at the next start the log gives way to it.
Before it has its name all is as it was, but for an epoch that was skipped. So old, or new.
"""

import json
from pathlib import Path
from typing import Any

from controller.quorum.control import snapshot_pieces
from controller.quorum.known_voters import nobody
from controller.quorum.store import LogStore
from controller.raft.effects import SaveQuorumState
from controller.recovery.compare import Comparison
from controller.recovery.raised import raised
from controller.recovery.replayed import replay
from klamm.clock import Clock
from klamm.errors import KlammError, StartError, StorageError
from klamm.ids import NO_NODE, Offset, format_uuid
from klamm.log.checkpoint import write_atomically
from klamm.log.files import Files
from klamm.log.log import LogConfig
from klamm.log.snapshot import CorruptSnapshotError, PartFile


async def begin(files: Files, compared: Comparison, clock: Clock, who: str) -> Path:
    """Make the chosen survivor the only voter; durable once this returns.

    Returns:
        The account of it, beside the log.

    Raises:
        StartError: The disk failed, or the log is damaged; the old generation holds, or the new.
    """
    chosen, epoch = compared.chosen, compared.new_epoch
    # No peers: what is damaged cannot be fetched again, and must not be cut.
    store = LogStore.open(files, chosen.path, clock, LogConfig(), has_peers=nobody)
    try:
        part, begins_at = await _snapshot(store, compared, clock)
        account = chosen.path / f"quorum-recovery-{epoch:010d}.json"
        text = json.dumps(_account(compared, begins_at, clock.wall_ms(), who), indent=2)
        write_atomically(files, account, text.encode() + b"\n")
        await store.save(SaveQuorumState(epoch=epoch, voted_for=None, leader=NO_NODE))
        part.finish()
        if not chosen.trusted:
            await store.trust()
    except (OSError, StorageError, CorruptSnapshotError, OverflowError) as error:
        raise StartError(f"The new generation could not be written: {error}.") from error
    finally:
        _close(store)
    return account


async def _snapshot(store: LogStore, compared: Comparison, clock: Clock) -> tuple[PartFile, Offset]:
    """What the new generation begins with, whole and under no name yet, and where it ends."""
    loader = await replay(store)
    if loader.end.offset != compared.chosen.end_offset:
        raise StartError(f"The log ends at {loader.end.offset} by now. Nothing was changed.")
    image = raised(loader.image)
    pieces = snapshot_pieces(
        image,
        compared.new_voters,
        last_timestamp_ms=loader.last_timestamp_ms,
        timestamp_ms=clock.wall_ms(),
    )
    part = store.snapshots.create(image.provenance)
    for piece, _ in pieces:
        part.append(piece)
    part.verify()
    return part, image.provenance.offset


def _close(store: LogStore) -> None:
    try:
        store.close()
    except KlammError:
        return  # It was flushed, or the failure is on its way.


def _account(compared: Comparison, begins_at: Offset, now_ms: int, who: str) -> dict[str, Any]:
    chosen = compared.chosen
    return {
        "version": 1,
        "who": who,
        "timestamp_ms": now_ms,
        "cluster_id": chosen.meta.cluster_id,
        "epoch": compared.new_epoch,
        "log_begins_at": begins_at,
        "holds_if": f"the log begins at offset {begins_at} or above it",
        "chosen": chosen.meta.node_id,
        "unknown_from_offset": chosen.end_offset,
        "dropped": [
            {"node_id": each.meta.node_id, **tail(compared, each.meta.node_id)}
            for each in compared.survivors
            if each is not chosen
        ],
        "removed_voters": [
            {"id": each.node_id, "directory_id": format_uuid(each.directory_id)}
            for each in compared.new_voters.removed
            if each.directory_id is not None
        ],
    }


def tail(compared: Comparison, node_id: int) -> dict[str, Any]:
    """What a survivor that was not chosen has, and the chosen one has not."""
    survivor = next(each for each in compared.survivors if each.meta.node_id == node_id)
    common = compared.common_ends.get(survivor.meta.node_id)
    return {
        "common_end": common,
        "end_offset": survivor.end_offset,
        "records_not_in_chosen": None if common is None else max(0, survivor.end_offset - common),
    }
