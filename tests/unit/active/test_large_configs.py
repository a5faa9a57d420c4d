"""Configs of very many topics are one record, and have the limits that many records have."""

from controller.plan.configs import SetOnTopics
from controller.plan.decision import Decision
from controller.plan.topics import NewTopic
from controller.quorum.port import PROPOSAL_BYTES_MAX
from klamm.errors import ErrorCode
from klamm.metadata.features import CONFIGS_RECORD_LEVEL, METADATA_VERSION
from klamm.metadata.records import FeatureLevelRecord
from tests.unit.active.test_active import CAUSE, Room, refused


async def test_one_record_that_is_too_large_is_refused_like_many() -> None:
    """Config values of a thousand topics are one record: nothing of it was ever pending (122)."""
    room = Room()
    room.lead()
    await room.serving(1)
    value = ",".join(["0:1"] * 8_000)
    names = tuple(f"t{number}" for number in range(300))
    await room.committed(
        room.active.create_topics(tuple(NewTopic(name=each) for each in names), CAUSE, 1_000)
    )
    level = FeatureLevelRecord(name=METADATA_VERSION, level=CONFIGS_RECORD_LEVEL)
    await room.committed(
        room.active.log.decide(lambda _view, _end: Decision((level,), None), CAUSE, 1_000)
    )
    values = tuple(f"{value},{number}:1" for number in range(len(names)))
    assert sum(map(len, values)) > PROPOSAL_BYTES_MAX
    asked = SetOnTopics("leader.replication.throttled.replicas", names, values)
    proposals = len(room.quorum.proposals)
    code = await refused(room.active.incremental_alter_configs(asked, CAUSE, 1_000))
    assert code is ErrorCode.POLICY_VIOLATION
    assert len(room.quorum.proposals) == proposals
    assert room.active.log.pending.image == room.active.log.image
    assert (await room.committed(room.create("a")))[0][0].error is ErrorCode.NONE
