"""The general path: one chunk goes through the codecs of a chain, with one Python call for each codec.

Every codec works here. Where all codecs have compiled steps the fixed-size pipeline runs those instead, with the same result.
The result of each codec is checked: a wrong shape or type, or far too many bytes, is an error that names the codec.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zarrant.codecs.pipeline.resolve import Stages
from zarrant.codecs.protocols import ArraySpec, Codec
from zarrant.errors import ChunkError, ZarrantError
from zarrant.limits import require
from zarrant.storage import Buffer

Array = npt.NDArray[np.generic]


class DecodeError(Exception):
    """A chunk that does not decode: the name of the codec, and why."""

    def __init__(self, codec: str, reason: str) -> None:
        super().__init__(codec, reason)
        self.codec, self.reason = codec, reason


def encode_arrays(stages: Stages, array: Array) -> Array:
    """Apply the array-to-array codecs to one chunk."""
    for i, (codec, spec) in enumerate(stages.arrays):
        after = stages.arrays[i + 1][1] if i + 1 < len(stages.arrays) else stages.serialized
        try:
            array = _checked(codec.encode(array, spec), after)
        except Exception as error:  # a codec from outside may raise anything
            raise _cannot_encode(codec, error) from error
    return array


def decode_arrays(stages: Stages, array: Array) -> Array:
    """Undo the array-to-array codecs; DecodeError."""
    for codec, spec in reversed(stages.arrays):
        try:
            array = _checked(codec.decode(array, spec), spec)
        except Exception as error:  # a codec from outside may raise anything
            raise _cannot_decode(codec, error) from error
    return array


def encode_chunk(stages: Stages, array: Array) -> Buffer:
    """Encode one chunk (after transposition)."""
    array = encode_arrays(stages, array)
    try:
        data = _as_bytes(stages.serializer.encode(array, stages.serialized))
    except Exception as error:  # a codec from outside may raise anything
        raise _cannot_encode(stages.serializer, error) from error
    require(len(data), stages.limit, f"{stages.serializer.name} makes too much of a chunk", "encoded bytes", "$.codecs")
    for codec in stages.codecs:
        try:
            data = _as_bytes(codec.encode(data))
        except Exception as error:  # a codec from outside may raise anything
            raise _cannot_encode(codec, error) from error
        require(len(data), stages.limit, f"{codec.name} makes too much of a chunk", "encoded bytes", "$.codecs")
    return data


def decode_chunk(stages: Stages, data: Buffer) -> Array:
    """Decode one chunk (before transposition is undone); DecodeError."""
    data = _serialized(stages, data)
    try:
        array = _checked(stages.serializer.decode(data, stages.serialized), stages.serialized)
    except Exception as error:  # a codec from outside may raise anything
        raise _cannot_decode(stages.serializer, error) from error
    return decode_arrays(stages, array)


def decode_chunk_into(stages: Stages, data: Buffer, out: Array) -> None:
    """Decode one chunk into an array of its shape and type; DecodeError, and `out` is as it was."""
    into = getattr(stages.serializer, "decode_into", None)
    if into is None or stages.arrays:
        out[...] = decode_chunk(stages, data)
        return
    data = _serialized(stages, data)
    try:
        into(data, out)
    except Exception as error:  # a codec from outside may raise anything
        raise _cannot_decode(stages.serializer, error) from error


def _serialized(stages: Stages, data: Buffer) -> Buffer:
    """Undo the bytes-to-bytes codecs; DecodeError."""
    for codec in reversed(stages.codecs):
        try:
            data = _as_bytes(codec.decode(data, stages.limit))
        except Exception as error:  # a codec from outside may raise anything
            raise _cannot_decode(codec, error) from error
    return data


def _checked(array: Array, spec: ArraySpec) -> Array:
    """The array that a codec made; ValueError if it is not what the codec had announced with `resolve`."""
    if not isinstance(array, np.ndarray) or array.shape != spec.shape or array.dtype != spec.data_type.numpy:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"makes {got}, not {spec.data_type.numpy} {spec.shape}")
    return array


def _as_bytes(data: Buffer) -> memoryview:
    return memoryview(data).cast("B")


def _cannot_encode(codec: Codec, error: Exception) -> Exception:
    if isinstance(error, ZarrantError):
        return error
    return ChunkError(f"cannot encode: {type(error).__name__}: {error}", codec=codec.name)


def _cannot_decode(codec: Codec, error: Exception) -> DecodeError:
    return error if isinstance(error, DecodeError) else DecodeError(codec.name, f"{type(error).__name__}: {error}")
