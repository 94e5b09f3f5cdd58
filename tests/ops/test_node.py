from __future__ import annotations

import json
import re

import pytest

from zarrant import requests
from zarrant.errors import (
    ConflictError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    VersionChangedError,
)
from zarrant.limits import LIMITS
from zarrant.metadata.v3 import GroupMetadata, dump
from zarrant.ops import node as node_ops
from zarrant.requests import Put


@pytest.fixture
def document(state):
    return state().metadata


def test_a_node_and_the_groups_above_it(objects, document) -> None:
    objects.perform(node_ops.create_node("x/y/z", document))
    assert sorted(objects) == ["x/y/z/zarr.json", "x/y/zarr.json", "x/zarr.json", "zarr.json"]
    assert json.loads(objects["x/zarr.json"])["node_type"] == "group"
    assert objects.perform(node_ops.read_metadata("x/y/z")) == document
    assert objects.perform(node_ops.read_metadata("")) == GroupMetadata()


def test_groups_above_that_are_there_stay_as_they_are(objects, document) -> None:
    objects.perform(node_ops.create_node("", GroupMetadata({"mine": 1})))
    objects.perform(node_ops.create_node("x", document))
    assert objects.perform(node_ops.read_metadata("")).attributes == {"mine": 1}


def test_one_creator_wins(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document))
    before = dict(objects)
    with pytest.raises(NodeExistsError) as caught:
        objects.perform(node_ops.create_node("x", document))
    assert caught.value.key == "x/zarr.json"
    with pytest.raises(NodeExistsError):
        objects.perform(node_ops.create_node("x", GroupMetadata(), match=True))
    assert objects.perform(node_ops.create_node("x", document, match=True)) == document
    assert objects == before


def test_overwriting_erases_all_below(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document))
    objects.update({"x/c/0/0": b"1", "x/deep/zarr.json": b"{}", "xy/zarr.json": b"keep"})
    objects.perform(node_ops.create_node("x", document, overwrite=True))
    assert sorted(objects) == ["x/zarr.json", "xy/zarr.json", "zarr.json"]


def test_arrays_hold_no_nodes(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document))
    with pytest.raises(NodeExistsError, match="array"):
        objects.perform(node_ops.create_node("x/y", document))
    assert "x/y/zarr.json" not in objects, "nothing is left of a node that could not be made"


def test_write_only_creation_never_reads(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document, exclusive=False))
    objects.perform(node_ops.create_node("x", document, exclusive=False, overwrite=True))
    assert "Fetch" not in objects.kinds()
    assert list(objects) == ["x/zarr.json"]


def test_missing_and_broken_documents(objects) -> None:
    with pytest.raises(NodeNotFoundError) as caught:
        objects.perform(node_ops.read_metadata("x"))
    assert (caught.value.key, caught.value.hint) == ("x/zarr.json", None)
    objects["x/zarr.json"] = b'{"zarr_format": 3'
    with pytest.raises(MetadataError) as broken:
        objects.perform(node_ops.read_metadata("x"))
    assert broken.value.key == "x/zarr.json"


def test_documents_are_replaced_and_erased(objects, document) -> None:
    objects.perform(node_ops.store_metadata("x", document))
    objects.perform(node_ops.store_metadata("x", document.with_attributes({"a": 1})))
    assert objects.perform(node_ops.read_metadata("x")).attributes == {"a": 1}
    objects["x/c/0/0"] = b"1"
    objects.perform(node_ops.erase_metadata("x"))
    objects.perform(node_ops.erase_metadata("x"))
    assert list(objects) == ["x/c/0/0"]


def test_attributes_of_two_writers_are_both_kept(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document.with_attributes({"a": 1})))
    once = [True]

    def rival(request) -> None:
        if isinstance(request, Put) and once:
            once.clear()
            objects["x/zarr.json"] = dump(document.with_attributes({"a": 1, "rival": 2}))

    objects.before = rival
    result = objects.perform(node_ops.update_attributes("x", {"b": 3}))
    assert result.attributes == {"a": 1, "rival": 2, "b": 3}
    result = objects.perform(node_ops.update_attributes("x", lambda stored: {"n": len(stored)}))
    assert result.attributes == {"n": 3} == objects.perform(node_ops.read_metadata("x")).attributes
    with pytest.raises(NodeNotFoundError):
        objects.perform(node_ops.update_attributes("y", {}))


def test_deletion_takes_the_document_first(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document))
    objects.update({"x/c/0": b"1", "xx/zarr.json": b"1"})
    objects.log.clear()
    objects.perform(node_ops.delete_node("x"))
    assert objects.kinds() == ["ErasePrefix", "Fetch", "Put", "ErasePrefix"]  # the first removes a symbolic link only
    assert sorted(objects) == ["xx/zarr.json", "zarr.json"]


@pytest.mark.parametrize("path", [".", "..", "a/../b", "a/.", "a\0b", "..."])
def test_names_no_node_can_have(path) -> None:
    for check in (node_ops.check_path, node_ops.check_new_path):
        with pytest.raises(OptionError):
            check(path)


@pytest.mark.parametrize("path", ["__x", "a/__x", "zarr.json", "a/zarr.json/b", ".zarray", ".zgroup", ".zattrs", ".zmetadata"])
def test_names_that_are_kept_for_other_uses_are_read_but_not_given(path) -> None:
    assert node_ops.check_path(path) == path
    with pytest.raises(OptionError, match="new node"):
        node_ops.check_new_path(path)


V2 = {".zarray": b"{}", ".zgroup": b'{"zarr_format": 2}'}


@pytest.mark.parametrize("marker", V2)
@pytest.mark.parametrize("where", ["", "g", "g/x"])
@pytest.mark.parametrize("options", [{}, {"match": True}], ids=repr)
def test_new_metadata_never_hide_a_v2_node(objects, document, marker, where, options) -> None:
    objects[f"{where}/{marker}" if where else marker] = V2[marker]
    objects["g/x/0.0"] = b"its chunk"
    before = dict(objects)
    with pytest.raises((NodeExistsError, MetadataError), match=f"V2|missing member.*{re.escape(marker)}"):
        objects.perform(node_ops.create_node("g/x", document, is_chunk=lambda key: True, **options))
    assert objects == before


@pytest.mark.parametrize("marker", V2)
def test_a_v2_node_is_replaced_where_that_is_asked_for(objects, document, marker) -> None:
    objects |= {f"g/x/{marker}": V2[marker], "g/x/.zattrs": b"{}", "g/x/0.0": b"its chunk", "g/y": b"another's"}
    objects.perform(node_ops.create_node("g/x", document, overwrite=True, is_chunk=lambda key: True))
    assert sorted(objects) == ["g/x/zarr.json", "g/y", "g/zarr.json", "zarr.json"]


def test_opening_what_is_there_asks_for_its_metadata_only(objects, document) -> None:
    objects.perform(node_ops.create_node("x", document))
    for create in (None, lambda: node_ops.create_node("x", document)):
        objects.log.clear()
        objects.perform(node_ops.open_node("x", create=create))
        assert objects.log == [requests.Fetch((requests.ReadRequest("x/zarr.json", limit=LIMITS.document),))]


def test_paths() -> None:
    assert node_ops.check_path("/a//b/") == "a/b"
    assert node_ops.check_path("") == ""
    assert node_ops.check_path("a.b/.c/x__") == "a.b/.c/x__"
    assert (node_ops.metadata_key(""), node_ops.metadata_key("a/b")) == ("zarr.json", "a/b/zarr.json")


@pytest.mark.parametrize("refused", ["zarr.json", "g/zarr.json", "g/a/zarr.json"])
def test_a_new_document_that_is_refused_for_no_reason_is_stored_again(objects, state, refused) -> None:
    """Some services answer 409 to the only writer; nobody's node is there."""
    times = []

    def refuse(request) -> None:
        if isinstance(request, requests.Put) and request.items[0].key == refused and len(times) < 3:
            times.append(1)
            raise VersionChangedError("409")

    objects.before = lambda request: None
    real = objects.store
    objects.store = lambda item: (refuse(requests.Put([item])), real(item))[1]
    document = state(prefix="g/a").metadata
    assert objects.perform(node_ops.create_node("g/a", document)) == document
    assert len(times) == 3
    assert set(objects) == {"zarr.json", "g/zarr.json", "g/a/zarr.json"}
    with pytest.raises(NodeExistsError):
        objects.perform(node_ops.create_node("g/a", document))


def test_a_store_that_refuses_for_ever_is_told(objects, state) -> None:
    def store(item) -> None:
        raise VersionChangedError("409")

    objects.store = store
    with pytest.raises(ConflictError) as caught:
        objects.perform(node_ops.create_node("a", state().metadata))
    assert caught.value.key == "a/zarr.json"
