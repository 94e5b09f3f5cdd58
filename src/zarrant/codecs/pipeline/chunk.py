"""The base of all pipelines that encode and decode chunks whole: a chain without sharding, for one chunk shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.pipeline.resolve import Stages
from zarrant.codecs.protocols import ArraySpec, BoxUpdate, CodecOptions, Encoded, EncodedChunks, Fetched, Partial, Step
from zarrant.errors import UnknownExtensionError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import chunk_alone
from zarrant.geometry.region import ChunkSelections, Values, box_region
from zarrant.kernels.program import SLACK
from zarrant.requests import Op
from zarrant.storage import Part


@dataclass(frozen=True)
class ChunkPipeline(ABC):
    """A bound chain of codecs whose chunks are encoded and decoded whole."""

    stages: Stages
    options: CodecOptions
    skipped: tuple[str, ...] = ()
    """Unknown codecs that a reader may ignore. With any of them nothing can be encoded."""

    @cached_property
    def spec(self) -> ArraySpec:
        """Chunks after transposition by `order`."""
        return self.stages.laid_out

    @cached_property
    def order(self) -> tuple[int, ...] | None:
        """The transposition at the start of the chain, None if there is none."""
        return self.stages.order

    @cached_property
    def program(self) -> tuple[Step, ...] | None:
        """The compiled chain, or None where a codec has no step."""
        return self.stages.program

    @cached_property
    def kernel(self) -> Any:
        """The functions that run the program."""
        return kernels.serving(self.stages.program or ())

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of a chunk before transposition."""
        return self.as_array_sees(self.spec.shape)

    @property
    def partial(self) -> Partial:
        """A chunk is read and written whole."""
        return Partial(read=False, write=False)

    @cached_property
    def write_granularity(self) -> tuple[int, ...]:
        """See `Prepared.write_granularity`."""
        return self.shape

    def as_array_sees(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape before transposition."""
        return shape if self.order is None else tuple(shape[axis] for axis in np.argsort(self.order).tolist())

    @cached_property
    def step_names(self) -> list[str]:
        """The codec of each step of the program, for errors."""
        serializer = self.stages.serializer.name
        return [
            *(serializer for _ in self.stages.serializer_steps or ()),
            *(codec.name for codec in self.stages.codecs),
            serializer,
        ]

    def encoded_size(self) -> int | None:
        """The exact size of an encoded chunk, or None where it depends on the data."""
        return self.stages.size

    @cached_property
    def encoded_bound(self) -> int:
        """The most bytes that an encoded chunk can have. For codecs without a compiled step it is not known: see `Stages.limit`."""
        program = self.program
        return self.stages.limit if program is None else kernels.encoded_bound(program, self.spec.nbytes)

    @cached_property
    def stored_limit(self) -> int:
        """The most bytes of a stored chunk that are read. These codecs never make a larger one, whatever library runs them.

        It is twice our own bound and a little more, since other libraries may need more bytes for headers and frames. The steps
        inside of a program have the same limit.
        """
        return self.encoded_bound if self.program is None else 2 * self.encoded_bound + SLACK

    @abstractmethod
    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; UnknownExtensionError where a codec of the chain is not known."""

    @abstractmethod
    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""

    def filled(self) -> Op[list[Part]]:
        """See `Prepared.filled`."""
        storing = replace(self, options=replace(self.options, write_empty_chunks=True))
        whole = box_region(ArraySubset.full(self.shape)).split(chunk_alone(self.shape), self.shape)
        parts = (yield from storing.write(None, whole, 0, 1, self.spec.fill.full(self.shape))).only()
        assert parts is not None, "empty chunks are written"
        return parts

    def box_update(self, selections: ChunkSelections, row: int, values: npt.NDArray[np.generic]) -> BoxUpdate | None:
        """See `Prepared.box_update`."""
        return None

    @abstractmethod
    def check(self, fetched: Fetched) -> Op[dict[int, str]]:
        """Decode fetched chunks and drop the result. Returns why a chunk fails, by its number. Checksums are always checked."""

    def unknown_codec(self) -> UnknownExtensionError:
        """The error for a write where codecs of the chain are `skipped`."""
        return UnknownExtensionError(
            f"{self.skipped[0]!r} is not known here, so nothing can be written",
            field="codecs",
            got=self.skipped[0],
            hint='Its "must_understand": false lets readers go on without it, but not writers',
        )

    def _view(self, rows: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A view of rows in the dimensions of the array, before transposition."""
        if self.order is None:
            return rows
        return rows.transpose(0, *(1 + axis for axis in np.argsort(self.order)))
