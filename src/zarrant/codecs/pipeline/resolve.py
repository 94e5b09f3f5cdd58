"""Compute what each codec of a chain takes and gives, by asking the codecs.

In come the codecs of a chain and the spec of its chunks. Out go `Stages`: the codecs with all values filled in, and the spec at
each of them. A codec that does not fit is a MetadataError with its place in the metadata, before the first chunk is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from zarrant.codecs.protocols import ArraySpec, ArrayToArray, ArrayToBytes, BytesSpec, BytesToBytes, Codec, Step, step_of
from zarrant.errors import MetadataError, OptionError, ZarrantError
from zarrant.kernels.program import SLACK
from zarrant.limits import LIMITS, require

C = TypeVar("C", bound=Codec)

SMALLER = "A chunk is decoded whole: choose smaller chunks, and shards of them where few objects are wanted (shards=)"


@dataclass(frozen=True)
class Stages:
    """The bound codecs of a chain. `laid_out`: the spec of chunks after the transpositions at its start, together `order`.

    `arrays`: the array-to-array codecs after those, each with the spec of what it takes. `serialized`: the spec of what the
    array-to-bytes codec takes. `sizes`: the bytes that it, and each codec after it, gives.
    """

    before: tuple[ArrayToArray, ...]
    order: tuple[int, ...] | None
    laid_out: ArraySpec
    arrays: tuple[tuple[ArrayToArray, ArraySpec], ...]
    serializer: ArrayToBytes
    serialized: ArraySpec
    codecs: tuple[BytesToBytes, ...]
    sizes: tuple[int | None, ...]

    @property
    def size(self) -> int | None:
        """The bytes of every encoded chunk, None where that depends on the data."""
        return self.sizes[-1]

    @cached_property
    def serializer_steps(self) -> tuple[Step, ...] | None:
        """The compiled steps of the array-to-bytes codec; None where it, or a codec before it, has none."""
        steps: Callable[[ArraySpec], tuple[Step, ...] | None] | None = getattr(self.serializer, "steps", None)
        return None if self.arrays or steps is None else steps(self.serialized)

    @cached_property
    def program(self) -> tuple[Step, ...] | None:
        """The compiled chain, or None where a codec has no step."""
        steps = [step_of(codec) for codec in self.codecs]
        if self.serializer_steps is None or any(step is None for step in steps):
            return None
        return (*self.serializer_steps, *(step for step in steps if step is not None))

    @cached_property
    def limit(self) -> int:
        """The most bytes that a codec of the general path may give; without a compiled step its own bound is not known."""
        specs = (self.laid_out, self.serialized, *(spec for _, spec in self.arrays))
        if any(spec.data_type.itemsize is None for spec in specs):
            return LIMITS.decoded
        return 2 * max(*(spec.nbytes for spec in specs), self.sizes[0] or 0) + SLACK


def resolve(
    before: Sequence[ArrayToArray], serializer: ArrayToBytes, after: Sequence[BytesToBytes], spec: ArraySpec, path: str
) -> Stages:
    """The stages of a chain at `path` for chunks of `spec`."""
    decided: list[ArrayToArray] = []
    arrays: list[tuple[ArrayToArray, ArraySpec]] = []
    order, laid_out = None, spec
    for i, codec in enumerate(before):
        place = f"{path}[{i}]"
        codec = _decided(codec, spec, place)
        decided.append(codec)
        resolved = _resolved(codec, spec, ArraySpec, place)
        permutation = permutation_of(codec)
        if permutation is not None and not arrays:
            order = permutation if order is None else tuple(order[axis] for axis in permutation)
            laid_out = resolved
        else:
            require(resolved.nbytes, LIMITS.decoded, "chunk too large", "decoded bytes of a chunk", place, SMALLER)
            arrays.append((codec, spec))
        spec = resolved
    place = f"{path}[{len(before)}]"
    serializer = _decided(serializer, spec, place)
    encoded = _resolved(serializer, spec, BytesSpec, place)
    sizes, codecs = [encoded.size], []
    for i, last in enumerate(after, len(before) + 1):
        codecs.append(_decided(last, encoded, f"{path}[{i}]"))
        encoded = _resolved(codecs[-1], encoded, BytesSpec, f"{path}[{i}]")
        sizes.append(encoded.size)
    return Stages(tuple(decided), order, laid_out, tuple(arrays), serializer, spec, tuple(codecs), tuple(sizes))


def permutation_of(codec: ArrayToArray) -> tuple[int, ...] | None:
    """The order of a codec that only permutes dimensions, None for any other."""
    return getattr(codec, "order", None)


def _decided(codec: C, spec: ArraySpec | BytesSpec, path: str) -> C:
    """The same codec with what the spec decides filled in."""
    decide: Callable[[Any], C] | None = getattr(codec, "for_spec", None)
    return codec if decide is None else _asked(codec, decide, spec, path)


def _resolved(codec: Codec, spec: Any, kind: type[Any], path: str) -> Any:
    """What a codec gives; OptionError if the answer does not fit the kind of the codec."""
    answer = _asked(codec, codec.resolve, spec, path)  # type: ignore[attr-defined]  # every kind has one
    if not isinstance(answer, kind):
        raise OptionError(
            "a codec that does not say what it hands on", codec=codec.name, path=path, expected=kind.__name__, got=repr(answer)
        )
    return answer


def _asked(codec: Codec, question: Callable[[Any], Any], spec: ArraySpec | BytesSpec, path: str) -> Any:
    """The answer of a codec. An error gets the place of the codec in the metadata."""
    try:
        return question(spec)
    except ZarrantError as error:
        if error.path is None or error.path.startswith("$.configuration"):
            error.path = path + (error.path or "").removeprefix("$")
        raise
    except Exception as error:  # a codec from outside may raise anything
        message = f"the codec refuses the chunk: {type(error).__name__}: {error}"
        raise MetadataError(message, codec=codec.name, path=path) from error
