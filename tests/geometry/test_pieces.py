"""Pieces of an array: all of it, in its order, none larger than asked for."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zarrant.geometry.pieces import pieces_of


@given(shape=st.lists(st.integers(0, 5), max_size=4), most=st.integers(1, 80), turned=st.booleans())
def test_pieces_make_up_the_array(shape: list[int], most: int, turned: bool) -> None:
    array = np.arange(math.prod(shape), dtype="uint16").reshape(shape)
    array = array.T if turned else array
    pieces = list(pieces_of(array, most))
    assert np.array_equal(np.concatenate([piece.reshape(-1) for piece in pieces]), array.reshape(-1))
    assert all(piece.nbytes <= most or piece.size == 1 for piece in pieces)
