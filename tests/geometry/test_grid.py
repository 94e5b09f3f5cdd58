from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import BoundsError, MetadataError, ShapeError, UnknownExtensionError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid, RegularDimension


@given(st.integers(0, 60), st.integers(1, 70))
def test_regular_dimension_agrees_with_counting(length: int, size: int) -> None:
    dimension = RegularDimension(length, size)
    chunk_of = [i // size for i in range(length)]
    assert dimension.n_chunks == len(set(chunk_of))
    assert dimension.locate(np.arange(length)).tolist() == chunk_of
    chunks = np.arange(dimension.n_chunks)
    assert dimension.start(chunks).tolist() == [chunk_of.index(chunk) for chunk in chunks]
    assert dimension.length(chunks).tolist() == [size] * dimension.n_chunks
    assert dimension.length(chunks).dtype == np.int64
    assert dimension.uniform == size
    assert dimension.resized(7) == RegularDimension(7, size)


grids = st.integers(0, 3).flatmap(
    lambda ndim: st.builds(ChunkGrid.regular, st.tuples(*[st.integers(0, 9)] * ndim), st.tuples(*[st.integers(1, 11)] * ndim))
)


@given(grids)
def test_the_chunks_tile_the_array(grid: ChunkGrid) -> None:
    seen = np.zeros(grid.array_shape, int)
    indices = list(itertools.product(*map(range, grid.grid_shape)))
    for index in indices:
        inside = grid.in_bounds(index)
        seen[(*inside.slices, ...)] += 1
        assert grid.subset(index) == ArraySubset(grid.origin(index), grid.chunk_shape(index))
        assert grid.subset(index).contains(inside)
        assert grid.chunk_shape(index) == grid.uniform_shape
        assert inside.is_empty is False
    assert (seen == 1).all()
    assert grid.n_chunks == len(indices)
    assert grid.ndim == len(grid.array_shape)


@given(grids, st.data())
def test_chunks_in_are_the_chunks_that_share_an_element(grid: ChunkGrid, data: st.DataObject) -> None:
    start = tuple(data.draw(st.integers(0, length)) for length in grid.array_shape)
    shape = tuple(data.draw(st.integers(0, length - a)) for a, length in zip(start, grid.array_shape, strict=True))
    subset = ArraySubset(start, shape)
    found = grid.chunks_in(subset)
    for index in itertools.product(*map(range, grid.grid_shape)):
        meets = not grid.in_bounds(index).intersect(subset).is_empty
        assert found.contains(ArraySubset(index, (1,) * grid.ndim)) == meets


def test_with_shape_keeps_the_chunks() -> None:
    grid = ChunkGrid.regular((10, 4), (4, 4)).with_shape((0, 9))
    assert (grid.array_shape, grid.grid_shape, grid.uniform_shape) == ((0, 9), (0, 3), (4, 4))
    with pytest.raises(ShapeError):
        grid.with_shape((1,))
    with pytest.raises(ShapeError):
        grid.with_shape((-1, 3))


def test_a_scalar_has_one_chunk() -> None:
    grid = ChunkGrid.regular((), ())
    assert (grid.n_chunks, grid.grid_shape, grid.origin(()), grid.uniform_shape) == (1, (), (), ())
    assert grid.chunks_in(ArraySubset.full(())).size == 1


def test_counts_do_not_overflow() -> None:
    grid = ChunkGrid.regular((2**40,) * 3, (1,) * 3)
    assert grid.n_chunks == 2**120
    assert grid.chunks_in(ArraySubset.full(grid.array_shape)).size == 2**120


@pytest.mark.parametrize(
    ("array_shape", "chunk_shape"),
    [
        ((4,), (0,)),
        ((4,), (-1,)),
        ((4,), (2, 2)),
        ((4, 4), (2,)),
        ((-4,), (2,)),
        ((4,), (2.0,)),
        ((4,), (True,)),
        ((4.0,), (2,)),
        ((False,), (2,)),
        ((4,), (2**63,)),
        ((2**63 - 1,), (2**62 + 1,)),
    ],
)
def test_bad_shapes_are_shape_errors_or_metadata_errors(array_shape: tuple, chunk_shape: tuple) -> None:
    with pytest.raises(ShapeError):
        ChunkGrid.regular(array_shape, chunk_shape)
    with pytest.raises(MetadataError) as caught:
        ChunkGrid.from_document("regular", {"chunk_shape": list(chunk_shape)}, array_shape)
    assert caught.value.path == "$.chunk_grid.configuration.chunk_shape"


def test_index_and_subset_outside() -> None:
    grid = ChunkGrid.regular((10, 4), (4, 4))
    for call in (grid.chunk_shape, grid.origin, grid.subset, grid.in_bounds):
        with pytest.raises(BoundsError):
            call((3, 0))
        with pytest.raises(BoundsError):
            call((-1, 0))
        with pytest.raises(ShapeError):
            call((0,))
    with pytest.raises(BoundsError):
        grid.chunks_in(ArraySubset((0, 0), (11, 4)))
    with pytest.raises(ShapeError):
        grid.chunks_in(ArraySubset((0,), (1,)))


def test_documents_round_trip() -> None:
    grid = ChunkGrid.from_document("regular", {"chunk_shape": [4, 2]}, (10, 4))
    assert grid == ChunkGrid.regular((10, 4), (4, 2))
    assert grid.to_document() == ("regular", {"chunk_shape": [4, 2]})


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        (None, "$.chunk_grid.configuration"),
        ([4], "$.chunk_grid.configuration"),
        ({}, "$.chunk_grid.configuration.chunk_shape"),
        ({"chunk_shape": 4}, "$.chunk_grid.configuration.chunk_shape"),
        ({"chunk_shape": "4"}, "$.chunk_grid.configuration.chunk_shape"),
        ({"chunk_shape": ["4"]}, "$.chunk_grid.configuration.chunk_shape"),
        ({"chunk_shape": [4], "more": 1}, "$.chunk_grid.configuration.more"),
    ],
)
def test_bad_documents_name_their_path(configuration: object, path: str) -> None:
    with pytest.raises(MetadataError) as caught:
        ChunkGrid.from_document("regular", configuration, (10,))
    assert caught.value.path == path


def test_an_unknown_grid_is_an_unknown_extension() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        ChunkGrid.from_document("spiral", {}, (10,))
    assert (caught.value.got, caught.value.expected) == ("spiral", ["rectilinear", "regular"])
