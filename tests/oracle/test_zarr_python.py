"""zarr-python reads what we write and we read what it writes, in every layout, codec, type and source; parts updated too."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import Case, permuted_shards_divide
from exchange import Cannot, check
from sampling import everything, sample

from peers import ZarrPython, ZarrPythonFused

zarr = pytest.importorskip("zarr", minversion="3")

VERSION = tuple(int(part) for part in zarr.__version__.split(".")[:2])
ROWS = (
    Cannot("it has no bfloat16", lambda case: case.dtype == "bfloat16", ValueError, "No Zarr data type.*'bfloat16'"),
    Cannot(
        "it knows raw bits as raw_bytes only",
        lambda case: case.dtype in ("r16", "r24"),
        ValueError,
        "No Zarr data type.*'r(16|24)'",
    ),
    Cannot(
        "it holds the extents of subchunks, which are those after a transpose, against those of the shard before it",
        lambda case: not permuted_shards_divide(case),
        ValueError,
        "divisible by the shard's inner",
    ),
    Cannot(
        "it makes void scalars keys of a cache where it reads a shard",
        lambda case: case.is_raw and case.layout != "chunk" and case.geometry != "empty",
        TypeError,
        "unhashable type: 'writeable void-scalar'",
        until=(3, 3),
    ),
    Cannot(
        "it cannot read a part of a shard without dimensions, nor a whole one where it could read a part",
        lambda case: case.geometry == "0-d" and (case.layout == "nested" or (case.layout, case.around) == ("shard", "none")),
        IndexError,
        "too many indices for array",
        until=(3, 2),
    ),
    Cannot(
        "its Blosc is built without snappy",
        lambda case: "snappy" in case.codec and case.geometry != "empty",
        (RuntimeError, ValueError),
        "error during blosc decompression|compressor not supported: 'snappy'",
    ),
)
CANNOT = tuple(row for row in ROWS if row.until is None or row.until > VERSION)
PEERS = [ZarrPython(), *([ZarrPythonFused()] if VERSION >= (3, 4) else [])]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_exchange(case: Case, peer: ZarrPython, tmp_path: Path) -> None:
    check(peer, CANNOT, case, tmp_path)


def test_every_row_is_tried() -> None:
    assert [row.reason for row in CANNOT if not any(row.covers(case) for case in sample())] == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_everything(dtype: str, layout: str, peer: ZarrPython, tmp_path: Path) -> None:
    for turn, case in enumerate(everything(dtype, layout)):
        check(peer, CANNOT, case, tmp_path / str(turn))
