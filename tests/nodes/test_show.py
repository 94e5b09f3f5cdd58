from __future__ import annotations

import asyncio
import re
import shutil
import xml.etree.ElementTree as xml
from html.parser import HTMLParser

import numpy as np
import pytest

import zarrant
from zarrant.limits import human
from zarrant.nodes import picture, show
from zarrant.nodes.show import Info
from zarrant.stores.wrappers import Metrics


@pytest.fixture
def array(tmp_path):
    return zarrant.create_array(
        tmp_path, name="x", shape=(100, 60), dtype="float32", chunks=(10, 10), shards=(50, 20), dimension_names=("y", "<x>")
    )


def test_repr_says_what_guards_writes(array) -> None:
    text = repr(array)
    assert text.startswith("<Array file://")
    for part in ("/x ", "shape=(100, 60)", "dtype=float32", "chunks=(10, 10)", "shards=(50, 20)", "guard='os locks"):
        assert part in text
    assert "compare-and-swap" in repr(zarrant.create_array({}, shape=(4,), dtype="int8"))
    assert "shards" not in repr(zarrant.create_array({}, shape=(4,), dtype="int8"))
    assert "can be lost" in repr(zarrant.create_array({}, shape=(4,), dtype="int8", synchronizer=None))
    assert "no locks" in repr(array.with_config(locking="none"))
    assert "read only" in repr(zarrant.open_array(array.store, name="x", mode="r"))
    assert repr(zarrant.create_group({}, name="a/b")).endswith("/a/b>")


def test_info(array) -> None:
    info = array.info
    assert info["Data type"] == "float32"
    assert info["Bytes"] == "24000 (23.4 KiB)"
    assert info["Stored objects"].startswith("6 ")
    assert info["Codecs"] == "sharding_indexed[bytes → zstd → crc32c]"
    assert info["Dimensions"] == ("y", "<x>")
    assert "os locks" in info["Guard"]
    lines = repr(info).splitlines()
    assert len(lines) == len(info)
    assert len({line.index(":") for line in lines}) == 1
    assert "File access" not in info
    assert array.with_config(direct_io=True).info["File access"] == "direct"
    assert zarrant.open_array(array.store.with_options(direct_io=True), name="x", mode="r").info["File access"] == "direct"
    assert repr(Info()) == ""


SVG = "{http://www.w3.org/2000/svg}"
TAGS = "div table tbody tr th td svg g title text path polygon details summary strong span ul li em"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</svg></td><b>",
    "&lt;&amp;",
    "a\u202eb\x07",
)


@pytest.mark.parametrize("shape", [(100, 60), (), (7,), (3, 4, 5), (0, 5), (10**9, 2), (2, 10**7), (4, 3, 10**6, 2, 9)])
@pytest.mark.parametrize("sharded", [False, True])
def test_html_is_well_formed_and_small(shape, sharded) -> None:
    chunks = tuple(min(2 + i, max(1, n)) for i, n in enumerate(shape))
    shards = tuple(2 * n for n in chunks) if sharded else None
    a = zarrant.create_array({}, shape=shape, dtype="int8", chunks=chunks, shards=shards, dimension_names=["<&>"] * len(shape))
    text = a._repr_html_()
    root = xml.fromstring(text)
    assert len(text) < 20_000
    assert "<&>" not in text
    assert (root.find(f"{SVG}svg") is None) == (0 in shape)
    assert sum(path.get("d").count("M") for path in root.iter(f"{SVG}path")) < 300


def texts(root: xml.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def lines(root: xml.Element, kind: str) -> int:
    return sum(path.get("d").count("M") for path in root.iter(f"{SVG}path") if path.get("class") == kind)


def test_the_drawing_has_borders_axes_and_a_legend(array) -> None:
    root = xml.fromstring(array._repr_html_())
    assert (lines(root, "chunks"), lines(root, "shards")) == (9 + 5, 1 + 2)
    assert texts(root) == ["y 100", "<x> 60", "shard 50 × 20: one stored object", "chunk 10 × 10"]
    assert root.find(f".//{SVG}title").text == "100 × 60 elements, with the borders of chunks and shards"


def test_a_volume_is_a_box() -> None:
    names = ("t", "z", "y", "a very long name indeed")
    a = zarrant.create_array({}, shape=(9, 64, 256, 2000), dtype="int8", chunks=(1, 8, 32, 1), dimension_names=names)
    root = xml.fromstring(a._repr_html_())
    assert len(list(root.iter(f"{SVG}polygon"))) == 3
    assert "z 64" in texts(root) and "y 256" in texts(root) and "a very long… 2,000" in texts(root)
    assert "the last three of 4 dimensions" in texts(root) and "not to scale" in texts(root)
    assert "along a very long…: one line for every 40 chunks" in texts(root)
    flat = xml.fromstring(zarrant.create_array({}, shape=(30, 80), dtype="int8", chunks=[[10, 20], [30, 10, 40]])._repr_html_())
    assert len(list(flat.iter(f"{SVG}polygon"))) == 1 and lines(flat, "chunks") == 1 + 2
    assert "chunk 10–20 × 10–40: one stored object" in texts(flat)


def test_the_table_compares_array_shard_and_chunk(array) -> None:
    rows = [["".join(cell.itertext()) for cell in row] for row in xml.fromstring(array._repr_html_()).iter("tr")]
    assert rows[:4] == [
        ["", "Array", "Shard", "Chunk"],
        ["Bytes", "23.4 KiB", "3.9 KiB", "400 B"],
        ["Shape", "100 × 60", "50 × 20", "10 × 10"],
        ["Count", "", "6", "60"],
    ]
    facts = dict(rows[4:])
    assert facts["Data type"] == "float32, fill value 0.0"
    assert facts["Codecs"] == "sharding_indexed[bytes → zstd → crc32c]"
    assert facts["Stored"] == "0 B in 0 of 6 objects"
    assert "os locks" in facts["Guard"] and facts["Address"].endswith("/x")


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_is_markup(name) -> None:
    group = zarrant.create_group({}, attributes={name: name})
    legal = name.replace("/", "_")
    a = group.create_array(legal, shape=(4, 4), dtype="U9", fill_value=name[:9], chunks=(2, 2), dimension_names=(name, name))
    group.create_group(f"{legal}2")
    for text in (a._repr_html_(), group._repr_html_()):
        seen = Tags()
        seen.feed(text)
        assert seen.tags <= set(TAGS.split())
        assert not {attribute for attribute in seen.attributes if attribute.startswith("on") or attribute in ("href", "src")}
        assert text.count("http") == text.count("xmlns='http://www.w3.org/2000/svg'")
        assert "url(" not in text and "\u202e" not in text and "\x07" not in text
        xml.fromstring(text)


class Tags(HTMLParser):
    """The tags and attributes of a text, as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_colours_are_those_of_the_page(array) -> None:
    """Black on a dark page could not be read: all is in the colour of the text, or in the middle between light and dark."""
    colours = set(re.findall(r"#[0-9a-f]{3,6}", array._repr_html_()))
    assert colours == {picture.FACE, picture.SHARD}
    for colour in colours:
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert 100 < 0.299 * red + 0.587 * green + 0.114 * blue < 160


def test_what_is_stored_is_said_where_it_is_cheap_or_asked_for(tmp_path) -> None:
    stored = {"shape": (8, 8), "dtype": "int32", "chunks": (4, 4), "compressors": None}
    a = zarrant.create_array(tmp_path / "a", **stored)
    a[:4] = 1
    assert "128 B in 2 of 4 objects<" in a._repr_html_()
    a[...] = 1
    assert "256 B in 4 of 4 objects, 1 : 1<" in a._repr_html_()
    assert a.info_complete()["Stored"] == "256 B in 4 of 4 objects, 1 : 1"
    counted = Metrics(a.store)
    elsewhere = zarrant.open_array(counted)
    counted.reset()
    assert "Stored<" not in elsewhere._repr_html_() and not counted.snapshot().requests
    many = zarrant.create_array({}, data=np.ones((9, 9), "int8"), chunks=(1, 1))
    assert "Stored<" not in many._repr_html_() and "81 of 81" in many.info_complete()["Stored"]

    async def asked() -> str:
        b = await zarrant.open_array_async(tmp_path / "a")
        assert "Stored<" not in b._repr_html_()
        return (await b.info_complete())["Stored"]

    assert asyncio.run(asked()) == "256 B in 4 of 4 objects, 1 : 1"


def test_an_array_that_is_gone_is_still_shown(tmp_path) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(4,), dtype="int8")
    shutil.rmtree(tmp_path / "a")
    assert "int8" in a._repr_html_()


def test_a_group_is_a_tree_that_folds() -> None:
    g = zarrant.create_group({})
    g.create_array("<b>", shape=(2, 3), dtype="int8")
    g.create_array("sub/inner/c", shape=(), dtype="bool")
    root = xml.fromstring(g._repr_html_())
    assert [each.text for each in root.iter("strong")] == ["/", "<b>", "sub", "inner", "c"]
    assert "2 × 3 int8" in "".join(root.itertext())
    assert len(list(root.iter("details"))) == 3


def test_of_a_large_group_a_part_is_shown(monkeypatch) -> None:
    monkeypatch.setattr(show, "MAX_NODES", 3)
    g = zarrant.create_group({})
    for i in range(5):
        g.create_group(f"g{i}")
    assert "… and 2 more" in g._repr_html_() and "g3" not in g._repr_html_()


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 50, "5120.0 TiB")]
)
def test_human(nbytes, text) -> None:
    assert human(nbytes) == text
