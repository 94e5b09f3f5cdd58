"""Trees of shards: what they name, and what is built from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zarrant.codecs import Bytes, Crc32c, Gzip, ShardingIndexed, Transpose
from zarrant.codecs.byte_sources import InMemory
from zarrant.codecs.chain import chain_of
from zarrant.codecs.sharding.compact import changes, rebuilt
from zarrant.codecs.sharding.inspect import ShardReport, decode, inspect
from zarrant.errors import ChunkError

INDEX = chain_of([Bytes(), Crc32c()])
SHAPE = (8, 8)
VALUES = np.arange(64, dtype="int32").reshape(SHAPE) + 1


def sharding(shape: tuple[int, ...], *inner: Any, at: str = "end") -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of(list(inner) or [Bytes(), Crc32c()]), INDEX, at)


CHAINS: dict[str, list[Any]] = {
    "one level": [sharding((2, 2))],
    "index first": [sharding((2, 2), at="start")],
    "two levels": [sharding((4, 4), sharding((2, 2), at="start"))],
    "three levels": [Transpose((1, 0)), sharding((4, 8), sharding((4, 4), sharding((2, 2), Bytes(), Gzip(), Crc32c())))],
    "codecs between": [sharding((4, 4), sharding((2, 2)), Gzip(), Crc32c()), Crc32c()],
}


def run(op: Any) -> Any:
    """An operation over bytes in memory, which asks for nothing."""
    with pytest.raises(StopIteration) as end:
        next(op)
    return end.value.value


def tree(shard: Any, data: bytes, deep: bool = True) -> ShardReport:
    report = run(inspect(shard, InMemory(data)))
    if deep:
        run(decode(report))
    return report


def joined(report: ShardReport, compact: bool) -> bytes:
    return b"".join(bytes(part) for part in rebuilt(report, compact))


@pytest.mark.parametrize("chain", CHAINS)
def test_a_sound_shard_has_no_faults_and_needs_no_change(chain: str, codec: Any) -> None:
    c = codec(CHAINS[chain], SHAPE, "int32")
    data = c.encode(VALUES)
    report = tree(c.prepared, data)
    assert report.all_faults() == []
    assert sum(each.dead for each in report.walk()) == 0
    assert not changes(report, compact=True)
    assert joined(report, compact=True) == data


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("compact", [False, True])
def test_whatever_bit_flips_the_rest_stays_readable(chain: str, compact: bool, codec: Any) -> None:
    """Every element of the mended shard is right, or fill in a subchunk that was named."""
    c = codec(CHAINS[chain], SHAPE, "int32")
    data = c.encode(VALUES)
    mended = 0
    for at in range(0, len(data), 11):
        torn = bytearray(data)
        torn[at] ^= 4
        try:
            report = tree(c.prepared, bytes(torn))
        except ChunkError:
            continue  # the outermost index, or a codec around it
        assert report.all_faults(), at
        report.drop_faulty()
        if not report.index.present.any() or rebuilt(report, compact) is None:
            continue
        found = c.decode(joined(report, compact))
        assert np.all((found == VALUES) | (found == 0)), at
        assert 0 < np.count_nonzero(found == 0) <= 32, at
        mended += 1
    assert mended >= (0 if chain == "codecs between" else 12)


def test_faults_name_the_whole_path(codec: Any) -> None:
    c = codec([sharding((4, 4), sharding((2, 2)))], SHAPE, "int32")
    data = bytearray(c.encode(VALUES))
    inner = len(data[: -c.prepared.index_size]) // 4
    data[2 * inner + 25] ^= 1  # shard 2, subchunk 1
    data[3 * inner + inner - 1] ^= 1  # the index of shard 3
    faults = tree(c.prepared, bytes(data)).all_faults()
    assert [(fault.kind, fault.path) for fault in faults] == [("subchunk", (2, 1)), ("subchunk", (3,))]
    assert [fault.path for fault in tree(c.prepared, bytes(data), deep=False).all_faults()] == [(3,)]


def test_checksums_count_also_where_reading_ignores_them(codec: Any) -> None:
    c = codec([sharding((2, 2))], SHAPE, "int32", validate_checksums=False)
    data = bytearray(c.encode(VALUES))
    data[0] ^= 1
    assert c.decode(bytes(data))[0, 0] == 0
    assert [fault.path for fault in tree(c.prepared, bytes(data)).all_faults()] == [(0,)]
