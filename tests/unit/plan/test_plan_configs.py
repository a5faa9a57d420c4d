"""Incremental alterations (kraft.md 2.12), producer ids (2.13)."""

import pytest

from controller.plan import configs, producer_ids
from controller.plan.configs import Alteration, AlterResource, Operation
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId, Offset
from klamm.metadata.records import ResourceType
from tests.unit.plan.views import cluster, replayed, with_topic

VIEW = with_topic(cluster(), ((1,), (1,), 1))


def on_orders(*alterations: tuple[str, Operation, str | None]) -> AlterResource:
    return AlterResource(
        resource_type=ResourceType.TOPIC,
        resource_name="orders",
        alterations=tuple(
            Alteration(key=key, operation=operation, value=value)
            for key, operation, value in alterations
        ),
    )


def own(view: View) -> dict[str, str]:
    return dict(view.image.config(ResourceType.TOPIC, "orders"))


def altered(view: View, *alterations: tuple[str, Operation, str | None]) -> View:
    decision = configs.alter(view, (on_orders(*alterations),))
    assert decision.results[0].error is ErrorCode.NONE, decision.results[0].message
    return replayed(view, decision.records)


def test_set_and_delete() -> None:
    view = altered(VIEW, ("retention.ms", Operation.SET, "5"))
    assert own(view) == {"retention.ms": "5"}
    assert own(altered(view, ("retention.ms", Operation.DELETE, None))) == {}


def test_append_and_subtract_keep_each_item_once() -> None:
    view = altered(VIEW, ("cleanup.policy", Operation.APPEND, "compact"))
    assert own(view) == {"cleanup.policy": "delete,compact"}
    view = altered(view, ("cleanup.policy", Operation.APPEND, "compact,delete"))
    assert own(view) == {"cleanup.policy": "delete,compact"}
    view = altered(view, ("cleanup.policy", Operation.SUBTRACT, "delete"))
    assert own(view) == {"cleanup.policy": "compact"}


def test_an_unchanged_value_writes_nothing() -> None:
    view = altered(VIEW, ("retention.ms", Operation.SET, "5"))
    assert not configs.alter(view, (on_orders(("retention.ms", Operation.SET, "5")),)).records


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (on_orders(("no.such", Operation.SET, "1")), ErrorCode.INVALID_CONFIG),
        (on_orders(("retention.ms", Operation.SET, "soon")), ErrorCode.INVALID_CONFIG),
        (on_orders(("retention.ms", Operation.SET, None)), ErrorCode.INVALID_CONFIG),
        (on_orders(("retention.ms", Operation.APPEND, "1")), ErrorCode.INVALID_CONFIG),
        (on_orders(*[("retention.ms", Operation.SET, "1")] * 2), ErrorCode.INVALID_REQUEST),
        (
            AlterResource(resource_type=ResourceType.TOPIC, resource_name="nobody", alterations=()),
            ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ),
        (
            AlterResource(resource_type=ResourceType.TOPIC, resource_name="", alterations=()),
            ErrorCode.INVALID_REQUEST,
        ),
        (
            AlterResource(resource_type=ResourceType.BROKER, resource_name="1", alterations=()),
            ErrorCode.INVALID_CONFIG,
        ),
    ],
)
def test_refusals_are_whole_for_a_resource(resource: AlterResource, code: ErrorCode) -> None:
    decision = configs.alter(VIEW, (resource,))
    assert decision.results[0].error is code
    assert not decision.records


def test_resources_are_independent_and_atomic() -> None:
    good = on_orders(("retention.ms", Operation.SET, "5"), ("segment.ms", Operation.SET, "9"))
    bad = on_orders(("segment.ms", Operation.SET, "9"), ("retention.ms", Operation.SET, "x"))
    assert not configs.alter(VIEW, (bad,)).records
    decision = configs.alter(VIEW, (good, bad))
    assert [each.error for each in decision.results] == [
        ErrorCode.NONE,
        ErrorCode.INVALID_REQUEST,
    ]
    assert len(decision.records) == 2
    assert not configs.alter(VIEW, (good,), validate_only=True).records


def test_producer_ids_come_in_blocks_that_never_overlap() -> None:
    view = cluster()
    epoch = view.image.brokers[NodeId(1)].broker_epoch
    firsts = []
    for _ in range(3):
        decision = producer_ids.allocate(view, NodeId(1), epoch)
        firsts.append(decision.results.first_producer_id)
        view = replayed(view, decision.records)
    assert firsts == [0, 1_000, 2_000]
    with pytest.raises(ApiError) as raised:
        producer_ids.allocate(view, NodeId(1), Offset(epoch + 1))
    assert raised.value.code is ErrorCode.STALE_BROKER_EPOCH
