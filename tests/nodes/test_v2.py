"""Arrays and groups of Zarr V2: made, changed and read here as V3 ones are, and what is stored is as it was in all else."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import NodeExistsError, NodeNotFoundError, NodeReplacedError, OptionError
from zarrant.tools.check import check

DATA = np.arange(30, dtype="int32").reshape(5, 6)
ZARRAY: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [5, 6],
    "chunks": [2, 4],
    "dtype": ">i4",
    "compressor": {"id": "zlib", "level": 1},
    "fill_value": None,
    "order": "F",
    "filters": None,
    "written_by": "somebody",
}


def stored(**changes: Any) -> dict[str, bytes]:
    """An array as another program left it."""
    return {".zarray": json.dumps({**ZARRAY, **changes}).encode(), ".zattrs": b'{"a": 1, "_ARRAY_DIMENSIONS": ["y", "x"]}'}


def test_what_another_program_wrote_is_read_and_changed() -> None:
    objects = stored()
    a = zarrant.open(objects)
    assert (a.shape, a.dtype, a.chunks, a.order, a.dimension_names) == ((5, 6), np.dtype("i4"), (2, 4), "F", ("y", "x"))
    a[...] = DATA
    a[1:3, 3:5] = -1
    assert sorted(objects) == [".zarray", ".zattrs", "0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    assert (zarrant.open(objects)[1:3, 3:5] == -1).all()
    assert json.loads(objects[".zarray"]) == ZARRAY


def test_a_fill_value_that_is_not_defined_stays_so() -> None:
    objects = stored()
    a = zarrant.open(objects)
    assert (a[...] == 0).all()
    a.resize((7, 6))
    a.append(np.ones((1, 6), "i4"))
    assert json.loads(objects[".zarray"]) == {**ZARRAY, "shape": [8, 6]}


def test_attributes_are_an_object_of_their_own() -> None:
    objects = stored()
    objects[".zattrs"] = b'{"a": 1, "b": NaN, "_ARRAY_DIMENSIONS": ["y", "x"]}'  # as json.dumps of CPython writes it
    a, other = zarrant.open(objects), zarrant.open(objects)
    before = objects[".zarray"]
    a.attrs["d"] = 2
    other.attrs["c"] = [1]
    assert objects[".zarray"] == before
    found = zarrant.open(objects)
    assert (found.attrs["a"], found.attrs["c"], found.dimension_names) == (1, [1], ("y", "x"))
    assert np.isnan(found.attrs["b"])
    a.refresh()
    assert a.attrs["c"] == [1]
    a[0, 0] = 3


def test_a_node_is_made_with_all_that_belongs_to_it() -> None:
    objects: dict[str, bytes] = {}
    root = zarrant.create_group(objects, zarr_format=2, attributes={"title": "t"})
    a = root.create_array("g/a", data=DATA, chunks=(2, 4), dimension_names=["y", "x"], attributes={"unit": "mm"})
    names = sorted(objects)
    assert names == [".zattrs", ".zgroup", "g/.zgroup", "g/a/.zarray", "g/a/.zattrs"] + [
        f"g/a/{i}.{j}" for i in range(3) for j in range(2)
    ]
    assert json.loads(objects["g/a/.zattrs"]) == {"unit": "mm", "_ARRAY_DIMENSIONS": ["y", "x"]}
    assert (a[:] == DATA).all()
    assert root["g"].metadata.zarr_format == root["g/a"].metadata.zarr_format == 2
    assert list(root) == ["g"]
    del root["g"]
    assert sorted(objects) == [".zattrs", ".zgroup"]


def test_a_group_holds_nodes_of_its_version() -> None:
    objects: dict[str, bytes] = {}
    root = zarrant.create_group(objects, zarr_format=2)
    with pytest.raises(OptionError, match="version of the format"):
        root.create_array("a", shape=(2,), dtype="i4", zarr_format=3)
    with pytest.raises(NodeExistsError, match="V2 group"):
        zarrant.create_array(objects, name="a", shape=(2,), dtype="i4")
    three: dict[str, bytes] = {}
    zarrant.create_group(three)
    with pytest.raises(NodeExistsError, match="V3 group"):
        zarrant.create_array(three, name="a", shape=(2,), dtype="i4", zarr_format=2)
    assert (list(objects), list(three)) == ([".zgroup"], ["zarr.json"])


def test_members_of_both_versions_are_listed() -> None:
    objects: dict[str, bytes] = {}
    zarrant.create_group(objects).create_array("new", data=[1, 2])
    objects |= {f"old/{name}": data for name, data in stored().items()}
    root = zarrant.open(objects)
    assert {name: member.metadata.zarr_format for name, member in root.members().items()} == {"new": 3, "old": 2}


def test_v3_counts_where_both_versions_are_in_one_directory() -> None:
    objects: dict[str, bytes] = {}
    zarrant.create_array(objects, data=DATA, chunk_key_encoding="v2", compressors=None, chunks=(5, 6), attributes={"v": 3})
    objects |= stored(shape=[1, 1])
    a = zarrant.open(objects)
    assert (a.metadata.zarr_format, a.attrs["v"]) == (3, 3)
    assert (a[:] == DATA).all()
    zarrant.create_array(objects, data=DATA, overwrite=True)
    assert not [name for name in objects if name.startswith(".z")]


@pytest.mark.parametrize("options", [{"shards": (4, 6)}, {"chunk_key_encoding": "default"}, {"fill_value": np.float32("nan")}])
def test_what_v2_does_not_have_is_refused(options: dict[str, Any]) -> None:
    objects: dict[str, bytes] = {}
    dtype = "f4" if "fill_value" in options else "i4"
    if dtype == "f4":
        options = {"fill_value": np.array([0x7FC00001], "u4").view("f4")[0]}
    with pytest.raises(OptionError, match="Zarr V2 has no"):
        zarrant.create_array(objects, shape=(8, 6), chunks=(2, 6), dtype=dtype, zarr_format=2, **options)
    assert not objects


def test_match_takes_an_equal_array_only() -> None:
    objects: dict[str, bytes] = {}
    options: dict[str, Any] = {"shape": (4,), "dtype": "i4", "chunks": 2, "zarr_format": 2, "attributes": {"a": 1}}
    zarrant.create_array(objects, **options)[:] = 1
    assert (zarrant.create_array(objects, **options, if_exists="match")[:] == 1).all()
    with pytest.raises(NodeExistsError, match="differs in chunks"):
        zarrant.create_array(objects, **{**options, "chunks": 4}, if_exists="match")
    with pytest.raises(NodeExistsError):
        zarrant.create_array(objects, **{**options, "zarr_format": 3}, if_exists="match")


def test_a_handle_sees_what_became_of_its_array(tmp_path: Any) -> None:
    a = zarrant.create_array(tmp_path / "a", data=DATA, chunks=(2, 4), zarr_format=2)
    b = zarrant.open(tmp_path / "a")
    b.append(DATA)
    a[4, 5] = 7  # an edge chunk, which the other has grown
    assert (zarrant.open(tmp_path / "a")[5:] == DATA).all()
    zarrant.create_array(tmp_path / "a", data=DATA[:2], chunks=(1, 1), zarr_format=2, overwrite=True)
    with pytest.raises(NodeReplacedError):
        a[0, 0] = 1
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(NodeNotFoundError):
        b[0, 0] = 1


def test_an_array_is_locked_checked_and_grows_with_others(tmp_path: Any) -> None:
    root = zarrant.create_group(tmp_path / "g", zarr_format=2)
    x = root.create_array("x", shape=(0, 2), chunks=(4, 2), dtype="i4")
    root.create_array("t", shape=(0,), chunks=(8,), dtype="i8")
    assert root.append({"x": np.ones((3, 2), "i4"), "t": [1, 2, 3]}) == slice(0, 3)
    x.refresh()
    with x.lock(np.s_[0:2]) as locked:
        locked[0:2] = 5
    with root.lock({"x": np.s_[0:1], "t": np.s_[0:1]}) as both:
        both["t"][0] = 9
    assert (x[:, 0].tolist(), root["t"][:].tolist()) == ([5, 5, 1], [9, 2, 3])
    assert check(tmp_path / "g", deep=True).findings == ()


def test_an_array_without_dimensions() -> None:
    objects: dict[str, bytes] = {}
    a = zarrant.create_array(objects, data=np.float64(2.5), zarr_format=2)
    assert sorted(objects) == [".zarray", "0"]
    assert a[()] == zarrant.open(objects)[()] == 2.5


# Consolidated metadata --------------------------------------------------------------------------------------------------


def reached(objects: dict[str, bytes], key: str) -> bool:
    """Whether metadata are those of a node, below groups that are there; others are what a killed deletion has left."""
    parts = key.split("/")[:-1]
    groups = ["".join(f"{part}/" for part in parts[:depth]) + ".zgroup" for depth in range(len(parts))]
    node = key.rpartition("/")[0]
    main = [f"{node}/{name}" if node else name for name in (".zarray", ".zgroup")]
    return all(group in objects for group in groups) and any(name in objects for name in main)


def consolidated(objects: dict[str, bytes], making: tuple[str, ...] = ()) -> bool:
    """Whether there are copies, which are right then. `making`: the groups that are made after what is below them."""
    objects = {**{f"{group}/.zgroup": b'{"zarr_format": 2}' for group in making if f"{group}/deep/.zarray" in objects}, **objects}
    if ".zmetadata" not in objects:
        return False
    value = json.loads(objects[".zmetadata"])
    names = [key for key in objects if key.rpartition("/")[2] in (".zarray", ".zgroup", ".zattrs") and reached(objects, key)]
    assert value == {"zarr_consolidated_format": 1, "metadata": {key: json.loads(objects[key]) for key in sorted(names)}}
    return True


def consolidated_tree() -> tuple[dict[str, bytes], zarrant.Group[Any]]:
    objects: dict[str, bytes] = {}
    root = zarrant.create_group(objects, zarr_format=2, attributes={"title": "t"})
    root.create_array("g/a", data=DATA, attributes={"x": 1})
    root.create_array("b", data=DATA)
    root.consolidate_metadata()
    assert consolidated(objects)
    return objects, root


CHANGES: dict[str, Any] = {
    "attributes of the root": lambda root: root.attrs.update(y=1),
    "attributes of an array": lambda root: root["g/a"].attrs.update(y=1),
    "first attributes": lambda root: root["b"].attrs.update(y=1),
    "append": lambda root: root["g/a"].append(DATA),
    "resize": lambda root: root["b"].resize((9, 9)),
    "a new array": lambda root: root.create_array("new/deep", data=DATA, attributes={"z": 1}),
    "overwrite": lambda root: root.create_array("g/a", data=DATA[:1], overwrite=True),
    "overwrite a group": lambda root: root.create_array("g", data=DATA[:1], overwrite=True),
    "delete": lambda root: root.__delitem__("b"),
    "delete a group": lambda root: root.__delitem__("g"),
    "a refused creation": lambda root: refused(lambda: root.create_array("b", data=DATA)),
}


def refused(call: Any) -> None:
    with pytest.raises(NodeExistsError):
        call()


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_kept_in_step(change: str) -> None:
    objects, root = consolidated_tree()
    CHANGES[change](root)
    assert consolidated(objects)
    assert "__consolidating.json" not in objects


@pytest.mark.parametrize("change", CHANGES)
def test_who_is_killed_leaves_right_copies_or_none(change: str) -> None:
    step = 0
    while True:
        objects, root = consolidated_tree()
        try:
            CHANGES[change](Killing(root, step).root)
        except Killed:
            making = ("new",)
            consolidated(objects, making)
            zarrant.open(objects).attrs["later"] = 1
            consolidated(objects, making)
            zarrant.open(objects).consolidate_metadata()
            assert consolidated(objects)
            step += 1
            continue
        assert consolidated(objects)
        break
    assert step > 0 or change == "a refused creation"


class Killed(BaseException):
    """The process ends here."""


class Killing:
    """A group on a store that ends the process at one of its writes."""

    def __init__(self, root: zarrant.Group[Any], step: int) -> None:
        store = root.store
        kill = type("KillingStore", (type(store),), {name: self.counting(name) for name in ("put", "put_if", "erase")})
        self.left = step
        self.store = store
        other = kill.__new__(kill)
        other.__dict__.update(store.__dict__)
        self.root = zarrant.open(other)

    def counting(self, name: str) -> Any:
        def call(store: Any, *args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return getattr(type(self.store), name)(store, *args, **options)

        return call


def test_copies_that_are_not_in_step_are_found() -> None:
    objects, root = consolidated_tree()
    assert check(objects).clean
    objects["b/.zattrs"] = b'{"by": "another program"}'
    (finding,) = check(objects).findings
    assert (finding.kind, finding.key, finding.severity) == ("consolidated", ".zmetadata", "error")
    assert "b/.zattrs" in finding.detail
    root.consolidate_metadata()
    assert check(objects).clean
    objects["b/.zarray"] = b"{"
    assert [(finding.kind, finding.key) for finding in check(objects).findings][-1] == ("metadata", "b/.zarray")
