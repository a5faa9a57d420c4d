"""Features: the levels that this version knows, and what a level that is in force means.

A finalised level that is higher says that the log may hold what this version would read wrongly,
or pass over: a node that meets one stops, and says which. So a level is raised only when all nodes
have said that they support it: brokers with their registration, voters when they are asked.
Source: KIP-584, KIP-778.
"""

from collections.abc import Iterable
from typing import NamedTuple

METADATA_VERSION = "metadata.version"
METADATA_VERSION_LEVEL = 23
"""What an empty log begins with."""

METADATA_VERSION_MIN = 22
"""The first that was ever written: 4.0-IV0."""

CONFIGS_RECORD_LEVEL = 23
"""Of metadata.version, from which on a ConfigsRecord may be written: everybody can read it."""

KNOWN = {METADATA_VERSION: METADATA_VERSION_LEVEL}

_LOWEST = {METADATA_VERSION: METADATA_VERSION_MIN}
"""1 of any other."""

RECORDS_SINCE = {CONFIGS_RECORD_LEVEL: "ConfigsRecord"}
"""Level of metadata.version → the record that may stand in the log from there on."""

RELEASES = {22: "4.0-IV0", 23: "4.0-IV1"}
"""Level of metadata.version → what Kafka's tools call it."""


class SupportedFeature(NamedTuple):
    """The levels of a feature that a node can work with, both inclusive."""

    name: str
    min_level: int
    max_level: int


Supported = tuple[SupportedFeature, ...]
"""What a node can work with. Empty: it is of a version that did not say so yet."""

AT_MOST_IF_UNSAID: Supported = (SupportedFeature(METADATA_VERSION, METADATA_VERSION_MIN, 23),)
"""The most that any of those versions could."""


def supported() -> Supported:
    """What this version can work with, by name."""
    return tuple(
        SupportedFeature(name, _LOWEST.get(name, 1), most) for name, most in sorted(KNOWN.items())
    )


def lacking(features: Iterable[SupportedFeature], name: str, level: int) -> str | None:
    """What a node with these `features` lacks for a level, as the end of a sentence about it."""
    for each in features:
        if each.name == name:
            if each.min_level <= level <= each.max_level:
                return None
            return f"only supports {name} from {each.min_level} to {each.max_level}"
    return f"does not support the feature {name}"


def why_unknown(name: str, level: int) -> str | None:
    """Why this version cannot go on with such a level; None if it can. 0 removes a feature."""
    most = KNOWN.get(name)
    if level == 0 or (most is not None and level <= most):
        return None
    if most is None:
        return f"the feature {name} is in force, level {level}, and this version does not know it"
    return f"{name} {level} is in force, and this version knows up to {most}"
