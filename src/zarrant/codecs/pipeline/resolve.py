"""What each codec of a chain gets and hands on, computed from their answers.

In come the codecs of a chain and the chunks that they get; out go `Stages`: the same codecs with everything decided, and the
spec of each. What does not fit is a MetadataError with the place of the codec, here, before the first chunk.
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
    """The codecs of a chain, bound. `laid_out` are chunks after the permutations that come first, together `order`.

    `arrays`: the array-to-array codecs after those, each with the spec of what it gets. `serialized` is what the
    array-to-bytes codec gets, `sizes` what it and each codec after it hand on.
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
    def head(self) -> tuple[Step, ...] | None:
        """The compiled steps of the array-to-bytes codec; None where it, or a codec before it, has none."""
        steps: Callable[[ArraySpec], tuple[Step, ...] | None] | None = getattr(self.serializer, "steps", None)
        return None if self.arrays or steps is None else steps(self.serialized)

    @cached_property
    def program(self) -> tuple[Step, ...] | None:
        """The compiled chain, or None where a codec has no step."""
        steps = [step_of(codec) for codec in self.codecs]
        if self.head is None or any(step is None for step in steps):
            return None
        return (*self.head, *(step for step in steps if step is not None))

    @cached_property
    def limit(self) -> int:
        """The bytes that any codec of the general path may make: of those without a step nobody knows how many they make."""
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
    """What a codec hands on; OptionError where its answer is of another kind than the codec."""
    answer = _asked(codec, codec.resolve, spec, path)  # type: ignore[attr-defined]  # every kind has one
    if not isinstance(answer, kind):
        raise OptionError(
            "a codec that does not say what it hands on", codec=codec.name, path=path, expected=kind.__name__, got=repr(answer)
        )
    return answer


def _asked(codec: Codec, question: Callable[[Any], Any], spec: ArraySpec | BytesSpec, path: str) -> Any:
    """The answer of a codec; what it refuses is named with its place in the metadata."""
    try:
        return question(spec)
    except ZarrantError as error:
        if error.path is None or error.path.startswith("$.configuration"):
            error.path = path + (error.path or "").removeprefix("$")
        raise
    except Exception as error:  # a codec from outside may raise anything
        message = f"the codec refuses the chunk: {type(error).__name__}: {error}"
        raise MetadataError(message, codec=codec.name, path=path) from error
