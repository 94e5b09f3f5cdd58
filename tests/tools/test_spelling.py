"""Words of a command line: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

import numpy as np
import pytest

from zarrant import codecs
from zarrant.errors import OptionError
from zarrant.tools import spelling


def test_shapes() -> None:
    assert spelling.shape(" 1, 2,3 ", "x") == spelling.shape("(1,2,3)", "x") == (1, 2, 3)
    assert spelling.shape("", "x") == spelling.shape("()", "x") == ()
    for wrong in ("a", "1,,2", "-1", "1.5", "1 2", "9" * 40):
        with pytest.raises(OptionError, match="not a shape") as caught:
            spelling.shape(wrong, "chunks")
        assert (caught.value.field, caught.value.got) == ("chunks", repr(wrong))


def test_sizes() -> None:
    assert (spelling.size("1.5GiB", "s"), spelling.size("3 MB", "s"), spelling.size("7", "s")) == (3 << 29, 3_000_000, 7)
    for wrong in ("", "MiB", "1 parsec", "-1MiB", "9" * 400 + "MiB"):
        with pytest.raises(OptionError, match="not a size"):
            spelling.size(wrong, "size")


@pytest.mark.parametrize(
    ("word", "codec"),
    [
        ("none", []),
        ("zstd", [codecs.Zstd()]),
        ("zstd:-5", [codecs.Zstd(-5)]),
        ("gzip:9", [codecs.Gzip(9)]),
        ("blosc", [codecs.Blosc()]),
        ("blosc:lz4", [codecs.Blosc("lz4")]),
        ("blosc:zlib:9:bitshuffle", [codecs.Blosc("zlib", 9, "bitshuffle")]),
    ],
)
def test_compressors(word: str, codec: list[object]) -> None:
    assert spelling.compressors(word) == codec


@pytest.mark.parametrize("wrong", ["", "lz4", "zstd:99", "zstd:x", "gzip:1:2", "none:1", "blosc:rar", "blosc:lz4:5:shuffle:1"])
def test_other_compressors_are_refused(wrong: str) -> None:
    with pytest.raises(OptionError, match="zstd"):
        spelling.compressors(wrong)


def test_fill_values() -> None:
    assert spelling.fill_value("0x7fc00001", "float32").tobytes() == b"\x01\x00\xc0\x7f"
    assert np.isneginf(spelling.fill_value("-Infinity", "float64"))
    assert spelling.fill_value("[1, 2]", "complex64") == 1 + 2j
    for text, dtype in (("300", "uint8"), ("1.5", "int8"), ("word", "bool"), ("{", "int8")):
        with pytest.raises(OptionError, match="not a fill value") as caught:
            spelling.fill_value(text, dtype)
        assert caught.value.got == repr(text)
