"""What of a controller's configuration concerns the quorum."""

from dataclasses import dataclass
from pathlib import Path

from controller.quorum.known_voters import HasPeers, others_than
from controller.quorum.peers import FIRST_BOOTSTRAP
from controller.raft.state import RaftConfig
from controller.raft.voters import Voter, VoterSet
from klamm.config.controller import ControllerConfig
from klamm.ids import DirectoryId, NodeId
from klamm.metadata.records import Endpoint

FETCH_BYTES_MAX = 1024 * 1024
"""Between voters, at a time; one batch always gets through."""


SEGMENT_SHARE = 4
SEGMENT_BYTES_MIN = 1024 * 1024
"""Only whole segments go, and never the last one: one is at most a share of what may be kept."""


PREALLOCATE_BYTES = 8 * 1024 * 1024
"""Of the metadata log's active segment: some ten thousands of commits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumConfig:
    """One controller's."""

    raft: RaftConfig
    cluster_id: str
    metadata_log_dir: Path
    segment_bytes: int
    request_timeout_ms: int
    bootstrap: tuple[str, ...] = ()
    """`host:port` of controllers, for one that is no voter to begin with."""
    preallocate_bytes: int = PREALLOCATE_BYTES

    @property
    def has_peers(self) -> HasPeers:
        """By the voters that the disk knows; by this configuration, if it knows none."""
        others = any(each != self.raft.me for each in self.raft.voters.ids)
        return others_than(self.raft.me, configured=others or bool(self.bootstrap))

    @staticmethod
    def of(config: ControllerConfig, directory_id: DirectoryId) -> "QuorumConfig":
        """Args: `directory_id` is that of the metadata log's directory."""
        voters = (
            Voter(
                node_id=each.voter_id,
                endpoint=Endpoint(name=config.listener.name, host=each.host, port=each.port),
            )
            for each in config.controller_quorum_voters
        )
        voter_set = VoterSet(tuple(voters))
        me, told = voter_set.find(config.node_id), config.advertised
        servers = config.controller_quorum_bootstrap_servers
        raft = RaftConfig(
            me=config.node_id,
            directory_id=directory_id,
            voters=voter_set,
            endpoint=Endpoint(name=told.name, host=told.host, port=told.port)
            if me is None or config.settings.members("advertised.listeners")
            else me.endpoint,
            bootstrap=tuple(NodeId(FIRST_BOOTSTRAP - place) for place, _ in enumerate(servers)),
            election_timeout_ms=config.controller_quorum_election_timeout_ms,
            fetch_timeout_ms=config.controller_quorum_fetch_timeout_ms,
            election_backoff_max_ms=config.controller_quorum_election_backoff_max_ms,
            retry_backoff_ms=max(1, config.controller_quorum_retry_backoff_ms),
            fetch_bytes_max=FETCH_BYTES_MAX,
        )
        return QuorumConfig(
            raft=raft,
            cluster_id=config.cluster_id,
            metadata_log_dir=Path(config.metadata_log_dir),
            segment_bytes=_segment_bytes(config),
            request_timeout_ms=config.controller_quorum_request_timeout_ms,
            bootstrap=servers,
        )


def _segment_bytes(config: ControllerConfig) -> int:
    kept_bytes = config.metadata_max_retention_bytes
    if kept_bytes < 0:
        return config.metadata_log_segment_bytes
    most_bytes = max(kept_bytes // SEGMENT_SHARE, SEGMENT_BYTES_MIN)
    return min(config.metadata_log_segment_bytes, most_bytes)
