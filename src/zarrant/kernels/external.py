"""Steps of a program that are C functions of other packages.

In come three functions: as ctypes functions, as addresses, or as capsules whose name is the signature. Out goes a step
`(EXTERNAL, encode, decode, bound, parameter)`, which both implementations run. The functions are

    int64_t encode(const uint8_t *source, int64_t size, uint8_t *target, int64_t capacity, int64_t parameter);
    int64_t decode(const uint8_t *source, int64_t size, uint8_t *target, int64_t capacity, int64_t parameter);
    int64_t bound(int64_t size, int64_t parameter);

`encode` and `decode` return how many bytes they wrote to `target`: at most `capacity`. Where that does not suffice they return
-1, where the bytes cannot be encoded or decoded another negative number. `bound` returns the most bytes that `encode` makes of
`size` bytes. `parameter` is any number, such as a level, and the same in each call. All three run without the GIL, in several
threads at once; `size` may be 0, and `source` and `target` share no memory.
"""

from __future__ import annotations

import ctypes
from _ctypes import CFuncPtr
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zarrant.errors import OptionError
from zarrant.kernels.program import EXTERNAL, Step

CODE_SIGNATURE = "int64_t (const uint8_t *, int64_t, uint8_t *, int64_t, int64_t)"
"""The name of a capsule with `encode` or `decode`."""
BOUND_SIGNATURE = "int64_t (int64_t, int64_t)"
"""The name of a capsule with `bound`."""

_CODE = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64
)  # such a function is called without the GIL
_BOUND = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
_GUARD = np.frombuffer(b"\xa5\x5a" * 16, np.uint8)
"""Put behind the target, to notice a function that writes beyond it."""
_kept: dict[int, Any] = {}
"""The functions that a step names only by their addresses: they must not be freed."""


def external_step(encode: Any, decode: Any, bound: Any, parameter: int = 0) -> Step:
    """The step that calls these C functions; OptionError for what is no function of the signature.

    >>> external_step(1024, 2048, 4096, parameter=3)
    (6, 1024, 2048, 4096, 3)
    """
    if not isinstance(parameter, int) or not -(2**63) <= parameter < 2**63:
        raise OptionError("not a parameter of a C function", field="parameter", expected="an integer of 64 bits", got=parameter)
    return (
        EXTERNAL,
        _address(encode, "encode", CODE_SIGNATURE, _CODE),
        _address(decode, "decode", CODE_SIGNATURE, _CODE),
        _address(bound, "bound", BOUND_SIGNATURE, _BOUND),
        parameter,
    )


def _address(function: Any, field: str, signature: str, prototype: Any) -> int:
    if isinstance(function, int):
        address: int | None = function
    elif isinstance(function, CFuncPtr):
        declared = function.argtypes
        if declared is not None and _sizes((*declared, function.restype)) != _sizes((*prototype._argtypes_, prototype._restype_)):
            raise OptionError("a C function of another signature", field=field, expected=signature, got=function)
        address = ctypes.cast(function, ctypes.c_void_p).value
    elif type(function).__name__ == "PyCapsule":
        address = _in_capsule(function, field, signature)
    else:
        raise OptionError("not a C function", field=field, expected="a ctypes function, an address or a capsule", got=function)
    if not address or not 0 < address < 2**63:
        raise OptionError("not the address of a C function", field=field, expected="an address", got=address)
    _kept.setdefault(address, function)
    return address


def _sizes(types: tuple[Any, ...]) -> list[int]:
    return [0 if each is None else ctypes.sizeof(each) for each in types]


def _in_capsule(capsule: Any, field: str, signature: str) -> int | None:
    name_of = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
    pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
    name = name_of(capsule)
    if name != signature.encode():
        raise OptionError("a capsule whose name is not the signature", field=field, expected=signature, got=name)
    address: int | None = pointer_of(capsule, name)
    return address


@lru_cache(maxsize=1024)
def _function(prototype: Any, address: int) -> Any:
    return prototype(address)


def external_bound(step: Step, size: int) -> int:
    """The most bytes that `encode` makes of `size` bytes; ValueError for a function that does not say."""
    bound: int = _function(_BOUND, step[3])(size, step[4])
    if bound < 0:
        raise ValueError(f"the bound of an external step is negative for {size} bytes: {bound}")
    return bound


def external_encode(step: Step, data: bytes) -> bytes:
    """Call `encode`; RuntimeError where it fails."""
    capacity = external_bound(step, len(data))
    written, target = _call(step[1], data, capacity, step[4])
    if not 0 <= written <= capacity:
        raise RuntimeError(f"an external step could not encode a row: {written}")
    return target[:written].tobytes()


def external_decode(step: Step, data: bytes, limit: int) -> bytes:
    """Call `decode` to at most `limit` bytes; ValueError where it fails."""
    written, target = _call(step[2], data, limit, step[4])
    if written == -1 or written > limit:
        raise ValueError(f"too large: external decodes to more than {limit} bytes")
    if written < 0:
        raise ValueError(f"external: error {written}")
    return target[:written].tobytes()


def _call(address: int, data: bytes, capacity: int, parameter: int) -> tuple[int, NDArray[np.uint8]]:
    target = np.empty(capacity + _GUARD.size, np.uint8)  # of which the system gives what is written to
    target[capacity:] = _GUARD
    written: int = _function(_CODE, address)(data, len(data), target.ctypes.data, capacity, parameter)
    if not np.array_equal(target[capacity:], _GUARD):
        raise RuntimeError("an external step wrote beyond its target: memory may be damaged")
    return written, target
