"""Features that this version knows, and up to which level.

A finalised level that is higher says that the log may hold what this version would read wrongly,
or pass over: a node that meets one stops, and says which (KIP-584).
"""

METADATA_VERSION = "metadata.version"
METADATA_VERSION_LEVEL = 23
"""What an empty log begins with."""

CONFIGS_RECORD_LEVEL = 23
"""Of metadata.version, from which on a ConfigsRecord may be written: everybody can read it."""

KNOWN = {METADATA_VERSION: METADATA_VERSION_LEVEL}


def why_unknown(name: str, level: int) -> str | None:
    """Why this version cannot go on with such a level; None if it can. 0 removes a feature."""
    most = KNOWN.get(name)
    if level == 0 or (most is not None and level <= most):
        return None
    if most is None:
        return f"the feature {name} is in force, level {level}, and this version does not know it"
    return f"{name} {level} is in force, and this version knows up to {most}"
