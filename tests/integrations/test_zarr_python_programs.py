"""What programs of zarr-python do beside writing: they fork, use threads and GPUs, are configured by YAML, resize elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", minversion="3.1")

from zarr.core.buffer import BufferPrototype, core, cpu  # noqa: E402
from zarr.storage import LocalStore, ZipStore  # noqa: E402

from zarrant.errors import CapabilityError, ZarrantWarning  # noqa: E402
from zarrant.integrations import zarr_python  # noqa: E402
from zarrant.integrations.zarr_python import turns  # noqa: E402

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (20,), "dtype": "i4"},
    "shards": {"chunks": (5,), "shards": (20,), "dtype": "i4"},
    "v2": {"chunks": (20,), "dtype": "i4", "zarr_format": 2},
    "strings": {"chunks": (20,), "dtype": str},
    "strings in shards": {"chunks": (5,), "shards": (20,), "dtype": str},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
pytestmark = pytest.mark.filterwarnings("ignore:.*specification")


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    turns._warned.clear()
    zarr_python.enable()
    zarr_python.ways.clear()
    yield
    zarr_python.disable()


def numbers(array: Any) -> list[int]:
    return [int(each or 0) for each in array[...]]


def value(layout: str, number: int) -> Any:
    return str(number) if LAYOUTS[layout]["dtype"] is str else number


# ── processes and threads ────────────────────────────────────────────────────────────────────────────────────────────────


@layouts
def test_threads_write_parts_of_one_object(tmp_path: Path, layout: str) -> None:
    z = zarr.create_array(tmp_path, shape=(40,), **LAYOUTS[layout])
    together = threading.Barrier(4)

    def write(number: int) -> None:
        together.wait()
        for at in range(number, 40, 4):
            z[at] = value(layout, at + 1)

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers(z) == list(range(1, 41))


def write_odd(z: Any, layout: str) -> None:
    for at in range(1, 40, 2):
        z[at] = value(layout, at + 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("layout", ["shards", "strings"])
def test_a_forked_child_writes_through_the_handle_of_its_parent(tmp_path: Path, layout: str) -> None:
    z = zarr.create_array(tmp_path, shape=(40,), **LAYOUTS[layout])
    z[0] = value(layout, 1)
    child = multiprocessing.get_context("fork").Process(target=write_odd, args=(z, layout))
    child.start()
    for at in range(0, 40, 2):
        z[at] = value(layout, at + 1)
    child.join(60)
    assert child.exitcode == 0
    assert numbers(z) == list(range(1, 41))


RESIZE = """
import sys, zarr
for path in sys.argv[1:]:
    z = zarr.open_array(path, mode="r+")
    z.resize((60,))
    z[50:] = 7 if z.dtype.kind == "i" else "7"
print(type(z._async_array.codec_pipeline).__module__)
"""


@pytest.mark.usefixtures("variable")
def test_what_another_process_has_added_is_kept(tmp_path: Path) -> None:
    arrays = {layout: zarr.create_array(tmp_path / layout, shape=(50,), **LAYOUTS[layout]) for layout in LAYOUTS}
    for layout, z in arrays.items():
        z[...] = value(layout, 1)
    command = [sys.executable, "-W", "ignore", "-c", RESIZE, *(str(tmp_path / layout) for layout in LAYOUTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "zarrant.integrations.zarr_python"
    for layout, z in arrays.items():
        z[40:50] = value(layout, 3)  # all that this handle knows of the chunk
        z[:45] = value(layout, 2)
        assert numbers(zarr.open_array(tmp_path / layout)) == [2] * 45 + [3] * 5 + [7] * 10, layout


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("installed")
def test_zarr_pythons_yaml_switches_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZARR_CODEC_PIPELINE__PATH")
    settings = tmp_path / ".config" / "zarr"
    settings.mkdir(parents=True)
    (settings / "zarr.yaml").write_text(f"codec_pipeline:\n  path: {zarr_python.PATH}\n  strict: true\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    code = """
import zarr, warnings
z = zarr.create_array("a.zarr", shape=(4,), dtype="i4")
z[1:3] = 1
from zarrant.integrations.zarr_python import status
print(status()["calls"], status()["strict"], status()["inherited"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'native writes': 1} True False"


def test_a_warning_for_each_store_once_or_an_error(tmp_path: Path) -> None:
    with ZipStore(tmp_path / "a.zip", mode="w") as a, ZipStore(tmp_path / "b.zip", mode="w") as b:
        arrays = [zarr.create_array(store, shape=(20,), dtype="i4", chunks=(5,)) for store in (a, b)]
        for z, name in zip(arrays, "ab", strict=True):
            with pytest.warns(ZarrantWarning, match=rf"{name}\.zip") as said:
                z[:5], z[5:10] = 1, 1
            assert len([each for each in said if each.category is ZarrantWarning]) == 1
        zarr_python.enable(strict=True)
        with pytest.raises(CapabilityError, match="undo"):
            arrays[0][10:15] = 1
        zarr_python.disable()


def test_strict_refuses_nothing_that_is_safe(tmp_path: Path) -> None:
    zarr_python.enable(strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ZarrantWarning)
        for place in (tmp_path, zarr.storage.MemoryStore()):
            z = zarr.create_array(place, shape=(20,), dtype="i4", chunks=(5,))
            z[3:7] = 1
            assert z[...].sum() == 4
    zarr_python.disable()


# ── values that are elsewhere ────────────────────────────────────────────────────────────────────────────────────────────

KEPT = ("create_zero_length", "from_buffer", "from_bytes", "as_numpy_array", "combine", "__add__")
DeviceBuffer: Any = type(
    "DeviceBuffer", (core.Buffer,), {name: vars(cpu.Buffer)[name] for name in KEPT if name in vars(cpu.Buffer)}
)
"""Bytes in other memory, as zarr-python's buffers of a GPU: no `cpu.Buffer`."""

DEVICE = BufferPrototype(DeviceBuffer, cpu.NDBuffer)


@pytest.mark.parametrize("layout", ["chunks", "v2"])  # shards it refuses by itself
def test_values_on_a_device_are_left_to_zarr_python(tmp_path: Path, layout: str) -> None:
    z = zarr.create_array(LocalStore(tmp_path), shape=(40,), **LAYOUTS[layout])
    with pytest.warns(ZarrantWarning, match="outside of the CPU"):
        z.set_basic_selection(np.s_[3:30], np.arange(27, dtype="i4"), prototype=DEVICE)
    assert z.get_basic_selection(np.s_[3:30], prototype=DEVICE).tolist() == list(range(27))
    assert zarr_python.status()["calls"] == {"handed on": 1, "other reads": 1}
    assert z[3:30].tolist() == list(range(27))
    zarr_python.enable(strict=True)
    with pytest.raises(CapabilityError, match="outside of the CPU"):
        z.set_basic_selection(np.s_[3:30], np.arange(27, dtype="i4"), prototype=DEVICE)
    zarr_python.disable()
