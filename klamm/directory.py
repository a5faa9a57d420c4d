"""A node's data directory: whose it is, and that only one process uses it.

    DIR/.lock             held for the life of the process (fcntl, so it goes with the process)
    DIR/meta.properties   version=1, cluster.id, node.id, directory.id: Kafka's, sealed

An empty directory is formatted when the cluster's id is known; one of another cluster or another
node is refused, and nothing in it is touched. `directory.id` is drawn once at formatting: the
same node with a new disk is a stranger to the quorum (KIP-853).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

from klamm.errors import StartError
from klamm.ids import DirectoryId, NodeId, format_uuid, parse_uuid
from klamm.log.checkpoint import (
    TMP_SUFFIX,
    CorruptCheckpointError,
    read_whole,
    write_atomically,
)
from klamm.log.files import Files, SystemFiles
from klamm.log.sealed import open_lines, seal_lines

META_PROPERTIES = "meta.properties"
LOCK = ".lock"

_VERSION = "1"
_NODE_ID_DIGITS_MAX = 10
_KEYS = ("version", "cluster.id", "node.id", "directory.id")
DOUBT = "quorum-bounds"
"""A controller with a new disk writes it first of all: see controller/beginning.py."""
_NOT_OURS = frozenset({LOCK, META_PROPERTIES + TMP_SUFFIX, DOUBT, DOUBT + TMP_SUFFIX, "lost+found"})
"""What may stand in a directory that counts as empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetaProperties:
    """What `meta.properties` says."""

    cluster_id: str
    node_id: NodeId
    directory_id: DirectoryId

    def encode(self) -> bytes:
        values = (_VERSION, self.cluster_id, str(self.node_id), format_uuid(self.directory_id))
        text = "".join(f"{key}={value}\n" for key, value in zip(_KEYS, values, strict=True))
        return seal_lines(text.encode())


class DataDirectory:
    """An open data directory: this process has it alone until `close`."""

    def __init__(self, path: Path, lock_fd: int, meta: MetaProperties, files: Files) -> None:
        self.path = path
        self.cluster_id = meta.cluster_id
        self.node_id = meta.node_id
        self.directory_id = meta.directory_id
        self._lock_fd = lock_fd
        self._files = files

    @classmethod
    def open(
        cls,
        path: Path,
        cluster_id: str | None,
        node_id: NodeId,
        new_directory_id: UUID | None = None,
        *,
        files: Files | None = None,
    ) -> "DataDirectory":
        """Lock the directory, and read whose it is; format it if it is new.

        Args:
            path: Made if it is not there.
            cluster_id: The cluster that the node belongs to; None to take it from the directory.
            node_id: The node's own id.
            new_directory_id: For an empty directory; None draws one.
            files: The file system.

        Raises:
            StartError: The directory cannot be used, and why, and what to do.
        """
        files = files or SystemFiles()
        try:
            files.make_directory(path)
        except OSError as error:
            raise StartError(
                f"The data directory {path} cannot be made: {_reason(error)}. Choose another, or "
                "let the user that runs the node write there."
            ) from error
        lock_fd = _lock(path)
        try:
            meta = _load(files, path, cluster_id, node_id) or _format(
                files, path, cluster_id, node_id, new_directory_id or _draw_id()
            )
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd, meta, files)

    def renew(self) -> DirectoryId:
        """Another id from now on, durable on return.

        Raises:
            OSError: As the disk says.
        """
        drawn = DirectoryId(_draw_id())
        meta = MetaProperties(cluster_id=self.cluster_id, node_id=self.node_id, directory_id=drawn)
        write_atomically(self._files, self.path / META_PROPERTIES, meta.encode())
        self.directory_id = drawn
        return drawn

    def close(self) -> None:
        """Let another process have it. Again is no error."""
        lock_fd, self._lock_fd = self._lock_fd, -1
        if lock_fd >= 0:
            os.close(lock_fd)


def is_formatted(path: Path) -> bool:
    """Has it ever been anybody's?"""
    return (path / META_PROPERTIES).exists()


def is_new(files: Files, path: Path) -> bool:
    """Not there, or nobody's, and nothing in it that was somebody's. May raise OSError."""
    return not files.exists(path) or not {*files.list(path)} - _NOT_OURS


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Nobody begins to use the directory within the block; nothing in it is made or changed.

    False where there is no lock to hold, since no process ever used it: one may begin to.

    Raises:
        StartError: Somebody uses it, or it cannot be read.
    """
    try:
        lock_fd = os.open(path / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    except OSError as error:
        raise StartError(f"{path / LOCK} cannot be read: {_reason(error)}.") from error
    _take(path, lock_fd)
    try:
        yield True
    finally:
        os.close(lock_fd)


def _lock(path: Path) -> int:
    try:
        lock_fd = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StartError(
            f"The data directory {path} cannot be written: {_reason(error)}. Let the user that "
            "runs the node write there, or choose another."
        ) from error
    _take(path, lock_fd)
    return lock_fd


def _take(path: Path, lock_fd: int) -> None:
    """Close it and say so, if another process has it."""
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock_fd)
        raise StartError(
            f"The data directory {path} is in use by another process. Two nodes cannot share "
            "one: stop the other, or choose another directory."
        ) from error


def _load(
    files: Files, path: Path, cluster_id: str | None, node_id: NodeId
) -> MetaProperties | None:
    """What meta.properties says; None in a directory that is empty."""
    meta_path = path / META_PROPERTIES
    try:
        data = read_whole(files, meta_path)
        names = files.list(path)
    except OSError as error:
        raise StartError(
            f"{meta_path} cannot be read: {_reason(error)}. Let the user that runs the node read "
            "it."
        ) from error
    except CorruptCheckpointError as error:
        raise _damaged(meta_path, str(error)) from error
    if data is not None:
        meta = parse_meta(meta_path, data)
        _check_owner(path, meta, cluster_id, node_id)
        if open_lines(data) == data:  # From before it had a checksum.
            _write(files, path, meta)
        return meta
    strangers = [name for name in names if name not in _NOT_OURS]
    if strangers:
        raise StartError(
            f"The data directory {path} holds {_some(strangers)} but no {META_PROPERTIES}, so it "
            "is not known to be of any cluster. Choose another directory, empty it, or bring "
            f"back its {META_PROPERTIES}."
        )
    return None


def _format(
    files: Files,
    path: Path,
    cluster_id: str | None,
    node_id: NodeId,
    directory_id: UUID,
) -> MetaProperties:
    if cluster_id is None:
        raise StartError(
            f"The data directory {path} is empty and no cluster id is given to format it for. "
            "Set cluster.id, as on the other nodes."
        )
    meta = MetaProperties(
        cluster_id=cluster_id, node_id=node_id, directory_id=DirectoryId(directory_id)
    )
    _write(files, path, meta)
    return meta


def _write(files: Files, path: Path, meta: MetaProperties) -> None:
    try:
        write_atomically(files, path / META_PROPERTIES, meta.encode())
        files.sync_directory(path.parent)
    except OSError as error:
        raise StartError(
            f"The data directory {path} cannot be formatted: {_reason(error)}. Make room or let "
            "the user that runs the node write there, and start again."
        ) from error


def _draw_id() -> UUID:
    """An id whose spelling does not begin like an option on a command line, as Kafka's."""
    while format_uuid(drawn := uuid4()).startswith("-"):
        pass
    return drawn


def parse_meta(meta_path: Path, data: bytes) -> MetaProperties:
    """What a file at `meta_path` says.

    Raises:
        StartError: It is damaged, or of another version.
    """
    try:
        text = open_lines(data).decode()
    except UnicodeDecodeError as error:
        raise _damaged(meta_path, "it is not text") from error
    except ValueError as error:
        raise _damaged(meta_path, str(error)) from error
    values: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith(("#", "!")):
            continue
        key, equals, value = line.partition("=")
        if not equals:
            raise _damaged(meta_path, f"{line!r} is not key=value")
        if key.strip() in values:
            raise _damaged(meta_path, f"{key.strip()} stands twice")
        values[key.strip()] = value.strip()
    missing = [key for key in _KEYS if not values.get(key)]
    if missing:
        raise _damaged(meta_path, f"{', '.join(missing)} is not set")
    if values["version"] != _VERSION:
        raise StartError(
            f"{meta_path} is of version {values['version']!r}, and this program knows only "
            f"{_VERSION}. Start the version that wrote it, or choose another directory."
        )
    number = values["node.id"]
    if not (number.isdigit() and number.isascii() and len(number) <= _NODE_ID_DIGITS_MAX):
        raise _damaged(meta_path, f"node.id is {number[:40]!r}, not a number")
    try:
        directory_id = parse_uuid(values["directory.id"])
    except ValueError as error:
        raise _damaged(meta_path, f"directory.id: {error}") from error
    return MetaProperties(
        cluster_id=values["cluster.id"],
        node_id=NodeId(int(number)),
        directory_id=DirectoryId(directory_id),
    )


def _check_owner(path: Path, meta: MetaProperties, cluster_id: str | None, node_id: NodeId) -> None:
    if cluster_id is not None and meta.cluster_id != cluster_id:
        raise StartError(
            f"The data directory {path} belongs to cluster {meta.cluster_id}, this node to "
            f"cluster {cluster_id}. Correct the cluster id, or choose another directory."
        )
    if meta.node_id != node_id:
        raise StartError(
            f"The data directory {path} belongs to node {meta.node_id}, this is node {node_id}. "
            "Correct node.id, or choose another directory."
        )


def _damaged(meta_path: Path, reason: str) -> StartError:
    return StartError(
        f"{meta_path} is damaged: {reason}. Bring it back from a copy; or, if the other nodes "
        "have all the data, move the whole directory away and start with an empty one."
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
