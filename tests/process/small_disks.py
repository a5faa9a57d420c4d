"""File systems of a few megabytes, and what fills them. Only root can mount one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TMPFS = "size=4m"
BALLAST_CHUNK = 4_096


@contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A file system of its own, with what stands there."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    kept = path.with_name("kept")
    path.rename(kept)
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", TMPFS, "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        path.rmdir()
        kept.rename(path)
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        shutil.copytree(kept, path, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=False)


def fill(ballast: Path, *, but_bytes: int = 0) -> None:
    """To the last byte, or until so many are left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (BALLAST_CHUNK, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
        file.truncate(file.tell() - but_bytes)
