"""Bytes-to-bytes codecs with a compiled *step*: blosc, gzip, zstd, crc32c.

Their `encode` and `decode` are the same step, one chunk a call. They are used where a chain also has a codec without a step
(the general path).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zarrant import kernels
from zarrant.codecs.base import ChunkSpec, Step
from zarrant.codecs.documents import boolean, check_members, choice, integer
from zarrant.errors import MetadataError
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
        decoded: Buffer = kernels.decode_step(self.step(NO_SPEC), data, limit)
        return decoded


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
    """Blosc 1: `cname` compresses shuffled blocks.

    `typesize` None takes the size of the data type when the codec is bound; `shuffle` None then shuffles bytes, or the bits of
    types of one byte.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/blosc/
    """

    cname: str = "zstd"
    clevel: int = 5
    shuffle: str | None = "shuffle"
    typesize: int | None = None
    blocksize: int = 0
    name = "blosc"

    def __post_init__(self) -> None:
        choice(self.cname, "cname", BLOSC_COMPRESSORS)
        if self.shuffle is not None:
            choice(self.shuffle, "shuffle", BLOSC_SHUFFLES)
        integer(self.clevel, "clevel", 0, 9)
        integer(self.blocksize, "blocksize", 0, 2**31 - 1)
        if self.typesize is not None:
            integer(self.typesize, "typesize", 1, 2**31 - 1)

    @classmethod
    def from_document(cls, document: Named, path: str) -> Blosc:
        """Read the codec from its document; `typesize` may be absent, or anything, without a shuffle."""
        check_members(document, path, required=("cname", "clevel", "shuffle"), optional=("typesize", "blocksize"))
        configuration, inside = document.configuration, f"{path}.configuration"
        shuffle = choice(configuration["shuffle"], f"{inside}.shuffle", BLOSC_SHUFFLES)
        # "Required unless shuffle is noshuffle, in which case the value is ignored."
        shuffled = shuffle != "noshuffle"
        if shuffled and "typesize" not in configuration:
            expected = "typesize, as there is a shuffle"
            raise MetadataError("missing member", path=inside, expected=expected, got=sorted(map(str, configuration)))
        return cls(
            choice(configuration["cname"], f"{inside}.cname", BLOSC_COMPRESSORS),
            integer(configuration["clevel"], f"{inside}.clevel", 0, 9),
            shuffle,
            integer(configuration["typesize"], f"{inside}.typesize", 1, 2**31 - 1) if shuffled else _typesize(configuration),
            integer(configuration.get("blocksize", 0), f"{inside}.blocksize", 0, 2**31 - 1),
        )

    @classmethod
    def from_caller(cls, configuration: Mapping[str, Any], path: str) -> Blosc:
        """A codec of which the caller has not decided everything; what is left out is decided when it is bound."""
        check_members(Named(cls.name, configuration), path, optional=("cname", "clevel", "shuffle", "typesize", "blocksize"))
        return cls(**{"shuffle": None, **configuration})

    def for_items(self, itemsize: int) -> Blosc:
        """The same codec with all decided, for a data type of this size; blosc shuffles units of at most 255 bytes."""
        shuffle = self.shuffle or ("bitshuffle" if itemsize == 1 else "shuffle")
        typesize = self.typesize or (itemsize if itemsize <= 255 else 1)
        return Blosc(self.cname, self.clevel, shuffle, typesize, self.blocksize)

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(
            self.name,
            {
                "typesize": self.typesize or 1,
                "cname": self.cname,
                "clevel": self.clevel,
                "shuffle": self.shuffle or "shuffle",
                "blocksize": self.blocksize,
            },
        )

    def step(self, spec: ChunkSpec) -> Step:
        """The kernel step."""
        return (
            kernels.BLOSC,
            BLOSC_COMPRESSORS.index(self.cname),
            self.clevel,
            BLOSC_SHUFFLES.index(self.shuffle or "shuffle"),
            self.typesize or 1,
            self.blocksize,
        )


def _typesize(configuration: Mapping[str, Any]) -> int:
    """The type size of a codec that does not shuffle: 1 where there is none that it could have."""
    value = configuration.get("typesize", 1)
    return value if type(value) is int and 1 <= value <= 2**31 - 1 else 1


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
