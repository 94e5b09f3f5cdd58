"""Codecs: how chunks become bytes. The objects below are what users pass as `filters`, `serializer` and `compressors`."""

from zarrant.codecs.array_to_array import Transpose
from zarrant.codecs.array_to_bytes import Bytes
from zarrant.codecs.bytes_to_bytes import Blosc, Crc32c, Gzip, Zstd
from zarrant.codecs.chain import ShardingIndexed
from zarrant.codecs.numcodecs_adapter import Numcodecs

__all__ = ["Blosc", "Bytes", "Crc32c", "Gzip", "Numcodecs", "ShardingIndexed", "Transpose", "Zstd"]
