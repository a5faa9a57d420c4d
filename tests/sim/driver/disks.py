"""Whose disk it is: a node's data directory on a simulated disk, and the disks that it had before.

empty ── a person formats it ──▶ an id, no doubt      (klamm format)
  └───── the node does ────────▶ doubt, then an id    (controller/beginning.py)
lost: another disk, empty, with another id            (a container's volume is removed)
"""

from pathlib import Path
from random import Random
from uuid import UUID

from controller.quorum.bounds import read_bounds
from controller.quorum.opening import doubt_new_disk
from klamm import directory
from klamm.directory import META_PROPERTIES, MetaProperties, is_new
from klamm.ids import DirectoryId, NodeId
from klamm.log.checkpoint import write_atomically
from tests.sim.disk import SimFiles

CLUSTER = "simulated"
DIRECTORY = Path("/metadata")
DISKS_MAX = 1_000
"""Of one node."""


class Disk:
    """Those of one node, one after another."""

    def __init__(self, node_id: int, rng: Random) -> None:
        self.formats_itself = False
        """Nobody has done it, so the node doubts a disk that is new."""
        self._node_id = NodeId(node_id)
        self._rng = rng
        self._count = 0
        self._known: DirectoryId | None = None
        self._gone: dict[DirectoryId, bytes] = {}
        """The logs of former disks, as far as they were durable."""
        self.files = SimFiles(rng)

    @property
    def directory_id(self) -> DirectoryId | None:
        """None: it is nobody's yet."""
        return self._known

    def open(self) -> DirectoryId:
        """As a controller does, before it looks at its log (controller/app.py).

        Raises:
            OSError, StartError: As the disk says.
        """
        if self.formats_itself and is_new(self.files, DIRECTORY):
            doubt_new_disk(self.files, DIRECTORY)
        self.files.make_directory(DIRECTORY)
        found = directory._load(self.files, DIRECTORY, CLUSTER, self._node_id)
        if found is None:
            drawn = self._draw_id()
            found = directory._format(self.files, DIRECTORY, CLUSTER, self._node_id, drawn)
        self._known = found.directory_id
        return found.directory_id

    def renew(self) -> DirectoryId:
        """Another id for what is on it (controller/quorum/identity.py)."""
        self._bury()
        drawn = self._draw_id()
        meta = MetaProperties(cluster_id=CLUSTER, node_id=self._node_id, directory_id=drawn)
        write_atomically(self.files, DIRECTORY / META_PROPERTIES, meta.encode())
        self._known = drawn
        return drawn

    def lose(self) -> None:
        """It is gone, and another is there."""
        self._bury()
        before, self.files = self.files, SimFiles(self._rng)
        self.files.scatters = before.scatters
        self._known = None

    def holds(self, data: bytes, directory_id: DirectoryId | None) -> bool:
        """Has the disk of this id these bytes in its log, durably? Or had, as long as it was there.

        Any disk of the node's, if no id is known.
        """
        gone = self._gone.items()
        if any(data in log for each, log in gone if directory_id in (None, each)):
            return True
        return directory_id in (None, self._known) and data in self._log()

    @property
    def distrust(self) -> str:
        """Why it has no say, as far as it says so itself."""
        bounds = read_bounds(self.files, DIRECTORY)
        return "" if bounds is None else bounds.distrust

    def _draw_id(self) -> DirectoryId:
        self._count += 1
        return DirectoryId(UUID(int=DISKS_MAX * self._node_id + self._count))

    def _bury(self) -> None:
        if self._known is not None:
            self._gone[self._known] = self._log()

    def _log(self) -> bytes:
        durable = self.files.durable().items()
        return b"".join(content for path, content in durable if path.suffix == ".log")
