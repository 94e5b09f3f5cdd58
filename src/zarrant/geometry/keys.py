"""Chunk keys: the key of a chunk, below the path of its array.

In comes the `chunk_key_encoding` of the metadata. Out go the keys of one chunk or of a column of chunks, and the chunk of a key
that a listing gives. Both encodings of the specification are here, `default` ("c/1/2") and `v2` ("1.2"), with either separator.
https://zarr-specs.readthedocs.io/en/latest/v3/chunk-key-encodings/default/index.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from zarrant import extensions
from zarrant.errors import MetadataError
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import MAX_COORDINATE, IntArray

SEPARATORS = {"default": "/", "v2": "."}
"""The separator of each encoding where the document names none."""

_PATH = "$.chunk_key_encoding"
# An index has at most the 19 digits of a signed 64-bit number. Leading zeros are refused: one chunk would have two keys.
_INDEX = "(?:0|[1-9][0-9]{0,18})"


@dataclass(frozen=True)
class KeyEncoding:
    """How the indices of a chunk become its key.

    >>> KeyEncoding("default").key((1, 2)), KeyEncoding("v2").key((1, 2)), KeyEncoding("v2", "/").key((1, 2))
    ('c/1/2', '1.2', '1/2')
    """

    name: str = "default"
    separator: str = ""
    """"/" or "."; left out, that of the encoding."""

    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.name not in SEPARATORS:
            raise extensions.chunk_key_encodings.unknown(self.name, f"{_PATH}.name")
        separator = SEPARATORS[self.name] if self.separator == "" else self.separator
        if separator not in SEPARATORS.values():
            path = f"{_PATH}.configuration.separator"
            raise MetadataError("unknown separator", path=path, expected=["/", "."], got=separator)
        object.__setattr__(self, "separator", separator)
        joined = f"{_INDEX}(?:{re.escape(separator)}{_INDEX})*"
        pattern = f"c(?:{re.escape(separator)}{joined})?" if self.name == "default" else joined
        object.__setattr__(self, "_pattern", re.compile(pattern))

    @classmethod
    def from_document(cls, name: str, configuration: object = None) -> KeyEncoding:
        """The encoding of a `chunk_key_encoding` document; MetadataError with its JSON path where it is wrong."""
        encoding: KeyEncoding = extensions.chunk_key_encodings.resolve(name, f"{_PATH}.name").from_json(name, configuration)
        return encoding

    @classmethod
    def from_json(cls, name: str, configuration: object = None) -> KeyEncoding:
        """One of the two encodings of the specification; MetadataError with its JSON path where it is wrong."""
        path = f"{_PATH}.configuration"
        if configuration is None:
            return cls(name)
        if not isinstance(configuration, Mapping):
            raise MetadataError("not an object", path=path, expected='{"separator": ...}', got=configuration)
        if unknown := sorted(map(str, configuration.keys() - {"separator"})):
            raise MetadataError("unknown member", path=f"{path}.{unknown[0]}", expected=["separator"], got=unknown)
        separator = configuration.get("separator", SEPARATORS[name])
        if not isinstance(separator, str) or separator == "":
            raise MetadataError("unknown separator", path=f"{path}.separator", expected=["/", "."], got=separator)
        return cls(name, separator)

    def to_document(self) -> tuple[str, dict[str, Any]]:
        """Name and configuration of the `chunk_key_encoding` document."""
        return self.name, {"separator": self.separator}

    def key(self, index: Sequence[int]) -> str:
        """The key of one chunk ("c" or "0" for no dimensions)."""
        return _template(self.name, self.separator, len(index)) % tuple(index)

    def keys(self, indices: IntArray) -> list[str]:
        """The keys of many chunks (n, d)."""
        template = _template(self.name, self.separator, indices.shape[1])
        if indices.shape[1] == 0:
            return [template] * len(indices)
        rows: Iterable[tuple[int, ...]] = zip(*indices.T.tolist(), strict=True)
        return [template % row for row in rows]

    def parse(self, key: str, ndim: int | None = None) -> Shape | None:
        """The chunk of a key, or None for what is no chunk key (of `ndim` dimensions, if given).

        The key "0" of `v2` stands for chunk (0,), and for () only where `ndim` is 0.

        >>> KeyEncoding().parse("c/1/2"), KeyEncoding().parse("c/01"), KeyEncoding().parse("zarr.json")
        ((1, 2), None, None)
        """
        if self._pattern.fullmatch(key) is None:
            return None
        if ndim == 0:
            return () if key == self.key(()) else None
        parts = key.split(self.separator)
        index = tuple([int(part) for part in parts[self.name == "default" :]])
        fits = ndim is None or ndim == len(index)
        return index if fits and all(i <= MAX_COORDINATE for i in index) else None


@lru_cache(maxsize=128)
def _template(name: str, separator: str, ndim: int) -> str:
    # "formed by taking the initial prefix c, and appending for each dimension: the separator character, followed by, the ASCII
    # decimal string representation of the chunk index"; of v2: "For chunk grids with 0 dimensions, the single chunk has the key
    # 0."
    # https://zarr-specs.readthedocs.io/en/latest/v3/chunk-key-encodings/
    if name == "default":
        return separator.join(["c"] + ["%d"] * ndim)
    return separator.join(["%d"] * ndim) if ndim else "0"
