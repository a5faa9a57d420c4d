"""Files in memory that outlive a broker, and can lose the end of what was written."""

from pathlib import Path

Buffer = bytes | bytearray | memoryview


class MemoryFile:
    def __init__(self, content: bytearray) -> None:
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content)

    def append(self, data: Buffer) -> None:
        self._content += data

    def read_at(self, position: int, size: int) -> bytes:
        return bytes(self._content[position : position + size])

    def truncate(self, size: int) -> None:
        del self._content[size:]

    def sync(self) -> None:
        """What a crash takes is decided by the crash."""

    def close(self) -> None: ...


class MemoryFiles:
    """Implements klamm.log.files.Files."""

    def __init__(self) -> None:
        self.contents: dict[Path, bytearray] = {}

    def open(self, path: Path) -> MemoryFile:
        return MemoryFile(self.contents.setdefault(path, bytearray()))

    def exists(self, path: Path) -> bool:
        return path in self.contents or any(path in each.parents for each in self.contents)

    def list(self, directory: Path) -> tuple[str, ...]:
        inside = (each for each in self.contents if directory in each.parents)
        return tuple(sorted({each.relative_to(directory).parts[0] for each in inside}))

    def make_directory(self, path: Path) -> None: ...

    def rename(self, source: Path, target: Path) -> None:
        for path in [each for each in self.contents if each == source or source in each.parents]:
            self.contents[target / path.relative_to(source)] = self.contents.pop(path)

    def remove(self, path: Path) -> None:
        del self.contents[path]

    def remove_directory(self, path: Path) -> None: ...

    def sync_directory(self, path: Path) -> None: ...

    def lose(self, lost_bytes: int) -> None:
        """Power cut: the log's last bytes never reached the disk, a batch perhaps in part."""
        for path, content in self.contents.items():
            if path.suffix == ".log":
                del content[max(0, len(content) - lost_bytes) :]
