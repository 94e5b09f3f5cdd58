"""Which cases run: rows that hold every pair of axis values, or every way to encode.

The product of the axes is too large to run. `sample`, for a normal run, gives rows that hold every pair of values that can
stand together at least once, and some more by chance; `everything`, for a soak, draws from the product of what decides bytes.
Both give the same cases each time.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from dataclasses import replace

from cases import AXES, GEOMETRIES, Case

Pair = tuple[int, str, int, str]
EACH = 35
"""Of each of 57 pairs of data type and layout: some 2,000 cases a peer in a soak run of size 1."""


def _pairs(row: tuple[str, ...]) -> set[Pair]:
    return {(i, row[i], j, row[j]) for i, j in itertools.combinations(range(len(row)), 2)}


def feasible_pairs() -> set[Pair]:
    """Every pair of axis values that some case has."""
    free = Case(layout="nested", fill="other", dtype="float32")
    pairs: set[Pair] = set()
    for a, b in itertools.combinations(AXES, 2):
        for one, other in itertools.product(AXES[a], AXES[b]):
            pairs |= _pairs(replace(free, **{a: one, b: other}).canonical.row)
    return pairs


def sample(seed: int = 0, extra: int = 30) -> list[Case]:
    """Cases that hold every feasible pair, chosen greedily, and `extra` others."""
    dice = random.Random(seed)
    left = feasible_pairs()
    chosen: dict[tuple[str, ...], Case] = {}
    names = list(AXES)
    while left:
        i, one, j, other = min(dice.sample(sorted(left), min(8, len(left))))
        forced = {names[i]: one, names[j]: other}
        tries = [_random_case(dice, forced) for _ in range(24)]
        best = max(tries, key=lambda case: len(left & _pairs(case.row)))
        gained = left & _pairs(best.row)
        if gained:
            left -= gained
            chosen[best.row] = best
    for _ in range(extra):
        case = _random_case(dice, {})
        chosen[case.row] = case
    return list(chosen.values())


def _random_case(dice: random.Random, forced: dict[str, str]) -> Case:
    row = {axis: dice.choice(values) for axis, values in AXES.items()}
    row["geometry"] = dice.choice([*GEOMETRIES, *list(GEOMETRIES)[:4] * 4])  # "0-d" and "empty" say little about the rest
    return Case(**(row | forced)).canonical


def everything(dtype: str, layout: str) -> Iterator[Case]:
    """Some of all ways to encode a data type in a layout, EACH times the size of the soak run, drawn (seeded)."""
    cases = list(every_case(dtype, layout))
    size = EACH * int(os.environ.get("ZARRANT_SOAK") or 1)
    yield from random.Random(f"{dtype} {layout}").sample(cases, min(size, len(cases)))


def every_case(dtype: str, layout: str) -> Iterator[Case]:
    """All ways to encode a data type in a layout; source, content, fill, keys and geometry of each are drawn (seeded).

    The product of all axes has some 20 million cases; those five act on elements before they reach a codec, or on names.
    """
    dice = random.Random(f"{dtype} {layout}")
    encoding = ("codec", "endian", "index_at", "index_codecs", "around")
    for row in itertools.product(*(AXES[axis] for axis in encoding)):
        chosen = {"dtype": dtype, "layout": layout, **dict(zip(encoding, row, strict=True))}
        case = _random_case(dice, chosen)
        if all(getattr(case, axis) == value for axis, value in chosen.items()):
            yield case
