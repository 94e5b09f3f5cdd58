"""docs/formats.md is true: what it lists is registered, all that is registered is listed, and the rest is refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import zarrant
from zarrant import extensions
from zarrant.errors import UnknownExtensionError

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
ALIASES = {"structured", "complex_float32", "complex_float64", "r<bits>"}


def rows(title: str) -> list[str]:
    """The first cells of the tables under a title."""
    part = PAGE.split(f"{title}\n")[1].split("\n## ")[0].split("\nNot supported:")[0]
    return [line.split("|")[1] for line in part.replace(r"\|", " ").splitlines() if re.match(r"\| .*`", line)]


def names(title: str) -> set[str]:
    """The names in these cells; one that begins with a dot goes on from the name before it."""
    found: list[str] = []
    for cell in rows(title):
        for name in re.findall(r"`([^`]+)`", cell):
            found.append(f"numcodecs{name}" if name.startswith(".") else name)
    return set(found)


def test_every_codec_that_is_listed_is_registered_and_the_other_way_round() -> None:
    listed = names("## Codecs")
    registered = {name for name in extensions.codecs.names() if not name.endswith("*")} - {"endian"}
    assert {name for name in listed if not name.startswith("numcodecs.")} == {
        name for name in registered if not name.startswith("numcodecs.")
    }
    assert {name for name in registered if name.startswith("numcodecs.")} <= listed
    assert all(name in extensions.codecs for name in listed)


def test_every_data_type_that_is_listed_is_registered() -> None:
    for name in names("## Data types"):
        assert name in ALIASES or name in extensions.data_types, name


def test_the_grids_and_key_encodings_are_those_that_are_registered() -> None:
    listed = names("## Chunk grids and chunk keys")
    assert listed == {*extensions.chunk_grids.names(), *extensions.chunk_key_encodings.names()}


REFUSED = re.findall(r"`([\w.-]+)`", "\n".join(rows("\nNot supported:")))
TEXT_ONLY = {"numcodecs.json2", "numcodecs.msgpack2"}


@pytest.mark.parametrize("name", sorted({*REFUSED, "zarrs.vlen", "imagecodecs_jpeg2k"} - TEXT_ONLY))
def test_what_is_not_supported_is_refused_by_its_name(name: str) -> None:
    document: dict[str, Any] = {
        "zarr_format": 3, "node_type": "array", "shape": [8], "data_type": "int32", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
        "chunk_key_encoding": {"name": "default"}, "codecs": [{"name": name, "configuration": {}}],
    }  # fmt: skip
    with pytest.raises(UnknownExtensionError) as caught:
        zarrant.open_array({"zarr.json": json.dumps(document).encode()})
    assert caught.value.got == name
    assert caught.value.hint
