"""TIFF: boxes of strips and tiles equal what tifffile reads whole, memory is bounded, and what the file says of itself is kept."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.errors import DataError, NodeNotFoundError, ZarrantError
from zarrant.geometry.box import ArraySubset
from zarrant.tools import tiff
from zarrant.tools.convert import open_foreign
from zarrant.tools.copy import copy

tifffile = pytest.importorskip("tifffile", reason="needs the extra images")

FORMS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((50, 61), {"rowsperstrip": 7}),
    ((50, 61), {"tile": (16, 32)}),
    ((4, 50, 61), {"rowsperstrip": 16, "photometric": "minisblack", "metadata": {"axes": "ZYX"}}),
    ((2, 3, 30, 41), {"tile": (16, 16), "photometric": "minisblack", "metadata": {"axes": "TZYX"}}),
    ((50, 61, 3), {"rowsperstrip": 16, "photometric": "rgb"}),
    ((50, 61, 3), {"tile": (16, 16), "photometric": "rgb"}),
    ((3, 50, 61), {"rowsperstrip": 16, "photometric": "rgb", "planarconfig": "separate"}),
    ((2, 50, 61, 3), {"rowsperstrip": 9, "photometric": "rgb"}),
    ((4, 40, 50), {"tile": (2, 16, 16), "photometric": "minisblack", "volumetric": True}),
    ((1, 1, 33), {"rowsperstrip": 1, "photometric": "minisblack"}),
]


def written(path: Path, shape: tuple[int, ...], **options: Any) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).integers(0, 9999, shape).astype("u2")
    tifffile.imwrite(path, values, compression="zlib", **options)
    return values


@pytest.mark.parametrize("number", range(len(FORMS)))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_box_is_what_the_whole_has_there(tmp_path: Path, number: int, data: st.DataObject) -> None:
    path = tmp_path / f"{number}.tif"
    if not path.exists():
        written(path, FORMS[number][0], **FORMS[number][1])
    whole = tifffile.imread(path)
    sides = [data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n))) for n in whole.shape]
    starts = [start for start, _ in sides]
    box = ArraySubset(tuple(starts), tuple(min(n, size - at) for (at, n), size in zip(sides, whole.shape, strict=True)))
    with open_foreign(path) as source:
        assert source.kind == "TIFF, by strips" and source.shape == whole.shape
        assert np.array_equal(source.read(box), whole[box.slices])


def test_memory_is_that_of_a_block_not_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.tif"
    plane = np.arange(1000 * 1000, dtype="u2").reshape(1000, 1000)
    with tifffile.TiffWriter(path) as writer:
        writer.write(
            (plane + z for z in range(40)),
            shape=(40, 1000, 1000),
            dtype="u2",
            compression="zlib",
            rowsperstrip=50,
            photometric="minisblack",
        )
    monkeypatch.setattr(tiff, "KEPT_BYTES", 1 << 20)
    tracemalloc.start()
    copy(str(path), str(tmp_path / "big.zarr"), chunks=(1, 500, 500), compressors=[], workers=1, block_bytes=1 << 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 << 20  # the file has 20 MB of values
    assert np.array_equal(zarrant.open_array(tmp_path / "big.zarr", mode="r")[19], plane + 19)


def test_what_an_ome_file_says_is_kept(tmp_path: Path) -> None:
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 0.25,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeZ": 2.0,
        "Channel": {"Name": ["a", "b"]},
    }
    values = written(tmp_path / "x.ome.tif", (2, 3, 20, 30), photometric="minisblack", metadata=metadata, resolution=(40000, 40000))
    copy(str(tmp_path / "x.ome.tif"), str(tmp_path / "x.zarr"))
    array = zarrant.open_array(tmp_path / "x.zarr", mode="r")
    assert np.array_equal(array[...], values) and array.dimension_names == ("c", "z", "y", "x")
    assert "<OME" in array.attrs["ome_xml"] and 'Name="b"' in array.attrs["ome_xml"]
    assert array.attrs["spacing"] == {"z": {"value": 2.0, "unit": "µm"}, "x": {"value": 0.25, "unit": "µm"}}
    assert array.attrs["resolution"]["pixels_per_unit"] == [40000.0, 40000.0]


def test_what_imagej_and_others_say_is_kept(tmp_path: Path) -> None:
    values = np.zeros((3, 20, 30), "u2")
    tifffile.imwrite(tmp_path / "i.tif", values, imagej=True, metadata={"axes": "ZYX", "spacing": 1.5, "unit": "um"})
    copy(str(tmp_path / "i.tif"), str(tmp_path / "i.zarr"))
    attributes = dict(zarrant.open_array(tmp_path / "i.zarr", mode="r").attrs)
    assert attributes["imagej"]["unit"] == "um" and attributes["spacing"]["z"]["value"] == 1.5
    tifffile.imwrite(tmp_path / "d.tif", values[0], description="made by hand", metadata=None)
    copy(str(tmp_path / "d.tif"), str(tmp_path / "d.zarr"))
    assert zarrant.open_array(tmp_path / "d.zarr", mode="r").attrs["description"] == "made by hand"


def test_a_strip_that_is_broken_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    written(tmp_path / "t.tif", (200, 300), rowsperstrip=20)
    with tifffile.TiffFile(tmp_path / "t.tif") as file:
        offset = file.pages[0].dataoffsets[5]
    torn = bytearray((tmp_path / "t.tif").read_bytes())
    torn[offset : offset + 20] = b"\xff" * 20
    (tmp_path / "t.tif").write_bytes(torn)
    with pytest.raises(ZarrantError, match=r"t\.tif") as caught:
        copy(str(tmp_path / "t.tif"), str(tmp_path / "t.zarr"))
    assert isinstance(caught.value, DataError)
    with pytest.raises(NodeNotFoundError):
        zarrant.open_array(tmp_path / "t.zarr", mode="r")
