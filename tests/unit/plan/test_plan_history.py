"""Whatever happens in whatever order: what must hold of every view, and of the index beside it."""

import random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.plan import brokers, isr, names, topics
from controller.plan.isr import IsrChange, IsrMember
from controller.plan.ledger import Ledger, View
from controller.plan.topics import Defaults, NewTopic
from klamm.ids import NO_NODE, Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.records import MetadataRecord
from tests.unit.plan.views import cluster, replayed

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "delete", "fence", "unfence", "shutdown", "shrink", "expand"]),
        st.integers(0, 99),
    ),
    max_size=30,
)


NAMES = ("t", "t.0", "t_0", "t0", "t_.1", "t.1", "t.1.")
"""The second and the third collide."""


def decided(view: View, verb: str, number: int) -> tuple[MetadataRecord, ...]:
    rng = random.Random(number)
    # A topic that comes again under its name has another id.
    ids = random.Random(f"{number} {view.image.provenance.offset}")
    chosen = NodeId(1 + number % 5)
    broker = view.image.brokers[chosen]
    match verb:
        case "create":
            topic = NewTopic(name=NAMES[number % 7], num_partitions=3, replication_factor=2)
            return topics.create(
                view, (topic,), Defaults(), rng.randrange, lambda: _uuid(ids)
            ).records
        case "delete":
            return topics.delete(view, (NAMES[number % 7],), delete_topic_enable=True).records
        case "fence":
            other = NodeId(1 + number // 7 % 5)
            return brokers.fence(view, sorted({chosen, other})).records
        case "unfence" if broker.fenced:
            return brokers.unfence(view, broker).records
        case "shutdown" if broker.active:
            return brokers.begin_shutdown(view, broker).records
        case "shrink" | "expand":
            return _isr(view, chosen, grow=verb == "expand")
    return ()


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _isr(view: View, leader: NodeId, *, grow: bool) -> tuple[MetadataRecord, ...]:
    asked = tuple(
        IsrChange(
            topic_id=topic_id,
            partition=each.partition,
            leader_epoch=each.leader_epoch,
            partition_epoch=each.partition_epoch,
            new_isr=tuple(
                IsrMember(broker_id=member) for member in (each.replicas if grow else (leader,))
            ),
        )
        for topic_id, held in view.held_by(leader)
        for each in held
    )
    return isr.alter(view, leader, view.image.brokers[leader].broker_epoch, asked).records


def check(view: View) -> None:
    naive: dict[NodeId, dict[object, list[int]]] = {}
    for topic in view.image.topics:
        assert view.image.topics.by_name[topic.name] == topic.topic_id
        for each in topic.partitions:
            assert each.isr, "an ISR is never empty"
            assert set(each.isr) <= set(each.replicas)
            assert each.leader == NO_NODE or each.leader in each.isr
            assert each.leader == NO_NODE or view.image.brokers[each.leader].active
            for broker in each.replicas:
                naive.setdefault(broker, {}).setdefault(topic.topic_id, []).append(each.partition)
    held = {
        broker: {topic: list(numbers) for topic, numbers in by_topic.items()}
        for broker, by_topic in view.holdings.items()
        if by_topic
    }
    assert held == naive
    marked = [name for name in view.image.topics.by_name if "." in name or "_" in name]
    assert dict(view.collisions) == {names.collision_key(name): name for name in marked}
    assert len(view.collisions) == len(marked), "no two names collide"


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_every_history(steps: list[tuple[str, int]]) -> None:
    view = cluster((1, 2, 3, 4, 5), rack=True)
    for verb, number in steps:
        before, records = view, decided(view, verb, number)
        view = replayed(view, records)
        check(view)
        for topic in view.image.topics:
            old = before.image.topics.by_id.get(topic.topic_id)
            for each, was in zip(topic.partitions, old.partitions if old else (), strict=False):
                assert each.leader_epoch >= was.leader_epoch
                assert each.partition_epoch >= was.partition_epoch
                moved = each.leader != was.leader
                assert each.leader_epoch == was.leader_epoch + moved
                assert (each.partition_epoch > was.partition_epoch) == (each != was)


@settings(max_examples=120, deadline=None)
@given(STEPS)
def test_a_controller_that_catches_up_in_one_go_knows_the_same(
    steps: list[tuple[str, int]],
) -> None:
    """A restart replays in one delta what others saw in many, topics that came and went too."""
    began = view = cluster((1, 2, 3, 4, 5), rack=True)
    records: list[MetadataRecord] = []
    for verb, number in steps:
        decided_now = decided(view, verb, number)
        records += decided_now
        view = replayed(view, decided_now)
    at_once = replayed(began, records)
    check(at_once)
    assert at_once.image == view.image
    assert at_once.collisions == view.collisions


@settings(max_examples=120, deadline=None)
@given(STEPS, st.sampled_from(["fence", "unfence", "shutdown"]), st.integers(0, 99), st.data())
def test_what_an_election_cuts_short_is_made_again(
    steps: list[tuple[str, int]], verb: str, number: int, data: st.DataObject
) -> None:
    """A divided decision: whatever part of it was written, made again it writes the rest."""
    view = cluster((1, 2, 3, 4, 5), rack=True)
    for earlier in steps:
        view = replayed(view, decided(view, *earlier))
    whole = decided(view, verb, number)
    part = replayed(view, whole[: data.draw(st.integers(0, len(whole)), label="written")])
    again = replayed(part, decided(part, verb, number))
    at_once = replayed(view, whole)
    assert again.image.topics == at_once.image.topics
    assert again.image.brokers == at_once.image.brokers
    assert again.holdings == at_once.holdings


def test_one_view_two_names() -> None:
    """What is proposed is seen by the next decision, and forgotten with the leadership."""
    committed = cluster()
    ledger = Ledger(committed=committed).claim()
    assert ledger.pending is committed
    topic = NewTopic(name="a", replication_factor=3)
    rng = random.Random(1)
    records = topics.create(
        committed, (topic,), Defaults(), rng.randrange, lambda: _uuid(rng)
    ).records
    end = OffsetAndEpoch(Epoch(1), Offset(committed.image.provenance.offset + len(records)))
    proposed = ledger.propose(records, end)
    assert proposed.pending is not None
    assert proposed.pending.image.topics.named("a") is not None
    assert proposed.committed.image.topics.named("a") is None
    assert proposed.resign().pending is None
    delta = MetadataDelta(committed.image)
    for index, record in enumerate(records):
        delta.replay(record, Offset(committed.image.provenance.offset + index))
    followed = proposed.commit(delta, delta.apply(end))
    assert followed.committed.image == proposed.pending.image
    assert followed.committed.holdings == proposed.pending.holdings
