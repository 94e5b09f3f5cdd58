"""Pieces of an array: views of bounded size, for who works on an array without a copy of all of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def pieces_of(array: npt.NDArray[np.generic], most: int) -> Iterator[npt.NDArray[np.generic]]:
    """Views that make up an array, in its order, of at most so many bytes each, or of one element.

    >>> [piece.shape for piece in pieces_of(np.zeros((3, 2, 4), np.uint8), 16)]
    [(2, 2, 4), (1, 2, 4)]
    """
    if array.nbytes <= most or array.size == 1:
        yield array
        return
    step = most // (array.nbytes // len(array))
    if step == 0:
        for part in array:
            yield from pieces_of(part, most)
    else:
        for first in range(0, len(array), step):
            yield array[first : first + step]
