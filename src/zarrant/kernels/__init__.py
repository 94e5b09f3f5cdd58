"""The kernels: copies of boxes, fill tests, encode and decode programs, packing, CRC-32C.

In come NumPy arrays, buffers and programs (see `zarrant.kernels.program`); out go what `zarrant.kernels.reference`
specifies. Each function is chosen once, at import: the compiled twin where it was built, the reference elsewhere. A
program with a step that the compiled module lacks runs wholly in the reference. The environment variable
`ZARRANT_KERNELS` forces one (`native`, `reference`; `auto` is the default); `native` without a compiled module is an
ImportError. `active()` and `missing()` say what serves and why. Nothing here starts a thread, and the compiled functions
release the GIL. Some functions are no kernels, and have no twins here: `put_file` makes the file calls of one small write,
`put_files` those of many, `update_file` those of a small update, `read_files`, `read_into` and `read_ranges` those of reads,
`enter_directory` and `directories_above` those of directories, `file_looks` and `KeptCopier` have those that find versions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zarrant.errors import OptionError
from zarrant.kernels import elements, reference
from zarrant.kernels.external import external_step
from zarrant.kernels.program import (
    BLOSC,
    BLOSC_COMPRESSORS,
    COMPRESSING,
    CRC32C,
    GZIP,
    STEP_NAMES,
    SWAP,
    ZSTD,
    BoxPlan,
    EncodedRows,
    Failure,
    KeptBox,
    OuterBoxes,
    Program,
    RowBoxes,
    RowMemory,
    Step,
    check_program,
)

__all__ = [
    "BLOSC",
    "BLOSC_COMPRESSORS",
    "CRC32C",
    "GZIP",
    "SWAP",
    "ZSTD",
    "BoxPlan",
    "ChunkLayout",
    "EncodedRows",
    "Failure",
    "KeptBox",
    "KeptCopier",
    "OuterBoxes",
    "Program",
    "RowBoxes",
    "RowMemory",
    "Step",
    "active",
    "copy_boxes",
    "crc32c",
    "decode",
    "decode_boxes",
    "decode_elements",
    "decode_step",
    "directories_above",
    "encode",
    "encode_boxes",
    "encode_elements",
    "encoded_bound",
    "enter_directory",
    "equals_fill",
    "external_step",
    "file_looks",
    "libraries",
    "missing",
    "pack",
    "plan_box",
    "put_file",
    "put_files",
    "read_files",
    "read_into",
    "read_ranges",
    "serving",
    "update_file",
    "valid_index",
]

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

_FUNCTIONS = (
    *("copy_boxes", "equals_fill", "encoded_bound", "encode", "decode", "encode_boxes", "decode_boxes", "plan_box"),
    *("valid_index", "pack", "crc32c", "encode_elements", "decode_elements"),
)


def _load(choice: str) -> tuple[Any, str]:
    """The module of compiled twins, or None and the reason."""
    if choice not in ("auto", "native", "reference"):
        raise OptionError("ZARRANT_KERNELS", expected="auto, native or reference", got=choice)
    if choice == "reference":
        return None, "ZARRANT_KERNELS=reference"
    try:
        import_module("zarrant.kernels._native")  # first and by its name, so that the reason names what is absent
        return import_module("zarrant.kernels.compiled"), ""
    except ImportError as error:
        if choice == "native":
            raise ImportError(f"ZARRANT_KERNELS=native, but the compiled kernels are absent: {error}") from error
        return None, f"the compiled kernels are absent: {error}"


_compiled, _reason = _load(os.environ.get("ZARRANT_KERNELS", "auto"))
_features: dict[str, bool] = _compiled.features() if _compiled else {}
_general: Any = _compiled or reference

copy_boxes: Callable[[NDArray[Any], Ints, Ints, NDArray[Any], Ints, Ints, Ints], None] = _general.copy_boxes
equals_fill: Callable[[Bytes, bytes], NDArray[np.bool_]] = _general.equals_fill
pack: Callable[[Sequence[Any], Ints, Ints, Ints], Bytes] = _general.pack
valid_index: Callable[[Ints, int, int], bool] = _general.valid_index
plan_box: Callable[..., BoxPlan | None] = _general.plan_box
crc32c: Callable[..., int] = _general.crc32c
encode_elements: Callable[[NDArray[Any], elements.Kind], bytes] = (_compiled or elements).encode_elements
decode_elements: Callable[[Any, NDArray[Any], elements.Kind], None] = (_compiled or elements).decode_elements
directories_above: Callable[[str], list[tuple[str, tuple[int, int]]]] | None = getattr(_compiled, "directories_above", None)
"""A directory and all above it, or None (`Syscalls.above`)."""
enter_directory: Callable[..., tuple[list[str], tuple[int, int] | None]] | None = getattr(_compiled, "enter_directory", None)
"""Look at a directory and those above it, and make those that are missing, or None (`FilesystemStore.make_directory`)."""
put_file: Callable[..., Any] | None = getattr(_compiled, "put_file", None)
"""Replace a file under its lock file, or None (`stores.local.put_at_once`); there where the system has such locks."""
put_files: Callable[..., None] | None = getattr(_compiled, "put_files", None)
"""The same of many files of one directory, without the GIL, or None."""
update_file: Callable[..., Any] | None = getattr(_compiled, "update_file", None)
"""Replace a box of a chunk or subchunk of a file under its lock file, or None (`codecs.box_update`, `stores.local.put_at_once`)."""
ChunkLayout: Callable[..., Any] | None = getattr(_compiled, "ChunkLayout", None)
"""What the updates of chunks of one kind have in common; there where `update_file` is."""
read_files: Callable[..., list[Any]] | None = getattr(_compiled, "read_files", None)
"""Read whole files, or None (`stores.local.read_at_once`)."""
file_looks: Any = _compiled.FileLooks() if read_files else None
"""A decoder that finds the versions of files, or None (`ops.read`)."""
KeptCopier: Any = _compiled.KeptCopier if read_files else None
"""A decoder that copies boxes from where they are kept, or None (`ops.kept_boxes`)."""
read_into: Callable[..., Any] | None = getattr(_compiled, "read_into", None)
"""Read a whole file into an array with strides, or None."""
read_ranges: Callable[..., Any] | None = getattr(_compiled, "read_ranges", None)
"""Read spans of a file, or None."""


@lru_cache(maxsize=1024)
def serving(program: Program) -> Any:
    """The module that has every step of `program`, whose `encode` and `decode` run it."""
    check_program(program)
    return _compiled if _compiled and all(_features.get(need, False) for need in map(_need, program)) else reference


def _need(step: Step) -> str:
    return f"blosc:{BLOSC_COMPRESSORS[step[1]]}" if step[0] == BLOSC else STEP_NAMES[step[0]]


def encoded_bound(program: Program, nbytes: int) -> int:
    """Return the most bytes that one row of `nbytes` can take, encoded; see `reference.encoded_bound`."""
    bound: int = serving(program).encoded_bound(program, nbytes)
    return bound


def encode(program: Program, rows: Bytes, keep: NDArray[np.bool_] | None = None) -> tuple[Bytes, Ints]:
    """Encode the kept rows into one arena; see `reference.encode`."""
    encoded: tuple[Bytes, Ints] = serving(program).encode(program, rows, keep)
    return encoded


def decode(
    program: Program,
    buffers: Sequence[Any],
    which: Ints,
    offset: Ints,
    size: Ints,
    rows: Bytes,
    check: bool = True,
) -> list[Failure]:
    """Decode spans of `buffers` into `rows` and return what failed; see `reference.decode`."""
    failures: list[Failure] = serving(program).decode(program, buffers, which, offset, size, rows, check)
    return failures


def encode_boxes(
    program: Program,
    values: NDArray[Any],
    boxes: RowBoxes | OuterBoxes,
    old: EncodedRows | None,
    rows: RowMemory,
    covered: NDArray[np.bool_],
    fill: bytes,
    drop: bool,
    check: bool,
    allocate: Callable[[int], Bytes],
) -> tuple[Bytes, Ints, list[Failure]]:
    """Lay boxes over rows and encode these; see `reference.encode_boxes`."""
    encoded: tuple[Bytes, Ints, list[Failure]] = serving(program).encode_boxes(
        program, values, boxes, old, rows, covered, fill, drop, check, allocate
    )
    return encoded


def decode_boxes(
    program: Program,
    spans: EncodedRows,
    count: int,
    rows: RowMemory,
    boxes: RowBoxes | OuterBoxes,
    out: NDArray[Any],
    fill: bytes,
    check: bool,
) -> list[Failure]:
    """Decode rows and scatter boxes of them; see `reference.decode_boxes`."""
    failures: list[Failure] = serving(program).decode_boxes(program, spans, count, rows, boxes, out, fill, check)
    return failures


def decode_step(step: Step, data: Any, limit: int) -> Any:
    """Decode one run of bytes by one step, to at most `limit` bytes; see `reference.decode_step`."""
    if step[0] in COMPRESSING and serving((step,)) is _compiled:
        return _compiled.decode_step(step, data, limit)
    return reference.decode_step(step, data, limit)


def active() -> dict[str, str]:
    """Say of each function, and of each step of a program, whether `native` or `reference` code serves it."""
    names = dict.fromkeys(_FUNCTIONS, "native" if _compiled else "reference")
    steps = {f"step:{name}": "native" if _features.get(name) else "reference" for name in reference.features()}
    return names | steps


def libraries() -> dict[str, str]:
    """Name the compression libraries of the compiled module, each with its version and whether it was built in."""
    return _compiled.libraries() if _compiled else {}


def missing() -> dict[str, str]:
    """Say why for everything that the compiled module does not serve."""
    absent = _reason or "left out of the compiled module: its library was not found when it was built"
    return {name: absent for name, kind in active().items() if kind == "reference"}
