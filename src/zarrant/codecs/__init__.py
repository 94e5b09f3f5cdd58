"""Codecs: how chunks become bytes. The objects below are what users pass as `filters`, `serializer` and `compressors`."""

from zarrant.codecs.library.bitround import BitRound
from zarrant.codecs.library.blosc import Blosc
from zarrant.codecs.library.bytes import Bytes
from zarrant.codecs.library.crc32c import Crc32c
from zarrant.codecs.library.gzip import Gzip
from zarrant.codecs.library.numcodecs_adapter import Numcodecs
from zarrant.codecs.library.packbits import PackBits
from zarrant.codecs.library.reshape import Reshape
from zarrant.codecs.library.transpose import Transpose
from zarrant.codecs.library.zstd import Zstd
from zarrant.codecs.sharding.codec import ShardingIndexed

__all__ = [
    "BitRound",
    "Blosc",
    "Bytes",
    "Crc32c",
    "Gzip",
    "Numcodecs",
    "PackBits",
    "Reshape",
    "ShardingIndexed",
    "Transpose",
    "Zstd",
]
