"""zarrista reads what we write and we read what it writes, in every layout, codec, type and source; parts updated too.

It is zarrs without zarr-python in between: limits here are those of zarrs alone.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import Case, transposes
from exchange import Cannot, check
from sampling import everything, sample

from peers import Zarrista

zarrista = pytest.importorskip("zarrista")

CANNOT = (
    Cannot(
        "it has raw bits as r<bits> only",
        lambda case: case.dtype.startswith("raw_bytes"),
        zarrista.exceptions.ArrayCreateError,
        "data type raw_bytes is not supported|TransposeCodecConfiguration",
    ),
    Cannot(
        "it has no transpose of an array without dimensions",
        lambda case: transposes(case) and case.geometry == "0-d",
        zarrista.exceptions.ArrayCreateError,
        "TransposeCodecConfiguration",
    ),
)


def test_exchange(case: Case, tmp_path: Path) -> None:
    check(Zarrista(), CANNOT, case, tmp_path)


def test_every_row_is_tried() -> None:
    assert [row.reason for row in CANNOT if not any(row.covers(case) for case in sample())] == []


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_everything(dtype: str, layout: str, tmp_path: Path) -> None:
    for turn, case in enumerate(everything(dtype, layout)):
        check(Zarrista(), CANNOT, case, tmp_path / str(turn))
