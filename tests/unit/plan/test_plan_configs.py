"""Incremental alterations (kraft.md 2.12), producer ids (2.13)."""

import pytest

from controller.plan import configs, producer_ids
from controller.plan.configs import Alteration, AlterResource, Operation
from controller.plan.ledger import View
from klamm.errors import ApiError, ErrorCode
from klamm.ids import NodeId, Offset
from klamm.metadata.records import ConfigRecord, ResourceType
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
    other = good._replace(resource_name="nobody")
    decision = configs.alter(VIEW, (other, good))
    assert [each.error for each in decision.results] == [
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.NONE,
    ]
    assert len(decision.records) == 2
    assert not configs.alter(VIEW, (good,), validate_only=True).records
    decision = configs.alter(VIEW, (good, bad, good))
    assert {each.error for each in decision.results} == {ErrorCode.INVALID_REQUEST}
    assert not decision.records, "none of them is what was meant"


@pytest.mark.parametrize("order", [1, -1])
def test_keys_that_exclude_each_other_do_so_in_whatever_order_they_come(order: int) -> None:
    """Either is refused over the other one that is set; and may be taken back."""
    pair = [("remote.storage.enable", "true"), ("cleanup.policy", "compact")][::order]
    (first, value), (second, excluded) = pair
    view = altered(VIEW, (first, Operation.SET, value))
    asked = on_orders((second, Operation.SET, excluded))
    (result,) = configs.alter(view, (asked,)).results
    assert result.error is ErrorCode.INVALID_CONFIG
    assert "exclude each other" in result.message
    view = altered(view, (first, Operation.DELETE, None), (second, Operation.SET, excluded))
    assert own(view) == {second: excluded}


def test_what_is_wrong_with_keys_that_are_not_asked_for_is_no_refusal() -> None:
    """A version before this one may have taken it: the topic's other keys can be set still."""
    wrong = (
        ("retention.ms", "soon"),
        ("remote.storage.enable", "true"),
        ("cleanup.policy", "compact"),
    )
    rows = [ConfigRecord(ResourceType.TOPIC, "orders", *each) for each in wrong]
    view = altered(replayed(VIEW, rows), ("segment.ms", Operation.SET, "9"))
    assert own(view) == {**dict(wrong), "segment.ms": "9"}


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
