"""Which APIs this broker serves, in which versions, and who handles each.

    api key ──▶ Served(api: as advertised, serves_from, handle)

What is advertised and what is handled is one table, so a client is never invited to an API on
which its connection would then be closed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from broker.api.context import Handler
from broker.kafka.api import PRODUCE_MIN_VERSION, Api, ApiKey, served


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One API as this broker serves it."""

    api: Api
    """With the versions that are advertised."""
    serves_from: int
    """Versions before it are advertised and answered with UNSUPPORTED_VERSION."""
    handle: Handler


@dataclass(frozen=True, slots=True)
class Registry:
    """A broker's APIs by key."""

    by_key: Mapping[int, Served]

    @property
    def advertised(self) -> tuple[Api, ...]:
        """In the order of their keys."""
        return tuple(each.api for each in self.by_key.values())

    @staticmethod
    def of(handlers: Mapping[ApiKey, Handler]) -> "Registry":
        """A registry of these handlers, each in all versions that the codec knows."""
        table = served(handlers)
        first = {ApiKey.PRODUCE: PRODUCE_MIN_VERSION}
        return Registry(
            {
                key: Served(
                    api=api,
                    serves_from=first.get(api.key, api.min_version),
                    handle=handlers[api.key],
                )
                for key, api in table.items()
            }
        )
