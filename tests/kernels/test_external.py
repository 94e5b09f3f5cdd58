"""Steps that are C functions of other packages: both implementations call them alike, and check what they return."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.errors import OptionError
from zarrant.kernels import CRC32C, GZIP, SWAP, ZSTD, reference
from zarrant.kernels.external import BOUND_SIGNATURE, CODE_SIGNATURE, external_step

native = kernels.active()["step:external"] == "native"
twins = pytest.mark.skipif(not native, reason="compiled kernels absent, or older than external steps")
both = pytest.mark.parametrize("kernel", [pytest.param(reference, id="reference"), pytest.param(kernels, id="native", marks=twins)])

GUIDE = Path(__file__).parents[2] / "docs" / "extending" / "codec.md"
CODE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
BOUND = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[int, ...]]:
    """The step of the guide, for a width: runs of equal elements."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) here")
    place = tmp_path_factory.mktemp("runs")
    found = re.search(r"^```c\n(// runs.c\n.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    (place / "runs.c").write_text(found[1])
    subprocess.run([compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", "runs.so", "runs.c"], cwd=place, check=True)
    library = ctypes.CDLL(str(place / "runs.so"))
    return lambda width: external_step(library.runs_encode, library.runs_decode, library.runs_bound, width)


def python_step(
    encode: Callable[[bytes, int], bytes | int], decode: Callable[[bytes, int], bytes | int], bound: Callable[[int], int]
) -> tuple[int, ...]:
    """A step of Python functions, which C calls: each returns the bytes to write, or a number to return."""

    def code(function: Callable[[bytes, int], bytes | int]) -> Any:
        def call(source: int | None, size: int, target: int, capacity: int, parameter: int) -> int:
            result = function(ctypes.string_at(source, size) if source and size else b"", capacity)
            if isinstance(result, int):
                return result
            ctypes.memmove(target, result, len(result))
            return len(result)

        return CODE(call)

    return external_step(code(encode), code(decode), BOUND(lambda size, parameter: bound(size)))


def spans(sizes: Any) -> tuple[Any, Any, Any]:
    return np.zeros(len(sizes), np.int64), np.cumsum(sizes) - sizes, sizes


def decoded(kernel: Any, program: Any, data: bytes, size: int) -> tuple[list[Any], bytes]:
    rows = np.zeros((1, size), np.uint8)
    failures = kernel.decode(program, [data], *spans(np.array([len(data)])), rows, True)
    return failures, rows.tobytes()


AROUND: list[tuple[int, ...]] = [(CRC32C,), (ZSTD, 1, 0), (GZIP, 1)]


@twins
@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 99),
    width=st.sampled_from([1, 2, 4]),
    n=st.sampled_from([0, 4, 400, 4000]),
    before=st.sampled_from([(), ((SWAP, 4),), ((SWAP, 2),)]),
    after=st.lists(st.sampled_from(AROUND), max_size=3),
    twice=st.booleans(),
)
def test_both_call_the_functions_alike(
    runs: Any, seed: int, width: int, n: int, before: Any, after: list[tuple[int, ...]], twice: bool
) -> None:
    program = (*before, runs(width), *((runs(1),) if twice else ()), *after)
    rows = np.random.default_rng(seed).integers(0, 2, (3, n // 4, 4), np.uint8).repeat(1 + seed % 7, axis=1).reshape(3, -1)
    keep = np.array([True, seed % 2 == 0, True])
    arena, sizes = kernels.encode(program, rows, keep)
    other, others = reference.encode(program, rows, keep)
    if not {step[0] for step in after} & {GZIP, ZSTD}:
        assert arena.tobytes() == other.tobytes() and sizes.tolist() == others.tolist()
    assert kernels.encoded_bound(program, rows.shape[1]) == reference.encoded_bound(program, rows.shape[1]) or after
    kept = np.flatnonzero(keep)
    for kernel, data, size in ((kernels, other, others), (reference, arena, sizes)):
        out = np.full((len(kept), rows.shape[1]), 7, np.uint8)
        assert kernel.decode(program, [data], *spans(size[kept]), out, True) == []
        assert np.array_equal(out, rows[kept])


@both
def test_bad_data_is_a_failure_of_its_row(runs: Any, kernel: Any) -> None:
    program = (runs(4), (CRC32C,))
    rows = np.arange(64, dtype=np.uint8).reshape(1, -1)
    good = bytes(kernel.encode(program, rows, None)[0])
    short = good[:-5]
    for bad, step, reason in [
        (short + kernels.crc32c(short).to_bytes(4, "little"), 0, "external: error -2"),
        (good[:-4], 1, "CRC-32C"),
    ]:
        failures, _ = decoded(kernel, program, bad, 64)
        assert failures[0][:2] == (0, step) and reason in failures[0][2]
    bomb = bytes([255, 1, 2, 3, 4]) * 100_000
    failures, _ = decoded(kernel, (runs(4),), bomb, 64)
    assert failures[0][1] == 0 and "too large" in failures[0][2]


@both
def test_what_a_function_returns_is_checked(kernel: Any) -> None:
    row = np.zeros((1, 8), np.uint8)

    def copy(data: bytes, capacity: int) -> bytes:
        return data

    for result in (-1, -5, 9, 1 << 40):
        with pytest.raises(RuntimeError, match="could not encode"):
            kernel.encode((python_step(lambda data, capacity, r=result: r, copy, lambda size: size),), row, None)
        failures, _ = decoded(
            kernel, (python_step(copy, lambda data, capacity, r=result << 20: r, lambda size: size),), bytes(8), 8
        )
        assert failures[0][:2] == (0, 0)
    with pytest.raises(ValueError, match="negative"):
        kernel.encode((python_step(copy, copy, lambda size: -1),), row, None)


@both
def test_a_step_may_shrink_what_follows(kernel: Any) -> None:
    """The bounds of a program need not grow: scratch memory has the size of the largest."""
    half = python_step(
        lambda data, capacity: data[::2], lambda data, capacity: bytes(2 * b for b in data for _ in "ab"), lambda n: n // 2
    )
    same = python_step(lambda data, capacity: data, lambda data, capacity: data, lambda n: n)
    program = ((CRC32C,), same, half, half, half, (CRC32C,))
    rows = np.zeros((2, 100_004), np.uint8)
    arena, sizes = kernel.encode(program, rows, None)
    assert sizes.tolist() == [100_008 // 8 + 4] * 2 and arena.size == sizes.sum()


def test_a_write_beyond_the_target_is_noticed() -> None:
    careless = python_step(lambda data, capacity: bytes(capacity + 8), lambda data, capacity: data, lambda size: size)
    with pytest.raises(RuntimeError, match="beyond its target"):
        reference.encode((careless,), np.zeros((1, 8), np.uint8), None)


@twins
def test_threads_run_at_once(runs: Any) -> None:
    rows = np.random.default_rng(1).integers(0, 2, (4, 4096), np.uint8)

    def trip(width: int) -> bool:
        program = (runs(width),)
        arena, sizes = kernels.encode(program, rows)
        out = np.zeros_like(rows)
        return not kernels.decode(program, [arena], *spans(sizes), out) and np.array_equal(out, rows)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(trip, [1, 2, 4, 8] * 40))


def capsule(name: bytes, function: Any) -> Any:
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
        ("PyCapsule_New", ctypes.pythonapi)
    )
    return make(ctypes.cast(function, ctypes.c_void_p), name, None)


def test_functions_are_given_in_three_ways() -> None:
    code, bound = CODE(lambda *_: 0), BOUND(lambda *_: 0)
    addresses = [ctypes.cast(each, ctypes.c_void_p).value for each in (code, bound)]
    names = [CODE_SIGNATURE.encode(), BOUND_SIGNATURE.encode()]  # which must stay, as a capsule only points to its name
    capsules = [capsule(name, each) for name, each in zip(names, (code, bound), strict=True)]
    expected = (kernels.program.EXTERNAL, addresses[0], addresses[0], addresses[1], -3)
    assert external_step(code, code, bound, -3) == expected
    assert external_step(addresses[0], addresses[0], addresses[1], -3) == expected
    assert external_step(capsules[0], capsules[0], capsules[1], -3) == expected


OTHER = b"int (void *)"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("encode", 1, 1), "encode"),
        ((1, None, 1), "decode"),
        ((1, 1, 0), "bound"),
        ((1, -8, 1), "decode"),
        ((1, 1, 1, 2**63), "parameter"),
        ((1, 1, 1, 1.5), "parameter"),
        ((BOUND(lambda *_: 0), 1, 1), "encode"),
        ((1, 1, CODE(lambda *_: 0)), "bound"),
        ((ctypes.CFUNCTYPE(ctypes.c_int32, *CODE._argtypes_)(lambda *_: 0), 1, 1), "encode"),
        ((1, capsule(OTHER, CODE(lambda *_: 0)), 1), "decode"),
        ((1, 1, capsule(OTHER, CODE(lambda *_: 0))), "bound"),
    ],
)
def test_what_is_no_such_function_is_refused(arguments: tuple[Any, ...], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        external_step(*arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("step", [(6,), (6, 1, 1, 1), (6, 0, 1, 1, 0), (6, 1, -1, 1, 0), (6, 1, 1, 1, 0, 0)])
def test_steps_of_another_form_are_refused(step: tuple[int, ...]) -> None:
    with pytest.raises(OptionError):
        kernels.encode((step,), np.zeros((1, 8), np.uint8))
