"""The world: brokers, clients, a controller, time, and what must hold after each event."""

import heapq
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from broker.replica.exchange import FetchRow, Surroundings
from broker.replica.follower import FetchAnswer, FetchPosition
from broker.replica.isr import IsrAnswer, IsrChange
from broker.replica.partition import Partition
from broker.replica.producer_memory import ProducerMemory
from broker.replica.purgatory import OffsetWait
from klamm.config.topic import TopicConfig
from klamm.errors import ApiError, ErrorCode
from klamm.ids import Epoch, NodeId, Offset, TopicId, TopicPartition
from klamm.log.log import Log, LogConfig
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import NewRecord
from tests.sim.disk import SimFiles
from tests.sim.replication.controller import ModelController

TOPIC_ID = TopicId(UUID(int=1))
DIRECTORY = Path("/data/topic-0")
CONFIG = TopicConfig.effective({"min.insync.replicas": "2", "segment.bytes": "4096"})
LAG_MS = 120
FETCH_TIMEOUT_MS = 120

Entry = tuple[int, int, int]
"""Leader epoch, producer id, sequence: what a batch is in this world."""


class Broker:
    """One broker's life after life. `partition` is None while it is down."""

    def __init__(self, id_: NodeId, world: "World", uptime: int) -> None:
        self.id = id_
        self.world = world
        self.files = SimFiles()
        self.uptime = uptime
        self.life = 0
        self.seen = -1
        self.saved_high_watermark = Offset(0)
        self.asking = 0
        self.isolated = False
        """Cut off from all."""
        self.unheard = False
        """Cut off from the controller, in what it says; the controller hears its heartbeats."""
        self.partition: Partition | None = None
        self.surroundings: Surroundings
        self.start()

    # The ports.

    def monotonic_ms(self) -> int:
        return self.world.now_ms

    def wall_ms(self) -> int:
        return self.world.now_ms

    def submit(
        self,
        topic_id: TopicId,
        partition: int,
        change: IsrChange,
        answered: Callable[[IsrAnswer], None],
    ) -> None:
        """The way to the controller: repeated until an answer comes back."""
        life, uptime = self.life, self.uptime

        def ask() -> None:
            if self.life != life or self.partition is None:
                return
            if self.world.is_lost(self) or self.unheard:
                self.world.after(50, ask)
                return
            answer = self.world.controller.alter_partition(self.id, uptime, change)
            if self.world.is_lost(self):
                self.world.after(50, ask)
                return
            self.world.after(self.world.delay_ms(), lambda: tell(answer))

        def tell(answer: IsrAnswer) -> None:
            if self.life == life and self.partition is not None:
                answered(answer)

        self.world.after(self.world.delay_ms(), ask)

    # Lives.

    def start(self) -> None:
        self.life += 1
        self.seen = -1
        data = Log.open(self.files, DIRECTORY, LogConfig(segment_bytes=CONFIG.segment_bytes))
        producers = ProducerMemory()
        producers.replay(data, data.log_start_offset, self.world.now_ms)
        self.surroundings = Surroundings(
            me=self.id, clock=self, alter_partition=self, lag_time_max_ms=LAG_MS
        )
        name = TopicPartition("topic", 0)
        self.partition = Partition(
            name, TOPIC_ID, data, producers, self.saved_high_watermark, CONFIG, self.surroundings
        )

    def crash(self, loses: bool) -> None:
        assert self.partition is not None
        if self.world.rng.random() < 0.7:
            self.saved_high_watermark = self.partition.high_watermark
        self.partition = None
        self.life += 1
        if loses:
            self.files.crash(self.world.rng)
        else:
            self.files.kill()

    def hear(self, index: int) -> None:
        """Metadata up to `index`, as one delta."""
        metadata = self.world.controller.history[index]
        if self.partition is None or index <= self.seen:
            return
        if metadata.registered[self.id] != self.uptime:
            return
        self.seen = index
        self.surroundings.active = metadata.active
        if metadata.image.leader == self.id:
            self.partition.become_leader(metadata.image)
        else:
            self.partition.become_follower(metadata.image)

    # Replication.

    def ask_leader(self) -> None:
        """Send a fetch, if none is out."""
        partition = self.partition
        if partition is None or partition.follower is None or self.asking > self.world.now_ms:
            return
        position = partition.fetch_position()
        if position is None:
            return
        self.asking = self.world.now_ms + FETCH_TIMEOUT_MS
        leader = self.world.brokers[partition.follower.leader]
        life, uptime = self.life, self.uptime
        self.world.send(self, leader, lambda: leader.answer(self, life, uptime, position))

    def answer(self, asker: "Broker", life: int, uptime: int, position: FetchPosition) -> None:
        partition = self.partition
        if partition is None:
            return
        row = FetchRow(
            fetch_offset=position.fetch_offset,
            max_bytes=self.world.fetch_bytes,
            current_leader_epoch=position.current_leader_epoch,
            last_fetched_epoch=position.last_fetched_epoch,
            replica_id=asker.id,
            replica_epoch=uptime,
        )
        records: bytes | memoryview = b""
        try:
            fetched = partition.read_as_leader(row, True)
        except ApiError as error:
            answer = FetchAnswer(
                position=position, error=error.code, log_start_offset=partition.log_start_offset
            )
        else:
            records = fetched.records
            answer = FetchAnswer(
                position=position,
                high_watermark=fetched.high_watermark,
                log_start_offset=fetched.log_start_offset,
                diverging=fetched.diverging,
                has_records=bool(records),
            )
        self.world.send(self, asker, lambda: asker.take(life, answer, records))

    def take(self, life: int, answer: FetchAnswer, records: bytes | memoryview) -> None:
        if self.life == life and self.partition is not None:
            self.asking = 0
            self.partition.on_fetch_answered(answer, records)

    # Clients.

    def produce(self, client: "Client", sequence: int) -> None:
        if self.partition is None:
            return
        batch = bytearray(
            build_batch(
                [NewRecord(value=b"%d" % sequence)],
                base_offset=Offset(0),
                leader_epoch=Epoch(0),
                timestamp_ms=self.world.now_ms,
                producer_id=client.id,
                producer_epoch=0,
                base_sequence=sequence,
            )
        )
        try:
            appended = self.partition.append_as_leader(memoryview(batch), needs_in_sync=True)
        except ApiError:
            return

        def on_committed(error: ErrorCode) -> None:
            if error is ErrorCode.NONE:
                self.world.on_acked(client.id, sequence, appended.base_offset)
                self.world.send(self, None, lambda: client.on_acked(sequence))

        if self.world.acks_at_end or self.partition.high_watermark >= appended.end_offset:
            on_committed(ErrorCode.NONE)
        else:
            waiting: Any = _Waiting(on_committed)
            waiting.wait = OffsetWait(appended.end_offset, waiting)
            self.partition.waits.add(waiting.wait)


class _Waiting:
    """In the place of a ParkedProduce, which needs a loop."""

    wait: OffsetWait

    def __init__(self, settled: Callable[[ErrorCode], None]) -> None:
        self._settled = settled

    def on_settled(self) -> None:
        self._settled(self.wait.error)


class Client:
    """An idempotent producer with one batch out, which it repeats until it is acknowledged."""

    def __init__(self, id_: int, world: "World") -> None:
        self.id = id_
        self.world = world
        self.sequence = 0

    def on_acked(self, sequence: int) -> None:
        if sequence == self.sequence:
            self.sequence += 1

    def attempt(self) -> None:
        """Send to anyone who believes that it leads, of whom there may be several."""
        believers = [
            each
            for each in self.world.brokers.values()
            if each.partition is not None and each.partition.leader is not None
        ]
        if believers:
            target, sequence = self.world.rng.choice(believers), self.sequence
            self.world.send(None, target, lambda: target.produce(self, sequence))


class World:
    def __init__(self, seed: int, brokers: int = 3, clients: int = 4) -> None:
        self.rng = random.Random(seed)
        self.now_ms = 0
        self.drop = 0.05
        self.acks_at_end = False
        """A planted bug: acknowledge what is in the leader's log only."""
        self.committed: list[Entry] = []
        self.acked: dict[tuple[int, int], Offset] = {}
        self.trace: list[Any] = []
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        ids = tuple(NodeId(each) for each in range(brokers))
        self.controller = ModelController(ids)
        uptimes = self.controller.now.registered
        self.brokers = {each: Broker(each, self, uptimes[each]) for each in ids}
        self.cuts: set[frozenset[NodeId]] = set()
        """Pairs of brokers that do not hear each other."""
        self.deaf = self.rng.choice((0.02, 0.1, 0.5))
        """How often a broker hears of metadata, for each beat."""
        self.fetch_bytes = self.rng.choice((200, 1_000))
        self.eager = self.rng.choice((0.1, 0.5, 0.9))
        self._checked: dict[NodeId, tuple[int, Offset]] = {}
        self.clients = [Client(each, self) for each in range(clients)]
        self.after(0, self._beat)

    # Time and messages.

    def after(self, delay_ms: int, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._queue, (self.now_ms + delay_ms, self._number, action))

    def delay_ms(self) -> int:
        return self.rng.choice((0, 1, 1, 2, 3, 8)) if self.rng.random() < 0.97 else 200

    def is_lost(self, *ends: "Broker | None") -> bool:
        return self.rng.random() < self.drop or any(each and each.isolated for each in ends)

    def send(
        self, source: "Broker | None", target: "Broker | None", action: Callable[[], None]
    ) -> None:
        cut = source and target and frozenset((source.id, target.id)) in self.cuts
        if not cut and not self.is_lost(source, target):
            self.after(self.delay_ms(), action)

    def run(self, duration_ms: int) -> None:
        until_ms = self.now_ms + duration_ms
        while self._queue and self._queue[0][0] <= until_ms:
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()
            self.check()
        self.now_ms = until_ms

    def _beat(self) -> None:
        """What brokers and clients do by themselves."""
        for broker in self.brokers.values():
            broker.ask_leader()
            if not broker.isolated and self.rng.random() < self.deaf:
                broker.hear(self.rng.randint(max(0, broker.seen), len(self.controller.history) - 1))
            if broker.partition is not None and self.rng.random() < 0.2:
                broker.partition.on_time_passed(self.now_ms)
        for client in self.clients:
            if self.rng.random() < self.eager:
                client.attempt()
        self.after(4, self._beat)

    # Misfortune.

    def crash(self, broker: Broker, loses: bool) -> None:
        """Down; with a lost tail only while another member of the ISR has what it had.

        `min.insync.replicas` less one disks may lose something at a time: so the controller hears
        of such a crash at once, before another can happen.
        """
        loses = loses and len(self.controller.image.isr) > 1
        broker.crash(loses)
        if loses:
            self.controller.fence(broker.id)
        else:
            life = broker.life
            self.after(self.rng.randint(1, 300), lambda: self._on_silence(broker, life))

    def isolate(self, broker: Broker) -> None:
        """Cut off from all, the controller too, which takes it for dead after a while."""
        broker.isolated = True
        life = broker.life

        def fence() -> None:
            if broker.isolated and broker.life == life:
                self.controller.fence(broker.id)

        self.after(self.rng.randint(50, 500), fence)

    def reconnect(self, broker: Broker) -> None:
        broker.isolated = False
        life = broker.life
        self.after(self.rng.randint(5, 100), lambda: self.on_ready(broker, life))

    def restart(self, broker: Broker) -> None:
        broker.uptime = self.controller.register(broker.id)
        broker.start()
        life = broker.life
        self.after(self.rng.randint(5, 100), lambda: self.on_ready(broker, life))

    def _on_silence(self, broker: Broker, life: int) -> None:
        if broker.life == life:
            self.controller.fence(broker.id)

    def on_ready(self, broker: Broker, life: int) -> None:
        down = broker.partition is None or broker.isolated or broker.life != life
        if not down and broker.id not in self.controller.now.active:
            self.controller.unfence(broker.id)

    # Safety.

    def on_acked(self, client: int, sequence: int, base_offset: Offset) -> None:
        known = self.acked.setdefault((client, sequence), base_offset)
        assert known == base_offset, f"{client}/{sequence} is at {known} and at {base_offset}"

    def check(self) -> None:
        for broker in self.brokers.values():
            partition = broker.partition
            if partition is None:
                continue
            life, checked = self._checked.get(broker.id, (-1, Offset(0)))
            if life != broker.life:
                checked = Offset(0)
            high_watermark = partition.high_watermark
            assert high_watermark >= checked, f"broker {broker.id}: high watermark went back"
            assert high_watermark <= partition.log.end_offset
            if high_watermark > checked:
                self._check_committed(broker.id, partition, checked, high_watermark)
            self._checked[broker.id] = (broker.life, high_watermark)

    def _check_committed(
        self, id_: NodeId, partition: Partition, start: Offset, end: Offset
    ) -> None:
        """No two values for one offset below a high watermark, ever."""
        for offset, entry in enumerate(entries(partition, start, end), start):
            if offset < len(self.committed):
                assert self.committed[offset] == entry, f"broker {id_} differs at {offset}"
            else:
                assert offset == len(self.committed)
                self.committed.append(entry)
                self.trace.append((self.now_ms, offset, entry))

    def check_end(self) -> None:
        """After the world has healed: one log everywhere, with all that was acknowledged, once."""
        logs = []
        for broker in self.brokers.values():
            assert broker.partition is not None
            logs.append(entries(broker.partition, Offset(0), broker.partition.log.end_offset))
        assert logs[0] == logs[1] == logs[2], "the copies differ"
        places = {(client, sequence): at for at, (_, client, sequence) in enumerate(logs[0])}
        assert len(places) == len(logs[0]), "something was appended twice"
        for key, offset in self.acked.items():
            assert places.get(key) == offset, f"{key} was acknowledged at {offset}"
        for client in self.clients:
            sequences = [each for _, id_, each in logs[0] if id_ == client.id]
            assert sequences == sorted(sequences), "out of order"


def entries(partition: Partition, start: Offset, end: Offset) -> list[Entry]:
    found: list[Entry] = []
    while start < end:
        data = partition.log.read(start, 1 << 20, end)
        for header, _ in iter_batches(data):
            found.append((header.leader_epoch, header.producer_id, header.base_sequence))
            start = header.next_offset
    return found
