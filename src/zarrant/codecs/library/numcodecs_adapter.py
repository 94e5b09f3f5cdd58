"""Bytes-to-bytes codecs of the numcodecs package, under their V3 names `numcodecs.<id>`.

The name in a document chooses a class from the fixed table below. Nothing else does: the configuration is checked member by
member before the class sees it, so an `id` in it is an unknown member like any other, and numcodecs' own registry, which
would follow such an `id` to any codec (`pickle` runs code that is in the data), is never asked. What numcodecs has besides
is refused, and `REFUSED` says why.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from zarrant.codecs.configuration import boolean, choice, integer
from zarrant.codecs.library.bounded import MAX_LZMA_BYTES, decode_bounded
from zarrant.codecs.protocols import BytesSpec, Kind
from zarrant.errors import ChunkError, LimitError, MetadataError, UnknownExtensionError, shown
from zarrant.kernels.program import BLOSC_COMPRESSORS
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

PREFIX = "numcodecs."
MAX_ELEMENT_BYTES = 2**20
"""Bytes of an element to shuffle. A buffer of one element is made when the codec is, to try it."""
Check = Callable[[object, str], object]


def _between(low: int, high: int) -> Check:
    return lambda value, path: integer(value, path, low, high)


def _one_of(*choices: str) -> Check:
    return lambda value, path: choice(value, path, choices)


def _or_none(check: Check) -> Check:
    return lambda value, path: None if value is None else check(value, path)


def _only_none(value: object, path: str) -> None:
    if value is not None:
        raise MetadataError("wrong value", path=path, expected="null", got=shown(value))


def _lzma_filters(value: object, path: str) -> object:
    """A filter chain of `lzma`; the memory that a dictionary takes is bounded, as it is allocated before anything is read."""
    if not isinstance(value, list) or not 1 <= len(value) <= 4 or not all(isinstance(item, dict) for item in value):
        raise MetadataError("wrong value", path=path, expected="a list of one to four objects", got=shown(value))
    for i, item in enumerate(value):
        for name, number in item.items():
            integer(number, f"{path}[{i}].{name}", 0, 2**62)
        size = item.get("dict_size", 0)
        if size > MAX_LZMA_BYTES // 2:
            where = f"{path}[{i}].dict_size"
            raise LimitError("a dictionary that is too large", path=where, field="dict_size", got=size, limit=MAX_LZMA_BYTES // 2)
    return value


class _Entry(NamedTuple):
    """One codec of numcodecs: the module and name of its class, and a check for each member of its configuration."""

    module: str
    name: str
    members: Mapping[str, Check]


_LEVEL = {"level": _between(0, 9)}
_LOCATION = {"location": _or_none(_one_of("start", "end"))}
_INT = _between(-(2**31), 2**31 - 1)

CODECS: Mapping[str, _Entry] = {
    "adler32": _Entry("checksum32", "Adler32", _LOCATION),
    "blosc": _Entry(
        "blosc",
        "Blosc",
        {
            "cname": _one_of(*BLOSC_COMPRESSORS),
            "clevel": _between(0, 9),
            "shuffle": _between(-1, 2),
            "blocksize": _between(0, 2**31 - 1),
            "typesize": _or_none(_between(1, 255)),
        },
    ),
    "bz2": _Entry("bz2", "BZ2", {"level": _between(1, 9)}),
    "crc32": _Entry("checksum32", "CRC32", _LOCATION),
    "fletcher32": _Entry("fletcher32", "Fletcher32", {}),
    "gzip": _Entry("gzip", "GZip", _LEVEL),
    "jenkins_lookup3": _Entry("checksum32", "JenkinsLookup3", {"initval": _between(0, 2**32 - 1), "prefix": _only_none}),
    "lz4": _Entry("lz4", "LZ4", {"acceleration": _INT}),
    "lzma": _Entry(
        "lzma",
        "LZMA",
        {
            "format": _between(lzma.FORMAT_XZ, lzma.FORMAT_RAW),
            "check": _between(-1, 15),
            "preset": _or_none(_between(0, 9)),
            "filters": _or_none(_lzma_filters),
        },
    ),
    "shuffle": _Entry("shuffle", "Shuffle", {"elementsize": _between(1, MAX_ELEMENT_BYTES)}),
    "zlib": _Entry("zlib", "Zlib", {"level": _between(-1, 9)}),
    "zstd": _Entry("zstd", "Zstd", {"level": _between(-131072, 22), "checksum": boolean}),
}
"""The codecs that map bytes to bytes, by the names that zarr-python writes."""

FIXED_SIZE = {"adler32": 4, "crc32": 4, "fletcher32": 4, "jenkins_lookup3": 4, "shuffle": 0}
"""Bytes that codecs add to any input."""

_ARRAYS = "Its elements are arrays of any length, which no data type of Zarr has"
REFUSED: Mapping[str, str] = {
    "pickle": "It runs code that is in the data: arrays that need it are never read",
    "vlen-array": _ARRAYS,
    **{name: f"Its name in Zarr V3 is '{name}'" for name in ("vlen-bytes", "vlen-utf8")},
    "base64": "It is not meant for storage",
}
"""What numcodecs has and is not read, and why."""


@dataclass(frozen=True)
class Numcodecs:
    """A bytes-to-bytes codec of numcodecs under its V3 name, `numcodecs.<id>`; runs on the general path.

    MetadataError for a configuration that it does not have, UnknownExtensionError for any other codec of numcodecs.

    >>> Numcodecs("numcodecs.bz2", {"level": 1}).decode(Numcodecs("numcodecs.bz2", {"level": 1}).encode(b"abc"), 3)
    b'abc'
    """

    name: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    kind: ClassVar[Kind] = "bytes_to_bytes"

    def __post_init__(self) -> None:
        entry = CODECS.get(self.name.removeprefix(PREFIX)) if self.name.startswith(PREFIX) else None
        if entry is None:
            raise _unknown(self.name)
        for member, value in self.configuration.items():
            if member not in entry.members:  # safety: configuration
                raise MetadataError(
                    "unknown member",
                    path=f"$.configuration.{member}",
                    codec=self.name,
                    expected=sorted(entry.members),
                    got=member,
                )
            entry.members[member](value, f"$.configuration.{member}")
        codec = _made(self.name, entry, self.configuration)
        # Every default is written down, as zarr-python does, so that a document means the same under any release.
        configuration = {key: value for key, value in codec.get_config().items() if key != "id"}
        object.__setattr__(self, "configuration", configuration)
        object.__setattr__(self, "codec", codec)

    def __hash__(self) -> int:
        return hash((self.name, json.dumps(dict(self.configuration), sort_keys=True, default=str)))

    @classmethod
    def from_json(cls, document: Named, path: str) -> Numcodecs:
        """Read the codec from its name and configuration."""
        try:
            return cls(document.name, dict(document.configuration))
        except (MetadataError, LimitError) as error:
            error.path = path + error.path.removeprefix("$") if error.path else path
            raise

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": dict(self.configuration)}

    def resolve(self, spec: BytesSpec) -> BytesSpec:
        """Checksums add four bytes; what others make depends on the data."""
        more = FIXED_SIZE.get(self.name.removeprefix(PREFIX))
        return BytesSpec(None if more is None or spec.size is None else spec.size + more, spec.itemsize)

    def encode(self, data: Buffer) -> Buffer:
        """Encode one chunk; ChunkError where the codec cannot."""
        try:
            return bytes(self.codec.encode(bytes(data)))  # type: ignore[attr-defined]
        except Exception as error:  # each codec has its own ways to say that it does not like something
            message = f"cannot encode: {type(error).__name__}: {error}"
            raise ChunkError(message, codec=self.name, got=f"{len(data)} bytes") from error

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode one chunk; more than `limit` bytes are refused."""
        identifier = self.name.removeprefix(PREFIX)
        try:
            return decode_bounded(identifier, self.configuration, self.codec.decode, data, limit)  # type: ignore[attr-defined]
        except Exception as error:  # a codec from outside may raise anything
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _unknown(name: str) -> UnknownExtensionError:
    return UnknownExtensionError(
        f"{name!r} is not among the bytes-to-bytes codecs of numcodecs",
        field="codecs",
        got=name,
        expected=[f"{PREFIX}{known}" for known in CODECS],
        hint=REFUSED.get(name.removeprefix(PREFIX)),
    )


def _made(name: str, entry: _Entry, configuration: Mapping[str, Any]) -> Any:
    """The codec object of numcodecs, tried once: what is wrong shows here, not at the first chunk."""
    try:
        codec = getattr(import_module(f"numcodecs.{entry.module}"), entry.name)(**configuration)
        codec.encode(bytes(configuration.get("elementsize", 64)))
    except (ImportError, AttributeError) as error:
        raise UnknownExtensionError(f"numcodecs has no {name!r} here: {error}", field="codecs", got=name) from error
    except Exception as error:  # each codec has its own ways to say that it does not like something
        raise MetadataError(f"numcodecs refuses the configuration: {error}", codec=name, got=dict(configuration)) from error
    return codec
