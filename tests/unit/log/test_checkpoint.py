"""Checkpoint files: Kafka's text, replaced whole, and whatever is not that is an error."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.ids import Epoch, Offset, TopicPartition
from klamm.log import checkpoint
from klamm.log.checkpoint import CorruptCheckpointError
from tests.sim.disk import PowerCutError, SimFiles

DIRECTORY = Path("/data")
PATH = DIRECTORY / checkpoint.REPLICATION_OFFSET_CHECKPOINT


def files() -> SimFiles:
    made = SimFiles()
    made.make_directory(DIRECTORY)
    return made


def test_kafkas_format() -> None:
    disk = files()
    offsets = {TopicPartition("b", 0): Offset(7), TopicPartition("a", 10): Offset(1)}
    checkpoint.write_offsets(disk, PATH, offsets)
    assert disk.content(PATH) == b"0\n2\na 10 1\nb 0 7\n"
    assert checkpoint.read_offsets(disk, PATH) == offsets
    starts = ((Epoch(1), Offset(0)), (Epoch(4), Offset(20)))
    checkpoint.write_epochs(disk, DIRECTORY, starts)
    assert disk.content(DIRECTORY / "leader-epoch-checkpoint") == b"0\n2\n1 0\n4 20\n"
    assert checkpoint.read_epochs(disk, DIRECTORY) == starts


def test_none_and_empty() -> None:
    disk = files()
    assert checkpoint.read_offsets(disk, PATH) == {}
    assert checkpoint.read_epochs(disk, DIRECTORY) is None
    checkpoint.write_epochs(disk, DIRECTORY, ())
    assert checkpoint.read_epochs(disk, DIRECTORY) == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"0\n",
        b"0\n1\n",
        b"1\n1\na 0 1\n",
        b"0\n2\na 0 1\n",
        b"0\n0\na 0 1\n",
        b"0\n1\na 0 1",
        b"0\n1\na 0\n",
        b"0\n1\na 0 1 2\n",
        b"0\n1\na  0 1\n",
        b"0\n1\na 0 -1\n",
        b"0\n1\na 0 1_0\n",
        b"0\nx\na 0 1\n",
        b"\xff\n1\na 0 1\n",
        "0\n1\na 0 \u0661\n".encode(),
    ],
)
def test_damage_is_an_error(data: bytes) -> None:
    disk = files()
    disk.replace_content(PATH, data)
    with pytest.raises(CorruptCheckpointError, match=str(PATH)):
        checkpoint.read_offsets(disk, PATH)


@pytest.mark.parametrize("data", [b"0\n2\n4 0\n4 9\n", b"0\n2\n4 0\n5 0\n", b"0\n2\n4 9\n5 8\n"])
def test_epochs_ascend(data: bytes) -> None:
    disk = files()
    disk.replace_content(DIRECTORY / checkpoint.LEADER_EPOCH_CHECKPOINT, data)
    with pytest.raises(CorruptCheckpointError, match="do not ascend"):
        checkpoint.read_epochs(disk, DIRECTORY)


@given(st.binary(max_size=60))
def test_garbage_is_an_error_and_nothing_else(data: bytes) -> None:
    disk = files()
    disk.replace_content(PATH, data)
    try:
        checkpoint.read_offsets(disk, PATH)
    except CorruptCheckpointError:
        pass


@pytest.mark.parametrize("seed", range(60))
def test_a_crash_leaves_the_old_or_the_new(seed: int) -> None:
    rng = Random(seed)
    disk = files()
    checkpoint.write_atomically(disk, PATH, b"old")
    disk.crash_at_operation = disk.operations + seed % 9
    done = True
    try:
        checkpoint.write_atomically(disk, PATH, b"something new")
    except PowerCutError:
        done = False
    disk.crash(rng)
    assert checkpoint.read_whole(disk, PATH) in (
        [b"something new"] if done else [b"old", b"something new"]
    )
    # What a broken-off write has left is in nobody's way.
    checkpoint.write_atomically(disk, PATH, b"newer")
    disk.crash(rng)
    assert checkpoint.read_whole(disk, PATH) == b"newer"
