"""zarr-python's own codecs under Zarrant: parts of a shard that are read are of one version of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", minversion="3.1")

from zarr.abc.codec import BytesBytesCodec  # noqa: E402
from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec  # noqa: E402
from zarr.registry import register_codec  # noqa: E402

from zarrant.integrations import zarr_python  # noqa: E402


@dataclass(frozen=True)
class Between(BytesBytesCodec):
    """A codec that changes nothing. Where it decodes the index of a shard, something else happens first."""

    is_fixed_size = True
    then: ClassVar[list[Callable[[], Any]]] = []

    @classmethod
    def from_dict(cls, data: Any) -> Between:
        return cls()

    def to_dict(self) -> dict[str, Any]:
        return {"name": "between", "configuration": {}}

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        if self.then:
            self.then.pop()()
        return chunk_bytes

    def _encode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return chunk_bytes

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return self._decode_sync(chunk_bytes, chunk_spec)

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return chunk_bytes


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    register_codec("between", Between)
    zarr_python.enable()
    zarr_python.ways.clear()
    yield
    Between.then.clear()
    zarr_python.disable()


def shards(path: Path) -> Any:
    codec = ShardingCodec(chunk_shape=(5,), codecs=[BytesCodec(), GzipCodec()], index_codecs=[BytesCodec(), Between()])
    with_codecs = {"serializer": codec, "compressors": None, "filters": None}
    return zarr.create_array(path, shape=(40,), chunks=(20,), dtype="i4", fill_value=7, **with_codecs)


@pytest.mark.parametrize("times", [1, 10])
def test_a_shard_that_is_replaced_while_it_is_read(tmp_path: Path, times: int) -> None:
    z, file = shards(tmp_path / "a"), tmp_path / "a" / "c" / "0"
    old, new = np.arange(20, dtype="i4"), np.random.default_rng(1).integers(0, 1 << 30, 20, "i4")
    z[:20] = new
    other = file.read_bytes()
    z[:20] = old

    def replaced() -> None:
        (tmp_path / "next").write_bytes(other)
        (tmp_path / "next").rename(file)

    Between.then[:] = [replaced] * times
    found = z[5:10]
    assert found.tolist() in (old[5:10].tolist(), new[5:10].tolist())
    assert z[:].tolist() == [*new.tolist(), *[7] * 20]
    assert zarr_python.status()["calls"]["other reads"] == 2


def test_a_shard_that_is_erased_while_it_is_read(tmp_path: Path) -> None:
    z = shards(tmp_path / "a")
    z[:20] = np.arange(20)
    Between.then.append((tmp_path / "a" / "c" / "0").unlink)
    assert z[5:10].tolist() == [7] * 5
