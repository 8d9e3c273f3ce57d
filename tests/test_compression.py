# SPDX-License-Identifier: Apache-2.0
"""Decompression: every format, concatenated, bounded, and strict about its end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from copacetic.compression import DecompressedReader, DecompressionError, DecompressionLimitError, decompress, detect

PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "zstd": lambda data: zstandard.compress(data),
    "xz": lambda data: lzma.compress(data, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
    "none": lambda data: data,
}
COMPRESSED = [name for name in PACK if name != "none"]


@pytest.mark.parametrize("name", PACK)
@given(data=st.binary(min_size=8, max_size=5_000))
def test_what_was_packed_comes_back(name: str, data: bytes) -> None:
    packed = PACK[name](b"plain tar " + data)

    assert detect(packed) == name
    assert decompress(packed, limit=10_000) == b"plain tar " + data


@pytest.mark.parametrize("name", COMPRESSED)
def test_members_one_after_the_other_are_one_stream(name: str) -> None:
    assert decompress(PACK[name](b"one") + PACK[name](b"two"), limit=99) == b"onetwo"
    assert decompress(PACK[name](b"one") + bytes(700), limit=99) == b"one", "zeros at the end are padding"


@pytest.mark.parametrize("name", COMPRESSED)
@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_truncated_stream_is_an_error(name: str, part: float) -> None:
    packed = PACK[name](bytes(range(256)) * 400)

    with pytest.raises(DecompressionError):
        decompress(packed[: int(len(packed) * part)], limit=1 << 20)


@pytest.mark.parametrize("name", COMPRESSED)
def test_rubbish_after_the_end_is_an_error(name: str) -> None:
    with pytest.raises(DecompressionError):
        decompress(PACK[name](b"data") + b"rubbish", limit=1 << 20)


@pytest.mark.parametrize("name", PACK)
def test_more_than_the_limit_is_never_given(name: str) -> None:
    packed = PACK[name](b"x" * 1000)

    assert len(decompress(packed, limit=1000)) == 1000
    with pytest.raises(DecompressionLimitError, match="more than 999 bytes"):
        decompress(packed, limit=999)


@pytest.mark.costly
@pytest.mark.parametrize("name", COMPRESSED)
def test_a_bomb_costs_little_memory(name: str) -> None:
    packed = PACK[name](bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(DecompressionLimitError):
        reader = DecompressedReader(io.BytesIO(packed), limit=100_000_000)
        while reader.read(1 << 20):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 40_000_000
