"""Who was heard when: a leader that hears no majority gives up in time (scenario 15)."""

from typing import TYPE_CHECKING

from controller.raft.events import Event, RequestReceived, TimePassed
from controller.raft.messages import FetchRequest, FetchSnapshotRequest
from controller.raft.state import Leader

if TYPE_CHECKING:
    from tests.sim.quorum.node import Node

SLACK_MS = 2.0
"""Clocks are read in whole milliseconds."""


class Contact:
    """Of one incarnation, by its own clock."""

    def __init__(self) -> None:
        self._epoch = -1
        self._since_ms = 0.0
        self._heard_ms: dict[int, float] = {}

    def stepped(self, node: "Node", event: Event) -> None:
        state = node.state
        if state is None or not isinstance(state.role, Leader):
            return
        if state.epoch != self._epoch:
            self._epoch, self._since_ms = state.epoch, node.now_ms
            self._heard_ms.clear()
        match event:
            case RequestReceived(sender=sender, request=FetchRequest() | FetchSnapshotRequest()):
                self._heard_ms[sender.node_id] = node.now_ms
            case TimePassed():
                others = [self._heard_ms.get(each, self._since_ms) for each in state.others]
                needed = len(state.voters.ids) // 2 + 1 - state.is_voter
                last_ms = sorted([*others, node.now_ms], reverse=True)[needed]
                silent_ms = node.now_ms - last_ms
                assert silent_ms <= state.config.check_quorum_ms + SLACK_MS, (
                    f"node {node.id} leads, and has heard no majority for {silent_ms:.0f} ms"
                )
            case _:
                pass
