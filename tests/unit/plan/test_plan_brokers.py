"""A broker's standing: kraft.md 2.5 and 2.6, and what becomes of its partitions (2.7)."""

from dataclasses import replace
from uuid import UUID

import pytest

from controller.plan import brokers
from controller.plan.brokers import Registration
from controller.plan.decision import Decision
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NO_NODE, DirectoryId, NodeId, Offset
from klamm.metadata.records import BrokerRegistrationChangeRecord, RegisterBrokerRecord
from tests.unit.plan.views import cluster, nodes, partition, replayed, standing, with_topic

TWO = NodeId(2)


def asked(incarnation: int = 2, directory: int = 92, broker: int = 2) -> Registration:
    return Registration(
        broker_id=NodeId(broker),
        incarnation_id=UUID(int=1_000 * broker + incarnation),
        endpoints=(),
        log_dirs=(DirectoryId(UUID(int=directory)),),
    )


def register(view: View, registration: Registration, *, alive: bool) -> Decision[Offset]:
    return brokers.register(view, registration, view.image.provenance.offset, session_alive=alive)


def refused(view: View, registration: Registration, *, alive: bool) -> ErrorCode:
    with pytest.raises(ApiError) as raised:
        register(view, registration, alive=alive)
    return raised.value.code


def test_a_first_registration_is_fenced_and_its_epoch_is_its_offset() -> None:
    view = cluster((1, 3))
    decision = register(view, asked(), alive=False)
    after = replayed(view, decision.records)
    assert after.image.brokers[TWO].fenced
    assert after.image.brokers[TWO].broker_epoch == decision.results == Offset(4)


def test_a_retry_of_the_same_incarnation_changes_nothing() -> None:
    view = cluster()
    again = register(view, asked(incarnation=1), alive=True)
    assert not again.records
    assert again.results == view.image.brokers[TWO].broker_epoch


def test_a_second_process_with_another_disk_is_a_duplicate_while_the_first_lives() -> None:
    view = cluster()
    assert refused(view, asked(directory=55), alive=True) is ErrorCode.DUPLICATE_BROKER_REGISTRATION
    assert register(view, asked(directory=55), alive=False).records


def test_the_same_disk_proves_that_the_former_process_is_gone() -> None:
    assert register(cluster(), asked(), alive=True).records


@pytest.mark.parametrize("change", [{"fenced": True}, {"in_controlled_shutdown": True}])
def test_who_is_fenced_or_leaving_is_replaced_at_once(change: dict[str, bool]) -> None:
    view = cluster()
    epoch = view.image.brokers[TWO].broker_epoch
    record = BrokerRegistrationChangeRecord(broker_id=TWO, broker_epoch=epoch, **change)
    assert register(replayed(view, [record]), asked(directory=55), alive=True).records


def test_a_new_incarnation_leaves_the_isrs_of_the_former() -> None:
    view = with_topic(cluster(), ((2, 1, 3), (2, 1, 3), 2))
    decision = register(view, asked(), alive=False)
    after = replayed(view, decision.records)
    assert standing(after) == (nodes(1, 3), 1)
    assert after.image.brokers[TWO].broker_epoch == decision.results
    assert isinstance(decision.records[-1], RegisterBrokerRecord)


def test_a_directory_of_another_broker_is_refused() -> None:
    assert refused(cluster(), asked(directory=91), alive=False) is ErrorCode.INVALID_REGISTRATION
    twice = replace(asked(), log_dirs=asked().log_dirs * 2)
    assert refused(cluster(), twice, alive=False) is ErrorCode.INVALID_REGISTRATION


@pytest.mark.parametrize(
    ("broker", "epoch_off", "code"),
    [(9, 0, ErrorCode.BROKER_ID_NOT_REGISTERED), (2, 1, ErrorCode.STALE_BROKER_EPOCH)],
)
def test_epochs_are_checked(broker: int, epoch_off: int, code: ErrorCode) -> None:
    view = cluster()
    epoch = Offset(view.image.brokers[TWO].broker_epoch + epoch_off)
    with pytest.raises(ApiError) as raised:
        brokers.check_epoch(view, NodeId(broker), epoch)
    assert raised.value.code is code


@pytest.mark.parametrize(
    ("before", "gone", "after"),
    [
        # The leader goes: the first replica in sync leads.
        (((1, 2, 3), (1, 2, 3), 1), (1,), ((2, 3), 2)),
        (((1, 2, 3), (1, 3), 1), (1,), ((3,), 3)),
        # A follower goes: only the ISR shrinks.
        (((1, 2, 3), (1, 2, 3), 1), (2,), ((1, 3), 1)),
        # Not in sync, not leading: nothing changes.
        (((1, 2, 3), (1, 2), 1), (3,), ((1, 2), 1)),
        # The last in sync stays in sync, and nobody leads.
        (((1, 2, 3), (1,), 1), (1,), ((1,), NO_NODE)),
        # Two at once.
        (((1, 2, 3), (1, 2, 3), 1), (1, 2), ((3,), 3)),
        # All at once: the leader has everything, so it stays.
        (((1, 2, 3), (1, 2, 3), 2), (1, 2, 3), ((2,), NO_NODE)),
    ],
)
def test_fencing(
    before: tuple[tuple[int, ...], tuple[int, ...], int],
    gone: tuple[int, ...],
    after: tuple[tuple[int, ...], int],
) -> None:
    view = with_topic(cluster(), before)
    fenced = replayed(view, brokers.fence(view, nodes(*gone)).records)
    assert standing(fenced) == after
    assert all(fenced.image.brokers[each].fenced for each in nodes(*gone))


def test_the_leader_epoch_rises_with_the_leader_only() -> None:
    """metadata.version 3.6-IV0 and later: an ISR that shrinks keeps the leader epoch."""
    view = with_topic(cluster(), ((1, 2, 3), (1, 2, 3), 1))
    follower_gone = partition(replayed(view, brokers.fence(view, nodes(2)).records))
    leader_gone = partition(replayed(view, brokers.fence(view, nodes(1)).records))
    assert (follower_gone.leader_epoch, follower_gone.partition_epoch) == (0, 1)
    assert (leader_gone.leader_epoch, leader_gone.partition_epoch) == (1, 1)


def test_fencing_the_fenced_decides_nothing() -> None:
    assert not brokers.fence(cluster(fenced=(2,)), nodes(2)).records


@pytest.mark.parametrize("fenced", [(), (1,)])
def test_unregistered(fenced: tuple[int, ...]) -> None:
    """QC#testUnregisterBroker, CCM#testUnregister (133, 143): gone from leads and ISRs, but for an
    ISR of which it was the last; it stays a replica."""
    view = cluster(fenced=fenced)
    view = with_topic(view, ((1, 2, 3), (1, 2, 3), 1), ((1, 2), (1,), 1), ((2, 1), (2, 1), 2))
    decision = brokers.unregister(view, NodeId(1))
    assert decision.divisible, "it may hold very many topics"
    gone = replayed(view, decision.records)
    assert sorted(gone.image.brokers) == [2, 3]
    assert [standing(gone, number) for number in range(3)] == [
        ((2, 3), 2),
        ((1,), NO_NODE),
        ((2,), 2),
    ]
    assert [partition(gone, number).replicas for number in range(3)] == [(1, 2, 3), (1, 2), (2, 1)]


def test_who_was_unregistered_registers_as_a_new_one_and_has_what_only_it_has() -> None:
    view = with_topic(cluster(), ((1, 2), (1,), 1))
    view = replayed(view, brokers.unregister(view, NodeId(1)).records)
    with pytest.raises(ApiError) as raised:
        brokers.unregister(view, NodeId(1))
    assert raised.value.code is ErrorCode.BROKER_ID_NOT_REGISTERED
    view = replayed(view, register(view, asked(broker=1, directory=91), alive=True).records)
    back = view.image.brokers[NodeId(1)]
    view = replayed(view, brokers.unfence(view, back).records)
    assert standing(view) == ((1,), 1)


def test_unfencing_gives_back_the_lead_where_nobody_leads() -> None:
    view = with_topic(cluster(), ((1, 2), (1,), 1), ((2, 1), (2, 1), 2))
    view = replayed(view, brokers.fence(view, nodes(1)).records)
    assert standing(view, 0) == (nodes(1), NO_NODE)
    view = replayed(view, brokers.unfence(view, view.image.brokers[NodeId(1)]).records)
    assert standing(view, 0) == (nodes(1), 1)
    assert standing(view, 1) == (nodes(2), 2)
    assert view.image.brokers[NodeId(1)].active


def test_controlled_shutdown_moves_leads_away_and_keeps_what_only_it_has() -> None:
    view = with_topic(cluster(), ((1, 2), (1, 2), 1), ((1, 3), (1,), 1))
    view = replayed(view, brokers.begin_shutdown(view, view.image.brokers[NodeId(1)]).records)
    assert standing(view, 0) == (nodes(2), 2)
    assert standing(view, 1) == (nodes(1), NO_NODE)
    assert not view.leads(NodeId(1))
    assert not view.image.brokers[NodeId(1)].active


def test_who_is_on_its_way_out_is_not_let_in_again() -> None:
    """A late heartbeat, of before it wanted to go: it would lead, and be gone the next moment."""
    one = NodeId(1)
    view = with_topic(cluster(), ((1, 3), (1,), 1))
    view = replayed(view, brokers.begin_shutdown(view, view.image.brokers[one]).records)
    view = replayed(view, brokers.fence(view, (one,)).records)
    assert not brokers.unfence(view, view.image.brokers[one]).records
    assert standing(view) == (nodes(1), NO_NODE)
    again = register(view, asked(broker=1, directory=91), alive=True)
    view = replayed(view, again.records)
    view = replayed(view, brokers.unfence(view, view.image.brokers[one]).records)
    assert standing(view) == (nodes(1), 1), "its next uptime leads"
