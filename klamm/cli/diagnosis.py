"""Why the controllers did not answer a question, and what a person may do about it.

Each controller says for itself what it knows of the quorum, leader or not: with a majority lost
the others are up, and a sentence that nobody answers would be untrue and no help.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klamm.cli.outside import Outside
from klamm.cluster import cluster_file
from klamm.errors import KlammError, StartError, UnreachableError

if TYPE_CHECKING:
    from klamm.v1 import metadata_pb2 as pb

LOOK_S = 1.0
"""Each controller has so long to say what it knows."""


async def explain(
    outside: Outside, addresses: Sequence[str], directory: Path | None, timeout_s: float
) -> UnreachableError:
    """A sentence for whom nobody answered for `timeout_s`.

    Args:
        outside: The world.
        addresses: Who was asked.
        directory: Of a cluster of local processes, if it is one.
        timeout_s: How long.
    """
    answers = await _look_everywhere(outside, addresses)
    if not answers:
        why = f"No controller answered within {timeout_s:g} s; asked {', '.join(addresses)}."
        return UnreachableError(f"{why} {_how_to_begin(directory)}")
    latest = max(answers, key=lambda each: each.quorum.leader_epoch)
    if latest.quorum.leader_id >= 0:
        return UnreachableError(
            f"Controller {latest.quorum.leader_id} leads, and did not answer within {timeout_s:g} "
            "s: it may be busy or paused. Try again, or give it longer with --timeout."
        )
    voters = {each.voter_id for each in latest.quorum.voters}
    heard = sorted({each.quorum.responder_id for each in answers} & voters)
    return UnreachableError(
        f"The quorum has no leader: of its {len(voters)} voters {_listed(heard)} answered, and "
        f"{len(voters) // 2 + 1} are needed. {_how_to_go_on(directory)}"
    )


async def check_not_down(outside: Outside, addresses: Sequence[str], directory: Path) -> None:
    """Nobody waits for controllers none of whose processes runs.

    Raises:
        UnreachableError: That is so, and nobody else has started them.
    """
    controllers = _controllers(directory)
    known_down = controllers and all(each.pid is None for each in controllers)
    if known_down and not await _look_everywhere(outside, addresses):
        raise UnreachableError(_how_to_begin(directory))


async def _look_everywhere(
    outside: Outside, addresses: Sequence[str]
) -> "list[pb.MetadataServiceDescribeQuorumResponse]":
    """What each of them says that answers."""
    looks = [_look(outside, each) for each in addresses]
    return [each for each in await asyncio.gather(*looks) if each is not None]


async def _look(
    outside: Outside, address: str
) -> "pb.MetadataServiceDescribeQuorumResponse | None":
    controllers = outside.connect((address,))
    try:
        async with asyncio.timeout(LOOK_S):
            return await controllers.describe_quorum(timeout_ms=round(LOOK_S * 1_000))
    except (KlammError, TimeoutError):
        return None
    finally:
        await controllers.close()


def _listed(ids: Sequence[int]) -> str:
    return f"{len(ids)} ({', '.join(map(str, ids))})" if ids else "none"


def _how_to_begin(directory: Path | None) -> str:
    if directory is None:
        return (
            "Are they controllers, and up? A broker's address is for --bootstrap-server. "
            "--timeout waits longer."
        )
    if all(each.pid is None for each in _nodes(directory)):
        return f"The cluster in {directory} is down: `klamm up --dir {directory}` starts it."
    return _how_to_go_on(directory)


def _how_to_go_on(directory: Path | None) -> str:
    lost = "If too many are lost for good: `klamm quorum recover --help`."
    if directory is None:
        return f"Start the others. {lost}"
    down = [each.name for each in _controllers(directory) if each.pid is None]
    if down:
        return f"{', '.join(down)} down: `klamm start {down[0]} --dir {directory}`. {lost}"
    return f"The logs may say why: {directory / 'logs'}. {lost}"


def _controllers(directory: Path) -> Sequence[cluster_file.RunningNode]:
    try:
        return cluster_file.read(directory).controllers
    except StartError:
        return ()


def _nodes(directory: Path) -> Sequence[cluster_file.RunningNode]:
    try:
        return cluster_file.read(directory).nodes
    except StartError:
        return ()
