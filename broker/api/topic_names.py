"""What a topic may be called. Source: Kafka's Topic.validate."""

import re

NAME_CHARACTERS_MAX = 249

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


def is_topic_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in (".", "..")


def refusal(name: str) -> str | None:
    """Why no topic may have this name, as a sentence; None if one may."""
    if is_topic_name(name):
        return None
    shown = name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:NAME_CHARACTERS_MAX]}…"
    allowed = f"1 to {NAME_CHARACTERS_MAX} of [a-zA-Z0-9._-], and not '.' or '..'"
    return f"a topic's name must be {allowed}; is {shown!r}"
