"""Controllers that come and go with a cluster of `klamm up`: a process and its vote, in this order.

add      process ──▶ follows ──▶ votes
remove   votes no more ──▶ process stopped, and forgotten; its directory is kept

Cut short in between, the same command with the controller's id goes on from there.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from klamm.cli import target
from klamm.cli.outside import Controllers, Outside
from klamm.cluster import cluster_file
from klamm.errors import ApiError

if TYPE_CHECKING:
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import quorum_pb2 as quorum

MARGIN_MS = 2_000
"""For the leader's own refusal at the end of the time to arrive."""

POLL_S = 0.1

Write = Callable[["admin.ChangeVotersResponse"], None]
"""Shows an answer."""


def add(world: Outside, directory: Path, timeout_s: float, write: Write) -> None:
    """One controller more, under an id that nobody has.

    Raises:
        StartError: It does not come up; nothing was changed.
        KlammError: It runs, and does not vote yet.
    """
    from klamm.cluster import keeper
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import records_pb2 as records

    known = _describe(world, target.in_directory(directory), timeout_s)
    node_id = _unused({each.voter_id for each in known.voters}, directory)
    keeper.change(directory, "add", f"controller-{node_id}")
    request = admin.ChangeVotersRequest(add=records.Voter(voter_id=node_id))
    try:
        answer = ask(world, target.in_directory(directory), request, timeout_s)
    except ApiError as error:
        raise ApiError(
            error.code,
            f"{error.message} controller-{node_id} runs, and has no vote: `klamm quorum add --id "
            f"{node_id}` tries again, `klamm quorum remove --id {node_id}` stops it.",
        ) from error
    write(answer)
    typer.echo(f"controller-{node_id} votes, and comes and goes with the cluster.", err=True)


def keeps(directory: Path, node_id: int) -> bool:
    """Whether this controller is a process of the cluster there, which somebody keeps."""
    from klamm.cluster import keeper

    ids = [each.node_id for each in cluster_file.read(directory).controllers]
    return node_id in ids and keeper.keeps(directory)


def remove(
    world: Outside, where: target.Target, node_id: int, timeout_s: float, write: Write
) -> None:
    """A controller less. One that has no vote any more is stopped all the same.

    Raises:
        KlammError: It votes and runs as before, or is about to lose its vote.
        StartError: It has no vote any more, and could not be stopped.
    """
    from klamm.cluster import keeper
    from klamm.v1 import admin_pb2 as admin
    from klamm.v1 import records_pb2 as records

    assert where.directory is not None, "a local cluster"
    known = _describe(world, where, timeout_s)
    if node_id in {each.voter_id for each in known.voters}:
        request = admin.ChangeVotersRequest(remove=records.Voter(voter_id=node_id))
        write(ask(world, where, request, timeout_s))
    name = f"controller-{node_id}"
    keeper.change(where.directory, "remove", name)
    typer.echo(f"{name} is stopped; its directory {where.directory / name} is kept.", err=True)


def ask(
    world: Outside,
    where: target.Target,
    request: "admin.ChangeVotersRequest",
    timeout_s: float,
    check: Callable[[], None] = lambda: None,
) -> "admin.ChangeVotersResponse":
    """Have the leader change the voters. Raises what `target.ask` does, and the refusal.

    Args:
        world: The world.
        where: Which cluster.
        request: The change.
        timeout_s: So long it may take.
        check: Called now and then meanwhile; what it raises ends the wait.
    """

    async def checking() -> None:
        while True:
            check()
            await asyncio.sleep(POLL_S)

    async def question(controllers: Controllers) -> "admin.ChangeVotersResponse":
        timeout_ms = round(timeout_s * 1_000)
        request.timeout_ms = max(1, timeout_ms)
        asked = asyncio.ensure_future(
            controllers.change_voters(request, timeout_ms=timeout_ms + MARGIN_MS)
        )
        checked = asyncio.ensure_future(checking())
        try:
            done, _ = await asyncio.wait((asked, checked), return_when=asyncio.FIRST_COMPLETED)
            if asked not in done:
                checked.result()
            return await asked
        finally:
            asked.cancel()
            checked.cancel()
            await asyncio.gather(asked, checked, return_exceptions=True)

    return target.ask(world, where, question, timeout_s + MARGIN_MS / 1_000)


def _describe(
    world: Outside, where: target.Target, timeout_s: float
) -> "quorum.DescribeQuorumResponse":
    """Once there is a leader: nobody else changes the voters."""

    async def question(controllers: Controllers) -> "quorum.DescribeQuorumResponse":
        while True:
            told = (await controllers.describe_quorum(timeout_ms=round(timeout_s * 1_000))).quorum
            if told.leader_id >= 0:
                return told
            await asyncio.sleep(POLL_S)

    return target.ask(world, where, question, timeout_s)


def _unused(voters: set[int], directory: Path) -> int:
    """The lowest id that is no voter's, and that no controller had here: its disk is known."""
    return next(
        each
        for each in count(1)
        if each not in voters and not (directory / f"controller-{each}").exists()
    )
