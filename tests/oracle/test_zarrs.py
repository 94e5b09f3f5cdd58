"""zarrs reads what we write and we read what it writes, in every layout, codec, type and source; parts updated too.

It runs as the codec pipeline of zarr-python, strict: `Zarrs.check` asserts for each array that zarrs serves it. The limits
of zarr-python's own checks and data types are therefore its limits too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cases import Case, permuted_shards_divide, transposes
from exchange import Cannot, Differs, check, exchange
from sampling import everything, sample

from peers import Zarrs

pytest.importorskip("zarr", minversion="3")
zarrs = pytest.importorskip("zarrs")


CANNOT = (
    Cannot("zarr-python has no bfloat16", lambda case: case.dtype == "bfloat16", ValueError, "No Zarr data type.*'bfloat16'"),
    Cannot(
        "zarr-python knows raw bits as raw_bytes only",
        lambda case: case.dtype in ("r16", "r24"),
        ValueError,
        "No Zarr data type.*'r(16|24)'",
    ),
    Cannot(
        "zarr-python holds the extents of subchunks, which are those after a transpose, against those of the shard before it",
        lambda case: not permuted_shards_divide(case),
        ValueError,
        "divisible by the shard's inner",
    ),
    Cannot(
        "it has raw bits as r<bits> only",
        lambda case: case.is_raw,
        zarrs.pipeline.UnsupportedMetadataError,
        "data type raw_bytes is not supported|TransposeCodecConfiguration",
    ),
    Cannot(
        "it has no transpose of an array without dimensions",
        lambda case: transposes(case) and case.geometry == "0-d",
        zarrs.pipeline.UnsupportedMetadataError,
        "TransposeCodecConfiguration",
    ),
    Cannot(
        "in chunks that it reads in part it swaps big-endian complex numbers as one word: real and imaginary parts change places",
        lambda case: case.kind == "complex" and case.endian == "big" and "edges" in case.geometry,
        Differs,
        "zarrs reads",
    ),
)


def test_exchange(case: Case, tmp_path: Path) -> None:
    check(Zarrs(), CANNOT, case, tmp_path)


def test_every_row_is_tried() -> None:
    assert [row.reason for row in CANNOT if not any(row.covers(case) for case in sample())] == []


def test_it_is_really_zarrs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its compiled part nothing arrives: no other code reads or writes elements."""
    calls: list[str] = []
    real = zarrs.pipeline.CodecPipelineImpl

    class Counted:
        def __init__(self, *args: Any, **options: Any) -> None:
            self.impl = real(*args, **options)

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            return getattr(self.impl, name)

    monkeypatch.setattr(zarrs.pipeline, "CodecPipelineImpl", Counted)
    exchange(Zarrs(), Case(layout="shard"), tmp_path)
    assert set(calls) == {"retrieve_chunks_and_apply_index", "store_chunks_with_indices"}


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_everything(dtype: str, layout: str, tmp_path: Path) -> None:
    for turn, case in enumerate(everything(dtype, layout)):
        check(Zarrs(), CANNOT, case, tmp_path / str(turn))
