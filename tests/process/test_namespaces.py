"""Controllers in network namespaces under faults: what clients saw was linearizable.

Scenarios 14 to 16 and 25 with real links, 34 (a full disk), 56 (kill -9), 57 (SIGSTOP), 59 (wall
clocks that are set, where libfaketime is), 74 (failover under load).
"""

import random
from pathlib import Path

import pytest

from tests.process.namespaces.controllers import faketime
from tests.process.namespaces.network import Unavailable, network
from tests.process.namespaces.trial import Trial

pytestmark = [pytest.mark.process, pytest.mark.timeout(900)]

FAULT_S = 60.0


async def test_histories_under_faults_are_linearizable(tmp_path: Path) -> None:
    try:
        with network((1,)):
            pass
    except Unavailable as why:
        pytest.skip(str(why))
    await Trial(tmp_path / "run", random.randrange(1 << 32), FAULT_S, faketime()).run()
