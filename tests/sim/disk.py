"""Files in memory that lose what was not synced.

    names     as the process sees them     ──crash──▶ as last synced, and some of the changes
    content   as the process sees it       ──crash──▶ as last synced, and some of what followed

`crash(rng)` is a power cut. Of each directory's unsynced changes (files made, renamed, removed) a
random first part survives; of each file's unsynced appends and truncations too, and the first
append that does not may be torn: cut at any byte, and the rest of its last sector garbage. On a
disk that `scatters`, each sector has what it had at a time of its own since the last sync or
truncation, so that later ones are there and earlier ones are not. Files that were open are dead.
With `kill()` only the process dies, and nothing is lost.

Faults come from a schedule: `fail("sync", errno.EIO, path=".log", after=2)`, or at random rates.
What was reserved behind a file's end is zeros, which the process that reserved them does not see,
and whoever opens the file after its end does. A power cut leaves the zeros where an unsynced append
is lost, and may keep them where all of it is. That files are closed cuts them off.

A failed sync drops the pages it was for, as Linux does: a later sync reports success, and the
bytes are not on the disk (fsyncgate).
"""

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from klamm.log.files import Buffer

SECTOR_BYTES = 512
UNLIMITED = 1 << 62
OPERATIONS = (
    "open",
    "append",
    "rewrite",
    "read",
    "truncate",
    "reserve",
    "sync",
    "rename",
    "remove",
    "sync_directory",
)


@dataclass(slots=True)
class Fault:
    """One operation that will fail."""

    operation: str
    code: int
    path: str
    """Part of the path."""
    after: int
    """Let so many pass first."""
    once: bool


@dataclass(frozen=True, slots=True)
class Reserved:
    """A size up to which there are zeros behind what is there."""

    size: int


@dataclass(slots=True)
class Inode:
    """`content` is all of the file: with what is reserved."""

    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    changes: list["Change"] = field(default_factory=list)
    """Since the last sync: bytes written at a position, a size truncated to, or one reserved."""
    dropped: list[tuple[int, int]] = field(default_factory=list)
    """From, to: pages that a failed sync has dropped."""

    def sync(self) -> None:
        durable = bytearray(self.content)
        for start, end in self.dropped:
            end = min(end, len(durable))
            durable[start:end] = bytes(max(0, end - start))
        self.durable = bytes(durable)
        self.changes.clear()

    def truncate(self, size: int) -> None:
        del self.content[size:]
        self.changes.append(size)
        # What is written there next is another page, which is dirty.
        self.dropped = [(low, min(high, size)) for low, high in self.dropped if low < size]

    def write(self, position: int, data: bytes) -> None:
        change = position, data
        self.changes.append(change)
        _apply(self.content, change)

    def reserve(self, size: int) -> None:
        change = Reserved(size)
        self.changes.append(change)
        _apply(self.content, change)

    def drop_unsynced(self) -> None:
        """A sync has failed: what it was for is in memory only, and no longer known as dirty."""
        for change in self.changes:
            if isinstance(change, tuple):
                position, data = change
                self.dropped.append((position, position + len(data)))
        self.changes.clear()

    def rewrite(self, start: int, end: int) -> None:
        """Pages that were dropped are known as unwritten again."""
        self.changes.append((start, bytes(self.content[start:end])))
        kept: list[tuple[int, int]] = []
        for low, high in self.dropped:
            kept += [(low, min(high, start)), (max(low, end), high)]
        self.dropped = [(low, high) for low, high in kept if low < high]

    def scatter(self, rng: Random) -> None:
        """Lose power: each sector was written when it liked, and the file's size too."""
        truncations = [at for at, each in enumerate(self.changes) if isinstance(each, int)]
        if truncations and rng.random() < 0.5:
            self.crash(rng)  # Not all of them are on the disk.
            return
        first = truncations[-1] + 1 if truncations else 0
        content = bytearray(self.durable)
        for change in self.changes[:first]:
            _apply(content, change)
        times = [bytes(content)]
        for change in self.changes[first:]:
            _apply(content, change)
            times.append(bytes(content))
        size = len(rng.choice((*[times[-1]] * 4, rng.choice(times))))
        pieces: list[bytes] = []
        found = times[-1]
        for at in range(0, size, SECTOR_BYTES):
            if rng.random() < 0.4:  # Neighbours are often written together.
                found = rng.choice((times[0], times[-1], rng.choice(times)))
            pieces.append(found[at : at + SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0"))
        self._stands(b"".join(pieces)[:size])

    def crash(self, rng: Random) -> None:
        content = bytearray(self.durable)
        survive = rng.randint(0, len(self.changes))
        for change in self.changes[:survive]:
            _apply(content, change)
        torn = self.changes[survive] if survive < len(self.changes) else 0
        # The file system may have written down a size, and none of what stands below it.
        if any(isinstance(each, Reserved) for each in self.changes) and rng.random() < 0.5:
            for change in self.changes[survive:]:
                if isinstance(change, int):
                    break
                if isinstance(change, Reserved):
                    _apply(content, change)
        if isinstance(torn, tuple) and rng.random() < 0.7:
            position, data = torn
            at_end = position >= len(content)
            _apply(content, (position, data[: rng.randint(0, len(data))]))
            if at_end and rng.random() < 0.3:
                content += rng.randbytes(-len(content) % SECTOR_BYTES)
        self._stands(bytes(content))

    def _stands(self, content: bytes) -> None:
        self.content, self.durable = bytearray(content), content
        self.changes.clear()
        self.dropped.clear()


Change = tuple[int, bytes] | int | Reserved
"""Bytes, and where; or a size truncated to, or reserved."""

NameChange = tuple[Path, Inode | None]
"""A name that now stands for a file, or for none. A rename is two, in one step."""


class SimFiles:
    """Implements klamm.log.files.Files. One machine's disk; it outlives its processes."""

    def __init__(
        self, rng: Random | None = None, *, fault_rate: float = 0.0, capacity: int | None = None
    ) -> None:
        """`rng` and `fault_rate` are for random faults; `capacity` bytes, then ENOSPC."""
        self.capacity = capacity
        self.fault_rate = fault_rate
        self.syncs = 0
        """File and directory syncs that were asked for; a measure, and a clock for tests."""
        self.operations = 0
        self.scatters = False
        """A power cut takes unsynced sectors in any order."""
        self.crash_at_operation: int | None = None
        """Raise PowerCut instead of doing this operation."""
        self._rng = rng or Random(0)
        self._incarnation = 0
        self._names: dict[Path, Inode] = {}
        self._durable_names: dict[Path, Inode] = {}
        self._name_changes: dict[Path, list[tuple[NameChange, ...]]] = {}
        self._directories: set[Path] = {Path("/")}  # Membership only.
        self._faults: list[Fault] = []

    def fail(
        self,
        operation: str,
        code: int = errno.EIO,
        *,
        path: str = "",
        after: int = 0,
        once: bool = True,
    ) -> None:
        """Let an operation on a path that holds `path` fail, after `after` that do not."""
        assert operation in OPERATIONS, operation
        self._faults.append(Fault(operation, code, path, after, once))

    def heal(self) -> None:
        """No more faults."""
        self._faults.clear()
        self.fault_rate = 0.0
        self.capacity = None

    def crash(self, rng: Random) -> None:
        """Cut the power."""
        self._incarnation += 1
        inodes: dict[int, Inode] = {}
        for each in (*self._names.values(), *self._durable_names.values()):
            inodes.setdefault(id(each), each)
        for inode in inodes.values():
            inode.scatter(rng) if self.scatters else inode.crash(rng)
        for changes in self._name_changes.values():
            for step in changes[: rng.randint(0, len(changes))]:
                self._rename_durably(step)
        self._name_changes.clear()
        self._names = dict(self._durable_names)
        self.crash_at_operation = None

    def kill(self) -> None:
        """End the process; the machine goes on, and writes back what it has in its own time."""
        self._incarnation += 1
        self.crash_at_operation = None

    def damage(self, path: Path, position: int, mask: int) -> None:
        """Flip bits of one byte, in memory and on the disk."""
        inode = self._names[path]
        inode.content[position] ^= mask
        durable = bytearray(inode.durable)
        if position < len(durable):
            durable[position] ^= mask
        inode.durable = bytes(durable)

    def lose_sector(self, path: Path, position: int) -> None:
        """It reads as zeros, in memory and on the disk."""
        start = position // SECTOR_BYTES * SECTOR_BYTES
        inode = self._names[path]
        end = min(start + SECTOR_BYTES, len(inode.durable), len(inode.content))
        inode.content[start:end] = bytes(end - start)
        inode.durable = inode.durable[:start] + bytes(end - start) + inode.durable[end:]

    def content(self, path: Path) -> bytes:
        return bytes(self._names[path].content)

    def replace_content(self, path: Path, data: bytes) -> None:
        """Put other bytes into a file, durably."""
        inode = self._names.setdefault(path, Inode())
        self._durable_names[path] = inode
        inode.content, inode.durable = bytearray(data), data
        inode.changes.clear()

    def snapshot(self) -> dict[Path, bytes]:
        """Every file as the process sees it."""
        return {path: bytes(inode.content) for path, inode in sorted(self._names.items())}

    def durable(self) -> dict[Path, bytes]:
        """What a power cut leaves at the least."""
        return {path: inode.durable for path, inode in sorted(self._durable_names.items())}

    @property
    def has_dropped_pages(self) -> bool:
        """A sync has failed, and what the process reads is not what the disk holds."""
        return any(inode.dropped for inode in self._names.values())

    def clone(self) -> "SimFiles":
        """Another disk with the same files, all durable, and no faults."""
        other = SimFiles()
        other._directories = set(self._directories)
        for path, data in self.snapshot().items():
            other.replace_content(path, data)
        return other

    def open(self, path: Path) -> "SimFile":
        self.step("open", path)
        inode = self._names.get(path)
        if inode is None:
            if path.parent not in self._directories:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            inode = Inode()
            self._change_names(path.parent, ((path, inode),))
        return SimFile(self, path, inode, self._incarnation)

    def exists(self, path: Path) -> bool:
        return path in self._names or path in self._directories

    def list(self, directory: Path) -> tuple[str, ...]:
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))
        names = {each.name for each in self._names if each.parent == directory}
        names |= {each.name for each in self._directories if each.parent == directory} - {""}
        return tuple(sorted(names))

    def make_directory(self, path: Path) -> None:
        # Directories are durable at once: what is lost with them is lost with their files too.
        self._directories |= {path, *path.parents}

    def rename(self, source: Path, target: Path) -> None:
        self.step("rename", source)
        if source in self._directories:
            self._rename_directory(source, target)
            return
        inode = self._lookup(source)
        self._change_names(target.parent, ((source, None), (target, inode)))

    def remove(self, path: Path) -> None:
        self.step("remove", path)
        self._lookup(path)
        self._change_names(path.parent, ((path, None),))

    def remove_directory(self, path: Path) -> None:
        if self.list(path):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        self._directories.discard(path)

    def sync_directory(self, path: Path) -> None:
        self.syncs += 1
        self.step("sync_directory", path)
        for step in self._name_changes.pop(path, ()):
            self._rename_durably(step)

    def step(self, operation: str, path: Path, incarnation: int | None = None) -> None:
        """One operation begins; it may be the one that fails."""
        if incarnation is not None and incarnation != self._incarnation:
            raise OSError(errno.EBADF, "open before the crash", str(path))
        if self.operations == self.crash_at_operation:
            raise PowerCutError
        self.operations += 1
        for fault in self._faults:
            if fault.operation == operation and fault.path in str(path):
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.once:
                    self._faults.remove(fault)
                raise OSError(fault.code, os.strerror(fault.code), str(path))
        if self.fault_rate and self._rng.random() < self.fault_rate:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def room(self, directory: Path) -> tuple[int, int]:
        capacity = UNLIMITED if self.capacity is None else self.capacity
        return self.fitting(capacity), capacity

    def fitting(self, wanted: int) -> int:
        """How many of `wanted` bytes fit."""
        if self.capacity is None:
            return wanted
        used = sum(len(inode.content) for inode in self._names.values())
        return max(0, min(wanted, self.capacity - used))

    def _lookup(self, path: Path) -> Inode:
        inode = self._names.get(path)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return inode

    def _change_names(self, directory: Path, step: tuple[NameChange, ...]) -> None:
        for path, inode in step:
            if inode is None:
                self._names.pop(path, None)
            else:
                self._names[path] = inode
        self._name_changes.setdefault(directory, []).append(step)

    def _rename_durably(self, step: tuple[NameChange, ...]) -> None:
        for path, inode in step:
            if inode is None:
                self._durable_names.pop(path, None)
            else:
                self._durable_names[path] = inode

    def _rename_directory(self, source: Path, target: Path) -> None:
        """At once and durably: no test asks what a crash makes of it."""

        def moved(path: Path) -> Path:
            inside = path == source or source in path.parents
            return target / path.relative_to(source) if inside else path

        self._names = {moved(path): inode for path, inode in self._names.items()}
        self._durable_names = {moved(path): inode for path, inode in self._durable_names.items()}
        self._directories = {moved(path) for path in self._directories}
        self._name_changes = {
            moved(directory): [
                tuple((moved(path), inode) for path, inode in step) for step in steps
            ]
            for directory, steps in self._name_changes.items()
        }


class SimFile:
    """One open file of a SimFiles; dead after its crash."""

    def __init__(self, files: SimFiles, path: Path, inode: Inode, incarnation: int) -> None:
        self._files = files
        self._path = path
        self._inode = inode
        self._incarnation = incarnation
        self._end: int | None = None
        """Of what was appended, if there is something reserved behind it."""

    @property
    def size(self) -> int:
        return len(self._inode.content) if self._end is None else self._end

    def append(self, data: Buffer) -> None:
        self._step("append")
        end, there = self.size, len(self._inode.content)
        grows = max(0, end + len(data) - there)
        written = bytes(data[: len(data) - grows + self._files.fitting(grows)])
        if written:
            self._inode.write(end, written)
        if self._end is not None:
            self._end += len(written)
        if len(written) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def rewrite(self, position: int, size: int) -> None:
        self._step("rewrite")
        self._inode.rewrite(position, position + size)

    def read_at(self, position: int, size: int) -> bytes:
        self._step("read")
        return bytes(self._inode.content[position : min(position + size, self.size)])

    def truncate(self, size: int) -> None:
        self._step("truncate")
        self._end = None
        if size < len(self._inode.content):
            self._inode.truncate(size)

    def reserve(self, size: int) -> None:
        self._step("reserve")
        more = size - len(self._inode.content)
        if more <= 0:
            return
        if self._files.fitting(more) < more:
            self.give_back()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._end = self.size
        self._inode.reserve(size)

    def give_back(self) -> bool:
        if self._end is None:
            return False
        self.truncate(self._end)
        return True

    def sync(self) -> None:
        self._files.syncs += 1
        try:
            self._step("sync")
        except OSError:
            self._inode.drop_unsynced()
            raise
        self._inode.sync()

    def close(self) -> None:
        """Nothing is synced by it. What is reserved goes back, but not from whoever was killed."""
        with suppress(OSError):
            self.give_back()

    def _step(self, operation: str) -> None:
        self._files.step(operation, self._path, self._incarnation)


class PowerCutError(Exception):
    """Not an OSError: nobody may handle it; the test that set the moment catches it."""


def _apply(content: bytearray, change: Change) -> None:
    if isinstance(change, int):
        del content[change:]
        return
    if isinstance(change, Reserved):
        content += bytes(max(0, change.size - len(content)))
        return
    position, data = change
    content += bytes(max(0, position - len(content)))
    content[position : position + len(data)] = data
