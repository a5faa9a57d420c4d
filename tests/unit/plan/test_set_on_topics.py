"""One key on many topics is decided by the column, and as it would be row by row (KIP-339)."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from controller.plan import configs
from controller.plan.configs import SetOnTopics
from controller.plan.ledger import View
from klamm.errors import ErrorCode
from klamm.ids import TopicId
from klamm.metadata.config_records import ROWS_MIN, unpacked
from klamm.metadata.features import CONFIGS_RECORD_LEVEL, METADATA_VERSION
from klamm.metadata.records import (
    ConfigRecord,
    ConfigsRecord,
    FeatureLevelRecord,
    MetadataRecord,
    ResourceType,
    TopicRecord,
)
from tests.unit.plan.views import replayed

TOPIC = ResourceType.TOPIC
KNOWN = tuple(f"topic-{number}" for number in range(2 * ROWS_MIN))
VALUES = {
    "retention.ms": ["1", "2", "3", "soon", "-2"],
    "cleanup.policy": ["delete", "compact", "", "delete,compact"],
    "remote.storage.enable": ["true", "false", "maybe"],
    "segment.bytes": ["14", " 15 ", "1_6", str(2**31 - 1), str(2**31), "1.5", ""],
    "min.cleanable.dirty.ratio": ["0", "0.25", "0.5", "nan", "2"],
    "no.such": ["1"],
    "": ["1"],
}
SETTINGS = st.sampled_from([(key, value) for key, values in VALUES.items() for value in values])


def view_of(level: int = CONFIGS_RECORD_LEVEL, *records: MetadataRecord) -> View:
    topics = (
        TopicRecord(topic_id=TopicId(UUID(int=1 + number)), name=name)
        for number, name in enumerate(KNOWN)
    )
    feature = FeatureLevelRecord(name=METADATA_VERSION, level=level)
    return replayed(View(), [feature, *topics, *records])


@st.composite
def views(draw: st.DrawFn) -> View:
    rows = draw(
        st.dictionaries(
            st.tuples(st.sampled_from(KNOWN), st.sampled_from(sorted(VALUES))),
            st.sampled_from(["1", "2", "true", "delete"]),
            max_size=20,
        )
    )
    level = draw(st.sampled_from([CONFIGS_RECORD_LEVEL - 1, CONFIGS_RECORD_LEVEL]))
    return view_of(level, *(ConfigRecord(TOPIC, *row, value) for row, value in rows.items()))


@st.composite
def asks(draw: st.DrawFn) -> SetOnTopics:
    """Mostly what is usual; sometimes a topic that is not there, twice the same, a wrong value."""
    key = draw(st.sampled_from(sorted(VALUES)))
    names = draw(st.lists(st.sampled_from(KNOWN), min_size=1, unique=True))
    if draw(st.booleans()):
        names += draw(st.lists(st.sampled_from([KNOWN[0], "nobody", ""]), max_size=2))
    count = len(names)
    right = draw(st.sampled_from(VALUES[key]))
    values = draw(
        st.one_of(
            st.just([right] * count),
            st.lists(st.sampled_from(VALUES[key]), min_size=count, max_size=count),
        )
    )
    return SetOnTopics(key, tuple(names), tuple(values))


@given(views(), asks())
def test_it_decides_what_is_decided_row_by_row(view: View, asked: SetOnTopics) -> None:
    decision = configs.alter(view, asked)
    assert decision == configs.alter(view, asked.resources)
    validated = configs.alter(view, asked, validate_only=True)
    assert validated == configs.alter(view, asked.resources, validate_only=True)
    assert (validated.records, validated.results) == ((), decision.results)
    assert all(type(each) is configs.AlterResult for each in decision.results)
    altered = [each.resource_name for each in decision.results if not each.error]
    own = replayed(view, decision.records).image.configs
    for name, value in zip(asked.names, asked.values, strict=True):
        if name in altered and asked.names.count(name) == 1:
            assert own[TOPIC, name][asked.key] == value


def test_the_usual_call_is_one_record() -> None:
    view = view_of()
    asked = SetOnTopics("retention.ms", KNOWN, ("5",) * len(KNOWN))
    decision = configs.alter(view, asked)
    assert decision.records == (ConfigsRecord(TOPIC, "retention.ms", KNOWN, ("5",)),)
    assert {each.error for each in decision.results} == {ErrorCode.NONE}
    assert configs._set_on_topics(view, asked) == decision, "row by row it would be as right"
    view = replayed(view, decision.records)
    assert configs.alter(view, asked).records == (), "unchanged values write nothing"
    values = ("5", *(str(each) for each in range(6, 5 + len(KNOWN))))
    (record,) = configs.alter(view, asked._replace(values=values)).records
    assert record == ConfigsRecord(TOPIC, "retention.ms", KNOWN[1:], values[1:])


def test_a_log_of_an_earlier_version_gets_no_record_that_it_does_not_know() -> None:
    """Scenario 63."""
    asked = SetOnTopics("retention.ms", KNOWN, ("5",) * len(KNOWN))
    records = configs.alter(view_of(CONFIGS_RECORD_LEVEL - 1), asked).records
    assert all(isinstance(each, ConfigRecord) for each in records)
    (packed,) = configs.alter(view_of(), asked).records
    assert isinstance(packed, ConfigsRecord)
    assert records == tuple(unpacked(packed))
    # Row by row too, which every other shape of request is.
    records = configs.alter(view_of(CONFIGS_RECORD_LEVEL - 1), asked.resources).records
    assert records == tuple(unpacked(packed))


def test_a_value_that_another_key_excludes_is_refused_in_a_column_too() -> None:
    tiered = ConfigRecord(TOPIC, KNOWN[3], "remote.storage.enable", "true")
    asked = SetOnTopics("cleanup.policy", KNOWN, ("compact",) * len(KNOWN))
    decision = configs.alter(view_of(CONFIGS_RECORD_LEVEL, tiered), asked)
    assert [each.resource_name for each in decision.results if each.error] == [KNOWN[3]]
    (record,) = decision.records
    assert isinstance(record, ConfigsRecord)
    assert set(record.resource_names) == set(KNOWN) - {KNOWN[3]}


def test_rows_of_other_shapes_are_packed_too() -> None:
    """Several keys a topic, and deletions: decided row by row, written in columns."""
    view = view_of()
    asked = tuple(
        configs.AlterResource(
            TOPIC,
            name,
            (
                configs.Alteration("retention.ms", configs.Operation.SET, "5"),
                configs.Alteration("segment.ms", configs.Operation.SET, str(9 + number)),
            ),
        )
        for number, name in enumerate(KNOWN)
    )
    records = configs.alter(view, asked).records
    assert [type(each) for each in records] == [ConfigsRecord] * 2
    removed = tuple(
        each._replace(alterations=(configs.Alteration("segment.ms", configs.Operation.DELETE),))
        for each in asked
    )
    view = replayed(view, records)
    assert configs.alter(view, removed).records == (ConfigsRecord(TOPIC, "segment.ms", KNOWN, ()),)


def test_a_topic_that_stands_twice_is_refused_in_each_of_its_rows() -> None:
    """As Kafka's: who asks for two values of one topic does not get the first one."""
    values = tuple(str(number + 1) for number in range(len(KNOWN)))
    asked = SetOnTopics("retention.ms", (*KNOWN, KNOWN[0]), (*values, "99"))
    decision = configs.alter(view_of(), asked)
    wrong = {at for at, each in enumerate(decision.results) if each.error}
    assert wrong == {0, len(KNOWN)}
    assert decision.results[0].error is ErrorCode.INVALID_REQUEST
    assert decision.records == (ConfigsRecord(TOPIC, "retention.ms", KNOWN[1:], values[1:]),)
