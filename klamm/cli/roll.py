"""`klamm roll`: every node of a local cluster restarted, one by one, under way."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from klamm import names
from klamm.cli import target
from klamm.cli.options import DirOption
from klamm.cli.outside import Controllers, outside
from klamm.cluster import cluster_file

if TYPE_CHECKING:
    from klamm.v1 import metadata_pb2 as metadata
    from klamm.v1 import quorum_pb2 as quorum

HEALTHY_S = 60.0

ASK_S = 10.0
"""For one question, and for the hand-over."""

BEHIND_MS_MAX = 2_000
"""A controller that had everything so long ago has caught up."""


def add_to(app: typer.Typer) -> None:
    """Put the command where it belongs: at the top."""
    app.command("roll")(roll)


def roll(
    context: typer.Context,
    directory: DirOption = None,
    healthy: Annotated[
        float,
        typer.Option(
            "--healthy-timeout", min=1.0, help="Seconds for the cluster to be well between two."
        ),
    ] = HEALTHY_S,
) -> None:
    """Restart every node, one by one, without the cluster ceasing to serve.

    Standby controllers go first; leadership is then handed over, once; brokers go last. Between
    two, all must be well: every controller caught up, every replica in sync. If it is not in
    time, the rest is left as it is.

    \b
    klamm roll
    klamm roll --dir /tmp/one --healthy-timeout 120
    """
    from klamm.cluster import roll as rolling
    from klamm.cluster import supervisor

    where = target.find_directory(directory)
    told = cluster_file.read(where)
    supervisor.ask(where, "look")  # Else nothing could be restarted.
    addresses = tuple(each.address for each in told.controllers)

    async def go() -> None:
        controllers = outside(context).connect(addresses)
        try:
            await rolling.roll(
                _LocalCluster(where, controllers, len(told.brokers)),
                [each.node_id for each in told.controllers],
                [each.node_id for each in told.brokers],
                typer.echo,
                healthy,
            )
        finally:
            await controllers.close()

    names.run(go())


class _LocalCluster:
    """Implements `klamm.cluster.roll.Rolling`: nodes by their keeper, the rest by gRPC."""

    def __init__(self, directory: Path, controllers: Controllers, broker_count: int) -> None:
        self._directory = directory
        self._controllers = controllers
        self._broker_count = broker_count

    async def leader(self) -> int:
        answer = await self._controllers.describe_quorum(timeout_ms=round(ASK_S * 1_000))
        return answer.quorum.leader_id

    async def hand_over(self, to: int) -> None:
        from klamm.v1 import admin_pb2 as admin

        timeout_ms = round(ASK_S * 1_000)
        request = admin.TransferLeadershipRequest(voter_id=to, timeout_ms=timeout_ms)
        await self._controllers.transfer_leadership(request, timeout_ms=timeout_ms)

    async def restart(self, name: str) -> None:
        from klamm.cluster import keeper

        for command in ("stop", "start"):
            await asyncio.to_thread(keeper.tell, self._directory, command, name)

    async def ailments(self) -> Sequence[str]:
        from klamm.v1 import metadata_pb2 as metadata

        timeout_ms = round(ASK_S * 1_000)
        answer = await self._controllers.describe_quorum(timeout_ms=timeout_ms)
        cluster = await self._controllers.describe_cluster(
            metadata.DescribeClusterRequest(), timeout_ms=timeout_ms
        )
        return (*_of_quorum(answer.quorum), *_of_brokers(cluster, self._broker_count))


def _of_quorum(told: "quorum.DescribeQuorumResponse") -> Sequence[str]:
    if told.leader_id < 0:
        return ("no controller leads",)
    leader = next(each for each in told.current_voters if each.node_id == told.leader_id)
    return tuple(
        f"controller-{each.node_id} has not caught up"
        for each in told.current_voters
        if each.last_caught_up_timestamp_ms < leader.last_caught_up_timestamp_ms - BEHIND_MS_MAX
    )


def _of_brokers(told: "metadata.DescribeClusterResponse", broker_count: int) -> Sequence[str]:
    from klamm.v1 import metadata_pb2 as metadata

    wrong: list[str] = []
    active = sum(each.state == metadata.BROKER_STATE_ACTIVE for each in told.brokers)
    if active < broker_count:
        wrong.append(f"{active} of {broker_count} brokers are active")
    if told.under_replicated_partition_count:
        wrong.append(f"{told.under_replicated_partition_count} partitions are under-replicated")
    return wrong
