"""Begins the new generation in the chosen directory.

    quorum-recovery-EPOCH.json ─▶ quorum-state: the new epoch ─▶ one Voters record, flushed

The record is one batch under one checksum: after a crash it is there, or a torn end that the next
start cuts. Before it all is as it was, but for an epoch that was skipped. So old, or new.
"""

import json
from pathlib import Path
from typing import Any

from controller.quorum.known_voters import nobody
from controller.quorum.store import LogStore
from controller.raft.effects import AppendVoters, SaveQuorumState
from controller.recovery.compare import Comparison
from klamm.clock import Clock
from klamm.errors import KlammError, StartError, StorageError
from klamm.ids import NO_NODE, format_uuid
from klamm.log.checkpoint import write_atomically
from klamm.log.files import Files
from klamm.log.log import LogConfig


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
        account = chosen.path / f"quorum-recovery-{epoch:010d}.json"
        text = json.dumps(_account(compared, clock.wall_ms(), who), indent=2)
        write_atomically(files, account, text.encode() + b"\n")
        await store.save(SaveQuorumState(epoch=epoch, voted_for=None, leader=NO_NODE))
        effect = AppendVoters(
            base_offset=chosen.end_offset, epoch=epoch, voters=compared.new_voters
        )
        store.append_control(effect)
        await store.flush()
        if not chosen.trusted:
            await store.trust()
    except (OSError, StorageError) as error:
        raise StartError(f"The new generation could not be written: {error}.") from error
    finally:
        _close(store)
    return account


def _close(store: LogStore) -> None:
    try:
        store.close()
    except KlammError:
        return  # It was flushed, or the failure is on its way.


def _account(compared: Comparison, now_ms: int, who: str) -> dict[str, Any]:
    chosen = compared.chosen
    return {
        "version": 1,
        "who": who,
        "timestamp_ms": now_ms,
        "cluster_id": chosen.meta.cluster_id,
        "epoch": compared.new_epoch,
        "holds_if": f"the log has a Voters record of epoch {compared.new_epoch}",
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
