"""Planted bugs of the shell: whose disk it is, whether it is new, and who takes whose place."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from controller.members import Members
from controller.quorum import opening
from controller.quorum.bounds import Bounds
from controller.quorum.opening import _Opening
from controller.quorum.service import QuorumService
from controller.raft.voters import ReplicaKey
from klamm import directory
from klamm.ids import LOG_START, DirectoryId
from tests.sim.planting import Mutant, Patch


def _a_new_disk_has_no_doubts() -> list[Patch]:
    """Where nothing was, nothing can be missing."""
    honest = opening.read_bounds

    def read_bounds(*where: Any) -> Bounds | None:
        bounds = honest(*where)
        new = bounds is not None and bounds.end_offset == LOG_START
        return Bounds() if new else bounds

    return [(opening, "read_bounds", read_bounds)]


def _doubts_for_one_life() -> list[Patch]:
    """What is written down at a start is what was believed."""
    honest = _Opening._make_durable

    def make_durable(self: Any, *rest: Any) -> None:
        honest(self, *rest)
        bounds = self._file.bounds
        self._file.write_now(replace(bounds, distrust=""))
        self._file.bounds = bounds

    return [(_Opening, "_make_durable", make_durable)]


def _a_disk_is_its_nodes() -> list[Patch]:
    """One node, one directory: an id that the node's own gives."""
    honest = directory._format

    def format_(files: Any, path: Any, cluster_id: Any, node_id: Any, _: Any) -> Any:
        return honest(files, path, cluster_id, node_id, DirectoryId(UUID(int=node_id)))

    return [(directory, "_format", format_)]


def _whoever_has_the_id_asks() -> list[Patch]:
    """The disk that a peer names is not looked at."""
    honest = QuorumService.understand

    def understand(self: Any, request: Any) -> Any:
        understood = honest(self, request)
        if isinstance(understood, int):
            return understood
        sender, asked = understood
        voter = self._driver.state.voters.find(sender.node_id)
        if voter is not None and voter.directory_id is not None:
            sender = ReplicaKey(node_id=sender.node_id, directory_id=voter.directory_id)
        return sender, asked

    return [(QuorumService, "understand", understand)]


def _the_last_one_takes_its_place() -> list[Patch]:
    """Another disk than the voter's is the new one, also the one that it had before."""
    honest, asked = Members._filled_voter, Members._not_replaceable

    def filled_voter(self: Any, voter: Any, since: Any = None, but: Any = ()) -> Any:
        return honest(self, voter, None, but[:1])

    def not_replaceable(self: Any, addition: Any) -> Any:
        voter = addition.voter
        key = ReplicaKey(node_id=voter.node_id, directory_id=voter.directory_id)
        removed = key in self._quorum.voters.removed
        return self._quorum.not_ready(key) if removed else asked(self, addition)

    return [
        (Members, "_filled_voter", filled_voter),
        (Members, "_not_replaceable", not_replaceable),
    ]


MUTANTS = (
    Mutant("a new disk has no doubts", "empty is empty", _a_new_disk_has_no_doubts, "wiped"),
    Mutant("doubts for one life", "a start looks anew", _doubts_for_one_life, "wiped"),
    Mutant("a disk is its node's", "one node, one directory id", _a_disk_is_its_nodes, "wiped"),
    Mutant("whoever has the id asks", "with whatever disk", _whoever_has_the_id_asks, "wiped"),
    Mutant("the last disk is back", "another is new", _the_last_one_takes_its_place, "wiped"),
)
