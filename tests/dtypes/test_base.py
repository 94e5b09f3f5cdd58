"""Data types are found by their names, and keep their protocol."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from zarrant import extensions
from zarrant.dtypes.base import DataType, Fill, FixedFill
from zarrant.dtypes.fixed import FixedType, data_types, parse_data_type, raw
from zarrant.dtypes.sub_byte import small_types
from zarrant.errors import MetadataError, UnknownExtensionError


def test_every_type_is_found_by_what_it_writes() -> None:
    for data_type in (*data_types, raw(5), raw(5, "raw_bytes")):
        document = data_type.to_json()
        name, configuration = (document, None) if isinstance(document, str) else (document["name"], document["configuration"])
        found = parse_data_type(name, configuration)
        assert found == data_type
        assert found.to_json() == document
        assert isinstance(found, DataType)


def test_unknown_names_are_listed_with_hints() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        parse_data_type("complex65")
    assert caught.value.path == "$.data_type"
    assert caught.value.field == "data_types"
    assert "'complex64'" in str(caught.value.hint)
    assert caught.value.expected == extensions.data_types.names()


def test_wrong_configurations_are_placed() -> None:
    with pytest.raises(MetadataError) as caught:
        parse_data_type("int8", {"endian": "little"}, "$.x")
    assert caught.value.path == "$.x.configuration"


def test_the_registry_and_the_tables_agree() -> None:
    names = {row.name for row in (*data_types, *small_types)}
    others = {name for name in extensions.data_types.names() if not name.startswith("complex_")} - names
    assert names < set(extensions.data_types.names())
    assert others == {
        *("raw_bytes", "r<bits>", "numpy.datetime64", "numpy.timedelta64", "fixed_length_utf32", "null_terminated_bytes"),
        *("string", "bytes", "variable_length_bytes", "struct", "structured"),
    }


@pytest.mark.parametrize("data_type", [*data_types, raw(3), raw(3, "raw_bytes")], ids=str)
def test_fills(data_type: FixedType) -> None:
    fill = FixedFill(data_type, bytes([1] * data_type.itemsize))
    assert isinstance(fill, Fill)
    assert fill.element.shape == () and fill.element.dtype == data_type.numpy
    assert fill.scalar.tobytes() == fill.data
    assert fill == pickle.loads(pickle.dumps(fill)) == data_type.fill_from_json(fill.to_json())
    assert hash(fill) == hash(pickle.loads(pickle.dumps(fill)))
    assert fill != data_type.default_fill()
    full = fill.full((2, 3))
    assert full.shape == (2, 3) and not full.flags.writeable and full.tobytes() == fill.data * 6
    rows = np.array(full)
    rows[1, 2] = data_type.default_fill().element
    for given in (rows, rows[:, ::-1], np.asfortranarray(rows)):
        assert fill.equals(given).tolist() == [True, False]
    assert fill.equals(rows[:, 0]).tolist() == [True, True]
    assert fill.equals(rows[:0]).tolist() == []
    with pytest.raises(ValueError, match="read-only"):
        fill.element[...] = fill.scalar


def test_fills_are_compared_bit_by_bit() -> None:
    float32 = parse_data_type("float32")
    rows = np.array([[0.0], [-0.0]], "float32")
    assert float32.fill_from_python(-0.0).equals(rows).tolist() == [False, True]
    assert float32.fill_from_json("0x7fc00001").equals(np.array([["nan"]], "float32")).tolist() == [False]
