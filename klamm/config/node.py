"""What the typed configs of both kinds of node have in common, and its checks across keys."""

import re
import socket
from dataclasses import replace

from klamm.config.keys import field_name
from klamm.config.listeners import (
    Listener,
    QuorumVoter,
    parse_addresses,
    parse_listeners,
    parse_protocol_map,
    parse_voters,
)
from klamm.config.settings import Problems, Setting, Settings
from klamm.config.topic import KAFKA_DEFAULTS, TopicConfig
from klamm.config.topic_keys import BROKER_SYNONYMS, COARSER_UNITS
from klamm.ids import NO_NODE, NodeId

CLUSTER_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def complaint(setting: Setting, sentence: str) -> str:
    """A sentence about a key, with its value and where that came from."""
    if setting.text is None:
        return f"{setting.key.name} {sentence}."
    origin = setting.origin or "the default"
    return f"{setting.key.name}={setting.text} ({origin}): {sentence}."


def node_id(settings: Settings, problems: Problems) -> NodeId:
    setting = settings["node.id"]
    if setting.text is None:
        problems.add("node.id is required: a whole number, unique among nodes of this kind.")
    return NodeId(setting.value) if isinstance(setting.value, int) else NO_NODE


def cluster_id(settings: Settings, problems: Problems) -> str:
    text = settings.text("cluster.id")
    if not text:
        problems.add(
            "cluster.id is required: 1 to 64 of [A-Za-z0-9_-], the same on every node. "
            "Set CLUSTER_ID, or --override cluster.id=…; `klamm config random-id` makes one."
        )
    elif not CLUSTER_ID.fullmatch(text):
        problems.add(complaint(settings["cluster.id"], "must be 1 to 64 of [A-Za-z0-9_-]"))
    return text


def check_role(settings: Settings, role: str, problems: Problems) -> None:
    roles = settings.members("process.roles")
    if roles and roles != (role,):
        sentence = f"this process is a {role}, and Klamm runs one role a process"
        problems.add(complaint(settings["process.roles"], sentence))


def voters(settings: Settings, problems: Problems) -> tuple[QuorumVoter, ...]:
    setting = settings["controller.quorum.voters"]
    try:
        return parse_voters(settings.members("controller.quorum.voters"))
    except ValueError as error:
        problems.add(complaint(setting, str(error)))
        return ()


def bootstrap_servers(
    settings: Settings, voters: tuple[QuorumVoter, ...], problems: Problems
) -> tuple[str, ...]:
    """Controllers to ask first: those named so, else the voters."""
    key = "controller.quorum.bootstrap.servers"
    try:
        servers = parse_addresses(settings.members(key))
    except ValueError as error:
        problems.add(complaint(settings[key], str(error)))
        return ()
    return servers or tuple(each.address for each in voters)


def listeners(
    settings: Settings, unset: str, problems: Problems
) -> tuple[tuple[Listener, ...], tuple[Listener, ...]]:
    """Where to listen, and what others are told; `unset` is what holds if nobody says."""
    controller_names = tuple(each.upper() for each in settings.members("controller.listener.names"))
    protocols = _protocols(settings, problems)

    def parse(key: str, texts: tuple[str, ...]) -> tuple[Listener, ...]:
        try:
            return parse_listeners(texts, protocols, controller_names)
        except ValueError as error:
            problems.add(complaint(settings[key], str(error)))
            return ()

    bound = parse("listeners", settings.members("listeners") or (unset,))
    told = parse("advertised.listeners", settings.members("advertised.listeners"))
    if not settings.members("advertised.listeners"):
        return bound, tuple(_reachable(each) for each in bound)
    _check_advertised(settings, bound, told, problems)
    return bound, told


def _protocols(settings: Settings, problems: Problems) -> dict[str, str]:
    key = "listener.security.protocol.map"
    try:
        return parse_protocol_map(settings.members(key))
    except ValueError as error:
        problems.add(complaint(settings[key], str(error)))
        return {}


def _reachable(listener: Listener) -> Listener:
    """Kafka's rule: an empty host is advertised as the machine's own name."""
    if listener.host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return replace(listener, host=socket.gethostname())
    return listener


def _check_advertised(
    settings: Settings,
    bound: tuple[Listener, ...],
    told: tuple[Listener, ...],
    problems: Problems,
) -> None:
    setting = settings["advertised.listeners"]
    names = {each.name for each in bound}
    for each in told:
        if each.host in {"", "0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
            problems.add(complaint(setting, f"{each} is no address that others can connect to"))
        if names and each.name not in names:
            problems.add(complaint(setting, f"{each.name} does not stand in listeners"))


def log_dirs(settings: Settings) -> tuple[str, ...]:
    return settings.members("log.dirs") or (settings.text("log.dir"),)


def topic_defaults(settings: Settings) -> TopicConfig:
    """What holds for topics without their own keys, on this node."""
    own: dict[str, str] = {}
    for key, broker_key in BROKER_SYNONYMS.items():
        for older, unit_ms in reversed(COARSER_UNITS.get(key, ())):
            value = settings[older].value
            if isinstance(value, int):
                own[key] = str(value * unit_ms if value >= 0 else value)
        setting = settings[broker_key]
        if not setting.is_default and setting.text is not None:
            own[key] = setting.text
    return TopicConfig.effective(own, KAFKA_DEFAULTS)


def plain_values(settings: Settings, names: tuple[str, ...]) -> dict[str, object]:
    """Keys whose field has the key's own name and value, for the typed configs' constructors."""
    return {
        field_name(key): setting.value
        for key, setting in settings.by_key.items()
        if field_name(key) in names
    }
