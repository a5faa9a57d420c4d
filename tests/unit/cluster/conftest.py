"""Fake nodes for clusters, and a state directory of the test's own."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from klamm.cluster.layout import NodeLayout


@pytest.fixture(autouse=True)
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KLAMM_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cluster"


def fake_node(_: NodeLayout, properties: Path) -> Sequence[str]:
    return (sys.executable, str(Path(__file__).with_name("fake_node.py")), str(properties))


@pytest.fixture
def fake() -> object:
    return fake_node
