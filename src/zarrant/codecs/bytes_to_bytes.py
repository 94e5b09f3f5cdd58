"""Bytes-to-bytes codecs: blosc, gzip, zstd, crc32c, and the long tail through numcodecs.

The first four have a compiled *step*; their `encode` and `decode` are the reference twins of that step, used where a chain
also holds a codec without one (the general path, one call a chunk).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zarrant import kernels
from zarrant.codecs.base import ChunkSpec, Step
from zarrant.codecs.bounded import decode_bounded
from zarrant.codecs.documents import boolean, check_members, choice, integer
from zarrant.errors import MetadataError, UnknownExtensionError
from zarrant.kernels import reference
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


class Compiled:
    """A codec with a compiled step, whose twin is the reference kernel."""

    name: str
    fixed_size = False

    def step(self, spec: ChunkSpec) -> Step:
        """The opcode and parameters that do the same in a kernel."""
        raise NotImplementedError  # pragma: no cover - every codec below has one

    def encode(self, data: Buffer) -> Buffer:
        """Encode one chunk."""
        return reference.encode_step(self.step(NO_SPEC), data)

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode one chunk to at most `limit` bytes."""
        return reference.decode_step(self.step(NO_SPEC), data, limit)


NO_SPEC: Any = None


@dataclass(frozen=True, slots=True)
class Zstd(Compiled):
    """Zstandard. `level` -131072..22 (default 0, the library's own default, 3), `checksum` adds 4 bytes a frame.

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zstd

    >>> Zstd(level=1).to_document().configuration
    {'level': 1, 'checksum': False}
    """

    level: int = 0
    checksum: bool = False
    name = "zstd"

    def __post_init__(self) -> None:
        integer(self.level, "level", -131072, 22)
        boolean(self.checksum, "checksum")

    @classmethod
    def from_document(cls, document: Named, path: str) -> Zstd:
        """Read the codec from its document; `checksum` may be absent, as older writers left it out."""
        check_members(document, path, optional=("level", "checksum"))
        configuration = document.configuration
        return cls(
            integer(configuration.get("level", 0), f"{path}.configuration.level", -131072, 22),
            boolean(configuration.get("checksum", False), f"{path}.configuration.checksum"),
        )

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(self.name, {"level": self.level, "checksum": self.checksum})

    def step(self, spec: ChunkSpec) -> Step:
        """The kernel step."""
        return (kernels.ZSTD, self.level, int(self.checksum))


@dataclass(frozen=True, slots=True)
class Gzip(Compiled):
    """Gzip (RFC 1952). `level` 0..9, default 5.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/gzip/
    """

    level: int = 5
    name = "gzip"

    def __post_init__(self) -> None:
        integer(self.level, "level", 0, 9)

    @classmethod
    def from_document(cls, document: Named, path: str) -> Gzip:
        """Read the codec from its document."""
        check_members(document, path, optional=("level",))
        return cls(integer(document.configuration.get("level", 5), f"{path}.configuration.level", 0, 9))

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(self.name, {"level": self.level})

    def step(self, spec: ChunkSpec) -> Step:
        """The kernel step."""
        return (kernels.GZIP, self.level)


@dataclass(frozen=True, slots=True)
class Blosc(Compiled):
    """Blosc 1: `cname` compresses shuffled blocks. `typesize` None takes the size of the data type when bound.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/blosc/
    """

    cname: str = "zstd"
    clevel: int = 5
    shuffle: str = "shuffle"
    typesize: int | None = None
    blocksize: int = 0
    name = "blosc"

    def __post_init__(self) -> None:
        choice(self.cname, "cname", BLOSC_COMPRESSORS)
        choice(self.shuffle, "shuffle", BLOSC_SHUFFLES)
        integer(self.clevel, "clevel", 0, 9)
        integer(self.blocksize, "blocksize", 0, 2**31 - 1)
        if self.typesize is not None:
            integer(self.typesize, "typesize", 1, 2**31 - 1)

    @classmethod
    def from_document(cls, document: Named, path: str) -> Blosc:
        """Read the codec from its document; `typesize` may be absent without a shuffle."""
        check_members(document, path, required=("cname", "clevel", "shuffle"), optional=("typesize", "blocksize"))
        configuration, inside = document.configuration, f"{path}.configuration"
        shuffle = choice(configuration["shuffle"], f"{inside}.shuffle", BLOSC_SHUFFLES)
        if "typesize" not in configuration and shuffle != "noshuffle":
            raise MetadataError(
                "missing member", path=inside, expected="typesize, as there is a shuffle", got=sorted(configuration)
            )
        return cls(
            choice(configuration["cname"], f"{inside}.cname", BLOSC_COMPRESSORS),
            integer(configuration["clevel"], f"{inside}.clevel", 0, 9),
            shuffle,
            integer(configuration.get("typesize", 1), f"{inside}.typesize", 1, 2**31 - 1),
            integer(configuration.get("blocksize", 0), f"{inside}.blocksize", 0, 2**31 - 1),
        )

    def with_typesize(self, itemsize: int) -> Blosc:
        """The same codec with its type size decided; blosc shuffles units of at most 255 bytes."""
        if self.typesize is not None:
            return self
        return Blosc(self.cname, self.clevel, self.shuffle, itemsize if itemsize <= 255 else 1, self.blocksize)

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(
            self.name,
            {
                "typesize": self.typesize or 1,
                "cname": self.cname,
                "clevel": self.clevel,
                "shuffle": self.shuffle,
                "blocksize": self.blocksize,
            },
        )

    def step(self, spec: ChunkSpec) -> Step:
        """The kernel step."""
        return (
            kernels.BLOSC,
            BLOSC_COMPRESSORS.index(self.cname),
            self.clevel,
            BLOSC_SHUFFLES.index(self.shuffle),
            self.typesize or 1,
            self.blocksize,
        )


@dataclass(frozen=True, slots=True)
class Crc32c(Compiled):
    """Append the CRC-32C of the bytes, 4 bytes little-endian.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/
    """

    name = "crc32c"
    fixed_size = True

    @classmethod
    def from_document(cls, document: Named, path: str) -> Crc32c:
        """Read the codec from its document."""
        check_members(document, path)
        return cls()

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(self.name, {})

    def step(self, spec: ChunkSpec) -> Step:
        """The kernel step."""
        return (kernels.CRC32C,)


# Those of numcodecs that map bytes to bytes, by the names zarr-python writes.
NUMCODECS_BYTES = (
    "adler32",
    "bz2",
    "crc32",
    "fletcher32",
    "gzip",
    "jenkins_lookup3",
    "lz4",
    "lzma",
    "shuffle",
    "zlib",
    "zstd",
    "blosc",
)


@dataclass(frozen=True)
class Numcodecs:
    """A bytes-to-bytes codec of numcodecs under its V3 name, `numcodecs.<id>`; runs on the general path.

    >>> Numcodecs("numcodecs.bz2", {"level": 1}).decode(Numcodecs("numcodecs.bz2", {"level": 1}).encode(b"abc"), 3)
    b'abc'
    """

    name: str
    configuration: Mapping[str, Any] = field(default_factory=dict)
    fixed_size = False

    def __post_init__(self) -> None:
        import numcodecs  # importing it costs 100 ms and is needed here only

        identifier = self.name.removeprefix("numcodecs.")
        if identifier not in NUMCODECS_BYTES:
            raise UnknownExtensionError(
                "no such bytes-to-bytes codec",
                field="codec",
                got=self.name,
                expected=[f"numcodecs.{name}" for name in NUMCODECS_BYTES],
            )
        try:
            codec = numcodecs.get_codec({"id": identifier, **self.configuration})
        except (TypeError, ValueError) as error:
            raise MetadataError(
                f"numcodecs refuses the configuration: {error}", codec=self.name, got=dict(self.configuration)
            ) from error
        # Every default is written down, as zarr-python does, so that a document means the same under any release.
        configuration = {key: value for key, value in codec.get_config().items() if key != "id"}
        object.__setattr__(self, "configuration", configuration)
        object.__setattr__(self, "codec", codec)

    def __hash__(self) -> int:
        return hash((self.name, json.dumps(dict(self.configuration), sort_keys=True, default=str)))

    @classmethod
    def from_document(cls, document: Named, path: str) -> Numcodecs:
        """Read the codec from its document."""
        try:
            return cls(document.name, dict(document.configuration))
        except MetadataError as error:
            raise error.annotate(path=path) from error.__cause__

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(self.name, dict(self.configuration), explicit=True)

    def step(self, spec: ChunkSpec) -> None:
        """None: there is no compiled form."""
        return None

    def encode(self, data: Buffer) -> Buffer:
        """Encode one chunk."""
        return bytes(self.codec.encode(bytes(data)))  # type: ignore[attr-defined]

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode one chunk; more than `limit` bytes are refused."""
        identifier = self.name.removeprefix("numcodecs.")
        try:
            return decode_bounded(identifier, self.configuration, self.codec.decode, data, limit)  # type: ignore[attr-defined]
        except Exception as error:  # a codec from outside may raise anything
            raise ValueError(f"{type(error).__name__}: {error}") from error
