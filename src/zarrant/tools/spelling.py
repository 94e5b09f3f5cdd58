"""How shapes, sizes and codecs are spelt on a command line.

In: a word. Out: the value, or an OptionError that shows how it is spelt. Nothing is guessed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from zarrant.codecs import Blosc, Gzip, Zstd
from zarrant.config import size_in_words
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import MetadataError, OptionError

COMPRESSORS = "zstd[:LEVEL] | gzip[:LEVEL] | blosc[:CNAME[:LEVEL[:SHUFFLE]]] | none | a JSON list"


def shape(text: str, option: str) -> tuple[int, ...]:
    """A shape from numbers between commas; "" or "()" has no dimensions.

    >>> shape("32,32,32", "chunks")
    (32, 32, 32)
    """
    inside = text.strip().removeprefix("(").removesuffix(")").rstrip(",").strip()
    parts = [part.strip() for part in inside.split(",")] if inside else []
    if not all(re.fullmatch(r"[0-9]{1,18}", part) for part in parts):
        raise OptionError("not a shape", field=option, expected="numbers between commas, as in 32,32,32", got=repr(text))
    return tuple(int(part) for part in parts)


def selection(text: str) -> tuple[Any, ...]:
    """An index from its words: integers, slices and an ellipsis between commas, as in brackets.

    >>> selection("0:100, ::2, ..., -1")
    (slice(0, 100, None), slice(None, None, 2), Ellipsis, -1)
    """
    inside = text.strip().removeprefix("[").removesuffix("]").rstrip(",").strip()
    return tuple([_index(part.strip(), text) for part in inside.split(",")]) if inside else ()


def _index(part: str, text: str) -> Any:
    if part == "...":
        return ...
    ends = [each.strip() for each in part.split(":")]
    if len(ends) > 3 or not all(re.fullmatch(r"-?[0-9]{1,18}" if len(ends) == 1 else r"(-?[0-9]{1,18})?", end) for end in ends):
        expected = "integers and slices between commas, as in 0:100,:,5"
        raise OptionError("not a selection", field="selection", expected=expected, got=repr(text))
    numbers = [int(end) if end else None for end in ends]
    return numbers[0] if len(numbers) == 1 else slice(*numbers)


def size(text: str, option: str) -> int:
    """Bytes from a number and a unit.

    >>> size("512MiB", "size")
    536870912
    """
    if (found := size_in_words(text)) is None:
        raise OptionError("not a size", field=option, expected="a number and a unit, as in 512MiB", got=repr(text))
    return found


def compressors(text: str) -> list[Any]:
    """Codecs from their short names, with numbers and choices after colons.

    >>> compressors("zstd:1"), compressors("none")
    ([Zstd(level=1, checksum=False)], [])
    >>> compressors('[{"name": "gzip", "configuration": {"level": 1}}]')
    [{'name': 'gzip', 'configuration': {'level': 1}}]
    >>> compressors("blosc:lz4:5:shuffle")[0].cname
    'lz4'
    """
    if text.lstrip().startswith("["):
        return _listed(text)
    name, *details = text.strip().split(":")
    try:
        match name, details:
            case "none", []:
                return []
            case "zstd", []:
                return [Zstd()]
            case "zstd", [level]:
                return [Zstd(int(level))]
            case "gzip", []:
                return [Gzip()]
            case "gzip", [level]:
                return [Gzip(int(level))]
            case "blosc", [*_] if len(details) <= 3:
                return [_blosc(details)]
    except (ValueError, MetadataError) as cause:
        raise OptionError(f"{cause}", field="compressor", expected=COMPRESSORS, got=repr(text)) from cause
    raise OptionError("not a compressor", field="compressor", expected=COMPRESSORS, got=repr(text))


def _listed(text: str) -> list[Any]:
    """Codecs as metadata have them, which `create_array` looks at."""
    try:
        found = json.loads(text)
    except ValueError as cause:
        raise OptionError(f"not JSON: {cause}", field="compressor", expected=COMPRESSORS, got=repr(text)) from cause
    return list(found)


def _blosc(details: list[str]) -> Blosc:
    defaults = Blosc()
    given = dict(zip(("cname", "clevel", "shuffle"), details, strict=False))
    return Blosc(
        given.get("cname", defaults.cname), int(given.get("clevel", defaults.clevel)), given.get("shuffle", defaults.shuffle)
    )


def fill_value(text: str, dtype: Any) -> Any:
    """A scalar from a fill value as metadata spells it: a number, true, "NaN", "-Infinity", "0x7fc00000", a JSON list.

    >>> float(fill_value("1.5", "float32")), float(fill_value("NaN", "float64")), bool(fill_value("true", "bool"))
    (1.5, nan, True)
    """
    data_type = from_numpy(dtype)
    try:
        value = text if text in ("NaN", "Infinity", "-Infinity") else json.loads(text)  # Python's reader takes the words
    except json.JSONDecodeError:
        value = text
    try:
        return data_type.fill_from_json(value, "fill_value").scalar
    except MetadataError as cause:
        raise OptionError(
            "not a fill value of this data type", field="fill_value", expected=data_type.name, got=repr(text)
        ) from cause


def named_values(words: Sequence[str] | None) -> dict[str, Any]:
    """Values by name, from `NAME=VALUE`; a value that is JSON is what JSON says, any other is text.

    >>> named_values(["region=eu-central-1", "coalesce_gap=0", 'client_options={"timeout": "5s"}'])
    {'region': 'eu-central-1', 'coalesce_gap': 0, 'client_options': {'timeout': '5s'}}
    """
    options: dict[str, Any] = {}
    for word in words or ():
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise OptionError("not an option", field="option", expected="NAME=VALUE", got=repr(word))
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options
