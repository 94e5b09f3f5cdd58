"""What every chunk grid promises (`zarrant.geometry.grid`), as tests to instance for a new one.

In: `name` and `configuration` of the grid in metadata, and `shape`, that of an array, as class attributes. The grid must be
registered under its name. Out: tests that its chunks cover the array without gaps, and of an array that has it, written whole and
in part and read.

    class TestMyGrid(ChunkGridSuite):
        name, configuration, shape = "example.mine", {"first": 3}, (20, 9)
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from zarrant.errors import MetadataError
from zarrant.geometry.grid import ChunkGrid
from zarrant.nodes.open import create_array, open_array
from zarrant.storage import Blob
from zarrant.stores.memory import MemoryStore
from zarrant.testkit.checks import check, check_equal, raises


class ChunkGridSuite:
    """What every chunk grid promises."""

    name: ClassVar[str]
    configuration: ClassVar[dict[str, Any]] = {}
    shape: ClassVar[tuple[int, ...]] = (20, 9)
    wrong: ClassVar[tuple[Any, ...]] = ({"testkit": 1}, [])
    """Configurations that the grid refuses."""

    def grid(self, shape: tuple[int, ...] | None = None) -> ChunkGrid:
        """The grid over an array of a shape."""
        return ChunkGrid.from_document(self.name, self.configuration, self.shape if shape is None else shape)

    def test_chunks_lie_side_by_side(self) -> None:
        for axis, dimension in enumerate(self.grid().dimensions):
            check_equal(dimension.array_length, self.shape[axis], f"the length of axis {axis}")
            stop = 0
            for chunk in range(dimension.n_chunks):
                check_equal(dimension.start(chunk), stop, f"the start of chunk {chunk} of axis {axis}, where the one before ends")
                check(dimension.length(chunk) > 0, f"chunk {chunk} of axis {axis} has no elements")
                stop += dimension.length(chunk)
            check(
                stop >= dimension.array_length,
                f"the chunks of axis {axis} end at {stop}, before the array ({dimension.array_length})",
            )
            if dimension.n_chunks:
                check(
                    dimension.start(dimension.n_chunks - 1) < dimension.array_length, f"the last chunk of axis {axis} is not needed"
                )

    def test_coordinates_are_located(self) -> None:
        for axis, dimension in enumerate(self.grid().dimensions):
            chunks = np.array([dimension.locate(coordinate) for coordinate in range(dimension.array_length)], np.int64)
            for coordinate, chunk in enumerate(chunks.tolist()):
                low = dimension.start(chunk)
                inside = low <= coordinate < low + dimension.length(chunk)
                found = (chunk, low, dimension.length(chunk))
                check_equal(dimension.find(coordinate), found, f"`find` of coordinate {coordinate} of axis {axis}")
                check(inside, f"coordinate {coordinate} of axis {axis} is not in chunk {chunk}, which `locate` names")
            columns = np.arange(dimension.array_length)
            check(
                np.array_equal(dimension.locate(columns), chunks), f"`locate` of a column of axis {axis} differs from single calls"
            )
            ids = np.arange(dimension.n_chunks)
            for method in (dimension.start, dimension.length):
                expected = [method(chunk) for chunk in ids.tolist()]
                check_equal(np.asarray(method(ids)).tolist(), expected, f"`{method.__name__}` of a column of axis {axis}")

    def test_it_says_whether_chunks_are_equal(self) -> None:
        for axis, dimension in enumerate(self.grid().dimensions):
            if dimension.uniform is not None:
                lengths = {dimension.length(chunk) for chunk in range(dimension.n_chunks)}
                check(lengths <= {dimension.uniform}, f"`uniform` of axis {axis} is {dimension.uniform}, the lengths are {lengths}")

    def test_wrong_configurations(self) -> None:
        for configuration in self.wrong:
            with raises(MetadataError, f"the configuration {configuration!r}") as caught:
                ChunkGrid.from_document(self.name, configuration, self.shape)
            check(str(caught.value.path).startswith("$.chunk_grid"), f"the error names $.chunk_grid, not {caught.value.path}")

    def make_array(self, shape: tuple[int, ...]) -> Any:
        """A new array with the grid, in memory."""
        grid = {"name": self.name, "configuration": self.configuration}
        return create_array(MemoryStore(), shape=shape, dtype="int32", chunks=grid, fill_value=-1)

    def test_the_metadata(self) -> None:
        blob = self.make_array(self.shape).store.get("zarr.json")
        assert isinstance(blob, Blob)
        expected = {"name": self.name, "configuration": self.configuration}
        check_equal(json.loads(b"".join(blob.data))["chunk_grid"], expected, "the chunk grid in the metadata of a new array")

    def test_arrays(self) -> None:
        """Written whole and in part, and read; each chunk is one stored object."""
        array = self.make_array(self.shape)
        check(bool((np.asarray(array[...]) == -1).all()), "a new array has other elements than its fill value")
        expected = np.arange(np.prod(self.shape), dtype="int32").reshape(self.shape)
        array[...] = expected
        inner = tuple(slice(length // 4, max(1, length * 3 // 4)) for length in self.shape)
        array[inner] = expected[inner] = -5
        again = open_array(array.store)
        check(np.array_equal(np.asarray(again[...]), expected), "an array, opened again, has other elements")
        steps = tuple(slice(None, None, 2) for _ in self.shape)
        check(np.array_equal(np.asarray(again[steps]), expected[steps]), "every second element differs")
        keys = [key for key in array.store.list_prefix("") if key != "zarr.json"]
        check_equal(len(keys), self.grid().n_chunks, "the number of stored chunks")

    def test_chunks_by_index(self) -> None:
        array = self.make_array(self.shape)
        array[...] = expected = np.arange(np.prod(self.shape), dtype="int32").reshape(self.shape)
        grid = self.grid()
        for index in np.ndindex(*grid.dimensions and [dimension.n_chunks for dimension in grid.dimensions]):
            box = grid.in_bounds(index)
            place = tuple(slice(low, high) for low, high in zip(box.start, box.stop, strict=True))
            found = np.asarray(array.retrieve_chunk(index))
            inside = found[tuple(slice(high - low) for low, high in zip(box.start, box.stop, strict=True))]
            check(np.array_equal(inside, expected[place]), f"chunk {index} has other elements than {place} of the array")
