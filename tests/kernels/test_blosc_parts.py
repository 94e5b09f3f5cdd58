"""What is done again of Blosc (blosc_parts.cpp, and the encoder of BloscLZ that counts bits): the same bytes, the same refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numcodecs import blosc

from zarrant import kernels
from zarrant.kernels import BLOSC, BLOSC_COMPRESSORS

pytestmark = pytest.mark.skipif("built in" not in kernels.libraries().get("c-blosc", ""), reason="another Blosc serves")
ITEMSIZES = [1, 2, 4, 8]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several put the blocks of a frame in the order in which they are done."""
    monkeypatch.setattr(blosc, "use_threads", False)


def runs(rng: np.random.Generator, size: int) -> Any:
    return np.repeat(rng.integers(0, 256, size, np.uint8), rng.integers(1, 90, size))[:size]


def rare(rng: np.random.Generator, size: int) -> Any:
    return np.where(rng.random(size) < 0.01, rng.integers(0, 256, size), 0).astype(np.uint8)


def repeated(rng: np.random.Generator, size: int) -> Any:
    return np.resize(rng.integers(0, 256, int(rng.integers(1, 70)), np.uint8), size)


def curve(rng: np.random.Generator, size: int) -> Any:
    return (np.arange(size // 2 + 1, dtype=np.uint32) ** 3 // 5).astype(np.uint16).view(np.uint8)[:size]


def noise(rng: np.random.Generator, size: int) -> Any:
    return rng.integers(0, 256, size, np.uint8)


def far(rng: np.random.Generator, size: int) -> Any:
    """Matches that are further away than 8,191 bytes."""
    return np.resize(rng.integers(0, 256, 20_000, np.uint8), size)


@settings(max_examples=80)
@given(
    st.sampled_from([runs, rare, repeated, curve, noise, far]),
    st.sampled_from(ITEMSIZES),
    st.one_of(st.integers(1, 400), st.integers(1, 20_000)),
    st.integers(1, 9),
    st.sampled_from(["noshuffle", "shuffle", "bitshuffle"]),
    st.sampled_from([0, 256, 1000, 65_536]),
    st.sampled_from(["blosclz", "lz4"]),
    st.integers(0, 2**32 - 1),
)
@example(runs, 2, 16_384, 9, "bitshuffle", 0, "blosclz", 0)
@example(far, 1, 100_000, 9, "noshuffle", 0, "blosclz", 0)
def test_frames_are_those_of_blosc(
    make: Any, itemsize: int, count: int, level: int, shuffle: str, blocksize: int, name: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    row = np.ascontiguousarray(make(rng, count * itemsize))
    way = ["noshuffle", "shuffle", "bitshuffle"].index(shuffle)
    program = ((BLOSC, BLOSC_COMPRESSORS.index(name), level, way, itemsize, blocksize),)
    arena, _ = kernels.encode(program, row[np.newaxis], None)
    assert bytes(arena) == bytes(blosc.compress(row.view(f"u{itemsize}"), name.encode(), level, way, blocksize))
    assert decoded(program, arena, row.size) == row.tobytes()
    damaged(program, arena, rng, row.size)


def damaged(program: Any, frame: Any, rng: np.random.Generator, size: int) -> None:
    """What is damaged is refused where Blosc refuses it, and is else what Blosc makes of it."""
    for _ in range(4 if len(frame) > 17 else 0):
        bad = np.array(frame)
        bad[rng.integers(16, len(bad))] = rng.integers(0, 256)
        try:
            expected = bytes(blosc.decompress(bad.tobytes()))
        except RuntimeError:
            expected = None
        assert decoded(program, bad, size) == expected


def decoded(program: Any, frame: Any, size: int) -> bytes | None:
    row, zero = np.zeros((1, size), np.uint8), np.zeros(1, np.int64)
    failures = kernels.decode(program, [frame], zero, zero, np.array([len(frame)]), row)
    return None if failures else row.tobytes()
