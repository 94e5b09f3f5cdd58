"""What every pipeline of whole chunks knows of itself: a chain without sharding, prepared for one chunk shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.pipeline.resolve import Stages
from zarrant.codecs.protocols import ArraySpec, CodecOptions, Encoded, Fetched, Partial, Spans, Step
from zarrant.errors import UnknownExtensionError
from zarrant.geometry.region import ChunkSelections, Values
from zarrant.kernels.program import SLACK
from zarrant.requests import Op


@dataclass(frozen=True)
class ChunkPipeline(ABC):
    """A chain of codecs, bound, whose chunks are encoded and decoded whole."""

    stages: Stages
    options: CodecOptions
    skipped: tuple[str, ...] = ()
    """Codecs that are not known, and that a reader may ignore: nothing can be encoded."""

    @cached_property
    def spec(self) -> ArraySpec:
        """Chunks as they are laid out, after transposition by `order`."""
        return self.stages.laid_out

    @cached_property
    def order(self) -> tuple[int, ...] | None:
        """The transposition that comes first, None where there is none."""
        return self.stages.order

    @cached_property
    def program(self) -> tuple[Step, ...] | None:
        """The compiled chain, or None where a codec has no step."""
        return self.stages.program

    @property
    def partial(self) -> Partial:
        """A chunk is read and written whole."""
        return Partial(read=False, write=False)

    @cached_property
    def piece_shape(self) -> tuple[int, ...]:
        """See `Prepared.piece_shape`."""
        return self.as_array_sees(self.spec.shape)

    def as_array_sees(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape before transposition."""
        return shape if self.order is None else tuple(shape[axis] for axis in np.argsort(self.order).tolist())

    @property
    def step_names(self) -> list[str]:
        """The codec of each step of the program, for errors."""
        serializer = self.stages.serializer.name
        return [*(serializer for _ in self.stages.head or ()), *(codec.name for codec in self.stages.codecs), serializer]

    def encoded_size(self) -> int | None:
        """The exact size of an encoded chunk, or None where it depends on the data."""
        return self.stages.size

    @cached_property
    def encoded_bound(self) -> int:
        """The bytes that an encoded chunk has at most. Of codecs without a step nobody knows: see `Stages.limit`."""
        program = self.program
        return self.stages.limit if program is None else kernels.encoded_bound(program, self.spec.nbytes)

    @property
    def stored_limit(self) -> int:
        """The bytes of a stored chunk that are looked at: what is larger was not made by these codecs, whoever had them.

        Twice what ours make, and a little: as for the steps inside of a program, other writers frame less tightly.
        """
        return self.encoded_bound if self.program is None else 2 * self.encoded_bound + SLACK

    @abstractmethod
    def write(self, spans: Spans | None, cells: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; UnknownExtensionError where a codec of the chain is not known."""

    @abstractmethod
    def read(self, spans: Spans, cells: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""

    @abstractmethod
    def check(self, fetched: Fetched) -> Op[dict[int, str]]:
        """Decode fetched rows into nothing: those that fail, by number, and why. Checksums count whatever the options say."""

    def require_all_codecs(self) -> None:
        """UnknownExtensionError where a codec of the chain is not known: then nothing can be written."""
        if self.skipped:
            raise UnknownExtensionError(
                f"{self.skipped[0]!r} is not known here, so nothing can be written",
                field="codecs",
                got=self.skipped[0],
                hint='Its "must_understand": false lets readers go on without it, but not writers',
            )

    def _view(self, rows: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Rows as the array sees them, before transposition."""
        if self.order is None:
            return rows
        return rows.transpose(0, *(1 + axis for axis in np.argsort(self.order)))
