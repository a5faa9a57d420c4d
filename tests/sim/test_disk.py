"""The simulated disk itself: what it may lose, and what it must not."""

import errno
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from tests.sim.disk import SimFile, SimFiles

DIRECTORY = Path("/data")
PATH = DIRECTORY / "file"


def disk(capacity: int | None = None) -> SimFiles:
    made = SimFiles(capacity=capacity)
    made.make_directory(DIRECTORY)
    return made


def contents_after_crashes(
    prepare: Callable[[SimFiles], None], seeds: int = 200
) -> set[bytes | None]:
    found: set[bytes | None] = set()
    for seed in range(seeds):
        files = disk()
        prepare(files)
        files.crash(Random(seed))
        found.add(files.content(PATH) if files.exists(PATH) else None)
    return found


def durable(files: SimFiles) -> None:
    file = files.open(PATH)
    file.append(b"abc")
    file.sync()
    files.sync_directory(DIRECTORY)


def test_what_was_synced_stays() -> None:
    assert contents_after_crashes(durable) == {b"abc"}


def test_a_new_file_needs_its_name_synced_too() -> None:
    def prepare(files: SimFiles) -> None:
        files.open(PATH).append(b"abc")
        files.open(PATH).sync()

    assert contents_after_crashes(prepare) == {None, b"abc"}


def test_an_append_is_lost_kept_or_torn_at_every_byte() -> None:
    def prepare(files: SimFiles) -> None:
        durable(files)
        files.open(PATH).append(b"def")

    found = contents_after_crashes(prepare)
    assert {b"abc", b"abcd", b"abcde", b"abcdef"} <= found
    assert all(each is not None and each.startswith(b"abc") for each in found)
    # Garbage up to the end of the sector, sometimes.
    assert {len(each) for each in found if each is not None} == {3, 4, 5, 6, 512}


def test_a_truncation_is_lost_or_kept_and_in_order() -> None:
    def prepare(files: SimFiles) -> None:
        durable(files)
        file = files.open(PATH)
        file.truncate(1)
        file.append(b"Z")

    found = {each for each in contents_after_crashes(prepare) if each and len(each) < 100}
    assert found == {b"abc", b"a", b"aZ"}


def test_a_rename_is_lost_or_kept_whole() -> None:
    def prepare(files: SimFiles) -> None:
        durable(files)
        new = DIRECTORY / "new"
        files.open(new).append(b"xyz")
        files.open(new).sync()
        files.rename(new, PATH)

    assert contents_after_crashes(prepare) == {b"abc", b"xyz"}


def test_a_removal_is_lost_or_kept() -> None:
    def prepare(files: SimFiles) -> None:
        durable(files)
        files.remove(PATH)

    assert contents_after_crashes(prepare) == {b"abc", None}


def test_a_failed_sync_drops_its_pages_for_ever() -> None:
    files = disk()
    durable(files)
    file = files.open(PATH)
    file.append(b"def")
    files.fail("sync")
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    assert file.read_at(0, 9) == b"abcdef"
    file.append(b"ghi")
    file.sync()
    files.crash(Random(0))
    assert files.content(PATH) == b"abc\0\0\0ghi"


def test_what_is_written_after_a_truncation_is_another_page() -> None:
    """Else a small file that is written anew after a failed sync would be lost for good."""
    files = disk()
    durable(files)
    file = files.open(PATH)
    file.append(b"def")
    files.fail("sync", once=True)
    with pytest.raises(OSError, match="Input/output error"):
        file.sync()
    file.truncate(0)
    file.append(b"ghijkl")
    file.sync()
    files.crash(Random(0))
    assert files.content(PATH) == b"ghijkl"


def test_what_is_reserved_is_seen_by_whoever_comes_next() -> None:
    files = disk()
    file = files.open(PATH)
    file.reserve(6)
    file.append(b"abc")
    assert (file.size, file.read_at(0, 9)) == (3, b"abc")
    assert files.content(PATH) == b"abc\0\0\0"
    file.append(b"defgh")
    file.reserve(12)
    files.kill()
    file.close()
    after = files.open(PATH)
    assert (after.size, after.read_at(0, 99)) == (12, b"abcdefgh\0\0\0\0")


def test_what_is_reserved_goes_back() -> None:
    for ends in (SimFile.give_back, SimFile.close, lambda file: file.truncate(3)):
        files = disk()
        file = files.open(PATH)
        file.append(b"abc")
        file.reserve(9)
        file.sync()
        ends(file)
        assert files.content(PATH) == b"abc"
        assert files.durable() == {}
        files.sync_directory(DIRECTORY)
        assert files.durable()[PATH] == b"abc\0\0\0\0\0\0"
        files.open(PATH).sync()
        assert files.durable()[PATH] == b"abc"


def test_what_is_lost_of_it_is_zeros() -> None:
    """As pages that did not get to the disk are, which knew the file's size."""

    def prepare(files: SimFiles) -> None:
        durable(files)
        file = files.open(PATH)
        file.reserve(8)
        file.sync()
        file.append(b"def")

    def unsynced(files: SimFiles) -> None:
        durable(files)
        file = files.open(PATH)
        file.append(b"d")
        file.reserve(8)
        file.append(b"ef")

    whole = [b"abc\0\0\0\0\0", b"abcd\0\0\0\0", b"abcde\0\0\0", b"abcdef\0\0"]
    assert contents_after_crashes(prepare) == set(whole)
    found = contents_after_crashes(unsynced)
    assert found >= {*whole, b"abc", b"abcd"}


def test_a_full_disk_reserves_nothing() -> None:
    files = disk(capacity=5)
    file = files.open(PATH)
    file.append(b"abc")
    with pytest.raises(OSError, match="No space left"):
        file.reserve(6)
    assert files.content(PATH) == b"abc"
    file.reserve(5)
    file.append(b"de")


def test_a_full_disk_takes_what_fits() -> None:
    files = disk(capacity=5)
    file = files.open(PATH)
    file.append(b"abc")
    with pytest.raises(OSError, match="No space left") as caught:
        file.append(b"def")
    assert caught.value.errno == errno.ENOSPC
    assert files.content(PATH) == b"abcde"
    files.heal()
    file.append(b"f")


def test_a_killed_process_loses_nothing_but_its_files_are_dead() -> None:
    files = disk()
    file = files.open(PATH)
    file.append(b"abc")
    files.kill()
    with pytest.raises(OSError, match="before the crash"):
        file.append(b"def")
    assert files.content(PATH) == b"abc"


def test_the_same_seed_loses_the_same() -> None:
    def run(seed: int) -> dict[Path, bytes]:
        files = disk()
        for at in range(20):
            files.open(DIRECTORY / str(at)).append(b"%d" % at * 40)
            if at % 3 == 0:
                files.sync_directory(DIRECTORY)
        files.crash(Random(seed))
        return files.snapshot()

    assert run(7) == run(7)
    assert run(7) != run(8)
