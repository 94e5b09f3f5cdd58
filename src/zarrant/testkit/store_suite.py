"""What every store promises (`zarrant.storage`), as tests to instance for a new store.

In: a pytest fixture named `store`, an empty store. Out: a test for each promise; what the store has no method for is skipped.

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

from zarrant.errors import ByteRangeError, LimitError, OptionError, VersionChangedError
from zarrant.requests import ANY
from zarrant.storage import Blob, ByteRange, Hole, capabilities
from zarrant.testkit.checks import check, check_equal, content, needs, raises, together

BAD_KEYS = ("", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "../a", "a/..", "a\0b", "\ud800")
BAD_PREFIXES = ("/", "a", "a//", "../", "./", "a/../")
PARTS: tuple[list[Any], ...] = ([], [b""], [b"ab", b"", bytearray(b"cd"), memoryview(b"-ef-")[1:3]], [b"x", b"yz"] * 1500)
OUTSIDE = ((0, 11), (11, 0), (10, 1), (-11, 1), (-1, 2), (2**62, 2**62), (3, -1))


class StoreSuite:
    """What every store promises."""

    named_by_content = False
    """Equal bytes may get equal versions again, as S3 names them: then a second write of them cannot be noticed."""

    def test_whole_objects_of_a_size(self, store: Any) -> None:
        needs(store, "get_within")
        version = store.put("a", [b"abc", b"de"])
        for limit in (5, 6, 1 << 40):
            check_equal(store.get_within("a", limit), Blob((memoryview(b"abcde"),), version, 5), "whole objects of a size")
        for limit in (0, 4):
            with raises(LimitError, "`get_within` of a larger object") as caught:
                store.get_within("a", limit)
            check_equal((caught.value.got, caught.value.limit), (5, limit), "whole objects of a size")
        assert store.get_within("b", 0) is None

    def test_absent(self, store: Any) -> None:
        assert store.get("a") is None
        assert store.get_ranges("a/b", [ByteRange(0, 1)]) is None

    def test_put_and_get(self, store: Any) -> None:
        for parts in PARTS:
            version = store.put("c/0/1", parts)
            blob = store.get("c/0/1")
            check_equal(content(blob), b"".join(parts), f"`get` after `put` of {len(parts)} parts")
            check_equal((blob.version, blob.size), (version, len(b"".join(parts))), "version and size that `get` gives")
            for view in blob.data:
                flat = isinstance(view, memoryview) and view.readonly and view.ndim == 1
                check(flat, f"`get` gives read-only memoryviews of one dimension, not {view!r}")

    def test_put_takes_any_contiguous_buffer(self, store: Any) -> None:
        store.put("a", [np.arange(6, dtype="<u2").reshape(2, 3).data, np.empty((0, 4)).data, memoryview(b"xy").cast("H")])
        check_equal(content(store.get("a")), np.arange(6, dtype="<u2").tobytes() + b"xy", "put takes any contiguous buffer")

    def test_put_replaces_by_a_copy(self, store: Any) -> None:
        value = bytearray(b"short")
        assert store.put("a", [b"a long value"]) != store.put("a", [value])
        value[:] = b"XXXXX"
        check_equal(content(store.get("a")), b"short", "put replaces by a copy")

    def test_what_was_read_stays(self, store: Any) -> None:
        store.put("a", [b"old value"])
        blob = store.get("a")
        store.put("a", [b"new"])
        store.erase("a")
        check_equal(content(blob), b"old value", "what was read stays")

    def test_versions_are_never_used_again(self, store: Any) -> None:
        versions = []
        for number in range(50):
            texts = (b"%d" % number, b"%d again" % number) if self.named_by_content else (b"same", b"same")
            versions += [store.put("a", [text]) for text in texts]
            store.erase("a")
        check_equal(len(set(versions)), 100, "versions are never used again")

    def test_versions_stay_while_nothing_is_written(self, store: Any) -> None:
        version = store.put("a", [b"abc"])
        store.put("b", [b"abc"])
        check_equal(
            {store.get("a").version, store.get_ranges("a", []).version}, {version}, "versions stay while nothing is written"
        )

    def test_ranges(self, store: Any) -> None:
        store.put("a", [bytes(range(100))])
        ranges = [ByteRange(5, 3), ByteRange(8, 2), ByteRange(0, 0), ByteRange(90), ByteRange.suffix(4), ByteRange(-10, 2)]
        blob = store.get_ranges("a", [*ranges, ByteRange(0), ByteRange(6, 1), ByteRange(100, 0)])
        assert [list(view) for view in blob.data] == [
            [5, 6, 7], [8, 9], [], [*range(90, 100)], [96, 97, 98, 99], [90, 91], [*range(100)], [6], []
        ]  # fmt: skip
        check_equal(blob.size, 100, "ranges")

    def test_ranges_outside(self, store: Any) -> None:
        store.put("a/b", [bytes(10)])
        for wanted in OUTSIDE:
            with raises(ByteRangeError, f"the range {wanted} of 10 bytes") as caught:
                store.get_ranges("a/b", [ByteRange(0, 1), ByteRange(*wanted)])
            check_equal((caught.value.key, caught.value.store), ("a/b", store.url), "key and store of the error")

    def test_ranges_of_a_version(self, store: Any) -> None:
        version = store.put("a", [b"abc"])
        check_equal(content(store.get_ranges("a", [ByteRange(1)], version)), b"bc", "ranges of a version")
        store.put("a", [b"abcd" if self.named_by_content else b"abc"])
        with raises(VersionChangedError, "`get_ranges` of a version that is gone") as caught:
            store.get_ranges("a", [ByteRange(1)], version)
        check_equal((caught.value.key, caught.value.retryable), ("a", True), "ranges of a version")
        longer = store.put("a", [bytes(50)])
        store.put("a", [bytes(20)])
        for ranges in (
            [ByteRange(30, 5)],
            [ByteRange.suffix(30)],
            [ByteRange(0, 2), ByteRange(45)],
            [ByteRange(2, 4), ByteRange(-40, 9)],
        ):
            with raises(VersionChangedError, "`get_ranges` of a version that is gone, beyond what is there now"):
                store.get_ranges("a", ranges, longer)
        store.erase("a")
        with raises(VersionChangedError, "`get_ranges` of a version that is gone"):
            store.get_ranges("a", [ByteRange(1)], version)

    def test_put_if(self, store: Any) -> None:
        needs(store, "put_if")
        version = store.put_if("a", [b"1"], None)
        with raises(VersionChangedError, "a call with a version that is gone") as caught:
            store.put_if("a", [b"2"], None)
        check_equal((caught.value.key, caught.value.store), ("a", store.url), "put if")
        newer = store.put_if("a", [b"33"], version)
        for stale in (version, None):
            with raises(VersionChangedError, "a call with a version that is gone"):
                store.put_if("a", [b"4"], stale)
        check_equal(content(store.get("a")), b"33", "put if")
        store.erase("a")
        with raises(VersionChangedError, "a call with a version that is gone"):
            store.put_if("a", [b"5"], newer)

    def test_erase_if(self, store: Any) -> None:
        needs(store, "erase_if")
        version = store.put("a", [b"1"])
        newer = store.put("a", [b"22"])
        for stale in (version, None):
            with raises(VersionChangedError, "a call with a version that is gone"):
                store.erase_if("a", stale)
        check_equal(content(store.get("a")), b"22", "erase if")
        store.erase_if("a", newer)
        store.erase_if("a", None)
        assert store.get("a") is None

    def test_splice(self, store: Any) -> None:
        needs(store, "splice")
        version = store.put("a", [b"0123456789"])
        newer = store.splice(
            "a", [b"<", ByteRange(2, 3), b"|", b"", ByteRange(5, 1), ByteRange(0, 0), ByteRange(-1), b">"], version
        )
        check_equal(content(store.get("a")), b"<234|59>", "splice")
        with raises(VersionChangedError, "a splice that cannot be"):
            store.splice("a", [ByteRange(0, 1)], version)
        with raises(ByteRangeError, "a splice that cannot be") as caught:
            store.splice("a", [b"new", ByteRange(0, 9)], newer)
        check_equal(caught.value.key, "a", "splice")
        check_equal(content(store.get("a")), b"<234|59>", "splice")
        store.splice("a", [ByteRange(0, 2), b"."], ANY)
        check_equal(content(store.get("a")), b"<2.", "splice")
        with raises(ByteRangeError, "a splice that cannot be"):
            store.splice("b", [ByteRange(0, 1)], None)
        store.splice("b", [b"b"], None)
        check_equal(content(store.get("b")), b"b", "splice")

    def test_splice_of_much(self, store: Any) -> None:
        needs(store, "splice")
        value = random.Random(1).randbytes(3_000_000)
        version = store.put("a", [value])
        store.splice("a", [ByteRange(1, 2_500_001), b"end", ByteRange(0, 1)], version)
        check_equal(content(store.get("a")), value[1:2_500_002] + b"end" + value[:1], "splice of much")

    def test_splice_with_holes(self, store: Any) -> None:
        needs(store, "splice")
        value = random.Random(2).randbytes(1_000_000)
        version = store.put("a", [value])
        store.splice("a", [Hole(5), ByteRange(5, 10), b"new", Hole(500_000), ByteRange(999_000), Hole(70_000)], version)
        found = content(store.get("a")) or b""
        check_equal(
            (len(found), found[5:18], found[500_018:501_018]), (571_018, value[5:15] + b"new", value[999_000:]), "splice with holes"
        )
        store.splice("b", [Hole(3)], None)
        check_equal(len(content(store.get("b")) or b""), 3, "splice with holes")

    def test_erase(self, store: Any) -> None:
        store.put("a/b", [b"1"])
        store.put("a/c", [b"1"])
        for key in ("a/b", "a/b", "x/y/z", "a/c/d"):
            store.erase(key)
        assert store.get("a/b") is None
        check_equal(content(store.get("a/c")), b"1", "erase")

    def test_erase_prefix(self, store: Any) -> None:
        for key in ("a/b", "a/c/d", "a/c/e/f", "ab", "b/a"):
            store.put(key, [b"1"])
        store.erase_prefix("a/")
        store.erase_prefix("none/of/these/")
        check_equal([key for key in ("a/b", "a/c/d", "a/c/e/f", "ab", "b/a") if store.get(key)], ["ab", "b/a"], "erase prefix")
        store.erase_prefix("")
        check_equal([key for key in ("ab", "b/a") if store.get(key)], [], "erase prefix")

    def test_list(self, store: Any) -> None:
        needs(store, "list")
        check_equal((list(store.list_prefix("")), store.list_dir("")), ([], ([], [])), "list")
        keys = ["a.b", "a/b", "a/c/d", "a/c.d", "a-b/c", "zarr.json", "é/1"]
        for key in reversed(keys):
            store.put(key, [b"1"])
        check_equal(list(store.list_prefix("")), sorted(keys), "list")
        check_equal(list(store.list_prefix("a/")), ["a/b", "a/c.d", "a/c/d"], "list")
        check_equal(store.list_dir(""), (["a.b", "zarr.json"], ["a-b/", "a/", "é/"]), "list")
        check_equal(store.list_dir("a/"), (["a/b", "a/c.d"], ["a/c/"]), "list")
        check_equal((list(store.list_prefix("no/")), store.list_dir("no/")), ([], ([], [])), "list")
        check_equal(list(store.list_prefix("zarr.json/")), [], "list")

    def test_bad_keys(self, store: Any) -> None:
        can = capabilities(store)
        calls: list[tuple[Any, ...]] = [("get",), ("get_ranges", []), ("put", [b"x"]), ("erase",)]
        calls += [("put_if", [b"x"], None)] * can.put_if + [("erase_if", None)] * can.erase_if
        calls += [("splice", [b"x"], None)] * can.splice
        for key in BAD_KEYS:
            for method, *args in calls:
                with raises(OptionError, f"`{method}` of the key {key!r}") as caught:
                    getattr(store, method)(key, *args)
                expected = (key if key.isascii() else repr(key), store.url)
                check_equal((caught.value.key, caught.value.store), expected, "key and store of the error")

    def test_bad_prefixes(self, store: Any) -> None:
        store.put("a", [b"x"])
        calls: list[Callable[[str], object]] = [store.erase_prefix]
        if capabilities(store).list:
            calls += [lambda prefix: list(store.list_prefix(prefix)), store.list_dir]
        for prefix in BAD_PREFIXES:
            for call in calls:
                with raises(OptionError, f"a call with the prefix {prefix!r}"):
                    call(prefix)
        check_equal(content(store.get("a")), b"x", "an object after calls with wrong prefixes")

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
                check_equal(len(set(value)), 1, "readers see whole objects")
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
        check_equal(content(store.get("n")), b"160", "compare and swap loses nothing")

    def test_locks_lose_nothing(self, store: Any) -> None:
        needs(store, "lock")

        def increment() -> None:
            for i in range(40):
                with store.lock(["n/a", "n/b"] if i % 2 else ["n/b", "n/a"]) as locked:
                    for key in ("n/a", "n/b"):
                        count = int(content(locked.get(key)) or b"0")
                        locked.put(key, [b"-1 half done"])
                        locked.put(key, [b"%d" % (count + 1)])

        together(*[increment] * 4)
        check_equal([content(store.get(key)) for key in ("n/a", "n/b")], [b"160", b"160"], "lock loses nothing")

    def test_a_locked_store_does_everything(self, store: Any) -> None:
        needs(store, "lock", "put_if", "splice", "list")
        with store.lock(["a", "b", "a"]) as locked:
            version = locked.put_if("a", [b"abc"], None)
            version = locked.splice("a", [ByteRange(1, 2), b"!"], version)
            check_equal(content(store.get("a")), b"bc!", "locked store does everything")
            locked.put("other/key", [b"1"])
            locked.erase("a")
            check_equal((locked.get("a"), store.get("a")), (None, None), "locked store does everything")
            version = locked.put("a", [b"again"])
            locked.erase_if("a", version)
            locked.put("b", [b"2"])
            check_equal(list(locked.list_prefix("")), ["b", "other/key"], "locked store does everything")
            with locked.lock(["b"]) as inner:
                inner.put("b", [b"3"])
            with raises(OptionError, "`lock` of a key that is not held"), locked.lock(["c"]):
                pass
        check_equal(list(store.list_prefix("")), ["b", "other/key"], "locked store does everything")
        check_equal(content(store.get("b")), b"3", "locked store does everything")

    def test_a_lock_that_fails(self, store: Any) -> None:
        needs(store, "lock")
        with raises(FileNotFoundError, "a block that fails"), store.lock(["a", "b"]) as locked:
            locked.put("a", [b"1"])
            raise FileNotFoundError("mine")
        store.put("a", [b"2"])
        with store.lock(["b", "a"]):
            pass
        check_equal(content(store.get("a")), b"2", "lock that fails")

    def test_like_a_dict(self, store: Any) -> None:
        """Random calls, and a dict that says what each should have done."""
        for seed in range(6):
            self.compare_with_a_dict(store, seed)
            store.erase_prefix("")

    def compare_with_a_dict(self, store: Any, seed: int) -> None:
        """One such comparison, from an empty store."""
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
            found = {name: content(store.get(name)) for name in keys}
            check_equal(found, {name: model.get(name) for name in keys}, f"all objects after `{action}` of {key!r} (seed {seed})")
        if can.list:
            check_equal(list(store.list_prefix("")), sorted(model), "`list_prefix` at the end")
