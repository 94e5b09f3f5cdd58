"""Threads that write and read files by compiled calls at the same time: what the sanitizer of threads looks at."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Zstd


@pytest.mark.parametrize(
    "layout", [{"compressors": None}, {"compressors": Zstd(1), "shards": (256, 512), "chunks": (64, 64)}], ids=["raw", "shards"]
)
def test_threads_do_not_disturb_each_other(tmp_path: Path, layout: dict[str, Any]) -> None:
    layout = {"shape": (1024, 1024), "chunks": (256, 512), "dtype": "uint16", "fill_value": 0, **layout}
    array = zarrant.create_array(zarrant.stores.FilesystemStore(tmp_path), config={"concurrency": 4}, **layout)
    values = np.arange(1, 1 + 1024 * 1024, dtype=np.uint32).reshape(1024, 1024).astype(np.uint16)
    wrong: list[int] = []

    def work(number: int) -> None:
        rows = slice(256 * number, 256 * (number + 1))
        for turn in range(3):
            array[rows] = values[rows] ^ turn
            out = np.zeros((1024, 256), np.uint16).T
            array.retrieve_array_subset((rows, slice(0, 1024)), out=out)
            if not np.array_equal(out, values[rows] ^ turn) or not np.array_equal(
                array[rows][:, ::3], (values[rows] ^ turn)[:, ::3]
            ):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and np.array_equal(array[...], values ^ 2)
