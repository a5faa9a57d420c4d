"""The shell around changes of features: voters are asked, and nothing is decided without them."""

from collections.abc import Callable

import pytest

from controller.features import Features
from controller.plan.features import FeatureChange, FeatureUpdate
from controller.quorum.port import Peer
from controller.raft.voters import Voter, VoterSet
from klamm.errors import ApiError, ErrorCode, NotControllerError
from klamm.ids import NodeId
from klamm.metadata.features import METADATA_VERSION, Supported, SupportedFeature, supported
from klamm.metadata.records import Cause
from tests.unit.active.quorums import ME
from tests.unit.active.test_active import Room

CAUSE = Cause(principal="User:a", request="UpdateFeatures")
UPDATE = (FeatureUpdate(METADATA_VERSION, 23),)
CHANGE = FeatureChange(METADATA_VERSION, 0, 23)


class Cluster(Room):
    """Three voters, of which two say what the test lets them say."""

    def __init__(self) -> None:
        super().__init__()
        self.says: dict[int, Supported] = {2: supported(), 3: supported()}
        self.meanwhile: Callable[[], None] = lambda: None
        self.vote(1, 2, 3)
        self.quorum.supported_by = self._supported_by  # type: ignore[attr-defined]
        self.features = Features(self.quorum, self.active.log, self.clock)  # type: ignore[arg-type]

    def vote(self, *ids: int) -> None:
        peers = tuple(Peer(node_id=NodeId(each), address=f"h:{each}") for each in ids)
        self.quorum.peers = peers
        voters = VoterSet(tuple(Voter(node_id=each.node_id) for each in peers))
        self.quorum.voters = voters  # type: ignore[attr-defined]

    async def _supported_by(self, voter: Peer, timeout_ms: int) -> Supported:
        assert voter.node_id != ME
        self.meanwhile()
        if voter.node_id not in self.says:
            raise ApiError(ErrorCode.REQUEST_TIMED_OUT, "nobody answers")
        return self.says[voter.node_id]

    async def update(self, *, validate_only: bool = False) -> tuple[FeatureChange, ...]:
        call = self.features.update(UPDATE, CAUSE, 1_000, validate_only=validate_only)
        changes, _ = await self.committed(call)
        return changes


@pytest.fixture
async def cluster() -> Cluster:
    made = Cluster()
    made.lead()
    return made


async def test_a_level_is_in_force_once_it_is_committed(cluster: Cluster) -> None:
    assert await cluster.update(validate_only=True) == (CHANGE,)
    assert METADATA_VERSION not in cluster.active.log.image.features
    assert await cluster.update() == (CHANGE,)
    assert cluster.active.log.image.features[METADATA_VERSION] == 23
    headers = dict(cluster.quorum.proposals[-1][1][0].headers)
    assert headers["request"] == b"UpdateFeatures"


async def test_a_voter_that_is_silent_or_of_an_earlier_version_is_named(cluster: Cluster) -> None:
    del cluster.says[3]
    with pytest.raises(ApiError, match="controller 3") as raised:
        await cluster.update()
    assert raised.value.code is ErrorCode.FEATURE_UPDATE_FAILED
    cluster.says[3] = (SupportedFeature(METADATA_VERSION, 22, 22),)
    with pytest.raises(ApiError, match="controller 3") as raised:
        await cluster.update()
    assert raised.value.code is ErrorCode.INVALID_UPDATE_VERSION
    assert not cluster.quorum.proposals


async def test_a_voter_that_is_added_while_the_others_are_asked_has_a_say(cluster: Cluster) -> None:
    cluster.meanwhile = lambda: cluster.vote(1, 2, 3, 4)
    with pytest.raises(ApiError, match="controller 4"):
        await cluster.update()
    cluster.says[4] = supported()
    assert await cluster.update() == (CHANGE,)


async def test_only_the_leader_decides(cluster: Cluster) -> None:
    cluster.quorum.depose()
    with pytest.raises(NotControllerError):
        await cluster.update()
    cluster.lead()
    cluster.meanwhile = cluster.quorum.depose
    with pytest.raises(NotControllerError):
        await cluster.update()
