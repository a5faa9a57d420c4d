"""The checkpoint of high watermarks, when two threads write it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from broker.replica.storage import PartitionStorage
from klamm.clock import SystemClock
from klamm.ids import Offset, TopicPartition
from klamm.log.files import SystemFiles

DEADLINE_S = 20.0


class SlowFiles(SystemFiles):
    """The first rename waits until another has come, or until it is clear that none does."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.second = threading.Event()
        self._first = True

    def rename(self, source: Path, target: Path) -> None:
        if self._first:
            self._first = False
            self.begun.set()
            self.second.wait(0.2)
        super().rename(source, target)
        self.second.set()


def test_a_stop_that_meets_the_periodic_checkpoint_waits_for_it(tmp_path: Path) -> None:
    """The task is cancelled, and its thread goes on: both wrote one temporary file."""
    files = SlowFiles()
    storage = PartitionStorage(files, tmp_path, SystemClock())
    name = TopicPartition("orders", 0)
    with ThreadPoolExecutor() as threads:
        periodic = threads.submit(storage.write_high_watermarks, {name: Offset(5)})
        assert files.begun.wait(DEADLINE_S)
        storage.write_high_watermarks({name: Offset(7)})
        periodic.result(DEADLINE_S)
    assert storage.read_high_watermarks() == {name: 7}
