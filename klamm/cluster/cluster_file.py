"""DIR/cluster.json: who runs where, for scripts and for the command line.

    {"cluster_id": "…",
     "controllers": [{"id": 1, "pid": 4711, "grpc": "127.0.0.1:9093"}],
     "brokers": [{"id": 1, "pid": 4712, "kafka": "127.0.0.1:9092", "rack": "rack-1"}]}

A pid is null while its node is down. Each change is a new file moved over the old one, so a
reader sees one truth or the next.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klamm.cluster.layout import ClusterLayout, NodeLayout
from klamm.errors import StartError

NAME = "cluster.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningNode:
    """One row of the file."""

    name: str
    node_id: int
    pid: int | None
    address: str
    rack: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFile:
    """What the file says."""

    cluster_id: str
    controllers: tuple[RunningNode, ...]
    brokers: tuple[RunningNode, ...]

    @property
    def nodes(self) -> tuple[RunningNode, ...]:
        return (*self.controllers, *self.brokers)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(each.address for each in self.brokers)


def write(layout: ClusterLayout, pids: Mapping[str, int | None]) -> None:
    """Say who runs now; `pids` by node name."""
    data = {
        "cluster_id": layout.cluster_id,
        "controllers": [_controller(each, pids) for each in layout.controllers],
        "brokers": [_broker(each, pids) for each in layout.brokers],
    }
    replace_file(layout.directory / NAME, json.dumps(data, indent=2) + "\n")


def read(directory: Path) -> ClusterFile:
    """Read DIR/cluster.json.

    Raises:
        StartError: There is none, or it is something else.
    """
    path = directory / NAME
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        return ClusterFile(
            cluster_id=data["cluster_id"],
            controllers=tuple(
                RunningNode(
                    name=f"controller-{each['id']}",
                    node_id=each["id"],
                    pid=each["pid"],
                    address=each["grpc"],
                )
                for each in data["controllers"]
            ),
            brokers=tuple(
                RunningNode(
                    name=f"broker-{each['id']}",
                    node_id=each["id"],
                    pid=each["pid"],
                    address=each["kafka"],
                    rack=each["rack"],
                )
                for each in data["brokers"]
            ),
        )
    except FileNotFoundError as error:
        raise StartError(f"{directory} holds no cluster: there is no {NAME} in it.") from error
    except OSError as error:
        raise StartError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StartError(f"{path} is not the {NAME} of a Klamm cluster.") from error


def replace_file(path: Path, text: str) -> None:
    """Write a file so that readers see the old or the new text, whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text)
    beside.replace(path)


def _controller(node: NodeLayout, pids: Mapping[str, int | None]) -> dict[str, object]:
    return {"id": node.node_id, "pid": pids.get(node.name), "grpc": node.address}


def _broker(node: NodeLayout, pids: Mapping[str, int | None]) -> dict[str, object]:
    return {
        "id": node.node_id,
        "pid": pids.get(node.name),
        "kafka": node.address,
        "rack": node.rack,
    }
