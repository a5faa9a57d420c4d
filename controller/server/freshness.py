"""An image as new as a request asks for.

LINEARIZABLE   the leader's committed end, asked now (read index), must be included
BOUNDED        a given offset must be included
LOCAL          whatever this controller has

A state that is known not to be the one of the log answers nobody, however fresh: another controller
has a better one.
"""

from controller.server.port import Metadata, QuorumView
from klamm.clock import Clock
from klamm.errors import UnreachableError
from klamm.ids import Offset
from klamm.metadata.image import MetadataImage
from klamm.rpc.status import BadRequestError
from klamm.v1 import metadata_pb2 as pb

WAIT_MS = 5_000
WAIT_MS_MAX = 60_000


class Freshness:
    def __init__(self, quorum: QuorumView, metadata: Metadata, clock: Clock) -> None:
        self._quorum = quorum
        self._metadata = metadata
        self._clock = clock

    async def image(self, asked: pb.Consistency) -> MetadataImage:
        """The image that answers a request.

        Raises:
            BadRequestError: The consistency itself makes no sense.
            UnreachableError: It could not be had in time, or is known not to be the log's; another
                controller may do better.
        """
        if violations := _violations(asked):
            raise BadRequestError(violations)
        timeout_ms = asked.timeout_ms or WAIT_MS
        deadline_ms = self._clock.monotonic_ms() + timeout_ms
        match asked.level:
            case pb.CONSISTENCY_LEVEL_LOCAL:
                least = Offset(0)
            case pb.CONSISTENCY_LEVEL_BOUNDED:
                least = Offset(asked.min_offset)
            case _:
                least = await self._quorum.read_index(timeout_ms)
        left_ms = deadline_ms - self._clock.monotonic_ms()
        if self._metadata.image.provenance.offset < least and left_ms > 0:
            await self._metadata.wait_applied(least, left_ms)
        if doubts := self._metadata.agreement.why_not():
            raise UnreachableError(f"controller {self._quorum.node_id}: {doubts[0]}")
        image = self._metadata.image
        if image.provenance.offset < least:
            raise UnreachableError(
                f"controller {self._quorum.node_id} has the metadata up to offset "
                f"{image.provenance.offset}, and not up to {least} within {timeout_ms} ms"
            )
        return image


def _violations(asked: pb.Consistency) -> dict[str, str]:
    violations: dict[str, str] = {}
    if asked.level not in pb.ConsistencyLevel.values():
        violations["consistency.level"] = f"{asked.level} is no level"
    if asked.min_offset < 0:
        violations["consistency.min_offset"] = f"must be 0 or more, is {asked.min_offset}"
    if asked.timeout_ms > WAIT_MS_MAX:
        violations["consistency.timeout_ms"] = f"at most {WAIT_MS_MAX}, is {asked.timeout_ms}"
    return violations
