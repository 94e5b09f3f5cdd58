from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.codecs import Bytes, Crc32c, Numcodecs, Transpose, Zstd
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset

CHAINS = [[Bytes()], [Bytes("big"), Crc32c()], [Transpose((1, 0)), Bytes(), Zstd()], [Bytes("big"), Numcodecs("numcodecs.zlib"), Crc32c()]]


@st.composite
def subsets(draw):
    start = [draw(st.integers(0, n)) for n in (5, 4)]
    return ArraySubset(tuple(start), tuple(draw(st.integers(0, n - a)) for n, a in zip((5, 4), start, strict=True)))


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
@given(subset=subsets(), seed=st.integers(0, 99))
def test_partial_writes_and_reads_are_slices(codecs, subset, seed) -> None:
    from_conftest = pytest.importorskip("conftest", reason="fixtures cannot be used with given") if False else None
    assert from_conftest is None
    codec = CODEC[0]
    if subset.is_empty:
        return
    dice = np.random.default_rng(seed)
    c = codec(codecs, (5, 4), fill=3)
    old = dice.integers(0, 9, (5, 4), "int32")
    new = dice.integers(0, 9, subset.shape, "int32")
    merged = c.encode(new, c.encode(old) or c_fill(c), subset)
    old[subset.slices] = new
    if merged is None:
        assert (old == 3).all()
    else:
        assert np.array_equal(c.decode(merged), old)
        assert np.array_equal(c.decode(merged, subset), new)


CODEC = []


@pytest.fixture(autouse=True, scope="module")
def _codec():
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("codecs_conftest", Path(__file__).with_name("conftest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    CODEC[:] = [module.Codec]


def c_fill(c) -> bytes:
    return bytes(type(c)(list(c.chain.array_to_array) + [c.chain.array_to_bytes, *c.chain.bytes_to_bytes], c.spec.shape, fill=3, write_empty_chunks=True).encode(3 * np.ones(c.spec.shape, "int32")))
