"""One broker, registered, whose controllers the test plays."""

from pathlib import Path

import pytest

from tests.unit.api_admin.one_broker import ME, OneBroker


@pytest.fixture
def one(tmp_path: Path) -> OneBroker:
    made = OneBroker(tmp_path, controller_quorum_voters="1@one:9093,2@two:9093")
    made.metadata.publishers.clear()
    made.register(ME, ("PLAINTEXT", 9092))
    return made
