"""Copies, fill test, checksum and choice: one suite for both implementations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.kernels import GZIP, ZSTD, reference
from zarrant.kernels.checksum import crc32c as numpy_crc32c

# What was chosen at import: compiled code, but for steps whose library is absent.
native = kernels.active()["encode"] == "native"
twins = pytest.mark.skipif(not native, reason="compiled kernels absent or not chosen")
both = pytest.mark.parametrize("kernel", [pytest.param(reference, id="reference"), pytest.param(kernels, id="native", marks=twins)])


# ── copies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def axis_plans(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[list[tuple[int, int, int]]]]:
    """Lengths of both arrays, steps, and boxes as (source start, destination start, count) an axis."""
    axes = draw(st.integers(0, 4))
    src_step = [draw(st.sampled_from([1, 1, 2, -1, -3, 0])) for _ in range(axes)]
    dst_step = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in range(axes)]
    count = draw(st.integers(0, 5))
    same = draw(st.booleans())
    boxes: list[list[tuple[int, int, int]]] = []
    lengths = [draw(st.integers(1, 20)) for _ in range(axes)], [draw(st.integers(1, 20)) for _ in range(axes)]
    for number in range(count):
        box = []
        for axis in range(axes):
            n = boxes[0][axis][2] if same and boxes else draw(st.integers(0, 12))
            extent = [abs(step[axis]) * max(n - 1, 0) for step in (src_step, dst_step)]
            for side in (0, 1):
                lengths[side][axis] = max(lengths[side][axis], extent[side] + 1 + (number if same else 0))
            starts = []
            for side, step in ((0, src_step), (1, dst_step)):
                free = lengths[side][axis] - 1 - extent[side]
                at = min(number * extent[side] + number, free) if same else draw(st.integers(0, free))
                starts.append(at + (extent[side] if step[axis] < 0 else 0))
            box.append((starts[0], starts[1], n))
        boxes.append(box)
    return lengths[0], lengths[1], [*src_step, *dst_step], boxes


def laid_out(draw: st.DrawFn, lengths: list[int], dtype: Any) -> Any:
    """An array with strides of any order and sign, with or without gaps."""
    order = draw(st.permutations(range(len(lengths))))
    gaps = [draw(st.sampled_from([1, 1, 2])) for _ in lengths]
    base = np.zeros([lengths[axis] * gaps[axis] for axis in order], dtype)
    view = base.transpose(np.argsort(order)) if lengths else base
    return view[(..., *(slice(None, None, gap * draw(st.sampled_from([1, 1, -1]))) for gap in gaps))]


def columns(plan: Any, axes: int) -> Any:
    table = np.array(plan[3], np.int64).reshape(len(plan[3]), axes, 3)
    src_start, dst_start, shape = (np.ascontiguousarray(table[:, :, i]) for i in range(3))
    steps = np.array(plan[2], np.int64).reshape(2, axes)
    return (src_start, np.ascontiguousarray(steps[0])), (dst_start, np.ascontiguousarray(steps[1]), shape)


def elementwise(src: Any, dst: Any, plan: Any) -> None:
    """The slowest and plainest copy: one element at a time."""
    axes = src.ndim
    steps = plan[2]
    for box in plan[3]:
        for index in np.ndindex(*(axis[2] for axis in box)):
            at = tuple(box[a][0] + index[a] * steps[a] for a in range(axes))
            to = tuple(box[a][1] + index[a] * steps[axes + a] for a in range(axes))
            dst[to] = src[at]


@both
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_boxes_arrive_element_by_element(kernel: Any, data: st.DataObject) -> None:
    plan = data.draw(axis_plans())
    dtype = data.draw(st.sampled_from(["u1", "u2", "f4", "i8", "c16", "V3", "S7"]))
    draw: Any = data.draw
    src, dst = laid_out(draw, plan[0], dtype), laid_out(draw, plan[1], dtype)
    octets = np.random.default_rng(1).integers(0, 256, src.size * src.itemsize, dtype=np.uint8)
    src[...] = octets.view(dtype).reshape(src.shape)
    expected = dst.copy()
    bits = np.dtype((np.void, src.itemsize))
    src.flags.writeable = False
    elementwise(src.view(bits), expected.view(bits), plan)
    before, after = columns(plan, src.ndim)
    kernel.copy_boxes(src, *before, dst, *after)
    assert dst.tobytes() == expected.tobytes()


def cube_boxes(shape: tuple[int, ...], chunk: tuple[int, ...]) -> tuple[Any, Any, Any, Any]:
    grid = [length // size for length, size in zip(shape, chunk, strict=True)]
    chunks = np.array(list(np.ndindex(*grid)), np.int64)
    big = np.ascontiguousarray(np.c_[np.zeros(len(chunks), np.int64), chunks * chunk])
    rows = np.zeros_like(big)
    rows[:, 0] = np.arange(len(chunks))
    sizes = np.tile(np.array([1, *chunk], np.int64), (len(chunks), 1))
    return big, rows, sizes, np.ones(len(chunk) + 1, np.int64)


@both
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "c16", "V3"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("turned", [False, True])
def test_pencils_of_a_whole_grid(kernel: Any, dtype: str, order: Any, turned: bool) -> None:
    shape, chunk = (20, 36, 80), (10, 9, 20)
    octets = np.random.default_rng(2).integers(0, 256, 20 * 36 * 80 * np.dtype(dtype).itemsize, dtype=np.uint8)
    array = np.asarray(octets.view(dtype).reshape(shape), order=order)
    big, starts, sizes, step = cube_boxes(shape, chunk)
    rows = np.zeros((32, *(chunk[::-1] if turned else chunk)), dtype)
    view = rows.transpose(0, 3, 2, 1) if turned else rows
    kernel.copy_boxes(array[None], big, step, view, starts, step, sizes)
    for number, corner in enumerate(big[:, 1:]):
        part = array[tuple(slice(at, at + size) for at, size in zip(corner, chunk, strict=True))]
        assert view[number].tobytes() == part.tobytes()
    back = np.zeros_like(array)
    kernel.copy_boxes(view, starts, step, back[None], big, step, sizes)
    assert back.tobytes() == array.tobytes()


@both
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "c16", "V3"])
@pytest.mark.parametrize("step", [-3, -2, -1, 2, 3, 4, 5])
def test_lines_of_items_that_lie_apart(kernel: Any, dtype: str, step: int) -> None:
    """Long enough for loops that take many items at once, with a rest."""
    octets = np.random.default_rng(step + 9).integers(0, 256, 3 * 999 * np.dtype(dtype).itemsize, dtype=np.uint8)
    apart = octets.view(dtype).reshape(3, 999)[:, ::step]
    start, one, shape = np.zeros((1, 2), np.int64), np.ones(2, np.int64), np.array([apart.shape], np.int64)
    close, back = np.zeros(apart.shape, dtype), np.zeros((3, 999), dtype)
    kernel.copy_boxes(apart, start, one, close, start, one, shape)
    assert close.tobytes() == apart.tobytes()
    kernel.copy_boxes(close, start, one, back[:, ::step], start, one, shape)
    assert back[:, ::step].tobytes() == apart.tobytes()


@both
@pytest.mark.parametrize("turned", [False, True])
def test_lines_of_every_length(kernel: Any, turned: bool) -> None:
    """Between other bytes, which stay: from one byte on to more than are moved without a call of the library."""
    one = np.ones(2, np.int64)
    for size in range(1, 280):
        src = np.random.default_rng(size).integers(0, 256, (5, size + 3), "u1")
        dst = np.zeros((5, size + 9), "u1")
        expected = dst.copy()
        expected[1:4, 4 : 4 + size] = src[2:5, 1 : 1 + size]
        sides = (src.T, dst.T) if turned else (src, dst)
        where = [np.array([place[::-1] if turned else place], np.int64) for place in ((2, 1), (1, 4), (3, size))]
        kernel.copy_boxes(sides[0], where[0], one, sides[1], where[1], one, where[2])
        assert np.array_equal(dst, expected), size


@both
def test_later_boxes_win(kernel: Any) -> None:
    src, dst = np.arange(12, dtype=np.int16).reshape(3, 4), np.zeros((1, 6), np.int16)
    starts = np.array([[0, 0], [1, 0], [2, 0]], np.int64)
    into = np.array([[0, 0], [0, 1], [0, 2]], np.int64)
    step = np.ones(2, np.int64)
    kernel.copy_boxes(src, starts, step, dst, into, step, np.array([[1, 4]] * 3, np.int64))
    assert dst.tolist() == [[0, 4, 8, 9, 10, 11]]


@both
def test_broadcast_source(kernel: Any) -> None:
    src, dst = np.broadcast_to(np.arange(3, dtype=np.float32), (4, 3)), np.zeros((4, 3), np.float32)
    start, step = np.zeros((1, 2), np.int64), np.ones(2, np.int64)
    kernel.copy_boxes(src, start, step, dst, start, step, np.array([[4, 3]], np.int64))
    assert dst.tolist() == src.tolist()


BIG = 2**63 - 1


@both
@pytest.mark.parametrize(
    ("start", "step", "count"),
    [(0, 1, 5), (-1, 1, 2), (4, 1, 1), (1, -1, 3), (1, BIG, 2), (BIG, 1, 2), (0, -BIG, BIG), (2, BIG, BIG), (0, 1, -1)],
)
@pytest.mark.parametrize("side", ["source", "destination"])
def test_boxes_outside_are_refused_before_any_copy(kernel: Any, start: int, step: int, count: int, side: str) -> None:
    src, dst = np.ones(4, np.int32), np.zeros(4, np.int32)
    good, bad = np.zeros((2, 1), np.int64), np.array([[0], [start]], np.int64)
    steps = np.ones(1, np.int64), np.array([step], np.int64)
    shape = np.array([[1], [count]], np.int64)
    with pytest.raises(ValueError, match="box 1"):
        if side == "source":
            kernel.copy_boxes(src, bad, steps[1], dst, good, steps[0], shape)
        else:
            kernel.copy_boxes(src, good, steps[0], dst, bad, steps[1], shape)
    assert not dst.any()


@both
def test_steps_that_are_never_taken_may_be_anything(kernel: Any) -> None:
    src, dst = np.arange(4, dtype=np.int32), np.zeros(4, np.int32)
    step = np.array([-BIG - 1], np.int64)
    at = np.array([[1], [2]], np.int64)
    kernel.copy_boxes(src, at, step, dst, at, step, np.ones((2, 1), np.int64))
    assert dst.tolist() == [0, 1, 2, 0]


@both
def test_arrays_that_do_not_fit_are_refused(kernel: Any) -> None:
    start, step, shape = np.zeros((1, 1), np.int64), np.ones(1, np.int64), np.ones((1, 1), np.int64)
    whole = np.zeros(4, np.int32)
    fixed = np.zeros(4, np.int32)
    fixed.flags.writeable = False
    pairs = [
        (whole, np.zeros(4, np.int16)),
        (whole, np.zeros((4, 1), np.int32)),
        (whole, fixed),
        (whole, whole[1:]),
        (np.zeros(4, object), np.zeros(4, np.int64)),
        (np.zeros(4, np.int64), np.zeros(4, object)),
    ]
    for src, dst in pairs:
        with pytest.raises(ValueError):
            kernel.copy_boxes(src, start, step, dst, start, step, shape)
    other = np.zeros(4, np.int32)
    for bad in (start.astype(np.int32), np.zeros((2, 1), np.int64), np.zeros((1, 2), np.int64), start.astype(np.float64)):
        with pytest.raises(ValueError):
            kernel.copy_boxes(whole, bad, step, other, start, step, shape)
    with pytest.raises(ValueError, match="step"):
        kernel.copy_boxes(whole, start, step, other, start, np.zeros(1, np.int64), shape + 1)


@both
def test_any_plain_dtype_is_copied(kernel: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    start, step, shape = np.zeros((1, 1), np.int64), np.ones(1, np.int64), np.full((1, 1), 3, np.int64)
    for dtype in (ml_dtypes.bfloat16, "M8[s]", "?", "U2", [("a", "i4"), ("b", "f8")]):
        src = np.frombuffer(bytes(range(3 * np.dtype(dtype).itemsize)), np.uint8).view(dtype)
        dst = np.zeros(3, dtype)
        kernel.copy_boxes(src, start, step, dst, start, step, shape)
        assert dst.tobytes() == src.tobytes()


# ── fill ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
@pytest.mark.parametrize("fill", [b"\0", b"\x01\x02", b"\0\0\0\x80", bytes(7), bytes(range(16)), bytes(range(24))])
@pytest.mark.parametrize("times", [0, 1, 2, 63, 500])
def test_fill_is_compared_bitwise(kernel: Any, fill: bytes, times: int) -> None:
    nbytes = len(fill) * times
    rows = np.tile(np.frombuffer(fill, np.uint8), (min(nbytes, 70) + 1, times))
    for changed in range(1, len(rows)):
        rows[changed, -changed] ^= 0x80
    assert kernel.equals_fill(rows, fill).tolist() == [True] + [False] * (len(rows) - 1)


@both
def test_negative_zero_is_not_zero(kernel: Any) -> None:
    rows = np.array([[0.0, 0.0], [0.0, -0.0]]).view(np.uint8)
    assert kernel.equals_fill(rows, bytes(8)).tolist() == [True, False]


@both
@pytest.mark.parametrize("fill", [b"", b"123"])
def test_fill_that_does_not_divide_is_refused(kernel: Any, fill: bytes) -> None:
    with pytest.raises(ValueError):
        kernel.equals_fill(np.zeros((2, 4), np.uint8), fill)


# ── packing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


@both
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_spans_are_packed_in_their_order(kernel: Any, data: st.DataObject) -> None:
    buffers = [bytes(data.draw(st.binary(max_size=300))) for _ in range(data.draw(st.integers(1, 4)))]
    spans = []
    for _ in range(data.draw(st.integers(0, 30))):
        which = data.draw(st.integers(0, len(buffers) - 1))
        offset = data.draw(st.integers(0, len(buffers[which])))
        spans.append((which, offset, data.draw(st.integers(0, len(buffers[which]) - offset))))
    packed = kernel.pack(buffers, *np.array(spans, np.int64).reshape(-1, 3).T)
    assert packed.dtype == np.uint8 and packed.ndim == 1
    assert packed.tobytes() == b"".join(buffers[which][offset : offset + size] for which, offset, size in spans)


@both
def test_what_is_packed_is_new_memory(kernel: Any) -> None:
    whole = np.arange(1000, dtype=np.uint16)
    packed = kernel.pack([whole, memoryview(b"")], ints(0, 1), ints(0, 0), ints(2000, 0))
    assert packed.tobytes() == whole.tobytes() and not np.shares_memory(packed, whole)
    packed[:] = 0
    assert whole[-1] == 999


@both
def test_neighbours_and_others_are_packed(kernel: Any) -> None:
    random = np.random.default_rng(3)
    buffer, chunk = random.integers(0, 256, 1 << 20, dtype=np.uint8), 4096
    order = np.r_[np.arange(128), random.permutation(np.arange(128, 256))]
    packed = kernel.pack([buffer], np.zeros(256, np.int64), order * chunk, np.full(256, chunk))
    assert np.array_equal(packed.reshape(256, chunk), buffer.reshape(256, chunk)[order])


@both
@pytest.mark.parametrize(
    "span",
    [(0, 0, 9), (0, 8, 1), (0, 9, 0), (0, -1, 2), (0, 0, -1), (-1, 0, 1), (2, 0, 1), (0, BIG, BIG), (0, 1, BIG), (0, BIG, 1)],
)
def test_spans_outside_are_refused(kernel: Any, span: tuple[int, int, int]) -> None:
    table = np.array([(0, 0, 8), (1, 2, 1), span], np.int64)
    with pytest.raises(ValueError, match="row 2"):
        kernel.pack([bytes(8), bytes(4)], *table.T)


@both
def test_columns_and_buffers_of_another_form_are_refused(kernel: Any) -> None:
    good = ints(0)
    for bad in (ints(0, 0), good.astype(np.int32), good.astype(np.float64), np.zeros((1, 1), np.int64)):
        for columns in ((bad, good, good), (good, bad, good), (good, good, bad)):
            with pytest.raises(ValueError):
                kernel.pack([bytes(4)], *columns)
    for buffer in (np.zeros((4, 4), np.uint8)[:, :2], "text", None):
        with pytest.raises(ValueError, match="buffer"):
            kernel.pack([buffer], good, good, good)


# ── checksum ────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
def test_crc32c_vectors(kernel: Any) -> None:
    # RFC 3720, appendix B.4, and the check value of the catalogue of parametrised CRCs
    assert kernel.crc32c(b"123456789") == 0xE3069283
    assert kernel.crc32c(bytes(32)) == 0x8A9136AA
    assert kernel.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert kernel.crc32c(bytes(range(32))) == 0x46DD794E
    assert kernel.crc32c(b"") == 0


def bytewise_crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@both
@given(size=st.integers(0, 3000), cut=st.integers(0, 3000), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_crc32c_of_any_length_and_in_parts(kernel: Any, size: int, cut: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    assert kernel.crc32c(data) == bytewise_crc32c(data)
    assert kernel.crc32c(data[cut:], kernel.crc32c(data[:cut])) == kernel.crc32c(memoryview(data))


@twins
@pytest.mark.parametrize("size", [767, 768, 12287, 12288, 12289, 100_001, 1 << 20])
def test_crc32c_of_many_lanes(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert kernels.crc32c(data) == numpy_crc32c(data)


# ── choice ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def run(choice: str, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ZARRANT_KERNELS": choice}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_reference_can_be_forced() -> None:
    done = run("reference", "from zarrant import kernels as k; print({*k.active().values()}, {*k.missing().values()})")
    assert done.stdout.strip() == "{'reference'} {'ZARRANT_KERNELS=reference'}", done.stderr


def test_the_absence_of_the_compiled_module_is_told() -> None:
    hide = "import sys; sys.modules['zarrant.kernels._native'] = None\n"
    done = run("auto", hide + "from zarrant import kernels as k; print(k.missing()['encode'])")
    assert done.stdout.startswith("the compiled kernels are absent: "), done.stderr
    assert "zarrant.kernels._native" in done.stdout and "circular" not in done.stdout
    done = run("native", hide + "import zarrant.kernels")
    assert done.returncode == 1 and "ImportError: ZARRANT_KERNELS=native" in done.stderr


def test_an_unknown_choice_is_refused() -> None:
    done = run("fast", "import zarrant.kernels")
    assert done.returncode == 1 and "OptionError" in done.stderr


@twins
def test_the_compiled_module_serves_by_default() -> None:
    done = run("auto", "from zarrant import kernels as k; import json; print(json.dumps(k.active()))")
    served = json.loads(done.stdout)
    assert {served[name] for name in ("copy_boxes", "equals_fill", "encode", "decode", "pack", "crc32c")} == {"native"}
    assert served["step:swap"] == served["step:crc32c"] == "native"


@twins
def test_a_program_with_an_absent_step_runs_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_features", {"zstd": True, "crc32c": True})
    kernels.serving.cache_clear()
    try:
        assert kernels.serving(((ZSTD, 1, 0),)) is kernels._compiled
        assert kernels.serving(((ZSTD, 1, 0), (GZIP, 1))) is reference
        assert "step:gzip" in kernels.missing() and "step:zstd" not in kernels.missing()
    finally:
        kernels.serving.cache_clear()
