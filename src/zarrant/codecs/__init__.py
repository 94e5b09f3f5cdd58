"""Codecs: how chunks become bytes. The objects below are what users pass as `filters`, `serializer` and `compressors`.

Each is imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from zarrant.lazy import lazy_names

if TYPE_CHECKING:
    from zarrant.codecs.library.bitround import BitRound
    from zarrant.codecs.library.blosc import Blosc
    from zarrant.codecs.library.bytes import Bytes
    from zarrant.codecs.library.cast_value import CastValue
    from zarrant.codecs.library.crc32c import Crc32c
    from zarrant.codecs.library.gzip import Gzip
    from zarrant.codecs.library.numcodecs_adapter import Numcodecs
    from zarrant.codecs.library.numcodecs_zfpy import Zfpy
    from zarrant.codecs.library.packbits import PackBits
    from zarrant.codecs.library.pcodec import PCodec
    from zarrant.codecs.library.reshape import Reshape
    from zarrant.codecs.library.scale_offset import ScaleOffset
    from zarrant.codecs.library.transpose import Transpose
    from zarrant.codecs.library.vlen import VlenBytes, VlenUtf8
    from zarrant.codecs.library.zfp import Zfp
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
    "PCodec",
    "PackBits",
    "Reshape",
    "ScaleOffset",
    "ShardingIndexed",
    "Transpose",
    "VlenBytes",
    "VlenUtf8",
    "Zfp",
    "Zfpy",
    "Zstd",
]

_MODULES = {
    "BitRound": "library.bitround",
    "Blosc": "library.blosc",
    "Bytes": "library.bytes",
    "CastValue": "library.cast_value",
    "Crc32c": "library.crc32c",
    "Gzip": "library.gzip",
    "Numcodecs": "library.numcodecs_adapter",
    "PCodec": "library.pcodec",
    "PackBits": "library.packbits",
    "Reshape": "library.reshape",
    "ScaleOffset": "library.scale_offset",
    "ShardingIndexed": "sharding.codec",
    "Transpose": "library.transpose",
    "VlenBytes": "library.vlen",
    "VlenUtf8": "library.vlen",
    "Zfp": "library.zfp",
    "Zfpy": "library.numcodecs_zfpy",
    "Zstd": "library.zstd",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
