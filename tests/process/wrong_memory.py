"""Runs a broker that once takes a config for another, as a damaged memory would:
`python wrong_memory.py FILE`. What it replays once more is right."""

import sys
from typing import Any

MISREAD = "misread"
"""Of this topic's configs the first."""


def misread_once() -> None:
    from klamm.metadata.delta import MetadataDelta
    from klamm.metadata.records import ConfigRecord

    real = MetadataDelta.replay
    done = []

    def replay(self: MetadataDelta, record: Any, offset: Any) -> None:
        if isinstance(record, ConfigRecord) and record.resource_name == MISREAD and not done:
            done.append(record)
            record = record._replace(value="another")
        real(self, record, offset)

    MetadataDelta.replay = replay  # type: ignore[method-assign]


if __name__ == "__main__":
    from broker.__main__ import main

    misread_once()
    sys.exit(main())
