"""Nodes that cannot be made or opened: wrong options, paths that are files, nothing there. Nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import (
    DataTypeError,
    LimitError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    ShapeError,
    StoreError,
    UnknownExtensionError,
)


def codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


CREATING: list[tuple[str, dict[str, Any], type[Exception], tuple[str, ...]]] = [
    ("shards not divided", {"chunks": (3, 3), "shards": (4, 6)}, ShapeError, ("divide", "shards", "(4, 6)", "(3, 3)")),
    ("chunks of one dimension", {"chunks": (3,)}, ShapeError, ("chunks", "expected 2")),
    ("shards of three dimensions", {"chunks": (2, 3), "shards": (4, 6, 1)}, ShapeError, ("shards", "expected 2")),
    ("chunks of zero", {"chunks": (0, 3)}, ShapeError, ("chunks", "(0, 3)")),
    ("negative shape", {"shape": (-1, 3)}, ShapeError, ("shape", "-1")),
    ("huge shape", {"shape": (2**63, 3)}, ShapeError, ("shape", str(2**63))),
    ("shape of floats", {"shape": (2.0, 3)}, ShapeError, ("shape", "2.0")),
    ("shape of bools", {"shape": (True, 3)}, ShapeError, ("shape", "True")),
    ("unknown codec", {"compressors": {"name": "snappyish"}}, UnknownExtensionError, ("snappyish", "blosc", "codec")),
    ("unknown numcodecs", {"compressors": {"name": "numcodecs.nope"}}, UnknownExtensionError, ("numcodecs.nope",)),
    ("unknown serializer", {"serializer": {"name": "vlen"}}, UnknownExtensionError, ("vlen", "bytes")),
    ("codecs out of order", {"filters": [zarrant.codecs.Zstd()]}, MetadataError, ("order", "zstd")),
    ("bad level", {"compressors": codec("zstd", level=99, checksum=False)}, MetadataError, ("level", "99")),
    ("bad transposition", {"filters": codec("transpose", order=[0, 0])}, MetadataError, ("order",)),
    ("transposition of three", {"filters": codec("transpose", order=[2, 0, 1])}, MetadataError, ("order",)),
    ("not a codec", {"compressors": 7}, OptionError, ("codec", "7")),
    ("unknown data type", {"dtype": "float7"}, DataTypeError, ("float7",)),
    ("object data type", {"dtype": object}, DataTypeError, ("object",)),
    ("fill out of range", {"dtype": "uint8", "fill_value": 300}, DataTypeError, ("300", "uint8")),
    ("fill of another kind", {"fill_value": "red"}, DataTypeError, ("red",)),
    ("unknown option", {"chunkz": (2, 2)}, OptionError, ("chunkz", "chunks")),
    ("unknown key encoding", {"chunk_key_encoding": "v9"}, UnknownExtensionError, ("v9", "default")),
    ("names", {"dimension_names": ["a"]}, ShapeError, ("dimension_names", "expected 2")),
    ("order", {"order": "K"}, OptionError, ("order", "K")),
    ("format", {"zarr_format": 4}, OptionError, ("zarr_format", "4")),
    ("if_exists", {"if_exists": "maybe"}, OptionError, ("if_exists", "maybe")),
    ("chunk of terabytes", {"shape": (2**40, 8), "chunks": (2**40, 8)}, LimitError, (str(2**45), str(2**31))),
    ("too many subchunks", {"shape": (2**13, 2**13), "chunks": (1, 1), "shards": (2**13, 2**13)}, LimitError, (str(2**26),)),
    ("data of another shape", {"data": np.ones((3, 3), "int32")}, ShapeError, ("(10, 12)", "(3, 3)")),
    ("data of another type", {"data": np.ones((10, 12))}, DataTypeError, ("int32", "float64")),
]  # fmt: skip


@pytest.mark.parametrize(("options", "kind", "words"), [case[1:] for case in CREATING], ids=[case[0] for case in CREATING])
def test_creating(place: Any, refused: Any, options: dict[str, Any], kind: Any, words: tuple[str, ...]) -> None:
    defaults = {"shape": (10, 12), "dtype": "int32", "chunks": (2, 3)}
    with refused(place, kind, *words):
        zarrant.create_array(place, **{**defaults, **options})


def test_creating_over_what_is_there(array: Any, place: Any, refused: Any) -> None:
    for options in ({}, {"if_exists": "match"}):
        with refused(place, NodeExistsError, "zarr.json", key="zarr.json"):
            zarrant.create_array(place, shape=(3,), dtype="int8", **options)
    with refused(place, NodeExistsError, "array", key="zarr.json"):
        zarrant.create_array(place, name="below", shape=(3,), dtype="int8")


def test_a_path_that_is_a_file(tmp_path: Path, refused: Any) -> None:
    file = tmp_path / "plain.txt"
    file.write_text("not a store")
    calls: list[Callable[[], object]] = [
        lambda: zarrant.open_array(file),
        lambda: zarrant.open(file, mode="r"),
        lambda: zarrant.create_array(file, shape=(3,), dtype="int8"),
        lambda: zarrant.create_array(file, shape=(3,), dtype="int8", overwrite=True),
        lambda: zarrant.create_group(str(file)),
        lambda: zarrant.open_array(f"file://{file}", mode="w", shape=(3,), dtype="int8"),
    ]
    for call in calls:
        with refused(tmp_path, StoreError, "not a directory", "plain.txt", path=str(file)):
            call()
    for call in (
        lambda: zarrant.create_array(file / "below", shape=(3,), dtype="int8"),
        lambda: zarrant.create_group(file / "below"),
    ):
        with refused(tmp_path, StoreError, "plain.txt/below", "Not a directory"):
            call()


def test_nothing_there(place: Any, refused: Any) -> None:
    for mode in ("r", "r+", "a"):
        for function in (zarrant.open_array, zarrant.open):
            with refused(place, NodeNotFoundError, "zarr.json", key="zarr.json"):
                function(place, mode=mode)
