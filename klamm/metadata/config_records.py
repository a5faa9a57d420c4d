"""Changes of configs as few records: one key that changes on many resources is columns. Pure.

ConfigRecord, ConfigRecord, … ──packed──▶ ConfigsRecord …  ──unpacked──▶ the same changes
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

from klamm.metadata.features import CONFIGS_RECORD_LEVEL, METADATA_VERSION
from klamm.metadata.image import MetadataImage
from klamm.metadata.records import ConfigRecord, ConfigsRecord, ResourceType

ROWS_MIN = 8
"""Of a ConfigsRecord that is written; fewer are as cheap one by one, and easier to read."""


def may_be_packed(image: MetadataImage) -> bool:
    """Can every node that follows this log read a ConfigsRecord?"""
    return image.features.get(METADATA_VERSION, 0) >= CONFIGS_RECORD_LEVEL


def packed(records: Iterable[ConfigRecord]) -> list[ConfigRecord | ConfigsRecord]:
    """The same changes. No two of `records` are of one key of one resource, so no order matters."""
    groups: dict[tuple[ResourceType, str, bool], list[ConfigRecord]] = {}
    for each in records:
        kind, _, key, value = each
        groups.setdefault((kind, key, value is None), []).append(each)
    found: list[ConfigRecord | ConfigsRecord] = []
    for (kind, key, removes), rows in groups.items():
        if len(rows) < ROWS_MIN:
            found += rows
            continue
        values = () if removes else [each.value or "" for each in rows]
        found.append(column(kind, key, [each.resource_name for each in rows], values))
    return found


def column(
    kind: ResourceType, key: str, names: Sequence[str], values: Sequence[str]
) -> ConfigsRecord:
    """One value a name, or none to remove the key; where all are the same, it is said once."""
    same = len(set(values)) == 1
    return ConfigsRecord(kind, key, tuple(names), tuple(values[:1] if same else values))


def unpacked(record: ConfigsRecord) -> Iterator[ConfigRecord]:
    """A row for each of its resources."""
    kind, key, names, values = record
    each: Iterable[str | None] = values
    if len(values) < len(names):
        each = repeat(values[0] if values else None)
    return map(ConfigRecord, repeat(kind), names, repeat(key), each)
