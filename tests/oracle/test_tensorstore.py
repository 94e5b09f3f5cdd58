"""TensorStore reads what we write and we read what it writes, in every layout, codec, type and source; parts updated too."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import Case
from exchange import Cannot, check
from sampling import everything, sample

from peers import TensorStore

pytest.importorskip("tensorstore")


CANNOT = (
    Cannot(
        "it wants the fill value of raw bits as base64, also where they are called r<bits>",
        lambda case: case.dtype in ("r16", "r24"),
        ValueError,
        "Expected base64-encoded string for raw_bytes fill_value",
    ),
    Cannot(
        "it has no codecs after sharding",
        lambda case: "crc32c" in case.around or "zstd" in case.around,
        ValueError,
        "not compatible with subsequent bytes -> bytes codecs",
    ),
)


def test_exchange(case: Case, tmp_path: Path) -> None:
    check(TensorStore(), CANNOT, case, tmp_path)


def test_every_row_is_tried() -> None:
    assert [row.reason for row in CANNOT if not any(row.covers(case) for case in sample())] == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_everything(dtype: str, layout: str, tmp_path: Path) -> None:
    for turn, case in enumerate(everything(dtype, layout)):
        check(TensorStore(), CANNOT, case, tmp_path / str(turn))
