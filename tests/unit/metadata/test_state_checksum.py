"""The checksum of the state: the same however the state came about (scenarios 24 and 72)."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klamm.errors import UnknownRecordError
from klamm.ids import Epoch, Offset, OffsetAndEpoch
from klamm.log.record_batch import iter_batches
from klamm.log.records import Record
from klamm.log.snapshot import CorruptSnapshotError
from klamm.metadata import checksum
from klamm.metadata.checksum import CHECKSUM_FORMAT, checksum_of
from klamm.metadata.codec import decode, to_proto
from klamm.metadata.delta import MetadataDelta
from klamm.metadata.image import EMPTY, MetadataImage
from klamm.metadata.records import ConfigRecord, ResourceType, StateChecksumRecord
from klamm.metadata.snapshot import difference, records
from klamm.metadata.snapshot_batches import SnapshotReader, image_batches
from tests.unit.metadata.histories import history

SEEDS = range(25)


def test_nothing_hashes_to_nothing() -> None:
    assert EMPTY.checksum == checksum_of(EMPTY) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_it_follows_every_record_as_if_counted_from_nothing(seed: int) -> None:
    """Row 14 of kraft.md 7.2: over random histories, after each record."""
    rng, image = random.Random(seed), EMPTY
    for _ in range(60):
        _, image = history(rng, 1, image)
        assert image.checksum == checksum_of(image)


@pytest.mark.parametrize("seed", SEEDS)
def test_many_records_at_once_make_the_same_as_one_by_one(seed: int) -> None:
    rng = random.Random(seed)
    _, before = history(rng, 30)
    found, after = history(rng, 60, before)
    delta = MetadataDelta(before)
    for index, record in enumerate(found):
        delta.replay(record, Offset(before.provenance.offset + index))
    assert delta.apply(after.provenance).checksum == after.checksum


@pytest.mark.parametrize("seed", SEEDS)
def test_a_snapshot_loads_to_the_same(seed: int) -> None:
    """Read from the records alone, and as the difference from another image."""
    rng = random.Random(seed)
    _, image = history(rng, 80)
    _, other = history(rng, 80)
    delta = MetadataDelta(EMPTY)
    for record in records(image):
        delta.replay(record, Offset(0))
    assert delta.apply(image.provenance).checksum == image.checksum
    steps = difference(other, image)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            changed = done.value.apply(image.provenance)
            break
    assert changed == image
    assert changed.checksum == image.checksum
    _, later = history(rng, 20, changed)
    assert later.checksum == checksum_of(later)


@pytest.mark.parametrize("seed", SEEDS)
def test_another_state_has_another_checksum(seed: int) -> None:
    """Of all states of some histories, those that are not equal differ in it."""
    rng, image = random.Random(seed), EMPTY
    seen: dict[int, MetadataImage] = {}
    for _ in range(60):
        _, image = history(rng, 1, image)
        known = seen.setdefault(image.checksum, image)
        assert replace(known, provenance=image.provenance) == image


def test_it_is_the_same_on_every_machine() -> None:
    """A change of what is hashed needs another CHECKSUM_FORMAT: nodes of two versions compare."""
    assert CHECKSUM_FORMAT == 3
    _, image = history(random.Random("golden"), 200)
    assert f"{image.checksum:032x}" == GOLDEN


GOLDEN = "8bdfcd28b022e8a6b070dd14957aacb5"


@given(st.data())
def test_configs_that_differ_have_another_checksum(data: st.DataObject) -> None:
    """One value, one key too many, two values exchanged: a digest that is a product tells it."""
    one, two = (data.draw(CONFIGS) for _ in range(2))
    assert (_configured(one).checksum == _configured(two).checksum) == (one == two)
    if len(one) > 1:
        first, second = data.draw(st.permutations(sorted(one)))[:2]
        exchanged = one | {first: one[second], second: one[first]}
        differs = one[first] != one[second]
        assert (_configured(exchanged).checksum != _configured(one).checksum) == differs


VALUES = st.one_of(
    st.text("12", max_size=3),
    st.text("\0\1a", max_size=3),
    st.text(max_size=20),
    st.integers(1, 20).map("v".__mul__),
)
WORDS = st.sampled_from(["", "1", "2", "12", "a", "a1", "1a"])
CONFIGS = st.dictionaries(st.tuples(st.sampled_from(ResourceType), WORDS, WORDS), WORDS, max_size=6)
"""(type, name, key) → value, of parts that run together into the same text."""


def _configured(configs: dict[tuple[ResourceType, str, str], str]) -> MetadataImage:
    delta = MetadataDelta(EMPTY)
    for (kind, name, key), value in configs.items():
        delta.replay(ConfigRecord(kind, name, key, value), Offset(0))
    return delta.apply(EMPTY.provenance)


def test_what_is_remembered_of_numbers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksum, "_RESOURCES_KEPT", 3)
    resources = checksum._Resources()
    for number in range(10):
        resource = (ResourceType.TOPIC, f"t{number}")
        assert resources[resource] == checksum.resource_number(resource)
        assert len(resources) <= 3


@given(st.lists(VALUES))
def test_numbers_of_many_values_are_those_of_each(values: list[str]) -> None:
    """And no two values have the same one, nor that of a value that is not set."""
    numbers = checksum.value_numbers(values)
    assert numbers == [checksum.value_number(value) for value in values]
    assert len(set(numbers)) == len(set(values))
    assert all(numbers)
    assert max(numbers, default=0) <= 1 << 128


def test_the_modulus_is_prime() -> None:
    """Or a product could be nothing with no factor that is. By Miller and Rabin's test."""
    rng, prime = random.Random(1), checksum.MODULUS
    odd, twos = prime - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(40):
        powers = [pow(rng.randrange(2, prime - 1), odd, prime)]
        while len(powers) <= twos:
            powers.append(powers[-1] ** 2 % prime)
        assert powers[-1] == 1
        assert powers[0] == 1 or prime - 1 in powers


def test_a_record_says_it_and_reads_back() -> None:
    record = StateChecksumRecord(offset=Offset(7), checksum=(1 << 128) - 2, format=1)
    assert decode(_written(to_proto(record).SerializeToString())) == record


def test_a_checksum_of_another_size_cannot_be_read() -> None:
    message = to_proto(StateChecksumRecord(offset=Offset(7), checksum=1, format=1))
    message.state_checksum.checksum = b"short"
    with pytest.raises(UnknownRecordError, match="16 bytes"):
        decode(_written(message.SerializeToString()))


def _written(value: bytes) -> Record:
    return Record(offset=Offset(0), timestamp_ms=0, key=None, value=value, headers=())


@pytest.mark.parametrize(
    ("off_by", "format_", "agrees"),
    [(0, CHECKSUM_FORMAT, True), (1, CHECKSUM_FORMAT, False), (1, CHECKSUM_FORMAT + 1, True)],
)
def test_a_statement_is_compared_with_the_state_that_it_stands_on(
    off_by: int, format_: int, *, agrees: bool
) -> None:
    _, image = history(random.Random(1), 40)
    delta = MetadataDelta(image)
    record = StateChecksumRecord(
        offset=image.provenance.offset, checksum=image.checksum + off_by, format=format_
    )
    delta.replay(record, image.provenance.offset)
    assert [each.agrees for each in delta.statements] == [agrees]
    assert delta.apply(image.provenance) == image


def test_a_snapshot_that_loads_to_another_state_is_refused_by_name() -> None:
    _, image = history(random.Random(2), 60)
    assert _read(image).checksum == image.checksum
    with pytest.raises(CorruptSnapshotError, match="says to hold the state"):
        _read(replace(image, next_producer_id=image.next_producer_id + 1))


def _read(image: MetadataImage) -> MetadataImage:
    """Written and read back, header and footer left away."""
    reader = SnapshotReader(OffsetAndEpoch(Epoch(1), image.provenance.offset))
    reader._at = Offset(2)
    for data, _ in image_batches(image, base_offset=Offset(2), timestamp_ms=0):
        for _, view in iter_batches(data):
            reader.take(view)
    reader._whole = True
    return reader.finish()
