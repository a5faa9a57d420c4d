"""The record that is written most often is made by a shorter way, and is the same bytes and sum."""

import random
from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.metadata import checksum
from klamm.metadata.codec import to_proto
from klamm.metadata.delta import replay
from klamm.metadata.image import MetadataImage
from klamm.metadata.records import ProducerIdsRecord
from klamm.v1 import records_pb2 as pb
from tests.unit.metadata.histories import history


@given(st.integers(-1, 2**31 - 1), st.integers(-1, 2**63 - 1), st.integers(0, 2**63 - 1))
def test_the_bytes(broker_id: int, broker_epoch: int, next_producer_id: int) -> None:
    record = ProducerIdsRecord(NodeId(broker_id), Offset(broker_epoch), next_producer_id)
    of_parts = pb.MetadataRecord(
        producer_ids=pb.ProducerIdsRecord(
            broker_id=broker_id, broker_epoch=broker_epoch, next_producer_id=next_producer_id
        )
    )
    made = to_proto(record).SerializeToString(deterministic=True)
    assert made == of_parts.SerializeToString(deterministic=True)


@given(st.integers(1, 2**63 - 1))
def test_the_digest(next_producer_id: int) -> None:
    number = str(next_producer_id).encode()
    framed = b"1:i" + str(len(number)).encode() + b":" + number
    expected = blake2b(framed, digest_size=16).digest()
    assert checksum.producer_ids_digest(next_producer_id) == int.from_bytes(expected, "little")


def test_nothing_else_is_touched() -> None:
    _, image = history(random.Random("producer ids"), 100)
    end = OffsetAndEpoch(Epoch(9), Offset(image.provenance.offset + 1))
    next_id = image.next_producer_id + 1_000
    after = replay(image, (ProducerIdsRecord(NodeId(1), Offset(0), next_id),), end)
    assert after == MetadataImage(
        provenance=end,
        brokers=image.brokers,
        topics=image.topics,
        configs=image.configs,
        features=image.features,
        next_producer_id=next_id,
    )
    assert after.topics is image.topics
    assert after.checksum == checksum.checksum_of(after)
