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
from zarrant.errors import ConflictError, DataError, NodeNotFoundError, OptionError, ZarrantError
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


@pytest.fixture
def positions(tmp_path: Path) -> list[np.ndarray[Any, Any]]:
    """Three images in one OME file, of other shapes, types and compression."""
    arrays = [np.arange(20 * 30, dtype="u2").reshape(20, 30), np.ones((3, 10, 8), "u1"), np.arange(99, dtype="f4").reshape(9, 11)]
    with tifffile.TiffWriter(tmp_path / "p.ome.tif", ome=True) as writer:
        for number, values in enumerate(arrays):
            metadata = {"axes": "ZYX"[-values.ndim :], "Name": f"position {number}", "PhysicalSizeX": 0.5 + number}
            compression = None if number == 2 else "zlib"
            writer.write(values, metadata=metadata, compression=compression, photometric="minisblack", contiguous=False)
    return arrays


def test_each_series_of_a_file_can_be_chosen(tmp_path: Path, positions: Any) -> None:
    source = str(tmp_path / "p.ome.tif")
    for number, values in enumerate(positions):
        copy(source, str(tmp_path / f"{number}.zarr"), series=number)
        array = zarrant.open_array(tmp_path / f"{number}.zarr", mode="r")
        assert np.array_equal(array[...], values) and array.dtype == values.dtype
        assert array.dimension_names == ("z", "y", "x")[-values.ndim :]
        assert array.attrs["spacing"]["x"]["value"] == 0.5 + number


@pytest.mark.parametrize("series", [None, 3, -1])
def test_a_series_that_was_not_chosen_is_an_error_that_lists_all(tmp_path: Path, positions: Any, series: int | None) -> None:
    with pytest.raises(OptionError, match="has 3 series") as error:
        copy(str(tmp_path / "p.ome.tif"), str(tmp_path / "c.zarr"), series=series)
    assert error.value.field == "series" and error.value.got == ("none" if series is None else series)
    assert all(f"position {number} {values.shape}" in str(error.value.expected) for number, values in enumerate(positions))
    assert not (tmp_path / "c.zarr").exists() and error.value.path == str(tmp_path / "p.ome.tif")


def test_only_tiffs_have_series(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    zarrant.create_array(tmp_path / "a.zarr", shape=3, dtype="int8")
    for source in ("a.npy", "a.zarr"):
        with pytest.raises(OptionError, match="only TIFFs"):
            copy(str(tmp_path / source), str(tmp_path / "b"), series=0)
    written(tmp_path / "t.tif", (20, 30))
    copy(str(tmp_path / "t.tif"), str(tmp_path / "t.zarr"), series=0)


def test_another_series_is_another_job(tmp_path: Path, positions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(part: Any, box: Any) -> bool:
        raise RuntimeError("stop")

    source, target = str(tmp_path / "p.ome.tif"), str(tmp_path / "c.zarr")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr("zarrant.tools.units.copy_unit", stop)
        copy(source, target, series=0, scheduler="none")
    with pytest.raises(ConflictError):
        copy(source, target, series=1, scheduler="none")
    copy(source, target, series=0, scheduler="none")
    assert np.array_equal(zarrant.open_array(target, mode="r")[...], positions[0])


def test_one_image_in_several_files(tmp_path: Path) -> None:
    """As microscopes write them: each file has one plane, and names the others."""
    planes = np.random.default_rng(0).integers(0, 9999, (3, 40, 30)).astype("u2")
    names = [f"urn:uuid:{z:032d}" for z in range(3)]
    data = "".join(
        f'<TiffData IFD="0" PlaneCount="1" FirstZ="{z}"><UUID FileName="z{z}.ome.tif">{name}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    sizes = 'DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="40" SizeZ="3" SizeC="1" SizeT="1"'
    pixels = f'<Pixels ID="Pixels:0" {sizes}><Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels>'
    for z, plane in enumerate(planes):
        top = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{names[z]}">'
        ome = f'<?xml version="1.0" encoding="UTF-8"?>{top}<Image ID="Image:0">{pixels}</Image></OME>'
        options: dict[str, Any] = {"compression": "zlib", "metadata": None, "rowsperstrip": 16}
        tifffile.imwrite(tmp_path / f"z{z}.ome.tif", plane, description=ome.encode(), **options)
    copy(str(tmp_path / "z0.ome.tif"), str(tmp_path / "a.zarr"), chunks=(1, 40, 30))
    assert np.array_equal(zarrant.open_array(tmp_path / "a.zarr", mode="r")[...], planes)


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
