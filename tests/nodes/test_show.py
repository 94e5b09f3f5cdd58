from __future__ import annotations

import xml.etree.ElementTree as xml

import pytest

import zarrant
from zarrant.limits import human
from zarrant.nodes.show import Info


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


@pytest.mark.parametrize("shape", [(100, 60), (), (7,), (3, 4, 5), (0, 5), (10**9, 2), (2, 10**7)])
@pytest.mark.parametrize("sharded", [False, True])
def test_html_is_well_formed_and_draws_the_grid(shape, sharded) -> None:
    chunks = tuple(min(2 + i, max(1, n)) for i, n in enumerate(shape))
    shards = tuple(2 * n for n in chunks) if sharded else None
    a = zarrant.create_array({}, shape=shape, dtype="int8", chunks=chunks, shards=shards, dimension_names=["<&>"] * len(shape))
    text = a._repr_html_()
    root = xml.fromstring(text)
    assert len(text) < 30_000
    assert "<&>" not in text
    svg = root.find("{http://www.w3.org/2000/svg}svg")
    assert (svg is None) == (0 in shape)


def test_html_lines_are_the_borders(array) -> None:
    root = xml.fromstring(array._repr_html_())
    lines = root.findall(".//{http://www.w3.org/2000/svg}line")
    thick = [line for line in lines if line.get("stroke-width") == "1.2"]
    assert len(lines) - len(thick) == 9 + 5
    assert len(thick) == 1 + 2
    assert "float32" in array._repr_html_()


def test_group_html_is_escaped() -> None:
    g = zarrant.create_group({})
    g.create_array("<b>", shape=(2,), dtype="int8")
    assert "&lt;b&gt; (2,) int8" in g._repr_html_()


@pytest.mark.parametrize(
    ("nbytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 50, "5120.0 TiB")]
)
def test_human(nbytes, text) -> None:
    assert human(nbytes) == text
