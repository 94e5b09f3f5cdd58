"""Elements of variable size: the compiled functions equal their twins, for every array and for bytes that lie."""

from __future__ import annotations

import struct
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.kernels import elements

native = kernels.active()["encode_elements"] == "native"
twins = pytest.mark.skipif(not native, reason="compiled kernels absent or not chosen")
both = pytest.mark.parametrize("kernel", [pytest.param(elements, id="reference"), pytest.param(kernels, id="native", marks=twins)])
TEXTS = np.dtypes.StringDType()
KINDS: dict[str, tuple[Any, Any]] = {"text": (str, TEXTS), "objects of text": (str, object), "runs": (bytes, object)}

words = st.one_of(st.text(max_size=5), st.text("aé日🎈\0", max_size=40), st.just("x" * 300))
NOISE = [
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xed\x9f\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf4\x8f\xbf\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
]
NOISE += [
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x8e",
    b"\x80",
    b"\xc3\x28",
    b"\xe2\x28\xa1",
    b"12345678\xff",
    b"1234567\xc3\xa9",
    b"\xee\x80\x80",
]


def array_of(kind: str, found: list[str], shape: Any = -1) -> Any:
    element, dtype = KINDS[kind]
    array = np.empty(len(found), object)
    array[:] = found if element is str else [word.encode() for word in found]
    return array.astype(dtype).reshape(shape)


@st.composite
def arrays(draw: Any) -> tuple[str, Any]:
    """An array of up to three axes, of any strides: cut, turned round, transposed, repeated."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    wide = [2 * n for n in shape]
    count = int(np.prod(wide))
    kind = draw(st.sampled_from(list(KINDS)))
    array = array_of(kind, draw(st.lists(words, min_size=count, max_size=count)), wide)
    steps = [draw(st.sampled_from([slice(None, None, 2), slice(None, None, -2), slice(0, n)])) for n in shape]
    array = array[(..., *steps)].transpose(draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()):
        array = np.broadcast_to(array, (2, *array.shape))
    return kind, array


def outcome(function: Any, *given: Any) -> Any:
    """What a call returns, or the error that it ends with."""
    try:
        return function(*given)
    except (ValueError, TypeError) as error:
        return type(error), str(error)


@twins
@given(arrays())
def test_the_compiled_functions_equal_their_twins(case: Any) -> None:
    kind, array = case
    element, dtype = KINDS[kind]
    data = kernels.encode_elements(array, element)
    assert data == elements.encode_elements(array, element)
    for out in (np.empty(array.shape, dtype), np.full((*array.shape, 2), array_of(kind, ["before"])[0], dtype)[..., 1]):
        kernels.decode_elements(bytearray(data), out, element)
        assert np.array_equal(out, array)


@st.composite
def payloads(draw: Any) -> bytes:
    """Bytes in the layout of three elements, with a part that lies."""
    found = [draw(st.one_of(words.map(str.encode), st.sampled_from(NOISE), st.binary(max_size=9))) for _ in range(3)]
    lengths = [len(each) for each in found]
    if draw(st.booleans()):
        lengths[draw(st.integers(0, 2))] += draw(st.sampled_from([-1, 1, 4, 2**31, 2**32 - 1]))
    count = draw(st.sampled_from([3, 3, 3, 3, 0, 2, 2**32 - 1]))
    data = struct.pack("<I", count)
    for length, each in zip(lengths, found, strict=True):
        data += struct.pack("<I", length % 2**32) + each
    return draw(st.sampled_from([data, data, data, data + b"\0", data[: draw(st.integers(0, len(data)))]]))


@twins
@given(payloads(), st.sampled_from(list(KINDS)))
def test_bytes_that_lie_end_alike(data: bytes, kind: str) -> None:
    element, dtype = KINDS[kind]
    results = []
    for kernel in (kernels, elements):
        out = np.full(3, array_of(kind, ["before"])[0], dtype)
        results.append((outcome(kernel.decode_elements, data, out, element), out.tolist()))
    assert results[0] == results[1]
    assert results[0][0] is None or results[0][1] == array_of(kind, ["before"] * 3).tolist(), "nothing is stored with an error"


@both
@pytest.mark.parametrize("bad", NOISE)
@pytest.mark.parametrize("pad", [b"", b"12345678" * 3])
def test_what_is_no_text_names_its_element(kernel: Any, bad: bytes, pad: bytes) -> None:
    data = struct.pack("<II", 2, 0) + struct.pack("<I", len(pad + bad)) + pad + bad
    out = np.full(2, "before", TEXTS)
    try:
        expected = (pad + bad).decode()
    except UnicodeDecodeError as error:
        with pytest.raises(UnicodeDecodeError, match=r"\(element 1\)") as caught:
            kernel.decode_elements(data, out, str)
        assert (caught.value.start, caught.value.object) == (error.start, pad + bad)
        assert out.tolist() == ["before", "before"]
    else:
        kernel.decode_elements(data, out, str)
        assert out.tolist() == ["", expected]


@both
def test_elements_of_another_kind_are_named(kernel: Any) -> None:
    with pytest.raises(TypeError, match="element 1 is int"):
        kernel.encode_elements(np.array([b"a", 1], object), bytes)
    with pytest.raises(TypeError, match="element 0 is str"):
        kernel.encode_elements(np.array(["a"], object), bytes)
    with pytest.raises(TypeError, match="element 1 is missing"):
        kernel.encode_elements(np.array(["a", None], np.dtypes.StringDType(na_object=None)), str)
    with pytest.raises(UnicodeEncodeError):
        kernel.encode_elements(np.array(["\ud800"], object), str)


@twins
def test_mistakes_of_the_caller_are_refused() -> None:
    locked = np.empty(1, TEXTS)
    locked.flags.writeable = False
    one: Any = elements.encode_elements(np.array(["a"], TEXTS), str)
    for out in (locked, np.empty(1, np.int64), [1]):
        with pytest.raises((ValueError, AttributeError)):
            kernels.decode_elements(one, out, str)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another data type"):
        kernels.encode_elements(np.zeros(3), bytes)
    with pytest.raises((TypeError, BufferError)):
        kernels.decode_elements("text", np.empty(1, TEXTS), str)


@twins
def test_an_array_that_others_change_is_encoded_or_refused() -> None:
    """Two threads: each result has elements that were there at one time, or is an error; nothing crashes."""
    array = np.full(500, "short", TEXTS)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            array[:] = "something that is longer than a short text, in memory of its own"
            array[:] = "short"

    thread = threading.Thread(target=change)
    thread.start()
    found = np.empty(500, TEXTS)
    try:
        for _ in range(200):
            try:
                data = kernels.encode_elements(array, str)
            except ValueError:
                continue
            kernels.decode_elements(data, found, str)
            assert {text[:5] for text in found.tolist()} <= {"short", "somet"}
    finally:
        done.set()
        thread.join()
