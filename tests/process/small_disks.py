"""File systems of a few megabytes, and what fills them. Only root can mount one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SIZE = "4m"
BALLAST_CHUNKS = (1024 * 1024, 4_096, 1)


def mount(path: Path, size: str) -> str:
    """A file system of its own, in memory. Returns: why there is none, or nothing."""
    if os.geteuid() != 0:
        return "only root can mount a small file system"
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        return f"no small file system can be mounted here: {mounted.stderr.strip()}"
    return ""


def unmount(path: Path) -> None:
    """Whoever has files open there keeps them until then."""
    subprocess.run(["umount", "--lazy", str(path)], check=False)


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own, with what stands there."""
    kept = path.with_name("kept")
    path.rename(kept)
    path.mkdir()
    if why := mount(path, SIZE):
        path.rmdir()
        kept.rename(path)
        pytest.skip(why)
    try:
        shutil.copytree(kept, path, dirs_exist_ok=True)
        yield
    finally:
        unmount(path)


def fill(ballast: Path, *, but_bytes: int = 0) -> None:
    """To the last byte, or until so many are left."""
    with ballast.open("wb", buffering=0) as file:
        for size in BALLAST_CHUNKS:
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
        file.truncate(file.tell() - but_bytes)
