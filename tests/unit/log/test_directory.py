"""Whose data directory it is: every refusal is a sentence that names path, values and a way out."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from klamm.directory import LOCK, META_PROPERTIES, DataDirectory, held
from klamm.errors import StartError
from klamm.ids import NodeId, format_uuid
from klamm.log.sealed import seal_lines

CLUSTER = "5L6g3nShT-eMCtK--X86sw"
NODE = NodeId(3)
ID = UUID("0123456789abcdef0123456789abcdef")


def open_directory(path: Path, cluster: str | None = CLUSTER, node: NodeId = NODE) -> DataDirectory:
    return DataDirectory.open(path, cluster, node, ID)


def refusal(path: Path, cluster: str | None = CLUSTER, node: NodeId = NODE) -> str:
    with pytest.raises(StartError) as caught:
        open_directory(path, cluster, node)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_an_empty_directory_is_formatted_once(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet"
    with_id = open_directory(path)
    assert (with_id.cluster_id, with_id.node_id, with_id.directory_id) == (CLUSTER, NODE, ID)
    with_id.close()
    with_id.close()
    text = (path / META_PROPERTIES).read_text()
    assert text.splitlines()[:-1] == [
        "version=1",
        f"cluster.id={CLUSTER}",
        "node.id=3",
        f"directory.id={format_uuid(ID)}",
    ]
    assert text.splitlines()[-1].startswith("checksum.crc32c=")
    again = DataDirectory.open(path, None, NODE)
    assert (again.cluster_id, again.directory_id) == (CLUSTER, ID)
    again.close()
    assert (path / META_PROPERTIES).read_text() == text


def test_each_new_directory_has_its_own_id(tmp_path: Path) -> None:
    drawn = {DataDirectory.open(tmp_path / str(at), CLUSTER, NODE).directory_id for at in range(9)}
    assert len(drawn) == 9
    assert not any(format_uuid(each).startswith("-") for each in drawn)


def test_what_stands_in_a_fresh_file_system_or_a_broken_off_start_counts_as_empty(
    tmp_path: Path,
) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / f"{META_PROPERTIES}.tmp").write_text("version=")
    (tmp_path / LOCK).touch()
    open_directory(tmp_path).close()


def test_empty_and_no_cluster_id(tmp_path: Path) -> None:
    assert "Set cluster.id" in refusal(tmp_path, cluster=None)
    assert not (tmp_path / META_PROPERTIES).exists()


def test_of_another_cluster_or_node(tmp_path: Path) -> None:
    open_directory(tmp_path).close()
    before = (tmp_path / META_PROPERTIES).read_bytes()
    message = refusal(tmp_path, cluster="another")
    assert f"belongs to cluster {CLUSTER}" in message
    assert "cluster another" in message
    message = refusal(tmp_path, node=NodeId(4))
    assert "belongs to node 3, this is node 4" in message
    assert (tmp_path / META_PROPERTIES).read_bytes() == before


def test_a_second_process(tmp_path: Path) -> None:
    first = open_directory(tmp_path)
    assert "in use by another process" in refusal(tmp_path)
    first.close()
    open_directory(tmp_path).close()


def test_a_refused_directory_is_let_go(tmp_path: Path) -> None:
    refusal(tmp_path, cluster=None)
    open_directory(tmp_path).close()


def test_files_of_somebody_else(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / name).touch()
    assert "holds a, b, c and 2 more but no meta.properties" in refusal(tmp_path)


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert "cannot be made" in refusal(path)
    assert "cannot be made" in refusal(path / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    open_directory(tmp_path).close()
    (tmp_path / META_PROPERTIES).chmod(0)
    assert "cannot be read: Permission denied" in refusal(tmp_path)


def test_a_directory_where_the_file_should_be(tmp_path: Path) -> None:
    (tmp_path / META_PROPERTIES).mkdir()
    assert "cannot be read: Is a directory" in refusal(tmp_path)


WHOLE = f"version=1\ncluster.id={CLUSTER}\nnode.id=3\ndirectory.id={format_uuid(ID)}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "version, cluster.id, node.id, directory.id is not set"),
        (WHOLE.replace("node.id=3\n", ""), "node.id is not set"),
        (WHOLE.replace("node.id=3", "node.id="), "node.id is not set"),
        (WHOLE.replace("node.id=3", "node.id=x"), "node.id is 'x', not a number"),
        (WHOLE.replace("node.id=3", "node.id=-3"), "node.id is '-3', not a number"),
        (WHOLE.replace("node.id=3", "node.id"), "'node.id' is not key=value"),
        (WHOLE + "node.id=3\n", "node.id stands twice"),
        (WHOLE[:-4] + "\n", "directory.id: a Kafka UUID has 22 characters"),
        (WHOLE.replace("version=1", "version=2"), "is of version '2'"),
        ("\udcff" + WHOLE, "not text"),
    ],
)
def test_a_damaged_file(tmp_path: Path, text: str, reason: str) -> None:
    data = text.encode(errors="surrogateescape")
    (tmp_path / META_PROPERTIES).write_bytes(data)
    assert reason in refusal(tmp_path)
    assert (tmp_path / META_PROPERTIES).read_bytes() == data


def test_kafkas_own_file_with_comments(tmp_path: Path) -> None:
    (tmp_path / META_PROPERTIES).write_text("#\n#Sat Nov 21 04:00:00 UTC 2026\n" + WHOLE)
    opened = open_directory(tmp_path)
    assert opened.directory_id == ID
    opened.close()
    assert (tmp_path / META_PROPERTIES).read_bytes().startswith(f"{WHOLE}checksum.".encode())


def test_no_byte_changes_unseen(tmp_path: Path) -> None:
    """Scenario 29: each of its bytes, each of its bits; refused in a sentence, and left alone."""
    open_directory(tmp_path).close()
    path = tmp_path / META_PROPERTIES
    data = path.read_bytes()
    for at in range(len(data)):
        for bit in range(8):
            damaged = data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]
            path.write_bytes(damaged)
            refusal(tmp_path)
            assert path.read_bytes() == damaged


def test_held_nobody_begins_to_use_it_and_nothing_in_it_changes(tmp_path: Path) -> None:
    open_directory(tmp_path).close()
    before = sorted((each.name, each.stat().st_mtime_ns) for each in tmp_path.iterdir())
    with held(tmp_path) as locked:
        assert locked
        assert "in use by another process" in refusal(tmp_path)
    assert sorted((each.name, each.stat().st_mtime_ns) for each in tmp_path.iterdir()) == before
    used = open_directory(tmp_path)
    with pytest.raises(StartError, match="in use by another process"), held(tmp_path):
        pass
    used.close()


def test_held_where_nobody_ever_was_no_lock_is_made(tmp_path: Path) -> None:
    with held(tmp_path) as locked:
        assert not locked
    assert list(tmp_path.iterdir()) == []


def test_keys_of_a_later_version_are_kept(tmp_path: Path) -> None:
    """Scenario 63: it may be started again."""
    later = seal_lines(f"{WHOLE}later.key=1\n".encode())
    (tmp_path / META_PROPERTIES).write_bytes(later)
    open_directory(tmp_path).close()
    assert (tmp_path / META_PROPERTIES).read_bytes() == later


def test_a_directory_gets_another_id_and_keeps_it(tmp_path: Path) -> None:
    directory = open_directory(tmp_path)
    drawn = directory.renew()
    assert drawn == directory.directory_id != ID
    directory.close()
    again = open_directory(tmp_path)
    assert again.directory_id == drawn
    again.close()
