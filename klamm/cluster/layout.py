"""What a local cluster looks like: its nodes' names, ports, directories and configuration. Pure.

DIR/cluster.json            addresses and pids, kept true while the cluster runs
    layout.json             what stays the same over restarts: ids, ports; controllers come and go
                            by `klamm quorum add` and `remove`
    logs/broker-1.log
    broker-1/server.properties
    broker-1/data/          the node's own directory

ports from a base of 9092:  broker-1 9092, controller-1 9093, broker-2 9094, controller-2 9095, …
                            so that the first of each is where people look for it
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from klamm.config.listeners import format_address

CONTROLLERS_MAX = 9
BROKERS_MAX = 100
HOST = "127.0.0.1"
RACKS = 3
"""Brokers stand in so many racks in turn, so that placement has something to spread over."""


class NodeKind(Enum):
    CONTROLLER = "controller"
    BROKER = "broker"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLayout:
    kind: NodeKind
    node_id: int
    port: int
    """gRPC of a controller, Kafka of a broker."""
    http_port: int
    """/metrics, /livez, /readyz."""

    @property
    def name(self) -> str:
        return f"{self.kind.value}-{self.node_id}"

    @property
    def address(self) -> str:
        return format_address(HOST, self.port)

    @property
    def http_address(self) -> str:
        return format_address(HOST, self.http_port)

    @property
    def rack(self) -> str | None:
        if self.kind is NodeKind.CONTROLLER:
            return None
        return f"rack-{(self.node_id - 1) % RACKS + 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterLayout:
    directory: Path
    cluster_id: str
    controllers: tuple[NodeLayout, ...]
    brokers: tuple[NodeLayout, ...]
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Config keys for every node, over what the layout itself says."""
    grown: bool = False
    """Controllers came or went since the first start: the log alone says who votes."""

    @property
    def nodes(self) -> tuple[NodeLayout, ...]:
        return (*self.controllers, *self.brokers)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(each.address for each in self.brokers)

    def log_file(self, node: NodeLayout) -> Path:
        return self.directory / "logs" / f"{node.name}.log"

    def properties_file(self, node: NodeLayout) -> Path:
        return self.directory / node.name / "server.properties"

    def properties(self, node: NodeLayout) -> str:
        """The node's configuration file."""
        keys = {**self._keys(node), **self.overrides}
        head = f"# {node.name} of a local cluster; written anew at each start of the cluster.\n"
        return head + "".join(f"{key}={_escape(value)}\n" for key, value in keys.items())

    def _keys(self, node: NodeLayout) -> dict[str, str]:
        listener = "CONTROLLER" if node.kind is NodeKind.CONTROLLER else "PLAINTEXT"
        keys = {
            "process.roles": node.kind.value,
            "node.id": str(node.node_id),
            "cluster.id": self.cluster_id,
            "listeners": f"{listener}://{node.address}",
            "controller.listener.names": "CONTROLLER",
            **self._quorum_keys(node),
            "log.dirs": str(self.directory / node.name / "data"),
            "klamm.http.host": HOST,
            "klamm.http.port": str(node.http_port),
            "default.replication.factor": str(min(3, len(self.brokers))),
            "min.insync.replicas": str(min(2, len(self.brokers))),
        }
        if node.rack is not None:
            keys["broker.rack"] = node.rack
        return keys

    def _quorum_keys(self, node: NodeLayout) -> dict[str, str]:
        """Who votes at the first start; later only where to ask: a list of voters would be wrong,
        and a node whose disk is gone must not believe one.
        """
        others = [each.address for each in self.controllers if each != node]
        if self.grown and others:
            return {"controller.quorum.bootstrap.servers": ",".join(others)}
        voters = ",".join(f"{each.node_id}@{each.address}" for each in self.controllers)
        return {"controller.quorum.voters": voters}

    def with_controller(self, node_id: int, port: int, http_port: int) -> "ClusterLayout":
        """The layout with one controller more."""
        new = NodeLayout(kind=NodeKind.CONTROLLER, node_id=node_id, port=port, http_port=http_port)
        controllers = sorted((*self.controllers, new), key=lambda each: each.node_id)
        return replace(self, controllers=tuple(controllers), grown=True)

    def without_controller(self, name: str) -> "ClusterLayout":
        """The layout with one controller less."""
        left = tuple(each for each in self.controllers if each.name != name)
        return replace(self, controllers=left, grown=True)

    def to_json(self) -> str:
        """What `layout_from_json` reads back, but for overrides: those are given at each start."""
        return json.dumps(
            {
                "cluster_id": self.cluster_id,
                "grown": self.grown,
                "controllers": [_node_json(each) for each in self.controllers],
                "brokers": [_node_json(each) for each in self.brokers],
            },
            indent=2,
        )


def layout_from_json(
    text: str, directory: Path, overrides: Mapping[str, str] | None = None
) -> ClusterLayout:
    """Read what `to_json` wrote.

    Raises:
        ValueError: The text is something else.
    """
    try:
        data: dict[str, Any] = json.loads(text)
        return ClusterLayout(
            directory=directory,
            cluster_id=data["cluster_id"],
            controllers=tuple(_node(NodeKind.CONTROLLER, each) for each in data["controllers"]),
            brokers=tuple(_node(NodeKind.BROKER, each) for each in data["brokers"]),
            overrides=overrides or {},
            grown=bool(data.get("grown", False)),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no layout of a cluster: {error!r}") from error


def new_layout(
    *,
    directory: Path,
    cluster_id: str,
    controllers: int,
    ports: tuple[int, ...],
    overrides: Mapping[str, str],
) -> ClusterLayout:
    """A cluster over `ports`: the first half for the nodes, the second for their HTTP.

    Each half is dealt out broker, controller, broker, controller, … while both last.
    """
    half = len(ports) // 2
    kinds = _interleaved(controllers, half - controllers)
    nodes = tuple(
        NodeLayout(kind=kind, node_id=node_id, port=port, http_port=http_port)
        for (kind, node_id), port, http_port in zip(kinds, ports[:half], ports[half:], strict=True)
    )
    return ClusterLayout(
        directory=directory,
        cluster_id=cluster_id,
        controllers=tuple(each for each in nodes if each.kind is NodeKind.CONTROLLER),
        brokers=tuple(each for each in nodes if each.kind is NodeKind.BROKER),
        overrides=overrides,
    )


def _interleaved(controllers: int, brokers: int) -> tuple[tuple[NodeKind, int], ...]:
    ordered = sorted(
        [(node_id, 0, NodeKind.BROKER) for node_id in range(1, brokers + 1)]
        + [(node_id, 1, NodeKind.CONTROLLER) for node_id in range(1, controllers + 1)],
        key=lambda each: each[:2],
    )
    return tuple((kind, node_id) for node_id, _, kind in ordered)


def _node(kind: NodeKind, data: dict[str, int]) -> NodeLayout:
    return NodeLayout(kind=kind, node_id=data["id"], port=data["port"], http_port=data["http_port"])


def _node_json(node: NodeLayout) -> dict[str, int]:
    return {"id": node.node_id, "port": node.port, "http_port": node.http_port}


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\")
