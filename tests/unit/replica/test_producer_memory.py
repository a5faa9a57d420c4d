"""The producer table beside its log: after any truncation it is what the log alone would give."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broker.replica import producer_memory
from broker.replica.producer_memory import ProducerMemory
from klamm.ids import Epoch, Offset
from klamm.log.log import Log
from klamm.log.record_batch import build_batch, iter_batches
from klamm.log.records import NewRecord
from tests.sim.disk import SimFiles

NOW_MS = 5


def append(log: Log, memory: ProducerMemory, producer_id: int, sequence: int) -> None:
    data = build_batch(
        [NewRecord(value=b"v")],
        base_offset=log.end_offset,
        leader_epoch=Epoch(1),
        timestamp_ms=0,
        producer_id=producer_id,
        producer_epoch=0,
        base_sequence=sequence,
    )
    ((header, _),) = iter_batches(data)
    memory.on_appended(header, log.end_offset, NOW_MS)
    log.append(data)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 3)),
            st.tuples(st.just("cut"), st.integers(1, 9)),
        ),
        max_size=40,
    ),
    st.integers(1, 4),
)
def test_as_if_rebuilt(steps: list[tuple[str, int]], spacing: int) -> None:
    real, producer_memory.WAYPOINT_BATCHES = producer_memory.WAYPOINT_BATCHES, spacing
    try:
        log, memory = Log.open(SimFiles(), Path("/log")), ProducerMemory()
        for number, (kind, value) in enumerate(steps):
            if kind == "append":
                append(log, memory, value, number)
            else:
                log.truncate_to(Offset(max(0, log.end_offset - value)))
                memory.on_truncated(log, NOW_MS)
            fresh = ProducerMemory()
            fresh.replay(log, Offset(0), NOW_MS)
            assert memory.table == fresh.table
    finally:
        producer_memory.WAYPOINT_BATCHES = real


def test_a_snapshot_is_of_one_end_only() -> None:
    log, memory = Log.open(SimFiles(), Path("/log")), ProducerMemory()
    for sequence in range(7):
        append(log, memory, 4, sequence)
    data = memory.snapshot(log.end_offset)
    restored = ProducerMemory()
    assert restored.restore(data, log.end_offset, NOW_MS)
    assert restored.table == memory.table
    assert not ProducerMemory().restore(data, Offset(log.end_offset - 1), NOW_MS)
    for damaged in (b"", b"{", b"[]", b"{}", data[:-5], data.replace(b"epoch", b"xpoch")):
        assert not ProducerMemory().restore(damaged, log.end_offset, NOW_MS)
