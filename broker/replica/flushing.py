"""When a partition's log is made durable: `flush.messages` and `flush.ms`. Kafka's defaults: never.

No open file left is no failure of the disk (klamm/log/failure.py): it is tried again, by the next
record or the next look.
"""

from klamm.config.topic import TopicConfig
from klamm.errors import NoSpaceError
from klamm.log.log import Log


class Flushing:
    """Of one partition; what was appended since the last flush."""

    def __init__(self, data: Log) -> None:
        self._log = data
        self._records = 0
        self._since_ms = 0

    def on_appended(self, records: int, now_ms: int, config: TopicConfig) -> NoSpaceError | None:
        """`flush.messages`: before it is acknowledged. An error: that is not kept yet.

        Raises:
            StorageError: The disk failed.
        """
        if not self._records:
            self._since_ms = now_ms
        self._records += records
        if self._records >= config.flush_messages:
            try:
                self._log.flush()
            except NoSpaceError as error:
                return error
            self._records = 0
        return None

    def takes(self, now_ms: int, config: TopicConfig) -> bool:
        """`flush.ms`: is it time to flush the log, in a thread? Then it counts as done."""
        due = self._records > 0 and now_ms - self._since_ms >= config.flush_ms
        if due:
            self._records = 0
        return due

    def again(self) -> None:
        """It was not done: at the next look."""
        self._records = max(1, self._records)

    def end(self) -> None:
        """The log goes: nothing is due any more."""
        self._records = 0
