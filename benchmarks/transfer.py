"""Leadership handed over on demand: how long the command takes, and how long writes stand still.

    python -m benchmarks.transfer [--times 40] [-o json]

Three controllers and three brokers of one local cluster, all of them alive; one client hands over,
another one writes, one small write after the other.

1. The command: from the client's request to the answer that the new leader has claimed its epoch.
   No writes meanwhile.
2. The same, and until a first write that follows it has committed.
3. While the writer goes on: from the last write that the old leader acknowledged to the first that
   the new one did, as the writer sees it, who has to find the new leader by himself. It holds a
   whole write besides; what writes take otherwise, in the same run, stands beside it.
"""

import argparse
import asyncio
import bisect
import itertools
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import Progress

from benchmarks.figures import Figure, figure, show
from benchmarks.writes import WRITE_DEADLINE_S, prepare, write
from klamm.client.client import ControllerClient
from klamm.cluster.cluster import LocalCluster
from klamm.v1 import admin_pb2

GOAL = "≤ 20 ms"
BETWEEN = 10
"""Acknowledged writes before a transfer, and after it."""

Advance = Callable[[], None]


@dataclass
class Samples:
    """Seconds."""

    command: list[float] = field(default_factory=list)
    with_a_write: list[float] = field(default_factory=list)
    still: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)


@dataclass
class Writer:
    """Writes one after the other; when each was acknowledged."""

    client: ControllerClient
    acknowledged: list[float] = field(default_factory=list)
    ending: bool = False
    _wanted: int = 0
    _reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        while not self.ending:
            await write(self.client, f"{5_000_000 + len(self.acknowledged)}")
            self.acknowledged.append(time.monotonic())
            if len(self.acknowledged) >= self._wanted:
                self._reached.set()

    async def wait_more(self) -> None:
        """Until BETWEEN more are acknowledged."""
        self._wanted = len(self.acknowledged) + BETWEEN
        self._reached.clear()
        async with asyncio.timeout(WRITE_DEADLINE_S):
            await self._reached.wait()

    def gaps(self, since: float, until: float) -> list[float]:
        """Between two acknowledgements, from the last before `since` to the first after `until`."""
        first = max(0, bisect.bisect_right(self.acknowledged, since) - 1)
        last = bisect.bisect_right(self.acknowledged, until)
        times = self.acknowledged[first : last + 1]
        return [after - before for before, after in itertools.pairwise(times)]


async def hand_over(client: ControllerClient) -> float:
    """To another controller than leads; seconds that the command took."""
    while True:
        leader = (await client.describe_quorum()).quorum.leader_id
        target = next(each for each in (1, 2, 3) if each != leader)
        request = admin_pb2.TransferLeadershipRequest(voter_id=target)
        began = time.monotonic()
        answer = await client.transfer_leadership(request)
        took = time.monotonic() - began
        assert answer.leader_id == target
        if answer.former_leader_id != target:
            return took
        # It led already: who was asked did not know yet.


async def idle(cluster: LocalCluster, times: int, samples: Samples, advance: Advance) -> None:
    """One client, one thing after the other."""
    client = ControllerClient(cluster.controller_addresses)
    try:
        for number in range(times):
            await write(client, f"{3_000_000 + number}")
            took = await hand_over(client)
            began = time.monotonic()
            await write(client, f"{4_000_000 + number}")
            samples.command.append(took)
            samples.with_a_write.append(took + time.monotonic() - began)
            advance()
    finally:
        await client.close()


async def busy(cluster: LocalCluster, times: int, samples: Samples, advance: Advance) -> None:
    """One client hands over, and another writes throughout."""
    client = ControllerClient(cluster.controller_addresses)
    writer = Writer(ControllerClient(cluster.controller_addresses))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(writer.run())
            for _ in range(times):
                calm = time.monotonic()
                await writer.wait_more()
                began = time.monotonic()
                await hand_over(client)
                done = time.monotonic()
                await writer.wait_more()
                samples.still.append(max(writer.gaps(began, done)))
                samples.usual += writer.gaps(calm, began)[1:-1]
                advance()
            writer.ending = True
    finally:
        await client.close()
        await writer.client.close()


async def measure(times: int, progress: Progress) -> Samples:
    samples = Samples()
    with tempfile.TemporaryDirectory(prefix="klamm-transfer-") as directory:
        async with LocalCluster.open(Path(directory), base_port=0) as cluster:
            await cluster.start()
            client = ControllerClient(cluster.controller_addresses)
            try:
                await prepare(client)
            finally:
                await client.close()
            for what, how in (("nothing else to do", idle), ("writes going on", busy)):
                task = progress.add_task(what, total=times)
                await how(cluster, times, samples, lambda task=task: progress.advance(task))
    return samples


def figures(samples: Samples) -> list[Figure]:
    return [
        figure("handed over: the command", samples.command, GOAL),
        figure("handed over → a write that follows committed", samples.with_a_write, GOAL),
        figure("under load: old leader's last write → new one's first", samples.still, GOAL),
        figure("under load: one write → the next, otherwise", samples.usual),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--times", type=int, default=40, help="of each kind (default 40)")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    arguments = parser.parse_args()
    with Progress(transient=True, disable=arguments.output == "json") as progress:
        samples = asyncio.run(measure(arguments.times, progress))
    show("Transfer", figures(samples), [], as_json=arguments.output == "json")


if __name__ == "__main__":
    main()
