"""Mutated requests at a live broker: each is answered or closed, and nothing is raised or lost.

Every API and version that is served, with values from the codec's tables; then bytes changed, cut,
doubled. Handlers are the real ones over real replicas: what they do with nonsense counts too.
"""

import asyncio
import logging
import struct
from pathlib import Path
from random import Random

import pytest

from broker.api.served import registry
from broker.kafka.api import ApiKey
from broker.kafka.codec import REQUEST, encode_request
from broker.kafka.header import request_frame
from broker.kafka.messages.metadata import MetadataRequest
from tests.unit.api_admin.one_broker import OneBroker, RawClient
from tests.unit.kafka.random_messages import random_message

CONNECTIONS = 400
FRAMES = 4
"""On each: the first that makes no sense is the last that is read."""
SEEDS = range(2)

WAITS_AT_MOST_MS = 30


def mutated(frame: bytes, random: Random) -> bytes:
    data = bytearray(frame)
    match random.randrange(6):
        case 0:
            data[random.randrange(len(data))] = random.randrange(256)
        case 1:
            del data[random.randrange(len(data)) :]
        case 2:
            at = random.randrange(len(data))
            data[at:at] = random.randbytes(random.randrange(1, 20))
        case 3:
            at = random.randrange(max(1, len(data) - 4))
            data[at : at + 4] = random.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)))
        case _:
            pass  # As it was made.
    if random.random() < 0.9 and len(data) > 4:
        data[:4] = struct.pack(">i", len(data) - 4)
    return bytes(data)


def random_frame(random: Random) -> bytes:
    served = random.choice(list(registry_rows))
    version = random.randint(served.min_version, served.max_version)
    message = random_message(served.key, version, REQUEST, random)
    for field in ("max_wait_ms", "timeout_ms"):
        if hasattr(message, field):
            setattr(message, field, min(getattr(message, field), WAITS_AT_MOST_MS))
    body = encode_request(served.key, version, message)
    return b"".join(request_frame(served.key, version, random.getrandbits(31), "fuzz", body))


registry_rows = registry().advertised


@pytest.mark.parametrize("seed", SEEDS)
async def test_nothing_that_is_sent_breaks_the_broker(
    seed: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    random = Random(seed)
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    caplog.set_level(logging.ERROR)
    async with OneBroker(tmp_path).serving() as broker:
        port = broker.listeners.ports["PLAINTEXT"]
        for _ in range(CONNECTIONS):
            client = await RawClient.connect(port)
            frames = [mutated(random_frame(random), random) for _ in range(FRAMES)]
            client.writer.write(b"".join(frames))
            client.writer.write_eof()
            try:
                await client.reader.read()
            except ConnectionResetError:
                pass  # Closed with some of it unread.
            client.writer.close()
        good = await RawClient.connect(port)
        answer = await good.ask(ApiKey.METADATA, 9, MetadataRequest(topics=None))
        assert [each.node_id for each in answer.brokers] == [1]
        await good.close()
    failures = [
        (each.getMessage(), each.exc_text or (each.exc_info and each.exc_info[1]))
        for each in caplog.records
    ]
    assert not failures
    assert not raised
