"""Boxes that are copied from where their pieces are kept: the elements that NumPy copies; mistakes of the caller are refused."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.testkit import together

pytestmark = pytest.mark.skipif(kernels.KeptCopier is None, reason="compiled kernels absent or not chosen")
LARGEST = 2**63 - 1


@pytest.fixture
def file(tmp_path: Path) -> tuple[str, tuple[int, int, int, int]]:
    path = tmp_path / "object"
    path.write_bytes(b"x")
    state = os.stat(path)
    return str(path), (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)


def copied(
    file: Any, boxes: list[Any], edge: Any, out: Any, fill: bytes, version: Any = None, kind: Any = lambda device: ""
) -> list[Any]:
    reader = kernels.KeptCopier([(version or file[1], boxes)], edge, out, fill).reader([file[0]], -1, kind)
    reader.work()
    return reader.versions()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equals_numpy(data: st.DataObject, file: Any) -> None:
    draw = data.draw
    axes = draw(st.integers(1, 3))
    edge, grid = (tuple(draw(st.integers(1, most)) for _ in range(axes)) for most in (5, 3))
    dtype = np.dtype(draw(st.sampled_from(["u1", "<u2", ">i4", "f8", "c16", "M8[s]", "V3", "bool"])))
    dice = np.random.default_rng(draw(st.integers(0, 9)))
    whole = _filled(dice, tuple(e * g for e, g in zip(edge, grid, strict=True)), dtype)
    fill = _filled(dice, (1,), dtype)
    pieces: dict[Any, Any] = {}
    for place in product(*map(range, grid)):
        here = tuple(slice(p * e, (p + 1) * e) for p, e in zip(place, edge, strict=True))
        pieces[place] = whole[here].copy() if draw(st.booleans()) else None
        if pieces[place] is None:
            whole[here] = fill
    sides = [sorted(draw(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))) for n in whole.shape]
    start, shape = tuple(a for a, _ in sides), tuple(b - a + 1 for a, b in sides)
    value = tuple(draw(st.integers(0, 3)) for _ in range(axes))
    out = _filled(dice, tuple(v + n + 1 for v, n in zip(value, shape, strict=True)), dtype)
    if draw(st.booleans()):
        out = np.asfortranarray(out)[tuple(slice(None, None, draw(st.sampled_from([1, -1]))) for _ in range(axes))]
    expected = out.copy()
    expected[tuple(slice(v, v + n) for v, n in zip(value, shape, strict=True))] = whole[tuple(slice(a, b + 1) for a, b in sides)]
    ranges = [range(a // e, b // e + 1) for (a, b), e in zip(sides, edge, strict=True)]
    part = ((start, shape, value), [pieces[place] for place in product(*ranges)])
    kind = draw(st.sampled_from(["", "disk"]))
    assert copied(file, [part], edge, out, fill.tobytes(), kind=lambda device: kind) == [file[1]]
    assert out.tobytes() == expected.tobytes()


def _filled(dice: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    bits = dice.integers(0, 2, (*shape[:-1], shape[-1] * dtype.itemsize), "u1")
    return bits.view(dtype).reshape(shape)


def test_large_boxes_by_several_threads(tmp_path: Path) -> None:
    paths, objects, out = [], [], np.zeros((4, 512, 1024), "u2")
    for i in range(4):
        path = tmp_path / str(i)
        path.write_bytes(b"")
        state = os.stat(path)
        paths.append(str(path))
        piece = np.random.default_rng(i).integers(0, 99, (1, 512, 1024)).astype("u2")
        version = (state.st_dev, state.st_ino, state.st_mtime_ns, int(i == 2))
        objects.append((version, [(((0, 0, 0), (1, 512, 1024), (i, 0, 0)), [piece])]))
    copier = kernels.KeptCopier(objects, (1, 512, 1024), out, b"\0\0")
    assert (copier.threads(4), copier.threads(2)) == (4, 2)
    reader = copier.reader(paths, -1, lambda device: "disk")
    together(*[reader.work] * 3)
    assert reader.versions() == [objects[0][0], objects[1][0], None, objects[3][0]]
    assert [np.array_equal(out[i], objects[i][1][0][1][0][0]) for i in range(4)] == [True, True, False, True]
    assert not out[2].any()


def test_what_is_of_another_version_or_no_file_is_left_out(file: Any, tmp_path: Path) -> None:
    piece, out = np.ones((2, 2), "u1"), np.zeros((2, 2), "u1")
    boxes = [(((0, 0), (2, 2), (0, 0)), [piece])]
    os.symlink(file[0], tmp_path / "link")
    for kind in ("", "disk"):
        for i in range(4):
            other = tuple(n + (i == j) for j, n in enumerate(file[1]))
            assert copied(file, boxes, (2, 2), out, b"\0", other, lambda device, kind=kind: kind) == [None]
        for path in (tmp_path / "link", tmp_path / "none", tmp_path):
            assert copied((str(path), file[1]), boxes, (2, 2), out, b"\0", None, lambda device, kind=kind: kind) == [None]
    assert not out.any()


ONE = np.ones((2, 2), "u1")
WRONG: dict[str, tuple[Any, ...]] = {
    "before": (((-1, 0), (2, 2), (0, 0)), [ONE] * 2),
    "start beyond numbers": (((LARGEST - 1, 0), (2, 2), (0, 0)), [ONE]),
    "end beyond numbers": (((LARGEST, 0), (2, 2), (0, 0)), [ONE]),
    "empty": (((0, 0), (0, 2), (0, 0)), []),
    "value before": (((0, 0), (2, 2), (0, -1)), [ONE]),
    "value beyond": (((0, 0), (2, 2), (0, 3)), [ONE]),
    "shape beyond": (((0, 0), (3, 2), (2, 0)), [ONE] * 2),
    "shape beyond numbers": (((0, 0), (LARGEST, 2), (0, 0)), [ONE]),
    "too few pieces": (((1, 1), (2, 2), (0, 0)), [ONE] * 3),
    "too many pieces": (((0, 0), (2, 2), (0, 0)), [ONE] * 2),
    "a small piece": (((0, 0), (2, 2), (0, 0)), [ONE[:1]]),
    "a piece that is not contiguous": (((0, 0), (2, 2), (0, 0)), [np.ones((2, 4), "u1")[:, ::2]]),
    "fewer axes": (((0,), (2,), (0,)), [ONE]),
    "no shape": (((0, 0), (0, 0)), [ONE]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_box_that_is_none_is_refused(wrong: str, file: Any) -> None:
    out = np.zeros((4, 4), "u1")
    with pytest.raises((ValueError, RuntimeError)):
        copied(file, [WRONG[wrong]], (2, 2), out, b"\0")
    assert not out.any()


def test_other_mistakes_are_refused(file: Any) -> None:
    out, boxes = np.zeros((4, 4), "u1"), [(((0, 0), (2, 2), (0, 0)), [ONE])]
    read_only = out.copy()
    read_only.flags.writeable = False
    for edge, into, fill in (
        ((2,), out, b"\0"),
        ((2, 0), out, b"\0"),
        ((LARGEST, 2), out, b"\0"),
        ((2, 2), out, b"\0\0"),
        ((2, 2), read_only, b"\0"),
        ((2, 2), np.zeros((4, 4), "u2"), b"\0\0"),
        ((2, 2), np.zeros((4, 4), object), b"\0" * 8),
    ):
        with pytest.raises((ValueError, RuntimeError)):
            copied(file, boxes, edge, into, fill)
    with pytest.raises((ValueError, RuntimeError)):
        copied(file, [(((0, 0), (2, 2), (0, 0)), [out[:1]])], (1, 4), out, b"\0")  # shares memory
    with pytest.raises((ValueError, RuntimeError)):
        copied(file, boxes, (2, 2), out, b"\0", ("etag",))
