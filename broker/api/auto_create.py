"""Topics made because a client has asked for their metadata (auto.create.topics.enable).

    Metadata(orders) ─▶ not in the image ─▶ CreateTopics at the controller ─▶ in the image: answer
                                                     └─ late, or refused: LEADER_NOT_AVAILABLE,
                                                        and the client asks again

A name that is being made is not asked for twice, however many clients ask.
"""

import asyncio
from functools import partial

from broker.api.context import ANONYMOUS, BrokerServices
from broker.kafka.api import ApiKey
from klamm.errors import ApiError, ErrorCode, KlammError
from klamm.ids import Offset
from klamm.telemetry.logs import logger
from klamm.v1 import admin_pb2 as pb

log = logger(__name__)

CREATIONS_MAX = 100
"""Topics that are being made at a time; clients that ask for more ask again."""

CREATE_TIMEOUT_MS = 10_000

ANSWER_WAIT_MS = 500
"""A client waits so long for its topic. It asks again by itself, so not long."""

_PASSING = frozenset(
    {
        ErrorCode.NONE,
        ErrorCode.TOPIC_ALREADY_EXISTS,
        ErrorCode.NOT_CONTROLLER,
        ErrorCode.REQUEST_TIMED_OUT,
        # More brokers may come: at the start of a cluster the first is there before the last.
        ErrorCode.INVALID_REPLICATION_FACTOR,
    }
)
"""After these a client shall ask again."""


class AutoCreation:
    """What is being made, and how it ended; one a broker."""

    def __init__(self, answer_wait_ms: int = ANSWER_WAIT_MS) -> None:
        self._answer_wait_ms = answer_wait_ms
        self._going: dict[str, asyncio.Task[ErrorCode]] = {}

    async def create(self, services: BrokerServices, names: list[str]) -> dict[str, ErrorCode]:
        """Have topics made, and wait a little.

        Returns:
            Of each name what to tell a client that does not find it in the image even now.
        """
        told = dict.fromkeys(names, ErrorCode.LEADER_NOT_AVAILABLE)
        for name in names:
            if name not in self._going and len(self._going) < CREATIONS_MAX:
                task = asyncio.create_task(_create(services, name), name=f"create {name}")
                self._going[name] = task
                task.add_done_callback(partial(self._ended, name))
        waited = {name: self._going[name] for name in names if name in self._going}
        if waited:
            await asyncio.wait(waited.values(), timeout=self._answer_wait_ms / 1_000)
        for name, task in waited.items():
            if task.done() and not task.cancelled() and task.result() not in _PASSING:
                told[name] = task.result()
        return told

    def _ended(self, name: str, _: "asyncio.Task[ErrorCode]") -> None:
        self._going.pop(name, None)


async def _create(services: BrokerServices, name: str) -> ErrorCode:
    config = services.config
    request = pb.CreateTopicsRequest(
        topics=[
            pb.NewTopic(
                name=name,
                num_partitions=config.num_partitions,
                replication_factor=config.default_replication_factor,
            )
        ],
        timeout_ms=CREATE_TIMEOUT_MS,
        principal=ANONYMOUS,
        request_id=f"auto-create by broker {config.node_id}, {ApiKey.METADATA.name}",
    )
    try:
        response = await services.controllers.create_topics(request, CREATE_TIMEOUT_MS)
        (result,) = response.results
        if result.error_code == ErrorCode.NONE:
            end = Offset(response.committed_offset)
            await services.metadata.wait_for(end, CREATE_TIMEOUT_MS)
    except (KlammError, TimeoutError) as error:
        log.warning("topic not created", topic=name, reason=error)
        return error.code if isinstance(error, ApiError) else ErrorCode.REQUEST_TIMED_OUT
    code = ErrorCode(result.error_code)
    if code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
        log.warning("topic not created", topic=name, error=code.name, reason=result.error_message)
    return code
