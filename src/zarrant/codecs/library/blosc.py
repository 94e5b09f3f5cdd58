"""blosc: Blosc 1 frames of shuffled and compressed blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zarrant import kernels
from zarrant.codecs.configuration import check_members, choice, integer
from zarrant.codecs.library.compiled import Compiled
from zarrant.codecs.protocols import BytesSpec, Step
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named

BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
BLOSC_SHUFFLES = ("noshuffle", "shuffle", "bitshuffle")


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
    name: ClassVar[str] = "blosc"

    def __post_init__(self) -> None:
        choice(self.cname, "cname", BLOSC_COMPRESSORS)
        if self.shuffle is not None:
            choice(self.shuffle, "shuffle", BLOSC_SHUFFLES)
        integer(self.clevel, "clevel", 0, 9)
        integer(self.blocksize, "blocksize", 0, 2**31 - 1)
        if self.typesize is not None:
            integer(self.typesize, "typesize", 1, 2**31 - 1)

    @classmethod
    def from_json(cls, document: Named, path: str) -> Blosc:
        """Read the codec from its name and configuration; `typesize` may be absent, or anything, without a shuffle."""
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
        if {"typesize", "shuffle"} <= configuration.keys():
            return cls.from_json(Named(cls.name, configuration), path)
        check_members(Named(cls.name, configuration), path, optional=("cname", "clevel", "shuffle", "typesize", "blocksize"))
        return cls(**{"shuffle": None, **configuration})

    def for_spec(self, spec: BytesSpec) -> Blosc:
        """The same codec with all decided, for bytes of elements of one size; blosc shuffles units of at most 255 bytes."""
        itemsize = spec.itemsize
        shuffle = self.shuffle or ("bitshuffle" if itemsize == 1 else "shuffle")
        typesize = self.typesize or (itemsize if itemsize <= 255 else 1)
        return Blosc(self.cname, self.clevel, shuffle, typesize, self.blocksize)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {
            "name": self.name,
            "configuration": {
                "typesize": self.typesize or 1,
                "cname": self.cname,
                "clevel": self.clevel,
                "shuffle": self.shuffle or "shuffle",
                "blocksize": self.blocksize,
            },
        }

    def step(self) -> Step:
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
