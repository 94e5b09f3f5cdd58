"""Chains that encode and decode rows of bytes, without a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zarrant import requests
from zarrant.codecs.byte_sources import InMemory, OneChunk
from zarrant.codecs.chain import chain_of
from zarrant.codecs.protocols import ArraySpec, CodecOptions
from zarrant.dtypes.fixed import from_numpy
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import box_region


def perform(op: requests.Op[Any]) -> Any:
    """An operation that asks for nothing but other operations."""
    reply = None
    while True:
        try:
            request = op.send(reply)
        except StopIteration as stop:
            return stop.value
        assert isinstance(request, requests.All), request
        reply = []
        for inner in request.ops:
            try:
                reply.append(perform(inner))
            except Exception as error:
                reply.append(error)


class Codec:
    """A chain for one chunk shape."""

    def __init__(self, codecs: list[Any], shape: tuple[int, ...], dtype: Any = "int32", fill: Any = None, **options: Any) -> None:
        data_type = from_numpy(dtype) if isinstance(dtype, str) else dtype
        self.spec = ArraySpec(shape, data_type, data_type.fill_from_python(fill))
        self.chain = chain_of(codecs).bind(self.spec)
        self.prepared = self.chain.prepare(self.spec, CodecOptions(**options))

    def selections(self, subset: ArraySubset | None = None) -> Any:
        shape = self.spec.shape
        return box_region(subset or ArraySubset.full(shape)).split(ChunkGrid.regular(shape, shape), shape)

    def encode(self, values: Any, old: bytes | None = None, subset: ArraySubset | None = None) -> bytes | None:
        spans = None if old is None else OneChunk(0, InMemory(old))
        given = np.asarray(values, self.spec.data_type.numpy)
        row = perform(self.prepared.write(spans, self.selections(subset), 0, 1, given)).only()
        return None if row is None else b"".join(bytes(part) for part in row)

    def decode(self, data: bytes, subset: ArraySubset | None = None) -> Any:
        out = np.empty((subset or ArraySubset.full(self.spec.shape)).shape, self.spec.data_type.numpy)
        perform(self.prepared.read(OneChunk(0, InMemory(data)), self.selections(subset), 0, 1, out))
        return out


@pytest.fixture(scope="session")
def codec() -> Callable[..., Codec]:
    """Makes chains: codecs, shape, dtype, fill, options."""
    return Codec


@pytest.fixture(scope="session")
def run() -> Callable[[requests.Op[Any]], Any]:
    return perform
