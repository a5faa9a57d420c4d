"""Links between nodes: delay, loss, cuts of one direction or both, and who is dead."""

import contextvars
import random
from collections import deque
from collections.abc import Callable, Coroutine
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from tests.sim.loop import SimulatedLoop

if TYPE_CHECKING:
    import asyncio

    from tests.sim.driver.transport import Server

Work = Callable[..., Coroutine[Any, Any, None]]

KEEPALIVE_S = 8.0
"""A conversation whose messages do not arrive for so long is over (klamm/rpc/channel)."""

RETRANSMIT_S = 0.2


class Network:
    def __init__(
        self, loop: SimulatedLoop, rng: random.Random, found: Callable[[BaseException], None]
    ) -> None:
        self.loop = loop
        self.found = found
        self.servers: dict[int, Server] = {}
        """Who listens."""
        self.delay_s = (0.0001, 0.002)
        self.slow_chance = 0.0
        """Of a message, to be lost once, and sent again after RETRANSMIT_S."""
        self.loss = 0.0
        """Of a message, to end its conversation."""
        self.messages = 0
        self.trace = blake2b()
        """Of everything that was sent."""
        self._rng = rng
        self._cuts: dict[tuple[int, int], int] = {}
        self._context = contextvars.copy_context()
        self._conversations: dict[Conversation, None] = {}

    def cut(self, sender: int, receiver: int) -> None:
        """Cuts of one link add up."""
        link = (sender, receiver)
        self._cuts[link] = self._cuts.get(link, 0) + 1

    def heal(self, sender: int, receiver: int) -> None:
        link = (sender, receiver)
        self._cuts[link] = max(0, self._cuts.get(link, 0) - 1)

    def heal_all(self) -> None:
        self._cuts.clear()
        self.slow_chance = self.loss = 0.0
        self.delay_s = (0.0001, 0.002)

    def is_cut(self, sender: int, receiver: int) -> bool:
        return self._cuts.get((sender, receiver), 0) > 0

    def delay(self) -> float:
        return self._rng.uniform(*self.delay_s)

    def chance(self, of: float) -> bool:
        return of > 0 and self._rng.random() < of

    def after(self, delay_s: float, deliver: Callable[..., None], *args: Any) -> None:
        self.loop.call_later(delay_s, deliver, *args, context=self._context)

    def later(self, sender: int, receiver: int, deliver: Callable[[], None]) -> None:
        """A word of the transport's own: it arrives, or is lost with a cut."""
        if not self.is_cut(sender, receiver):
            self.after(self.delay(), deliver)

    def spawn(self, incarnation: str, work: Work, *args: Any) -> "asyncio.Task[None]":
        """Run it as a part of an incarnation; that it raises is a finding."""
        return self.loop.spawn(incarnation, self._watched(work, args))

    async def _watched(self, work: Work, args: tuple[Any, ...]) -> None:
        try:
            await work(*args)
        except Exception as error:
            self.found(error)

    def opened(self, conversation: "Conversation") -> None:
        self._conversations[conversation] = None

    def ended(self, conversation: "Conversation") -> None:
        self._conversations.pop(conversation, None)

    def died(self, incarnation: str, *, silently: bool) -> None:
        """Its conversations break, now or when somebody finds out."""
        for each in list(self._conversations):
            if incarnation in (each.caller, each.accepted_by):
                self.after(KEEPALIVE_S if silently else self.delay(), each.break_off, "it died")

    def break_some(self, chance: float) -> None:
        """Connections are reset."""
        for each in list(self._conversations):
            if self.chance(chance):
                self.after(self.delay(), each.break_off, "reset")


class Conversation:
    """A call or a stream between two incarnations. Hashed by identity, iterated in order."""

    def __init__(self, network: Network, client: int, caller: str, server: int) -> None:
        self.network = network
        self.client = client
        self.caller = caller
        self.server = server
        self.accepted_by = ""
        self.over = False
        network.opened(self)

    def end(self) -> None:
        self.over = True
        self.network.ended(self)

    def refuse(self) -> None:
        """Nobody listens there."""
        if not self.over:
            self.end()
            self.network.later(self.server, self.client, lambda: self.client_broken("refused"))

    def break_off(self, why: str) -> None:
        """Both ends learn of it."""
        if not self.over:
            self.end()
            self.client_broken(why)
            self.server_broken()

    def client_broken(self, why: str) -> None:
        raise AssertionError("each kind has its own")

    def server_broken(self) -> None:
        raise AssertionError("each kind has its own")


class Pipe:
    """One direction of a conversation: in order; a cut holds it up."""

    def __init__(
        self,
        conversation: Conversation,
        sender: int,
        receiver: int,
        deliver: Callable[[Any], None],
    ) -> None:
        self._conversation = conversation
        self._network = conversation.network
        self._sender = sender
        self._receiver = receiver
        self._deliver = deliver
        self._flight: deque[tuple[float, bytes | None]] = deque()
        self._held_since_s: float | None = None

    def send(self, item: bytes | None) -> None:
        network = self._network
        network.messages += 1
        network.trace.update(f"{network.loop.time()!r} {self._sender} {self._receiver}".encode())
        network.trace.update(item or b"")
        delay_s = network.delay()
        if network.chance(network.slow_chance):
            delay_s += RETRANSMIT_S
        if network.chance(network.loss):
            network.after(delay_s, self._conversation.break_off, "lost")
        self._flight.append((network.loop.time() + delay_s, item))
        if len(self._flight) == 1:
            network.after(delay_s, self._pump)

    def _pump(self) -> None:
        network, conversation = self._network, self._conversation
        if conversation.over:
            self._flight.clear()
            return
        now_s = network.loop.time()
        if network.is_cut(self._sender, self._receiver):
            if self._held_since_s is None:
                self._held_since_s = now_s
            if now_s - self._held_since_s > KEEPALIVE_S:
                conversation.break_off("keepalive")
                return
            network.after(RETRANSMIT_S, self._pump)
            return
        self._held_since_s = None
        _, item = self._flight.popleft()
        self._deliver(item)
        if self._flight:
            network.after(max(0.0, self._flight[0][0] - now_s), self._pump)
