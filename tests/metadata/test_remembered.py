from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.metadata import remembered
from zarrant.metadata.remembered import Remembered, place_of

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, -0.0, 1.0, math.nan]) | st.text(max_size=2)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.text(max_size=1), inner, max_size=2)
    ),
    max_leaves=6,
)


def exactly(value: Any) -> Any:
    """What tells a value from every other one, of the same type in each part."""
    if isinstance(value, dict):
        return dict, [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exactly(item) for item in value]
    return type(value), repr(value)


@given(VALUES, VALUES)
def test_a_value_is_found_where_it_is_the_same_in_every_part(first: Any, second: Any) -> None:
    known: Remembered[str] = Remembered()
    known.keep(place_of(first), first, "first")
    place = place_of(second)
    assert place is not None
    assert (known.get(place) == "first") == (exactly(first) == exactly(second))


def test_a_part_that_occurs_twice_is_the_same_as_two_that_are_equal() -> None:
    shared = ["x" * 3]
    assert place_of([shared, shared]) == place_of([["xxx"], ["xxx"]])


@pytest.mark.parametrize("odd", [np.float64(1.5), np.int64(1), b"12345678", bytearray(8), np.zeros(1), object(), range(3), {1, 2}])
def test_what_is_no_plain_value_is_not_remembered(odd: Any) -> None:
    known: Remembered[str] = Remembered()
    for value in (odd, [odd], {"a": (odd,)}):
        known.keep(place_of(value), value, "odd")
    assert not known


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MAX_REMEMBERED", 3)
    known: Remembered[int] = Remembered()
    for number in range(10):
        known.keep(place_of(number), number, number)
        assert len(known) <= 3
        assert known[place_of(number) or b""] == number
