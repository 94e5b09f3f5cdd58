# ruff: noqa: D102 (the name of a test says what it is about)
"""The test kit: suites to instance for a new store, and (`FaultyLayer`) a file layer that fails on purpose.

In: a pytest fixture named `store`, an empty store. Out: tests of what `zarrant.storage` promises of the methods it has; what
it has not is skipped. Needs pytest.

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(tmp_path)
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zarrant.errors import ByteRangeError, LimitError, OptionError, VersionChangedError
from zarrant.requests import ANY
from zarrant.storage import Blob, ByteRange, Hole, capabilities
from zarrant.stores.faults import FaultyLayer

__all__ = ["BAD_KEYS", "BAD_PREFIXES", "FaultyLayer", "StoreSuite", "content", "needs", "together"]

BAD_KEYS = ("", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "../a", "a/..", "a\0b", "\ud800")
BAD_PREFIXES = ("/", "a", "a//", "../", "./", "a/../")


def content(blob: Blob | None) -> bytes | None:
    """The bytes of a whole object."""
    return None if blob is None else b"".join(blob.data)


def together(*actions: Callable[[], object]) -> None:
    """Run actions in threads at the same time; the first error is raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> None:
        try:
            start.wait(60)
            action()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    if any(thread.is_alive() for thread in threads):
        raise AssertionError("a thread did not end")
    if errors:
        raise errors[0]


def needs(store: object, *names: str) -> None:
    """Skip a test of what the store cannot do."""
    for name in names:
        if not getattr(capabilities(store), name):
            pytest.skip(f"no {name}")


class StoreSuite:
    """What every store promises."""

    def test_whole_objects_of_a_size(self, store: Any) -> None:
        if not capabilities(store).sync_calls.get_within:
            pytest.skip("no get_within")
        version = store.put("a", [b"abc", b"de"])
        for limit in (5, 6, 1 << 40):
            assert store.get_within("a", limit) == Blob((memoryview(b"abcde"),), version, 5)
        for limit in (0, 4):
            with pytest.raises(LimitError) as caught:
                store.get_within("a", limit)
            assert (caught.value.got, caught.value.limit) == (5, limit)
        assert store.get_within("b", 0) is None

    def test_absent(self, store: Any) -> None:
        assert store.get("a") is None
        assert store.get_ranges("a/b", [ByteRange(0, 1)]) is None

    @pytest.mark.parametrize("parts", [[], [b""], [b"ab", b"", bytearray(b"cd"), memoryview(b"-ef-")[1:3]], [b"x", b"yz"] * 1500])
    def test_put_and_get(self, store: Any, parts: list[bytes]) -> None:
        version = store.put("c/0/1", parts)
        blob = store.get("c/0/1")
        assert content(blob) == b"".join(parts)
        assert (blob.version, blob.size) == (version, len(b"".join(parts)))
        assert all(isinstance(view, memoryview) and view.readonly and view.ndim == 1 for view in blob.data)

    def test_put_takes_any_contiguous_buffer(self, store: Any) -> None:
        store.put("a", [np.arange(6, dtype="<u2").reshape(2, 3).data, np.empty((0, 4)).data, memoryview(b"xy").cast("H")])
        assert content(store.get("a")) == np.arange(6, dtype="<u2").tobytes() + b"xy"

    def test_put_replaces_by_a_copy(self, store: Any) -> None:
        value = bytearray(b"short")
        assert store.put("a", [b"a long value"]) != store.put("a", [value])
        value[:] = b"XXXXX"
        assert content(store.get("a")) == b"short"

    def test_what_was_read_stays(self, store: Any) -> None:
        store.put("a", [b"old value"])
        blob = store.get("a")
        store.put("a", [b"new"])
        store.erase("a")
        assert content(blob) == b"old value"

    def test_versions_are_never_used_again(self, store: Any) -> None:
        versions = []
        for _ in range(50):
            versions += [store.put("a", [b"same"]), store.put("a", [b"same"])]
            store.erase("a")
        assert len(set(versions)) == 100

    def test_versions_stay_while_nothing_is_written(self, store: Any) -> None:
        version = store.put("a", [b"abc"])
        store.put("b", [b"abc"])
        assert {store.get("a").version, store.get_ranges("a", []).version} == {version}

    def test_ranges(self, store: Any) -> None:
        store.put("a", [bytes(range(100))])
        ranges = [ByteRange(5, 3), ByteRange(8, 2), ByteRange(0, 0), ByteRange(90), ByteRange.suffix(4), ByteRange(-10, 2)]
        blob = store.get_ranges("a", [*ranges, ByteRange(0), ByteRange(6, 1), ByteRange(100, 0)])
        assert [list(view) for view in blob.data] == [
            [5, 6, 7], [8, 9], [], [*range(90, 100)], [96, 97, 98, 99], [90, 91], [*range(100)], [6], []
        ]  # fmt: skip
        assert blob.size == 100

    @pytest.mark.parametrize("wanted", [(0, 11), (11, 0), (10, 1), (-11, 1), (-1, 2), (2**62, 2**62), (3, -1)])
    def test_ranges_outside(self, store: Any, wanted: tuple[int, int]) -> None:
        store.put("a/b", [bytes(10)])
        with pytest.raises(ByteRangeError) as caught:
            store.get_ranges("a/b", [ByteRange(0, 1), ByteRange(*wanted)])
        assert caught.value.key == "a/b"
        assert caught.value.store == store.url

    def test_ranges_of_a_version(self, store: Any) -> None:
        version = store.put("a", [b"abc"])
        assert content(store.get_ranges("a", [ByteRange(1)], version)) == b"bc"
        store.put("a", [b"abc"])
        with pytest.raises(VersionChangedError) as caught:
            store.get_ranges("a", [ByteRange(1)], version)
        assert (caught.value.key, caught.value.retryable) == ("a", True)
        store.erase("a")
        with pytest.raises(VersionChangedError):
            store.get_ranges("a", [ByteRange(1)], version)

    def test_put_if(self, store: Any) -> None:
        needs(store, "put_if")
        version = store.put_if("a", [b"1"], None)
        with pytest.raises(VersionChangedError) as caught:
            store.put_if("a", [b"2"], None)
        assert (caught.value.key, caught.value.store) == ("a", store.url)
        newer = store.put_if("a", [b"33"], version)
        for stale in (version, None):
            with pytest.raises(VersionChangedError):
                store.put_if("a", [b"4"], stale)
            with pytest.raises(VersionChangedError):
                store.erase_if("a", stale)
        assert content(store.get("a")) == b"33"
        store.erase_if("a", newer)
        store.erase_if("a", None)
        assert store.get("a") is None
        with pytest.raises(VersionChangedError):
            store.put_if("a", [b"5"], newer)

    def test_splice(self, store: Any) -> None:
        needs(store, "splice")
        version = store.put("a", [b"0123456789"])
        newer = store.splice(
            "a", [b"<", ByteRange(2, 3), b"|", b"", ByteRange(5, 1), ByteRange(0, 0), ByteRange(-1), b">"], version
        )
        assert content(store.get("a")) == b"<234|59>"
        with pytest.raises(VersionChangedError):
            store.splice("a", [ByteRange(0, 1)], version)
        with pytest.raises(ByteRangeError) as caught:
            store.splice("a", [b"new", ByteRange(0, 9)], newer)
        assert caught.value.key == "a"
        assert content(store.get("a")) == b"<234|59>"
        store.splice("a", [ByteRange(0, 2), b"."], ANY)
        assert content(store.get("a")) == b"<2."
        with pytest.raises(ByteRangeError):
            store.splice("b", [ByteRange(0, 1)], None)
        store.splice("b", [b"b"], None)
        assert content(store.get("b")) == b"b"

    def test_splice_of_much(self, store: Any) -> None:
        needs(store, "splice")
        value = random.Random(1).randbytes(3_000_000)
        version = store.put("a", [value])
        store.splice("a", [ByteRange(1, 2_500_001), b"end", ByteRange(0, 1)], version)
        assert content(store.get("a")) == value[1:2_500_002] + b"end" + value[:1]

    def test_splice_with_holes(self, store: Any) -> None:
        needs(store, "splice")
        value = random.Random(2).randbytes(1_000_000)
        version = store.put("a", [value])
        store.splice("a", [Hole(5), ByteRange(5, 10), b"new", Hole(500_000), ByteRange(999_000), Hole(70_000)], version)
        found = content(store.get("a")) or b""
        assert (len(found), found[5:18], found[500_018:501_018]) == (571_018, value[5:15] + b"new", value[999_000:])
        store.splice("b", [Hole(3)], None)
        assert len(content(store.get("b")) or b"") == 3

    def test_erase(self, store: Any) -> None:
        store.put("a/b", [b"1"])
        store.put("a/c", [b"1"])
        for key in ("a/b", "a/b", "x/y/z", "a/c/d"):
            store.erase(key)
        assert store.get("a/b") is None
        assert content(store.get("a/c")) == b"1"

    def test_erase_prefix(self, store: Any) -> None:
        for key in ("a/b", "a/c/d", "a/c/e/f", "ab", "b/a"):
            store.put(key, [b"1"])
        store.erase_prefix("a/")
        store.erase_prefix("none/of/these/")
        assert [key for key in ("a/b", "a/c/d", "a/c/e/f", "ab", "b/a") if store.get(key)] == ["ab", "b/a"]
        store.erase_prefix("")
        assert [key for key in ("ab", "b/a") if store.get(key)] == []

    def test_list(self, store: Any) -> None:
        needs(store, "list")
        assert (list(store.list_prefix("")), store.list_dir("")) == ([], ([], []))
        keys = ["a.b", "a/b", "a/c/d", "a/c.d", "a-b/c", "zarr.json", "é/1"]
        for key in reversed(keys):
            store.put(key, [b"1"])
        assert list(store.list_prefix("")) == sorted(keys)
        assert list(store.list_prefix("a/")) == ["a/b", "a/c.d", "a/c/d"]
        assert store.list_dir("") == (["a.b", "zarr.json"], ["a-b/", "a/", "é/"])
        assert store.list_dir("a/") == (["a/b", "a/c.d"], ["a/c/"])
        assert (list(store.list_prefix("no/")), store.list_dir("no/")) == ([], ([], []))
        assert list(store.list_prefix("zarr.json/")) == []

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_bad_keys(self, store: Any, key: str) -> None:
        can = capabilities(store)
        calls: list[tuple[Any, ...]] = [("get",), ("get_ranges", []), ("put", [b"x"]), ("erase",)]
        calls += [("put_if", [b"x"], None), ("erase_if", None)] * can.put_if + [("splice", [b"x"], None)] * can.splice
        for method, *args in calls:
            with pytest.raises(OptionError) as caught:
                getattr(store, method)(key, *args)
            assert caught.value.store == store.url
            assert caught.value.key == (key if key.isascii() else repr(key))

    @pytest.mark.parametrize("prefix", BAD_PREFIXES)
    def test_bad_prefixes(self, store: Any, prefix: str) -> None:
        store.put("a", [b"x"])
        calls: list[Callable[[], object]] = [lambda: store.erase_prefix(prefix)]
        if capabilities(store).list:
            calls += [lambda: list(store.list_prefix(prefix)), lambda: store.list_dir(prefix)]
        for call in calls:
            with pytest.raises(OptionError):
                call()
        assert content(store.get("a")) == b"x"

    def test_readers_see_whole_objects(self, store: Any) -> None:
        store.put("a", [bytes(1)])
        done = threading.Event()

        def write() -> None:
            for i in range(60):
                store.put("a", [bytes([i])] * (1 + 97 * (i % 50)))
            done.set()

        def read() -> None:
            while not done.is_set():
                blob = store.get_ranges("a", [ByteRange(0)])
                value = content(blob) or b""
                assert len(set(value)) == 1
                assert len(value) == 1 + 97 * (value[0] % 50) == blob.size

        together(write, read, read)

    def test_compare_and_swap_loses_nothing(self, store: Any) -> None:
        needs(store, "put_if", "get")

        def increment() -> None:
            for _ in range(40):
                while True:
                    blob = store.get("n")
                    count = int(content(blob) or b"0")
                    try:
                        store.put_if("n", [b"%d" % (count + 1)], None if blob is None else blob.version)
                    except VersionChangedError:
                        continue
                    break

        together(*[increment] * 4)
        assert content(store.get("n")) == b"160"

    def test_hold_loses_nothing(self, store: Any) -> None:
        needs(store, "hold")

        def increment() -> None:
            for i in range(40):
                with store.hold(["n/a", "n/b"] if i % 2 else ["n/b", "n/a"]) as held:
                    for key in ("n/a", "n/b"):
                        count = int(content(held.get(key)) or b"0")
                        held.put(key, [b"-1 half done"])
                        held.put(key, [b"%d" % (count + 1)])

        together(*[increment] * 4)
        assert [content(store.get(key)) for key in ("n/a", "n/b")] == [b"160", b"160"]

    def test_held_store_does_everything(self, store: Any) -> None:
        needs(store, "hold", "put_if", "splice", "list")
        with store.hold(["a", "b", "a"]) as held:
            version = held.put_if("a", [b"abc"], None)
            version = held.splice("a", [ByteRange(1, 2), b"!"], version)
            assert content(store.get("a")) == b"bc!"
            held.put("other/key", [b"1"])
            held.erase("a")
            assert (held.get("a"), store.get("a")) == (None, None)
            version = held.put("a", [b"again"])
            held.erase_if("a", version)
            held.put("b", [b"2"])
            assert list(held.list_prefix("")) == ["b", "other/key"]
            with held.hold(["b"]) as inner:
                inner.put("b", [b"3"])
            with pytest.raises(OptionError), held.hold(["c"]):
                pass
        assert list(store.list_prefix("")) == ["b", "other/key"]
        assert content(store.get("b")) == b"3"

    def test_hold_that_fails(self, store: Any) -> None:
        needs(store, "hold")
        with pytest.raises(FileNotFoundError, match="mine"), store.hold(["a", "b"]) as held:
            held.put("a", [b"1"])
            raise FileNotFoundError("mine")
        store.put("a", [b"2"])
        with store.hold(["b", "a"]):
            pass
        assert content(store.get("a")) == b"2"

    @pytest.mark.parametrize("seed", range(6))
    def test_like_a_dict(self, store: Any, seed: int) -> None:
        """Random calls, and a dict that says what each should have done."""
        can = capabilities(store)
        actions = ["put", "erase", "erase_prefix", *["put_if"] * can.put_if, *["splice"] * can.splice]
        keys = ("a", "b/c", "b/d", "e/f/g")
        model: dict[str, bytes] = {}
        dice = random.Random(seed)
        for _ in range(120):
            key, action, value = dice.choice(keys), dice.choice(actions), dice.randbytes(dice.choice([0, 1, 10, 5000]))
            old, blob = model.get(key, b""), store.get(key)
            version = None if blob is None else blob.version
            cut = dice.randint(0, len(old))
            if action == "put":
                store.put(key, [value])
                model[key] = value
            elif action == "put_if":
                store.put_if(key, [value[:3], value[3:]], version)
                model[key] = value
            elif action == "splice":
                store.splice(key, [ByteRange(cut), value, ByteRange(0, cut)] if blob else [value], version)
                model[key] = old[cut:] + value + old[:cut]
            elif action == "erase":
                store.erase(key)
                model.pop(key, None)
            elif dice.random() < 0.3:
                store.erase_prefix("b/")
                model = {name: kept for name, kept in model.items() if not name.startswith("b/")}
            assert {name: content(store.get(name)) for name in keys} == {name: model.get(name) for name in keys}
        if can.list:
            assert list(store.list_prefix("")) == sorted(model)
