"""Topics' names: which are legal, and which are too like another (spec kraft 2.11).

Names that differ only in '.' and '_' would share the names of their metrics. The index that finds
such a name is persistent, kept beside the image by the same deltas, so that a topic's creation
costs no look at all the others.
"""

import re

from immutables import Map

from klamm.metadata.delta import MetadataDelta

TOPIC_NAME_CHARACTERS_MAX = 249
METADATA_TOPIC = "__cluster_metadata"

Collisions = Map[str, str]
"""Collision key → the topic that has it; only of names with '.' or '_' in them."""

_LEGAL_NAME = re.compile(r"[a-zA-Z0-9._-]+")


def violation(name: str) -> str | None:
    """Why a topic may not have this name, or None."""
    if not name:
        return "the name is empty"
    if name in (".", ".."):
        return f"the name may not be {name!r}"
    if len(name) > TOPIC_NAME_CHARACTERS_MAX:
        return f"the name has {len(name)} characters; {TOPIC_NAME_CHARACTERS_MAX} are allowed"
    if not _LEGAL_NAME.fullmatch(name):
        return f"{name!r} has other characters than ASCII letters, digits, '.', '_' and '-'"
    if name == METADATA_TOPIC:
        return f"{METADATA_TOPIC} is the quorum's own"
    return None


def collision_key(name: str) -> str:
    """The same for names that differ only in '.' and '_'."""
    return name.replace(".", "_")


def updated(collisions: Collisions, delta: MetadataDelta) -> Collisions:
    """The index after `delta`. Costs the topics that came or went."""
    before = delta.image.topics.by_id
    for topic_id, topic in delta.topics_removed.items():
        key = collision_key(topic.name)
        if topic_id in before and collisions.get(key) == topic.name:
            collisions = collisions.delete(key)
    for topic_id, topic in delta.topics_changed.items():
        if topic_id not in before and _may_collide(topic.name):
            collisions = collisions.set(collision_key(topic.name), topic.name)
    return collisions


def _may_collide(name: str) -> bool:
    return "." in name or "_" in name
