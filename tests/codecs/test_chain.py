from __future__ import annotations

import pytest

from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, ShardingIndexed, Transpose, Zstd
from zarrant.codecs.chain import chain_of, parse_chain
from zarrant.codecs.protocols import ArraySpec, CodecOptions
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import LimitError, MetadataError, UnknownExtensionError

INT = from_numpy("int16")
INDEX = chain_of([Bytes(), Crc32c()])
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def spec(*shape: int) -> ArraySpec:
    return ArraySpec(shape, INT, INT.default_fill())


def shard(*shape: int, inner=None, index=INDEX) -> ShardingIndexed:
    return ShardingIndexed(shape, inner or chain_of([Bytes()]), index)


def test_documents_and_back() -> None:
    chain = chain_of([Transpose((1, 0)), shard(2, 2, inner=chain_of([Bytes("big"), Zstd(3)])), Gzip(1)])
    documents = chain.to_named()
    assert [document.name for document in documents] == ["transpose", "sharding_indexed", "gzip"]
    again = parse_chain([document.to_json() for document in documents], "$.codecs")
    assert again.to_named() == documents
    assert again.bind(spec(4, 4)).to_named() == documents


@pytest.mark.parametrize(
    "codecs",
    [[], [Zstd()], [Bytes(), Bytes()], [Bytes(), Transpose((0,))], [Zstd(), Bytes()], [shard(1), Bytes()], [Transpose((0,))]],
)
def test_kinds_come_in_order(codecs) -> None:
    with pytest.raises(MetadataError):
        chain_of(codecs)


def test_binding_fills_in_what_the_type_decides() -> None:
    chain = chain_of([shard(2, inner=chain_of([Bytes(), Blosc()])), Blosc()]).bind(spec(4))
    assert chain.bytes_to_bytes[0].typesize == 2
    assert chain.array_to_bytes.codecs.bytes_to_bytes[0].typesize == 2


def test_prepared_chains_are_remembered() -> None:
    one, two = (parse_chain([LITTLE, "crc32c"], "$").bind(spec(4)) for _ in range(2))
    assert one.prepare(spec(4), CodecOptions()) is two.prepare(spec(4), CodecOptions())
    assert one.prepare(spec(4), CodecOptions()) is not one.prepare(spec(5), CodecOptions())


@pytest.mark.parametrize(
    ("codecs", "path", "error"),
    [
        ({"name": "bytes"}, "$.codecs", MetadataError),
        ([], "$.codecs", MetadataError),
        ([LITTLE, {"name": "lossy"}], "$.codecs[1]", UnknownExtensionError),
        ([LITTLE, {"name": "zstd", "configuration": {"level": "x"}}], "$.codecs[1].configuration.level", MetadataError),
        ([{"name": "sharding_indexed", "configuration": {"chunk_shape": [2]}}], "$.codecs[0].configuration", MetadataError),
        ([{"name": "sharding_indexed", "configuration": {"chunk_shape": [0], "codecs": [LITTLE]}}],
         "$.codecs[0].configuration.chunk_shape[0]", MetadataError),
        ([{"name": "sharding_indexed", "configuration": {"chunk_shape": [2], "codecs": [3]}}],
         "$.codecs[0].configuration.codecs[0]", MetadataError),
    ],
)  # fmt: skip
def test_wrong_documents_name_the_place(codecs, path, error) -> None:
    with pytest.raises(error) as caught:
        parse_chain(codecs, "$.codecs")
    assert caught.value.path == path


def test_codecs_that_need_not_be_understood_are_passed_over() -> None:
    chain = parse_chain([LITTLE, {"name": "unheard-of", "must_understand": False}], "$")
    assert chain.bytes_to_bytes == ()


@pytest.mark.parametrize(
    ("codec", "error"),
    [
        (shard(3), MetadataError),
        (shard(2, 2), MetadataError),
        (shard(8), MetadataError),
        (shard(2, index=chain_of([Bytes(), Gzip()])), MetadataError),
        (shard(2, index=chain_of([Bytes(None)])), MetadataError),
        (shard(2, inner=chain_of([Bytes(None)])), MetadataError),
        (shard(2, inner=chain_of([Transpose((1, 0)), Bytes()])), MetadataError),
    ],
)
def test_shards_that_cannot_be(codec, error) -> None:
    with pytest.raises(error):
        chain_of([codec]).bind(spec(4))


def test_limits() -> None:
    deep = chain_of([Bytes()])
    for size in (1, 2, 4, 8, 16):
        deep = chain_of([shard(size, inner=deep)])
    with pytest.raises(LimitError, match="nested"):
        deep.bind(spec(32))
    with pytest.raises(LimitError, match="subchunks"):
        chain_of([shard(1)]).bind(spec(2**25))
    with pytest.raises(LimitError, match="too large"):
        chain_of([Bytes()]).bind(spec(2**31))
    with pytest.raises(LimitError, match="too large"):
        chain_of([shard(2**31)]).bind(spec(2**31))


def test_subchunk_shapes_are_as_the_array_sees_them() -> None:
    inner = chain_of([Transpose((1, 0, 2)), shard(1, 2, 1)])
    chain = chain_of([Transpose((2, 0, 1)), shard(6, 4, 2, inner=inner)])
    assert chain.subchunk_shapes() == [(4, 2, 6), (1, 1, 2)]
    assert chain_of([Bytes()]).subchunk_shapes() == []
    assert chain.order == (2, 0, 1)
    assert chain_of([Transpose((1, 2, 0)), Transpose((2, 0, 1)), Bytes()]).order == (0, 1, 2)
