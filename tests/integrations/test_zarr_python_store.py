"""Metadata of zarr-python through `Store`: changes of several writers are merged, or an error; `append` loses nothing."""

from __future__ import annotations

import json
import pickle
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from children import go, waiting
from servers import Server

zarr = pytest.importorskip("zarr", minversion="3.1")

import zarrant  # noqa: E402
from zarrant.errors import LostUpdateError  # noqa: E402
from zarrant.integrations.zarr_python import Store, append  # noqa: E402
from zarrant.integrations.zarr_python.documents import distance, merge  # noqa: E402

SCRIPT = Path(__file__).with_name("zarr_metadata_writers.py")
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")


@pytest.fixture(params=[2, 3])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_attributes_of_two_handles_are_merged(tmp_path: Path, version: int) -> None:
    zarr.create_array(Store(tmp_path), name="a", shape=(10,), chunks=(5,), dtype="i4", zarr_format=version)
    shared = Store(tmp_path)
    for store in (lambda: Store(tmp_path), lambda: shared):
        one, two = zarr.open_array(store(), path="a"), zarr.open_array(store(), path="a")
        one.attrs["x"] = 1
        two.attrs["y"] = 2
        one.attrs["z"] = 3
        assert dict(zarrant.open_array(tmp_path, name="a").attrs) == {"x": 1, "y": 2, "z": 3}
        fresh = zarr.open_array(store(), path="a")
        for name in "xyz":
            del fresh.attrs[name]
        assert dict(zarrant.open_array(tmp_path, name="a").attrs) == {}


def test_two_changes_of_the_shape_are_an_error(tmp_path: Path, version: int) -> None:
    zarr.create_array(Store(tmp_path), shape=(10,), chunks=(5,), dtype="i4", zarr_format=version)
    one, two = zarr.open_array(Store(tmp_path)), zarr.open_array(Store(tmp_path))
    one.resize((20,))
    with pytest.raises(LostUpdateError, match="shape"):
        two.resize((15,))
    assert zarr.open_array(tmp_path).shape == (20,)
    again = zarr.open_array(Store(tmp_path))
    again.resize((15,))
    assert zarr.open_array(tmp_path).shape == (15,)


def test_a_shape_and_attributes_of_two_handles(tmp_path: Path, version: int) -> None:
    zarr.create_array(Store(tmp_path), shape=(10,), chunks=(5,), dtype="i4", zarr_format=version)
    one, two = zarr.open_array(Store(tmp_path)), zarr.open_array(Store(tmp_path))
    one.resize((20,))
    two.attrs["kept"] = True
    found = zarr.open_array(tmp_path)
    assert (found.shape, dict(found.attrs)) == ((20,), {"kept": True})


def test_an_object_store_keeps_both_changes(gofakes3: Server, version: int) -> None:
    url, options = gofakes3.fresh_url(), gofakes3.storage_options
    zarr.create_array(Store(url, storage_options=options), shape=(10,), chunks=(5,), dtype="i4", zarr_format=version)
    one, two, three = (zarr.open_array(Store(url, storage_options=options)) for _ in range(3))
    one.attrs["x"] = 1
    two.attrs["y"] = 2
    one.resize((20,))
    with pytest.raises(LostUpdateError, match="shape"):
        three.resize((15,))
    assert append(zarr.open_array(Store(url, storage_options=options)), np.ones(3, "i4")) == slice(20, 23)
    found = zarrant.open_array(url, storage_options=options)
    assert (found.shape, dict(found.attrs)) == ((23,), {"x": 1, "y": 2})


def test_groups_and_consolidated_metadata(tmp_path: Path, version: int) -> None:
    root = zarr.create_group(Store(tmp_path), zarr_format=version)
    root.create_array("a", shape=(4,), chunks=(2,), dtype="i4")
    other = zarr.open_group(Store(tmp_path), zarr_format=version, use_consolidated=False)
    root.attrs["one"] = 1
    other.create_array("b", shape=(4,), chunks=(2,), dtype="i4")
    zarr.consolidate_metadata(Store(tmp_path), zarr_format=version)
    other.attrs["two"] = 2
    found = zarr.open_consolidated(tmp_path, zarr_format=version)
    assert sorted(found.array_keys()) == ["a", "b"]
    assert dict(zarr.open_group(tmp_path, use_consolidated=False, zarr_format=version).attrs) == {"one": 1, "two": 2}


def test_a_place_that_is_made_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for shape in ((4,), (6,)):
        zarr.create_array(store, name="a", shape=shape, chunks=(2,), dtype="i4", overwrite=True)
    assert zarr.open_array(tmp_path, path="a").shape == (6,)
    with pytest.raises(zarr.errors.ContainsArrayError):
        zarr.create_array(store, name="a", shape=(4,), dtype="i4")
    assert pickle.loads(pickle.dumps(store)) == store


def test_processes_lose_no_attribute_and_no_block(tmp_path: Path) -> None:
    zarr.create_array(tmp_path, name="a", shape=(0,), chunks=(10,), dtype="i4")
    with ExitStack() as stack:
        children = [stack.enter_context(waiting(SCRIPT, number, 5, tmp_path)) for number in range(1, 4)]
        for child in children:
            go(child)
        assert [child.stdout.readline() for child in children] == ["done\n"] * 3
    found = zarr.open_array(tmp_path, path="a")
    assert len(found.attrs) == 15
    assert sorted(found[...].tolist()) == sorted(3 * [100 * number + i for number in range(1, 4) for i in range(5)])


def test_append_returns_where_the_data_are(tmp_path: Path) -> None:
    z = zarr.create_array(tmp_path, shape=(4, 2), chunks=(3, 2), dtype="i4")
    assert append(z, np.ones((3, 2), "i4")) == slice(4, 7)
    assert zarr.open_array(tmp_path)[...].sum() == 6


NAMES = st.sampled_from(["a", "b", "c"])
ATTRIBUTES = st.dictionaries(NAMES, st.integers(0, 3), max_size=3)


def text(attributes: dict[str, Any], shape: int = 1) -> bytes:
    return json.dumps({"shape": [shape], "attributes": attributes}).encode()


@given(ATTRIBUTES, ATTRIBUTES, ATTRIBUTES)
def test_merging_keeps_what_each_side_has_changed(base: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    merged = json.loads(merge("zarr.json", text(base), text(mine), text(theirs)))["attributes"]
    for name in "abc":
        expected = theirs.get(name) if mine.get(name) == base.get(name) else mine.get(name)
        assert merged.get(name) == expected


@given(ATTRIBUTES, st.integers(1, 3), st.integers(1, 3))
def test_merging_shapes(attributes: dict[str, Any], mine: int, theirs: int) -> None:
    documents = [text(attributes, shape) for shape in (0, mine, theirs)]
    if mine == theirs:
        assert distance(merge("zarr.json", *documents), documents[1]) == 0
        return
    with pytest.raises(LostUpdateError, match="shape"):
        merge("zarr.json", *documents)
