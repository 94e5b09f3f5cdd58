"""Data types are found by their names, and keep their protocol."""

from __future__ import annotations

import pytest

from zarrant import registry
from zarrant.dtypes.base import DataType, bind
from zarrant.dtypes.fixed import data_types, parse_data_type, raw
from zarrant.errors import MetadataError, UnknownExtensionError


def test_every_type_is_found_by_what_it_writes() -> None:
    for data_type in (*data_types, raw(5), raw(5, "raw_bytes")):
        document = data_type.to_document()
        name, configuration = (document, None) if isinstance(document, str) else (document["name"], document["configuration"])
        found = bind(name, configuration)
        assert found == data_type
        assert found.to_document() == document
        assert isinstance(found, DataType)


def test_unknown_names_are_listed_with_hints() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        bind("complex65")
    assert caught.value.path == "$.data_type"
    assert caught.value.field == "data_types"
    assert "'complex64'" in str(caught.value.hint)
    assert caught.value.expected == registry.data_types.names()


def test_wrong_configurations_are_placed() -> None:
    with pytest.raises(MetadataError) as caught:
        bind("int8", {"endian": "little"}, "$.x")
    assert caught.value.path == "$.x.configuration"


def test_the_registry_and_the_table_agree() -> None:
    assert set(registry.data_types.names()) == {row.name for row in data_types} | {"raw_bytes", "r<bits>"}


def test_a_registered_type_is_found() -> None:
    registry.data_types.register("my_byte", lambda name, configuration, path: parse_data_type("uint8"), aliases=["mine"])
    try:
        assert bind("my_byte") == bind("mine") == parse_data_type("uint8")
    finally:
        registry.data_types.unregister("my_byte")
    with pytest.raises(UnknownExtensionError):
        bind("mine")
