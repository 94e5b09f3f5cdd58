"""Codecs: how chunks become bytes. The objects below are what users pass as `filters`, `serializer` and `compressors`."""

from zarrant.codecs.library.bitround import BitRound
from zarrant.codecs.library.blosc import Blosc
from zarrant.codecs.library.bytes import Bytes
from zarrant.codecs.library.cast_value import CastValue
from zarrant.codecs.library.crc32c import Crc32c
from zarrant.codecs.library.gzip import Gzip
from zarrant.codecs.library.numcodecs_adapter import Numcodecs
from zarrant.codecs.library.packbits import PackBits
from zarrant.codecs.library.reshape import Reshape
from zarrant.codecs.library.scale_offset import ScaleOffset
from zarrant.codecs.library.transpose import Transpose
from zarrant.codecs.library.zstd import Zstd
from zarrant.codecs.sharding.codec import ShardingIndexed

__all__ = [
    "BitRound",
    "Blosc",
    "Bytes",
    "CastValue",
    "Crc32c",
    "Gzip",
    "Numcodecs",
    "PackBits",
    "Reshape",
    "ScaleOffset",
    "ShardingIndexed",
    "Transpose",
    "Zstd",
]
