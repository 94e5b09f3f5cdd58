"""The plan of a box of a shard: the compiled one equals its twin, and mistakes of the caller are refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.kernels import reference

native = kernels.active()["plan_box"] == "native"
twins = pytest.mark.skipif(not native, reason="compiled kernels absent or not chosen")
both = pytest.mark.parametrize("kernel", [pytest.param(reference, id="reference"), pytest.param(kernels, id="native", marks=twins)])
LARGEST = 2**63 - 1


@st.composite
def plans(draw: Any) -> tuple[Any, ...]:
    """A box, and an index of which most entries are good."""
    axes = draw(st.integers(0, 3))
    edge = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    grid = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    sides = [sorted(draw(st.tuples(st.integers(0, e * g - 1), st.integers(0, e * g - 1)))) for e, g in zip(edge, grid, strict=True)]
    start, count = tuple(a for a, _ in sides), tuple(b - a + 1 for a, b in sides)
    value = tuple(draw(st.integers(0, 9)) for _ in range(axes))
    touched = math.prod((a + n - 1) // e - a // e + 1 for a, n, e in zip(start, count, edge, strict=True))
    lo, hi = sorted(draw(st.tuples(st.integers(0, touched), st.integers(0, touched))))
    entries = math.prod(grid)
    size = np.array(draw(st.lists(st.sampled_from([-1, 0, 3, 3, 5, 5]), min_size=entries, max_size=entries)), np.int64)
    order = np.array(draw(st.permutations(range(entries))), np.int64)
    offset = np.full(entries, -1, np.int64)
    offset[order] = np.cumsum(np.maximum(size[order], 0)) - np.maximum(size[order], 0)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        row = draw(st.integers(0, entries - 1))
        offset[row] = size[row] = draw(st.sampled_from([-2, 100, LARGEST]))
    table = np.stack([offset, size], axis=1)
    return (start, count, value), edge, grid, table[:, 0], table[:, 1], draw(st.sampled_from([4, 5, 200, LARGEST])), lo, hi


@twins
@given(plans())
def test_the_compiled_plan_equals_its_twin(plan: Any) -> None:
    found, expected = kernels.plan_box(*plan), reference.plan_box(*plan)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.runs == expected.runs
        assert [each.tolist() for each in found[1:]] == [each.tolist() for each in expected[1:]]


GOOD: dict[str, Any] = {
    "box": ((1,), (5,), (0,)),
    "edge": (3,),
    "grid": (2,),
    "offset": np.array([0, 4]),
    "size": np.array([4, 4]),
    "limit": 9,
    "lo": 0,
    "hi": 2,
}


@both
def test_what_a_plan_says(kernel: Any) -> None:
    plan = kernel.plan_box(*GOOD.values())
    assert plan.runs == [(0, 8)]
    assert plan.spans.tolist() == [[0, 1], [0, 0], [0, 4], [4, 4]]
    assert plan.boxes.tolist() == [[[0, 0], [0, 2]], [[0, 1], [1, 0]], [[1, 2], [1, 3]]]
    assert kernel.plan_box(*(GOOD | {"limit": 3}).values()) is None


@both
@pytest.mark.parametrize(
    "wrong",
    [
        {"box": ((-1,), (5,), (0,))},
        {"box": ((1,), (6,), (0,))},
        {"box": ((6,), (1,), (0,))},
        {"box": ((1,), (0,), (0,))},
        {"lo": -1},
        {"hi": 3},
        {"lo": 2, "hi": 1},
        {"offset": np.array([0])},
        {"size": np.array([0])},
        {"grid": (1,)},
    ],
    ids=str,
)
def test_mistakes_are_refused(kernel: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        kernel.plan_box(*(GOOD | wrong).values())


@st.composite
def tables(draw: Any) -> Any:
    """An index in some order, mostly good, and the part of the object that its entries must lie in."""
    sizes = draw(st.lists(st.sampled_from([-1, 0, 2, 3, 5]), max_size=8))
    start = draw(st.integers(0, 3))
    places = dict(zip(draw(st.permutations(range(len(sizes)))), sizes, strict=True))
    at, table = start, np.full((len(sizes), 2), -1, np.int64)
    for row, size in places.items():
        if size >= 0:
            table[row] = at, size
            at += size + draw(st.sampled_from([0, 0, 1]))
    for _ in range(draw(st.sampled_from([0, 0, 1])) if len(sizes) else 0):
        row, column = draw(st.integers(0, len(sizes) - 1)), draw(st.integers(0, 1))
        table[row, column] += draw(st.sampled_from([-LARGEST, -2, -1, 1, 2, 7]))
    return table, start, at


@twins
@given(tables())
def test_valid_indexes_are_those_of_the_twin(case: Any) -> None:
    assert kernels.valid_index(*case) == reference.valid_index(*case)


@both
@pytest.mark.parametrize(
    ("table", "valid"),
    [
        ([], True),
        ([(-1, -1), (2, 3), (5, 0), (5, 5)], True),
        ([(5, 5), (2, 3)], True),
        ([(5, 5), (2, 4)], False),
        ([(2, 8), (3, 1)], False),
        ([(1, 2)], False),
        ([(8, 3)], False),
        ([(-1, 2)], False),
        ([(3, -1)], False),
        ([(3, -2)], False),
        ([(4, LARGEST)], False),
        ([(LARGEST, LARGEST)], False),
        ([(11, 0)], False),
        ([(10, 0), (2, 8)], True),
    ],
)
def test_which_indexes_are_valid(kernel: Any, table: Any, valid: bool) -> None:
    assert kernel.valid_index(np.array(table, np.int64).reshape(-1, 2), 2, 10) is valid


@both
def test_what_is_no_index_is_refused(kernel: Any) -> None:
    for table, start in ((np.zeros((2, 3), np.int64), 0), (np.zeros(2, np.int64), 0), (np.zeros((1, 2), np.int64), -1)):
        with pytest.raises(ValueError):
            kernel.valid_index(table, start, 9)
