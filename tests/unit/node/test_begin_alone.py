"""A controller alone begins a cluster only if somebody wants one; see also test_members.py."""

from pathlib import Path

import pytest

from controller.app import _refuse_to_begin_alone
from klamm.config.controller import ControllerConfig
from klamm.directory import DataDirectory
from klamm.errors import StartError

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
        _refuse_to_begin_alone(config, tmp_path)
        return
    with pytest.raises(StartError, match="new cluster by itself") as caught:
        _refuse_to_begin_alone(config, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert list(tmp_path.iterdir()) == []
