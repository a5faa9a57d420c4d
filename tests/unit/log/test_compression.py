"""Compression against kafka-python's codecs, both ways, and against bombs."""

import kafka.codec as theirs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klamm.log.compression import Compression, CompressionError, compress, decompress

ENCODE = {
    Compression.GZIP: theirs.gzip_encode,
    Compression.SNAPPY: theirs.snappy_encode,
    Compression.LZ4: theirs.lz4_encode,
    Compression.ZSTD: theirs.zstd_encode,
}
DECODE = {
    Compression.GZIP: theirs.gzip_decode,
    Compression.SNAPPY: theirs.snappy_decode,
    Compression.LZ4: theirs.lz4_decode,
    Compression.ZSTD: theirs.zstd_decode,
}
CODECS = list(ENCODE)

payloads = st.binary(max_size=2_000) | st.builds(
    lambda unit, times: unit * times, st.binary(min_size=1, max_size=9), st.integers(0, 30_000)
)


@settings(max_examples=60, deadline=None)
@given(payloads, st.sampled_from(CODECS))
def test_both_ways(data: bytes, codec: Compression) -> None:
    assert bytes(decompress(compress(data, codec), codec)) == data
    assert bytes(decompress(ENCODE[codec](data), codec)) == data
    assert bytes(decompress(memoryview(ENCODE[codec](data)), codec)) == data
    if data:  # kafka-python's xerial reader wants a block at the least.
        assert bytes(DECODE[codec](compress(data, codec))) == data


def test_snappy_without_xerials_framing() -> None:
    data = b"abc" * 100
    raw = theirs.snappy_encode(data, xerial_compatible=False)
    assert decompress(raw, Compression.SNAPPY) == data


@pytest.mark.parametrize("codec", CODECS)
def test_the_limit_is_exact(codec: Compression) -> None:
    data = b"a" * 100_000
    packed = compress(data, codec)
    assert bytes(decompress(packed, codec, len(data))) == data
    with pytest.raises(CompressionError, match=r"more than|holds"):
        decompress(packed, codec, len(data) - 1)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_is_refused_within_the_limit(codec: Compression) -> None:
    bomb = compress(bytes(50_000_000), codec)
    with pytest.raises(CompressionError):
        decompress(bomb, codec, 1_000_000)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(CODECS), st.booleans())
def test_garbage_is_an_error_and_nothing_else(
    data: bytes, codec: Compression, has_magic: bool
) -> None:
    packed = compress(b"something", codec)
    try:
        decompress((packed[:20] if has_magic else b"") + data, codec, 10_000)
    except CompressionError:
        pass


@pytest.mark.parametrize("codec", CODECS)
def test_a_payload_cut_short_is_an_error_or_all_there(codec: Compression) -> None:
    data = bytes(range(256)) * 300
    packed = compress(data, codec)
    for end in range(0, len(packed), 97):
        try:
            got = bytes(decompress(packed[:end], codec))
        except CompressionError:
            continue
        # Xerial's framing has no end mark: whole blocks are all it can tell.
        assert codec is Compression.SNAPPY
        assert data.startswith(got)
