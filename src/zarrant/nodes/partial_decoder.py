"""Partial decoders: one chunk read many times, from threads or an event loop, side by side."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from zarrant.nodes.base import READ, Frozen, NodeContext
from zarrant.ops.partial_decoder import Decoder


class DecoderProperties(Frozen):
    """What both decoders share."""

    def __init__(self, context: NodeContext, decoder: Decoder) -> None:
        self._context, self._decoder = context, decoder

    @property
    def chunk(self) -> tuple[int, ...]:
        """The indices of the chunk."""
        return self._decoder.chunk

    @property
    def nbytes_held(self) -> int:
        """Bytes kept between reads: the index of a shard, or the decoded chunk."""
        return self._decoder.cached.nbytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__} chunk={self.chunk} of {self._context.url}>"


class PartialDecoder(DecoderProperties):
    """One chunk, to be read many times.

    >>> import numpy as np, zarrant
    >>> a = zarrant.create_array({}, data=np.arange(64).reshape(8, 8), chunks=(2, 2), shards=(8, 8))
    >>> decoder = a.partial_decoder((0, 0))
    >>> decoder.retrieve(np.s_[2:4, 0:2]).tolist(), decoder.nbytes_held
    ([[16, 17], [24, 25]], 260)
    """

    def retrieve(self, subset: Any, *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Read a part of the chunk; of a shard only the subchunks that it touches.

        Before each read the version of the stored object is looked at: where it was replaced, the new one is read.

        Args:
            subset: a region in coordinates of the chunk, as `np.s_[0:2, 3:]`. It may reach into what lies beyond the array's
                edge.
            out: an array of this shape and the array's data type, into which is decoded; it is returned.

        Returns:
            An array of the caller's own, in the shape of the region.

        Raises:
            BoundsError: the region reaches beyond the chunk.
            ShapeError: `out` has another shape.
            ChunkError: what is stored cannot be decoded.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> decoder = a.partial_decoder((1, 1))
        >>> decoder.retrieve(np.s_[0, 1:]).tolist()
        [[16, 17]]
        """
        return self._context.run(self._decoder.retrieve(subset, out), READ)


class AsyncPartialDecoder(DecoderProperties):
    """`PartialDecoder` with coroutines."""

    async def retrieve(self, subset: Any, *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """See `PartialDecoder.retrieve`."""
        return await self._context.run_async(self._decoder.retrieve(subset, out), READ)
