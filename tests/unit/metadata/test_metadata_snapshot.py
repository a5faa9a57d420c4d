"""Snapshots of the metadata: what is written of an image, and what is read back."""

import random
from collections.abc import Iterator

import pytest

from controller.quorum.control import build_snapshot_footer, build_snapshot_header
from controller.raft.voters import Voter, VoterSet
from klamm.ids import Epoch, NodeId, Offset, OffsetAndEpoch
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import CorruptBatchError
from klamm.log.snapshot import CorruptSnapshotError
from klamm.metadata.codec import encode
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.loader import MetadataLoader
from klamm.metadata.records import Cause
from klamm.metadata.snapshot import difference, records
from klamm.metadata.snapshot_batches import SnapshotReader, image_batches, last_timestamp_ms
from tests.unit.metadata.histories import history

SEEDS = range(40)
VOTERS = VoterSet((Voter(node_id=NodeId(1), directory_id=None, endpoint=None),))


def snapshot_of(image: MetadataImage) -> bytes:
    """All bytes of one, header to footer."""
    epoch = image.provenance.epoch
    parts = [build_snapshot_header(VOTERS, epoch=epoch, last_timestamp_ms=77, timestamp_ms=2)]
    end = Offset(2)
    for data, at in image_batches(image, base_offset=Offset(2), timestamp_ms=2):
        parts.append(data)
        end = at
    parts.append(build_snapshot_footer(end, epoch=epoch, timestamp_ms=2))
    return b"".join(parts)


def batches_of(data: bytes) -> Iterator[memoryview]:
    return (batch for _, batch in iter_batches(data))


def read(data: bytes, snapshot_id: OffsetAndEpoch) -> MetadataImage:
    reader = SnapshotReader(snapshot_id)
    for batch in batches_of(data):
        reader.take(batch)
    return reader.finish()


def compared(before: MetadataImage, after: MetadataImage) -> MetadataDelta:
    steps = difference(before, after)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            delta: MetadataDelta = done.value
            return delta


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_written_of_an_image_is_that_image(seed: int) -> None:
    """Row 129."""
    _, image = history(random.Random(seed), 120)
    again = read(snapshot_of(image), image.provenance)
    assert again == image
    assert list(records(again)) == list(records(image)), "in the same order, too"
    assert snapshot_of(again) == snapshot_of(image)


@pytest.mark.parametrize("seed", SEEDS)
async def test_snapshot_and_tail_are_the_whole_log(seed: int) -> None:
    """Scenario 22; and a node at any point before is told of one delta that leads there."""
    rng = random.Random(seed)
    early, then = history(rng, rng.randrange(40))
    middle, at = history(rng, rng.randrange(80), then)
    tail, last = history(rng, 30, at)
    told: list[MetadataDelta] = []

    class Publisher:
        def publish(self, delta: MetadataDelta, image: MetadataImage) -> None:
            told.append(delta)
            assert delta.apply(image.provenance) == image

    for start, known in (([], EMPTY), (early, then)):
        loader = MetadataLoader((Publisher(),))
        for offset, each in enumerate(start):
            loader.load(_batch([each], offset), Offset(offset + 1))
        assert loader.image == known
        del told[:]
        await loader.load_snapshot(at.provenance, batches_of(snapshot_of(at)))
        assert loader.image == at
        assert len(told) == 1
        assert loader.last_timestamp_ms == 77
        loader.load(_batch(tail, at.provenance.offset), last.provenance.offset)
        assert loader.image == last
    assert middle is not tail


def _batch(of: list, base: int) -> bytes:  # type: ignore[type-arg]
    cause = Cause(principal="User:a", request="x")
    return build_batch(
        encode(tuple(of), cause), base_offset=Offset(base), leader_epoch=Epoch(1), timestamp_ms=1
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_difference_names_what_differs_and_nothing_else(seed: int) -> None:
    rng = random.Random(seed)
    _, before = history(rng, 60)
    _, after = history(rng, rng.choice([1, 40]), before)
    delta = compared(before, after)
    assert delta.apply(after.provenance) == after
    assert all(before.topics.by_id.get(key) != each for key, each in delta.topics_changed.items())
    assert set(delta.topics_removed) == set(before.topics.by_id) - set(after.topics.by_id)
    nothing = compared(after, read(snapshot_of(after), after.provenance))
    assert not nothing.topics_changed
    assert not nothing.brokers_changed
    assert not nothing.configs_changed
    unrelated = compared(history(random.Random(seed + 1_000), 60)[1], after)
    assert unrelated.apply(after.provenance) == after


def test_an_empty_image_is_header_checksum_and_footer() -> None:
    data = snapshot_of(EMPTY)
    assert read(data, EMPTY.provenance) == EMPTY
    assert len(list(batches_of(data))) == 3
    assert last_timestamp_ms(data) == 77


def test_a_flip_of_any_byte_is_found() -> None:
    """Scenario 29: every bit of every byte, read as it comes over a wire."""
    _, image = history(random.Random(3), 15)
    data = snapshot_of(image)
    for at in range(len(data)):
        for bit in (0, 3, 7):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises((CorruptSnapshotError, CorruptBatchError)):
                read(bytes(damaged), image.provenance)


def test_a_snapshot_that_is_cut_or_put_together_wrongly_is_none() -> None:
    _, image = history(random.Random(3), 15)
    header, *middle, footer = batches_of(snapshot_of(image))
    for wrong in (
        [],
        [header],
        [header, *middle],
        [*middle, footer],
        [header, footer],
        [header, *middle, footer, footer],
        [header, header, *middle, footer],
        [footer],
    ):
        with pytest.raises(CorruptSnapshotError):
            read(b"".join(wrong), image.provenance)
