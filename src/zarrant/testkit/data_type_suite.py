"""What every data type promises (`zarrant.dtypes.base`), as tests to instance for a new one.

In: a pytest fixture named `data_type`, and in the class `elements`: some elements, all different, as an array of the type's NumPy
type. Out: tests of its JSON form, of fill values, and of arrays that are written with it, opened again and read.

    class TestMyType(DataTypeSuite):
        elements = np.array([1, 2, 3], "i4")

        @pytest.fixture
        def data_type(self):
            return MyType()
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from zarrant import extensions
from zarrant.errors import DataTypeError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.nodes.open import create_array, open_array
from zarrant.testkit.checks import check, check_equal, raises

PATH = "$.data_type"


class DataTypeSuite:
    """What every data type promises."""

    elements: ClassVar[Any]
    """Elements of the type, all different, as a NumPy array of one dimension."""
    wrong_fills: ClassVar[tuple[Any, ...]] = ({"testkit": 1}, [["testkit"]])
    """JSON values that are no fill value of the type."""
    serializer: ClassVar[Any] = "auto"
    """The array-to-bytes codec of arrays of the type."""

    def test_json(self, data_type: Any) -> None:
        document = data_type.to_json()
        check_equal(json.loads(json.dumps(document)), document, "`to_json`, as JSON text and back")
        named = Named.parse(document, PATH)
        again = family(data_type).from_json(named, PATH)
        check_equal(again, data_type, "`from_json` of `to_json`")
        check_equal((hash(again), again.numpy), (hash(data_type), data_type.numpy), "hash and NumPy type of two equal types")

    def test_what_is_registered(self, data_type: Any) -> None:
        extensions.data_types.check(family(data_type))
        size = data_type.itemsize
        check(size is None or size == data_type.numpy.itemsize, f"itemsize is {size}, that of {data_type.numpy} is another")
        check(data_type.numpy.isnative, f"{data_type.numpy} is not in native byte order")

    def test_unknown_members_are_refused(self, data_type: Any) -> None:
        named = Named.parse(data_type.to_json(), PATH)
        with raises(MetadataError, "`from_json` of a configuration with the unknown member 'testkit'") as caught:
            family(data_type).from_json(Named(named.name, {**named.configuration, "testkit": 1}), PATH)
        check(str(caught.value.path).startswith(PATH), f"the error names {PATH}, not {caught.value.path}")

    def test_pickle(self, data_type: Any) -> None:
        check_equal(pickle.loads(pickle.dumps(data_type)), data_type, "the data type, pickled and back")

    def test_fill_values(self, data_type: Any) -> None:
        for element in self.elements:
            fill = data_type.fill_from_python(element)
            document = fill.to_json()
            check_equal(json.loads(json.dumps(document)), document, f"the fill value {element!r}, as JSON text and back")
            again = data_type.fill_from_json(document, "$.fill_value")
            check_equal((again, hash(again)), (fill, hash(fill)), f"`fill_from_json` of the JSON form of {element!r}")
            check_equal(pickle.loads(pickle.dumps(fill)), fill, f"the fill value {element!r}, pickled and back")

    def test_fill_elements(self, data_type: Any) -> None:
        for element in self.elements:
            fill = data_type.fill_from_python(element)
            check_equal((fill.element.shape, fill.element.dtype), ((), data_type.numpy), "shape and type of a fill element")
            full = fill.full((3, 2))
            check(full.shape == (3, 2) and not full.flags.writeable, "`full` gives a read-only array of the shape")
            expected = np.empty((3, 2), data_type.numpy)
            expected.fill(element)
            check(same(full, expected), f"`full` of {element!r} has other elements")

    def test_fill_values_are_distinguished_from_others(self, data_type: Any) -> None:
        check(len(self.elements) > 1, "the suite needs two elements or more")
        for number, element in enumerate(self.elements):
            fill, other = data_type.fill_from_python(element), self.elements[number - 1]
            rows = np.array([[element, element], [element, other], [other, other]], data_type.numpy)
            check_equal(list(fill.equals(rows)), [True, False, False], f"which of three rows are wholly the fill value {element!r}")

    def test_the_default_fill_value(self, data_type: Any) -> None:
        fill = data_type.default_fill()
        check_equal(data_type.fill_from_python(None), fill, "`fill_from_python` of None")
        check_equal(data_type.fill_from_json(fill.to_json(), "$.fill_value"), fill, "the default fill value, as JSON and back")

    def test_wrong_fill_values(self, data_type: Any) -> None:
        for value in self.wrong_fills:
            with raises(MetadataError, f"the fill value {value!r} of a document") as caught:
                data_type.fill_from_json(value, "$.fill_value")
            check(str(caught.value.path).startswith("$.fill_value"), f"the error names $.fill_value, not {caught.value.path}")
        with raises(DataTypeError, "an object without meaning as a fill value"):
            data_type.fill_from_python(object())

    def test_data(self, data_type: Any) -> None:
        fill = data_type.default_fill()
        elements = np.asarray(self.elements, data_type.numpy)
        taken = data_type.as_values(elements, fill)
        check(same(taken, elements), "`as_values` of elements of the type")
        check(np.shares_memory(taken, elements), "`as_values` copies what has the right type already")
        masked = data_type.as_values(np.ma.masked_array(elements, [True] + [False] * (len(elements) - 1)), fill)
        check(bool(fill.equals(masked[:1].reshape(1, 1))[0]), "a masked element does not become the fill value")

    def test_arrays(self, data_type: Any) -> None:
        """Written whole and in part, in chunks and in shards, opened again by the name in the metadata, and read."""
        elements = np.resize(np.asarray(self.elements, data_type.numpy), 24)
        fill = elements[1]
        with registered(data_type):
            for layout in ({"chunks": (5,)}, {"chunks": (4,), "shards": (12,)}):
                objects: dict[str, Any] = {}
                options = {"fill_value": fill, "serializer": self.serializer, **layout}
                array: Any = create_array(objects, shape=(30,), dtype=data_type, **options)
                array[:24] = elements
                array[2:4] = elements[:2]
                expected = np.concatenate([elements, np.full(6, fill, data_type.numpy)])
                expected[2:4] = elements[:2]
                again: Any = open_array(objects)
                check(same(again[...], expected), f"an array of {layout}, opened again, has other elements")


def family(data_type: Any) -> Any:
    """The class that is registered under the name of a type; its own where none is."""
    return extensions.data_types.resolve(data_type.name) if data_type.name in extensions.data_types else type(data_type)


def same(found: Any, expected: Any) -> bool:
    """Whether two arrays have equal elements of one type: bit by bit where these have a fixed size, so that NaN equals itself."""
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    if found.dtype.hasobject or isinstance(found.dtype, np.dtypes.StringDType):
        return bool((found == expected).all())
    return bool(found.tobytes() == expected.tobytes())


@contextmanager
def registered(data_type: Any) -> Iterator[None]:
    """The class of the data type under its name, where nothing is, while the block runs."""
    absent = data_type.name not in extensions.data_types
    if absent:
        extensions.data_types.register(data_type.name, type(data_type))
    try:
        yield
    finally:
        if absent:
            extensions.data_types.unregister(data_type.name)
