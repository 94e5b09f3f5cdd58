"""Archives that are damaged or that were made to harm: each is a typed error that says where."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable

import pytest

from zarrant.errors import ArchiveError, LimitError
from zarrant.storage import ByteRange
from zarrant.stores.memory import MemoryStore
from zarrant.stores.zip_format import MAX_DIRECTORY, in_order, ome_comment, parse_ending
from zarrant.stores.zip_store import ZipStore
from zarrant.testkit import content


def archive(*objects: tuple[str, bytes], method: int = zipfile.ZIP_STORED, comment: bytes = b"") -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names
        made.comment = comment
        for name, value in objects:
            made.writestr(name, value)
    return bytearray(file.getvalue())


ONE = ("a", b"some bytes")
TWO = (ONE, ("b", b"others"))


def store(data: bytes) -> ZipStore:
    return ZipStore(MemoryStore({"z.zip": bytes(data)}), key="z.zip")


def changed(place: int, form: str, *values: int, of: bytes = b"PK\1\2", number: int = 0) -> Callable[[bytearray], None]:
    """Replace fields of a record of an archive, `place` bytes from its signature."""

    def change(data: bytearray) -> None:
        at = -1
        for _ in range(number + 1):
            at = data.index(of, at + 1)
        struct.pack_into("<" + form, data, at + place, *values)

    return change


def cut(data: bytearray) -> None:
    del data[-5:]


def append(data: bytearray) -> None:
    data += b"tail"


def prepend(data: bytearray) -> None:
    data[:0] = b"#!self extracting"


def same_place(data: bytearray) -> None:
    """The second entry is where the first one is."""
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    struct.pack_into("<I", data, second + 42, 0)


BROKEN_DIRECTORIES = [
    (cut, "end record"),
    (append, "end record"),
    (prepend, "directory"),
    (changed(4, "H", 1, of=b"PK\5\6"), "several parts"),
    (changed(8, "H", 1, of=b"PK\5\6"), "several parts"),
    (changed(8, "HH", 3, 3, of=b"PK\5\6"), "broken directory"),
    (changed(8, "HH", 1, 1, of=b"PK\5\6"), "more than its entries"),
    (changed(12, "I", 5, of=b"PK\5\6"), "not where its end record says"),
    (changed(16, "I", 0, of=b"PK\5\6"), "not where its end record says"),
    (changed(0, "I", 0), "broken directory"),
    (changed(28, "H", 900), "cut off"),
    (changed(30, "H", 900), "cut off"),
    (changed(34, "H", 7), "several parts"),
    (changed(42, "I", 5000), "outside of the archive"),
    (changed(20, "II", 5000, 5000), "overlap"),
    (changed(20, "II", 5000, 5000, number=1), "outside of the archive"),
    (changed(24, "I", 11), "two sizes"),
    (changed(20, "I", 0xFFFFFFFF), "ZIP64"),
    (changed(46, "B", 0x2E), "no key"),
    (changed(46, "B", 0x2F), "no key"),
    (changed(46, "B", 0), "no key"),
    (same_place, "overlap"),
]


@pytest.mark.parametrize(("change", "text"), BROKEN_DIRECTORIES)
def test_broken_directories(change: Callable[[bytearray], None], text: str) -> None:
    data = archive(*TWO)
    change(data)
    for call in (lambda: store(data).get("a"), lambda: list(store(data).list_prefix(""))):
        with pytest.raises(ArchiveError, match=text) as caught:
            call()
        assert caught.value.store is not None and caught.value.store.endswith("z.zip")


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "a//b", "./a", "..", "a/.", "C:/../a"])
def test_names_that_lead_out_of_the_archive(name: str) -> None:
    with pytest.raises(ArchiveError, match="leads out of the archive") as caught:
        store(archive((name, b"x"))).get("a")
    assert caught.value.got == repr(name)


BROKEN_ENTRIES = [
    (changed(8, "H", 1), "encrypted"),
    (changed(10, "H", 14), "another method"),
    (changed(16, "I", 5), "damaged"),
    (changed(30, "B", 0x62, of=b"PK\3\4"), "local header"),
    (changed(0, "I", 0, of=b"PK\3\4"), "local header"),
    (changed(8, "H", 8, of=b"PK\3\4"), "another method"),
    (changed(28, "H", 60000, of=b"PK\3\4"), "reaches into the directory"),
    (changed(32, "B", 0x62, of=b"PK\3\4"), "damaged"),
]


@pytest.mark.parametrize(("change", "text"), BROKEN_ENTRIES)
def test_broken_entries(change: Callable[[bytearray], None], text: str) -> None:
    data = archive(*TWO)
    change(data)
    broken = store(data)
    with pytest.raises(ArchiveError, match=text) as caught:
        broken.get("a")
    assert caught.value.key == "a"
    assert content(broken.get("b")) == b"others", "the others stay readable"


def test_duplicates() -> None:
    data = archive(("a", b"first"), ("b", b"x"), ("a", b"second"))
    with pytest.raises(ArchiveError, match="duplicates='last'") as caught:
        store(data).get("a")
    assert caught.value.key == "a" and content(store(data).get("b")) == b"x"
    assert content(ZipStore(MemoryStore({"z": bytes(data)}), key="z", duplicates="last").get("a")) == b"second"


def deflated(value: bytes, size: int, crc: int | None = None) -> bytearray:
    """An archive whose entry states another size."""
    data = archive(("a", value), method=zipfile.ZIP_DEFLATED)
    at = data.index(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, size)
    if crc is not None:
        struct.pack_into("<I", data, at + 16, crc)
    return data


def test_bombs() -> None:
    zeros = bytes(1 << 20)
    for size, text in ((1000, "another size"), ((1 << 20) - 1, "another size"), ((1 << 20) + 1, "another size")):
        with pytest.raises(ArchiveError, match=text):
            store(deflated(zeros, size)).get("a")
    for size in (4 << 20, 0xFFFFFFFE):
        with pytest.raises(ArchiveError, match="cannot have"):
            store(deflated(zeros, size)).get("a")
    with pytest.raises(LimitError):
        store(deflated(zeros, 1 << 20)).get_within("a", 1000)
    assert content(store(deflated(zeros, 1 << 20)).get_within("a", 1 << 20)) == zeros


def test_deflate_that_is_broken() -> None:
    data = deflated(b"0123456789" * 100, 1000)
    at = data.index(b"PK\3\4") + 31
    data[at] = 0xFF
    with pytest.raises(ArchiveError):
        store(data).get("a")
    crc = zlib.crc32(b"something else")
    with pytest.raises(ArchiveError, match="damaged"):
        store(deflated(b"0123456789" * 100, 1000, crc)).get_ranges("a", [ByteRange(0, 1)])


def test_two_end_records() -> None:
    inner = bytes(archive(("evil", b"x")))[-22:]
    with pytest.raises(ArchiveError, match="2: which one counts"):
        store(archive(*TWO, comment=b"text" + inner)).get("a")
    assert content(store(archive(*TWO, comment=inner + b"text")).get("a")) == ONE[1]


def test_comments_of_any_length() -> None:
    for length in (0, 1, 1000, 65535):
        assert content(store(archive(*TWO, comment=b"c" * length)).get("b")) == b"others"


def test_a_directory_that_is_too_large() -> None:
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, MAX_DIRECTORY + 1, 0, 0)
    with pytest.raises(LimitError) as caught:
        parse_ending(end, MAX_DIRECTORY + 23)
    assert (caught.value.field, caught.value.got) == ("directory bytes", MAX_DIRECTORY + 1)


def test_every_byte_changed() -> None:
    """Of any archive with one wrong byte the answer is an error of ours, or the right bytes."""
    good = archive(ONE, ("zarr.json", b'{"x": 1}' * 10), method=zipfile.ZIP_DEFLATED)
    for at in range(len(good)):
        for value in (0, 0xFF, good[at] ^ 1):
            data = good.copy()
            data[at] = value
            try:
                found = content(store(data).get("a"))
            except (ArchiveError, LimitError):
                continue
            assert found in (ONE[1], None), at


@pytest.mark.parametrize("garbage", [b"", b"x", b"PK\5\6", b"PK\5\6" + bytes(18), bytes(100_000)])
def test_what_is_no_archive(garbage: bytes) -> None:
    if garbage == b"PK\5\6" + bytes(18):
        assert list(store(garbage).list_prefix("")) == []
        return
    with pytest.raises(ArchiveError, match="not a zip archive"):
        store(garbage).get("a")


def test_names_in_other_alphabets() -> None:
    assert content(store(archive(("é/1", b"x"), ("数", b"y"))).get("数")) == b"y"
    data = archive(("é", b"x"))
    at = data.index(b"PK\1\2")
    data[at + 46 : at + 48] = b"\xff\xfe"
    with pytest.raises(ArchiveError, match="not text"):
        store(data).get("a")


def test_order_of_metadata() -> None:
    keys = ["b/.zarray", "a/b/zarr.json", ".zgroup", "b/zarr.json", "zarr.json", "a/zarr.json", "b/.zattrs"]
    assert in_order(keys) == ["zarr.json", "a/zarr.json", "b/zarr.json", "a/b/zarr.json", ".zgroup", "b/.zarray", "b/.zattrs"]


@pytest.mark.parametrize(
    "document", [b"", b"[]", b"{}", b'{"attributes": 1}', b'{"attributes": {"ome": {"version": 5}}}', b"\xff", b"[" * 100_000]
)
def test_no_comment_without_a_version(document: bytes) -> None:
    assert ome_comment({"zarr.json": document}) == b""
