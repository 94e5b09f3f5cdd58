from __future__ import annotations

import asyncio
import threading

import pytest

import zarrant
from zarrant.errors import CapabilityError, ZarrantError


@pytest.fixture(params=["memory", "files"])
def store(request, tmp_path):
    return zarrant.MemoryStore() if request.param == "memory" else zarrant.FilesystemStore(tmp_path)


def test_like_a_dict(store) -> None:
    a = zarrant.create_array(store, shape=(4,), dtype="int8", attributes={"a": 1})
    attrs = a.attrs
    attrs["b"] = {"c": [1, None, "x"]}
    attrs.update({"d": 1}, e=2)
    del attrs["a"]
    assert dict(attrs) == dict(zarrant.open_array(store).attrs) == {"b": {"c": [1, None, "x"]}, "d": 1, "e": 2}
    assert (len(attrs), "b" in attrs, attrs.get("z", 5), attrs.pop("d")) == (3, True, 5, 1)
    assert attrs.setdefault("f", 6) == 6
    with pytest.raises(KeyError):
        attrs["nothing"]
    with pytest.raises(KeyError):
        del attrs["nothing"]
    attrs.put({"only": 1})
    assert repr(a.attrs) == "Attributes({'only': 1})"
    attrs.clear()
    assert dict(zarrant.open_array(store).attrs) == {}


def test_changes_of_others_stay(store) -> None:
    zarrant.create_array(store, shape=(4,), dtype="int8")
    one, two = zarrant.open_array(store), zarrant.open_array(store)
    one.attrs["a"] = 1
    two.attrs["b"] = 2
    assert dict(two.attrs) == {"a": 1, "b": 2}
    assert dict(one.attrs) == {"a": 1}


def test_many_writers_lose_nothing(store) -> None:
    zarrant.create_group(store)

    def write(i: int) -> None:
        g = zarrant.open_group(store)
        for j in range(10):
            g.attrs[f"{i}.{j}"] = j

    threads = [threading.Thread(target=write, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(zarrant.open_group(store).attrs) == 60


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"bytes"])
def test_what_json_cannot_say_changes_nothing(store, value) -> None:
    a = zarrant.create_array(store, shape=(4,), dtype="int8", attributes={"a": 1})
    with pytest.raises((ZarrantError, TypeError)):
        a.attrs["x"] = value
    assert dict(a.attrs) == dict(zarrant.open_array(store).attrs) == {"a": 1}


def test_a_handle_is_not_changed_behind_its_back(store) -> None:
    given = {"a": [1]}
    a = zarrant.create_array(store, shape=(4,), dtype="int8", attributes=given)
    given["b"] = 2
    given["a"].append(2)
    assert dict(a.attrs) == {"a": [1]}
    reader = zarrant.open_array(store, mode="r")
    with pytest.raises(CapabilityError):
        reader.attrs["x"] = 1


@pytest.mark.parametrize("make", [lambda s, **o: zarrant.create_array(s, shape=(4,), dtype="int8", **o), zarrant.create_group])
def test_attributes_are_values(store, make) -> None:
    node = make(store, attributes={"deep": {"list": [1, {"x": 2}]}})

    def agree() -> dict:
        assert dict(node.attrs) == dict(zarrant.open(store, mode="r").attrs)
        return dict(node.attrs)

    node.attrs["deep"]["list"][1]["x"] = 9
    next(iter(node.attrs.values()))["list"].append(9)
    assert agree() == {"deep": {"list": [1, {"x": 2}]}}
    mine = {"list": [1]}
    node.attrs["mine"] = mine
    mine["list"].append(2)
    node.attrs["other"] = 1
    assert agree()["mine"] == {"list": [1]}
    node.attrs["tuple"] = (1, (2, 3))
    assert agree()["tuple"] == [1, [2, 3]]
    node.update_attributes({"mine": mine})
    mine["list"].append(3)
    assert agree()["mine"] == {"list": [1, 2]}
    node.attrs.put({"mine": mine})
    mine["list"].append(4)
    assert agree() == {"mine": {"list": [1, 2, 3]}}
    changed = node.attrs["mine"]
    changed["list"].append(5)
    node.attrs["mine"] = changed
    assert agree() == {"mine": {"list": [1, 2, 3, 5]}}


def test_attributes_of_an_async_handle_are_values(store) -> None:
    zarrant.create_array(store, shape=(4,), dtype="int8", attributes={"a": [1]})

    async def main() -> None:
        a = await zarrant.open_array_async(store)
        a.attrs["a"].append(2)
        assert a.attrs == {"a": [1]}

    asyncio.run(main())


def test_attributes_that_contain_themselves_are_refused(store) -> None:
    endless: dict = {}
    endless["self"] = endless
    a = zarrant.create_array(store, shape=(4,), dtype="int8")
    with pytest.raises(ZarrantError):
        a.attrs["x"] = endless
    assert dict(a.attrs) == {}
