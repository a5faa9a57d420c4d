"""The tables of keys as a page for people (docs/configuration.md) and as JSON."""

from typing import Any

from klamm.config.keys import ConfigKey, KeyTable, Kind, Scope
from klamm.config.settings import ALL_KEYS
from klamm.config.sources import variable_of_key
from klamm.config.topic_keys import TOPIC_KEYS

_HEAD = """\
# Configuration

Kafka's keys in Kafka's spelling. Made by `klamm config reference` from the tables in
`klamm/config`, and a test compares.

A node reads, later ones winning: a `.properties` file named on its command line, the environment
(`KAFKA_` and the key in capitals, `.` as `_`, `_` as `__`, `-` as `___`; `KAFKA_CFG_…` likewise;
`CLUSTER_ID`), and `--override KEY=VALUE`. Unknown keys and bad values are all reported at once, and
the node does not start. One file may serve controllers and brokers: each passes over the other's.
"""

_SECTIONS = (
    ("Every node", Scope.NODE, "Read by controllers and brokers."),
    ("Controllers", Scope.CONTROLLER, "Read by controllers."),
    ("Brokers", Scope.BROKER, "Read by brokers."),
)


def reference_markdown() -> str:
    """The page."""
    sections = [_HEAD]
    for title, scope, sentence in _SECTIONS:
        keys = [key for key in ALL_KEYS.values() if key.scope is scope and key.effect]
        sections.append(f"## {title}\n\n{sentence}\n\n{_markdown_table(keys)}")
    effective = [key for key in TOPIC_KEYS.values() if key.effect]
    sections.append(
        "## Topics\n\nSet on a topic (`klamm topics create -c KEY=VALUE`), over the nodes' "
        f"defaults.\n\n{_markdown_table(effective)}"
    )
    sections.append(
        "## Accepted, without effect so far\n\n"
        "Known from Kafka, and so named in the files that people have. A node that is given one "
        "says so in its log.\n\n"
        f"On nodes: {_names(ALL_KEYS)}.\n\nOn topics: {_names(TOPIC_KEYS)}.\n"
    )
    return "\n".join(sections)


def reference_json() -> list[dict[str, Any]]:
    """The same, for programs."""
    node = [_key_json(key) for key in ALL_KEYS.values()]
    return node + [_key_json(key) for key in TOPIC_KEYS.values()]


def _markdown_table(keys: list[ConfigKey]) -> str:
    rows = ["| key | type | default | allowed | what it is |", "|---|---|---|---|---|"]
    rows += [
        f"| `{key.name}` | {key.kind.value} | {_default(key)} | {_allowed(key)} | {key.doc} |"
        for key in keys
    ]
    return "\n".join(rows) + "\n"


def _default(key: ConfigKey) -> str:
    return "" if key.default is None else f"`{key.default}`"


def _allowed(key: ConfigKey) -> str:
    free = key.kind in {Kind.STRING, Kind.LIST} and not key.allowed
    return "" if free else key.allows()


def _names(table: KeyTable) -> str:
    return ", ".join(f"`{key.name}`" for key in table.values() if not key.effect)


def _key_json(key: ConfigKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "scope": key.scope.value,
        "type": key.kind.value,
        "default": key.default,
        "allowed": key.allows(),
        "environment": None if key.scope is Scope.TOPIC else variable_of_key(key.name),
        "effect": key.effect,
        "doc": key.doc,
    }
