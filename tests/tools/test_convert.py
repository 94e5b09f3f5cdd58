"""Files that are not Zarr: what a box of them holds, and what is said of broken ones."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

import zarrant
from zarrant.errors import DataError, NodeNotFoundError
from zarrant.geometry.box import ArraySubset
from zarrant.tools.convert import is_foreign, open_foreign, suffix_of
from zarrant.tools.copy import copy
from zarrant.tools.extras import MissingExtraError

VALUES = np.arange(6 * 7 * 8, dtype="int16").reshape(6, 7, 8)
BOX = ArraySubset((1, 0, 3), (4, 7, 2))


def test_names() -> None:
    assert (suffix_of("a/B.NII.GZ"), suffix_of("x.tar.gz"), suffix_of("a.Tif")) == (".nii.gz", ".gz", ".tif")
    assert is_foreign("x.PNG") and not is_foreign("x.zarr") and not is_foreign("x.gz")


@pytest.mark.parametrize("name", ["raw.nii", "raw.nii.gz"])
def test_nifti_is_read_raw_where_nothing_scales_it(tmp_path: Path, name: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(VALUES, affine), tmp_path / name)
    with open_foreign(tmp_path / name) as source:
        assert (source.shape, source.dtype) == (VALUES.shape, VALUES.dtype)
        assert np.array_equal(source.read(BOX), VALUES[BOX.slices])
        assert source.options["attributes"]["affine"] == affine.tolist()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_scaled_nifti_is_read_as_floats(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(VALUES, np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "scaled.nii")
    expected = np.asarray(nibabel.load(tmp_path / "scaled.nii").dataobj)
    assert not np.array_equal(expected, VALUES.astype(float)) or expected.dtype.kind == "f"
    copy(str(tmp_path / "scaled.nii"), str(tmp_path / "s.zarr"), chunks=(2, 2, 2))
    array = zarrant.open_array(tmp_path / "s.zarr", mode="r")
    assert array.dtype == expected.dtype and array.dtype.kind == "f"
    assert np.array_equal(array[...], expected)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff(tmp_path: Path, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "t.tif", VALUES, compression=compression, metadata={"axes": "ZYX"})
    with open_foreign(tmp_path / "t.tif") as source:
        assert np.array_equal(source.read(BOX), VALUES[BOX.slices])
        assert source.options["dimension_names"] == ("z", "y", "x")


def test_png(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3")
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3)).astype("uint8")
    imageio.imwrite(tmp_path / "p.png", pixels)
    copy(str(tmp_path / "p.png"), str(tmp_path / "p.zarr"))
    array = zarrant.open_array(tmp_path / "p.zarr", mode="r")
    assert np.array_equal(array[...], pixels)
    assert array.dimension_names == ("y", "x", "c")


@pytest.mark.parametrize("name", ["x.npy", "x.nii", "x.nii.gz", "x.tif", "x.png"])
@pytest.mark.parametrize("content", [b"", b"no such thing" * 40])
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match="cannot be read") as caught, open_foreign(path):
        pass
    assert caught.value.path == str(path)


def test_a_pickle_in_a_npy_file_is_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be read"), open_foreign(tmp_path / "p.npy"):
        pass


def test_missing_files_and_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NodeNotFoundError, match="no such file"), open_foreign(tmp_path / "x.nii"):
        pass
    (tmp_path / "x.nii").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r'pip install "zarrant\[nifti\]"') as caught, open_foreign(tmp_path / "x.nii"):
        pass
    assert isinstance(caught.value, ImportError)
