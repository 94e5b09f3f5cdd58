"""The compiled codec of docs/extending/codec.md: its C functions give the bytes of its methods in Python, also in arrays."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from zarrant import extensions, kernels
from zarrant.kernels import reference

GUIDE = (Path(__file__).parents[2] / "docs" / "extending" / "codec.md").read_text()
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) here")


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The examples of the page as a module."""
    place = tmp_path_factory.mktemp("guide")
    for name, text in re.findall(r"^```\w+\n(?=// ([\w.]+)$)(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL):
        (place / name).write_text(text)
    (place / "guide.py").write_text("\n\n".join(re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)))
    spec = importlib.util.spec_from_file_location("codec_guide", place / "guide.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = set(extensions.codecs.names())
    spec.loader.exec_module(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(place))  # where it makes its library
        yield module
    for name in set(extensions.codecs.names()) - before:
        extensions.codecs.unregister(name)


runs = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 2, 254, 255, 256, 600])), max_size=6)


@needs_compiler
@settings(deadline=None)
@given(runs=runs, width=st.sampled_from([1, 2, 4, 8]))
def test_the_functions_give_the_bytes_of_the_methods(guide: Any, runs: list[tuple[int, int]], width: int) -> None:
    data = b"".join(bytes([value]) * width * count for value, count in runs)
    codec = guide.Runs(width)
    step = codec.step()
    expected = codec.encode(data)
    row = np.frombuffer(data, np.uint8)[np.newaxis]
    for kernel in (kernels, reference):
        assert kernel.encode((step,), row, None)[0].tobytes() == expected
        assert bytes(kernel.decode_step(step, expected, len(data))) == data == codec.decode(expected, len(data))


@needs_compiler
@pytest.mark.parametrize("layout", [{"chunks": (8, 8)}, {"chunks": (4, 8), "shards": (16, 16)}], ids=["chunks", "shards"])
def test_arrays_are_the_same_without_the_functions(guide: Any, layout: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def stored() -> dict[str, Any]:
        objects: dict[str, Any] = {}
        a = zarrant.create_array(objects, shape=(32, 20), dtype="int32", compressors=[guide.Runs(4)], **layout)
        a[...] = np.arange(640).reshape(32, 20) // 7
        a[3:9, 5:13] = 1
        assert int(a[8, 12]) == 1
        return {key: bytes(value) for key, value in objects.items()}

    compiled = stored()
    monkeypatch.setattr(guide, "runs_library", lambda: None)
    assert guide.Runs(4).step() is None
    assert stored() == compiled
