"""A controller alone begins a cluster only if somebody wants one; see also test_members.py."""

from pathlib import Path

import pytest

from controller.beginning import see_to_new_disk
from controller.quorum.bounds import read_bounds
from controller.quorum.opening import NEW_DISK
from klamm.config.controller import ControllerConfig
from klamm.directory import DataDirectory
from klamm.errors import StartError
from klamm.log.files import SystemFiles

ALONE = {"controller.quorum.voters": "1@127.0.0.1:9093"}
JOINS = {
    "controller.quorum.voters": "",
    "controller.quorum.bootstrap.servers": "127.0.0.1:9093",
}


@pytest.mark.parametrize(
    ("keys", "formatted", "refused"),
    [
        (ALONE, False, True),
        (ALONE, True, False),
        ({**ALONE, "klamm.quorum.begin.alone": "true"}, False, False),
        # The others would not vote for one whose disk is gone; who joins has no vote at first.
        ({}, False, False),
        (JOINS, False, False),
    ],
)
def test_only_who_asks_for_a_new_cluster_gets_one(
    keys: dict[str, str], formatted: bool, refused: bool, tmp_path: Path
) -> None:
    config = ControllerConfig.for_tests(**keys)
    if formatted:
        DataDirectory.open(tmp_path, config.cluster_id, config.node_id).close()
    if not refused:
        see_to_new_disk(config, tmp_path, SystemFiles())
        return
    with pytest.raises(StartError, match="new cluster by itself") as caught:
        see_to_new_disk(config, tmp_path, SystemFiles())
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def doubted(path: Path) -> bool:
    bounds = read_bounds(SystemFiles(), path)
    return bounds is not None and bounds.distrust == NEW_DISK


def test_a_voter_among_others_doubts_what_it_would_format(tmp_path: Path) -> None:
    """Scenario 19: a directory that is new to it, and only that."""
    config, files = ControllerConfig.for_tests(), SystemFiles()
    assert len(config.controller_quorum_voters) > 1
    new = tmp_path / "new"
    see_to_new_disk(config, new, files)
    assert doubted(new)
    see_to_new_disk(config, new, files)
    DataDirectory.open(new, config.cluster_id, config.node_id).close()
    assert doubted(new), "it counts as empty, and the doubt stays"

    formatted = tmp_path / "formatted"
    DataDirectory.open(formatted, config.cluster_id, config.node_id).close()
    see_to_new_disk(config, formatted, files)
    assert not doubted(formatted)

    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "__cluster_metadata-0").mkdir()
    (strange / "quorum-bounds").write_bytes(b"what somebody may want")
    see_to_new_disk(config, strange, files)
    assert (strange / "quorum-bounds").read_bytes() == b"what somebody may want"

    joins = tmp_path / "joins"
    see_to_new_disk(ControllerConfig.for_tests(**JOINS), joins, files)
    assert not joins.exists(), "it has no vote in any case"


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartError, match="cannot be made or written: Not a directory"):
        see_to_new_disk(ControllerConfig.for_tests(), tmp_path / "file" / "in", SystemFiles())
