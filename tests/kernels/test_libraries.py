"""The compression libraries of the compiled module: which they are, that they stay inside, that Blosc shares our zstd contexts."""

from __future__ import annotations

import ctypes
import re
import threading
from typing import Any

import numpy as np
import pytest

from zarrant import kernels
from zarrant.kernels import BLOSC, BLOSC_COMPRESSORS, ZSTD, reference

LIBRARIES = kernels.libraries()
BUILT_IN = any("built in" in version for version in LIBRARIES.values())
needs_blosc = pytest.mark.skipif(kernels.active()["step:blosc:zstd"] != "native", reason="needs a compiled Blosc with zstd")


def frame(level: int) -> Any:
    return ((BLOSC, BLOSC_COMPRESSORS.index("zstd"), level, 1, 2, 0),)


def sample() -> Any:
    values = np.arange(40_000, dtype=np.uint32)
    return (values * values // 7 % 65_536).astype("<u2").view(np.uint8).reshape(2, -1)


def encoded(program: Any, rows: Any) -> bytes:
    arena, sizes = kernels.encode(program, rows)
    return bytes(arena[: int(np.sum(sizes))])


def elsewhere(program: Any, rows: Any) -> bytes:
    """The same in a thread that has no contexts yet."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(encoded(program, rows)))
    thread.start()
    thread.join()
    return found[0]


def test_each_has_a_version() -> None:
    named = {"step:zstd": "zstd", "step:blosc": "c-blosc", "step:gzip": "libdeflate"}
    assert LIBRARIES.keys() == {library for step, library in named.items() if kernels.active()[step] == "native"}
    assert all(re.fullmatch(r"\d+\.\d+\S* \((built in|the system's)\)", version) for version in LIBRARIES.values())


@pytest.mark.skipif(not BUILT_IN, reason="the system's libraries serve")
@pytest.mark.parametrize(
    "name", ["ZSTD_compress", "ZSTD_decompress", "blosc_compress", "LZ4_compress_fast", "deflate", "libdeflate_free_compressor"]
)
def test_what_is_built_in_is_seen_by_nobody(name: str) -> None:
    """Another copy of a library in the process would otherwise be called in place of ours, or ours in place of it."""
    from zarrant.kernels import _native

    assert not hasattr(ctypes.CDLL(_native.__file__), name)


@needs_blosc
def test_a_frame_does_not_depend_on_what_the_contexts_did_before() -> None:
    rows = sample()
    programs = [frame(1), ((ZSTD, 3, 1),), frame(5), ((ZSTD, 1, 0),)]
    fresh = [elsewhere(program, rows) for program in programs]
    for _ in range(3):
        assert [encoded(program, rows) for program in programs] == fresh


@needs_blosc
@pytest.mark.parametrize("level", [1, 5, 9])
def test_another_library_reads_the_frames(level: int) -> None:
    rows = sample()
    arena, sizes = kernels.encode(frame(level), rows)
    sizes = np.asarray(sizes, np.int64)
    out = np.zeros_like(rows)
    assert not reference.decode(frame(level), [arena], np.zeros(2, np.int64), np.cumsum(sizes) - sizes, sizes, out, True)
    assert np.array_equal(out, rows)


@needs_blosc
def test_a_broken_frame_leaves_the_contexts_usable() -> None:
    rows, program = sample()[:1], frame(1)
    whole = encoded(program, rows)
    broken = bytearray(whole)
    broken[len(broken) // 2 :] = bytes(len(broken) - len(broken) // 2)
    out = np.empty_like(rows)
    span = (np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([len(whole)], np.int64))
    for _ in range(3):
        assert kernels.decode(program, [bytes(broken)], *span, out)
        assert not kernels.decode(program, [whole], *span, out)
        assert np.array_equal(out, rows)
        assert encoded(program, rows) == whole
