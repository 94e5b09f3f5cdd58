"""The other libraries behind one face: open the array at a path, read it whole, update a region.

Each peer is a context in which its calls are valid. What a peer cannot represent is not decided here but in the table of its
test file, and proven there.
"""

from __future__ import annotations

import ctypes
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Region = tuple[Any, ...]


class Peer(Protocol):
    """A library that reads and writes arrays."""

    name: str

    def read(self, path: Path, dtype: np.dtype[Any]) -> Array:
        """Every element."""
        ...

    def write(self, path: Path, region: Region, values: Array) -> None:
        """Update a region."""
        ...

    def create(self, path: Path, document: dict[str, Any]) -> None:
        """Make an array with the zarr.json that the library itself writes for such a document."""
        ...


class ZarrPython:
    """zarr-python with its own codecs."""

    name = "zarr-python"

    config: dict[str, Any] = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}  # noqa: RUF012

    @contextmanager
    def _open(self, path: Path, mode: str) -> Iterator[Any]:
        import zarr

        with warnings.catch_warnings(), zarr.config.set(self.config):
            warnings.simplefilter("ignore")  # codecs and data types without a final specification
            array = zarr.open_array(path, mode=mode)
            self.check(array)
            yield array

    def check(self, array: Any) -> None:
        """That the array is served by the codecs that are meant."""
        assert type(array._async_array.codec_pipeline).__name__ == self.config["codec_pipeline.path"].rpartition(".")[2]

    def read(self, path: Path, dtype: np.dtype[Any]) -> Array:
        with self._open(path, "r") as array:
            return np.asarray(array[...])

    def write(self, path: Path, region: Region, values: Array) -> None:
        with self._open(path, "r+") as array:
            array[region or ...] = values

    def create(self, path: Path, document: dict[str, Any]) -> None:
        import zarr
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.metadata import ArrayV3Metadata

        with warnings.catch_warnings(), zarr.config.set(self.config):
            warnings.simplefilter("ignore")
            files = ArrayV3Metadata.from_dict(document).to_buffer_dict(default_buffer_prototype())
        path.mkdir(parents=True)
        (path / "zarr.json").write_bytes(files["zarr.json"].to_bytes())


class ZarrPythonFused(ZarrPython):
    """zarr-python with its synchronous pipeline, which runs the same codecs in another way (from 3.4 on)."""

    name = "zarr-python fused"

    config: dict[str, Any] = {"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"}  # noqa: RUF012


class Zarrs(ZarrPython):
    """zarrs, under the face of zarr-python; strict, so that it cannot fall back to Python codecs."""

    name = "zarrs"

    config: dict[str, Any] = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}  # noqa: RUF012

    def check(self, array: Any) -> None:
        pipeline = array._async_array.codec_pipeline
        assert type(pipeline).__module__.startswith("zarrs")
        assert pipeline.impl is not None
        assert pipeline.python_impl is None


class Zarrista:
    """zarrs again, without zarr-python. Elements go as bytes: its own way to NumPy has no bfloat16, complex or raw bits."""

    name = "zarrista"

    def _open(self, path: Path) -> Any:
        import zarrista
        from zarrista.store import FilesystemStore

        return zarrista.Array.open(FilesystemStore(path))

    def read(self, path: Path, dtype: np.dtype[Any]) -> Array:
        tensor = self._open(path).retrieve_array_subset(...)
        return np.frombuffer(tensor.buffer(), dtype).reshape(tensor.shape)

    def write(self, path: Path, region: Region, values: Array) -> None:
        from zarrista import ArrayBytes

        self._open(path).store_array_subset(region or ..., ArrayBytes(values.tobytes()))

    def create(self, path: Path, document: dict[str, Any]) -> None:
        import zarrista
        from zarrista.store import FilesystemStore

        path.mkdir(parents=True)
        zarrista.Array.from_metadata(document, FilesystemStore(path)).store_metadata()


class TensorStore:
    """TensorStore's zarr3 driver. Raw bits are bytes in a dimension of their own there, which NumPy sees as items of no size."""

    name = "TensorStore"

    def _spec(self, path: Path) -> dict[str, Any]:
        return {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}

    def read(self, path: Path, dtype: np.dtype[Any]) -> Array:
        import tensorstore as ts

        values = np.asarray(ts.open(self._spec(path), open=True, read=True).result().read().result())
        if dtype.type is not np.void:
            return values
        assert values.shape[-1] == dtype.itemsize
        content = ctypes.string_at(values.ctypes.data, math.prod(values.shape))
        return np.frombuffer(content, dtype).reshape(values.shape[:-1])

    def write(self, path: Path, region: Region, values: Array) -> None:
        import tensorstore as ts

        if values.dtype.type is np.void:
            values = np.array(values, order="C")[..., np.newaxis].view("V1")
        ts.open(self._spec(path), open=True).result()[(*region, ...)].write(values).result()

    def create(self, path: Path, document: dict[str, Any]) -> None:
        import tensorstore as ts

        if isinstance(document["data_type"], dict):  # raw_bytes: creating it ends the process (0.1.86)
            put_document(path, document)
        else:
            ts.open(self._spec(path) | {"metadata": document}, create=True).result()


def put_document(path: Path, document: dict[str, Any]) -> None:
    """Store a zarr.json as it is."""
    path.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(document))
