"""What the type checker says of programs that use the public names."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import zarrant

api = pytest.importorskip("mypy.api")

PREAMBLE = """
import asyncio
from pathlib import Path
import numpy as np
import zarrant
from zarrant import FilesystemStore, MemoryStore
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.storage import Readable, ReadableWritable, Writable
from zarrant.stores.wrappers import ReadOnly, WriteOnly

memory = MemoryStore()
files = FilesystemStore("x")
write_only = WriteOnly(memory)
read_only = ReadOnly(memory)
w = zarrant.create_array(write_only, shape=(4,), dtype="int8")
r = zarrant.open_array(read_only, mode="r")
m = zarrant.create_array(memory, shape=(4,), dtype="int8")
f = zarrant.create_array(files, shape=(4,), dtype="int8")
"""

RIGHT = """
w.store_chunk((0,), b"abcd"); w.store_chunks(np.s_[0:1], 3); w.erase_chunk((0,)); w.erase_chunks(np.s_[0:1])
w.store_encoded_chunk((0,), b"abcd"); w.store_metadata(); w.erase_metadata()
print(m.config.concurrency, m.filters, m.order, m.nchunks_initialized, list(m), 3 in m)
m.retrieve_array_subset(...); m.retrieve_array_subset((3, ...)); m.store_array_subset(3, 1); zarrant.open("x", mode="r")
auto = zarrant.create_array({}, shape=(4,), dtype="int8", shards="auto")
start = zarrant.create_array({}, shape=(4,), dtype="int8", chunks=2, shards={"shape": 4, "index_location": "start"})
print(w.shape, w.dtype, w.chunk_key((0,)), w.with_config(concurrency=2).shape)
m.store_chunk((0,), 1); m.store_array_subset(np.s_[1:2], 3); m.store_chunk_subset((0,), np.s_[1:2], 3); m[1:2] = 3
m.oindex[[1]] = 2
m.update_attributes({"a": 1})
f.store_array_subset(np.s_[1:2], 3); f[1:2] = 3; x = f[1:2]; y = np.asarray(f); z = len(f)
r[...]; r.retrieve_chunk((0,)); r.retrieve_array_subset(np.s_[0:1]); r.retrieve_encoded_chunk((0,)); r.refresh()
grids = zarrant.create_array({}, shape=(4, 4), dtype="int8", chunks=[[1, 3], [[2, 2]]], shards=None)
named = zarrant.create_array({}, shape=4, dtype="int8", chunks={"name": "regular", "configuration": {"chunk_shape": [2]}})
with_path = zarrant.create_array(Path("x"), shape=4, dtype="int8", chunks=(2,), shards=(4,), compressors=None, overwrite=True)
with_path[1] = 3
with_dict = zarrant.create_array({}, shape=(4,), dtype="int8"); with_dict[1] = 3
with_name = zarrant.open_array("x", mode="r+"); with_name[1] = 3
def takes_writable(a: Array[Writable]) -> None: a.store_chunk((0,), 1)
def takes_readable(a: Array[Readable]) -> None: a[...]
takes_writable(w); takes_writable(m); takes_writable(f); takes_readable(r); takes_readable(m)
async def main() -> None:
    a = await zarrant.create_array_async(memory, shape=(4,), dtype="int8")
    await a.store_chunk((0,), 1)
    await a.setitem(np.s_[0:1], 3)
    g = await zarrant.open_group_async("x")
    print(await g.tree(), await a.getitem(...))
g = zarrant.create_group(memory)
h = g.create_array("a", shape=(4,), dtype="int8", chunks=(2,))
"""

WRONG = [
    ("w.store_array_subset(np.s_[1:2], 3)", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.store_chunk_subset((0,), np.s_[1:2], 3)", 'Invalid self argument "Array[WriteOnly]"'),
    ("w[1:2] = 3", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.update_attributes({})", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.update(np.s_[1:2], lambda x: x)", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.partial_encoder((0,))", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.lock(np.s_[1:2])", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.retrieve_chunk((0,))", 'Invalid self argument "Array[WriteOnly]"'),
    ("w[...]", 'Invalid self argument "Array[WriteOnly]"'),
    ("w.refresh()", 'Invalid self argument "Array[WriteOnly]"'),
    ("r.store_chunk((0,), 1)", 'Invalid self argument "Array[ReadOnly]"'),
    ("r.erase_chunk((0,))", 'Invalid self argument "Array[ReadOnly]"'),
    ("r[1:2] = 3", 'Invalid self argument "Array[ReadOnly]"'),
    ("r.store_array_subset(np.s_[1:2], 3)", 'Invalid self argument "Array[ReadOnly]"'),
    ("takes_readable(w)", "incompatible type"),
    ("takes_writable(r)", "incompatible type"),
    ("g.create_array('a', shape=(4,), dtype='int8', chonks=(2,))", "chonks"),
    ("ReadOnly(write_only)", "incompatible type"),
    ("zarrant.open_array('x', mode='rw')", "No overload variant"),
    ("zarrant.open_array('x', mode='r', chonks=(2,))", "No overload variant"),
    ("zarrant.open_group('x', mode='read')", "incompatible type"),
    ("zarrant.open('x', mode='r', confg={})", "confg"),
    ("zarrant.create_array({}, shape=(4,), dtype='int8', order='X')", "No overload variant"),
    ("zarrant.create_group({}, if_exists='matches')", "incompatible type"),
    ("m.with_config(concurency=2)", "concurency"),
    ("m.with_config(missing_chunks='errors')", "incompatible type"),
    ("m.config = 3", "read-only"),
    ("m.config.concurrency = 3", "read-only"),
    ("m.store_chunk((0,))", "Missing positional argument"),
    ("m.store_nothing()", 'has no attribute "store_nothing"'),
]

REVEALED = {
    "w": "Array[zarrant.stores.wrappers.write_only.WriteOnly]",
    "r": "Array[zarrant.stores.wrappers.read_only.ReadOnly]",
    "m": "Array[zarrant.stores.memory.MemoryStore]",
    "f": "Array[zarrant.stores.local.store.FilesystemStore]",
    "with_dict": "Array[zarrant.storage.protocols.ReadableWritable]",
    "with_path": "Array[zarrant.storage.protocols.ReadableWritable]",
    "with_name": "Array[zarrant.storage.protocols.ReadableWritable]",
    "m.store": "zarrant.stores.memory.MemoryStore",
    "m.with_config(concurrency=1)": "Array[zarrant.stores.memory.MemoryStore]",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[str]]:
    """What mypy says of each line; the lines of `RIGHT`, `WRONG` and `REVEALED` come one after the other."""
    folder = tmp_path_factory.mktemp("typing")
    lines = [*(PREAMBLE + RIGHT).splitlines(), *(code for code, _ in WRONG), *(f"reveal_type({name})" for name in REVEALED)]
    program = folder / "program.py"
    program.write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = Path(zarrant.__file__).parents[1]
    options = ["--strict", "--no-error-summary", "--config-file=", f"--cache-dir={folder / 'cache'}", "--follow-imports=silent"]
    with pytest.MonkeyPatch.context() as patch:
        if source.name != "site-packages":  # an installed package is found without help, and mypy refuses to be told
            patch.setenv("MYPYPATH", str(source))
        output, trouble, _ = api.run([*options, "--ignore-missing-imports", str(program)])
    assert not trouble, trouble
    found: dict[int, list[str]] = {}
    for line in output.splitlines():
        match = re.match(r".*program\.py:(\d+): (\w+): (.*)", line)
        if match is not None:
            found.setdefault(int(match[1]), []).append(f"{match[2]}: {match[3]}")
    return found


FIRST_WRONG = len((PREAMBLE + RIGHT).splitlines()) + 1


def test_right_programs_are_right(said: dict[int, list[str]]) -> None:
    assert {line: text for line, text in said.items() if line < FIRST_WRONG} == {}


@pytest.mark.parametrize("number", range(len(WRONG)), ids=[code for code, _ in WRONG])
def test_wrong_programs_are_wrong(number: int, said: dict[int, list[str]]) -> None:
    text = said.get(FIRST_WRONG + number, [])
    assert any(line.startswith("error") and WRONG[number][1] in line for line in text), text


@pytest.mark.parametrize("number", range(len(REVEALED)), ids=list(REVEALED))
def test_the_type_of_the_store_is_known(number: int, said: dict[int, list[str]]) -> None:
    (text,) = said[FIRST_WRONG + len(WRONG) + number]
    assert list(REVEALED.values())[number] in text, text


def members(owner: Any, name: str) -> list[tuple[str, Any]]:
    if not inspect.isclass(owner):
        return [(name, owner)] if callable(owner) else []
    found = []
    for attribute, value in vars(owner).items():
        if attribute.startswith("_") and attribute not in ("__getitem__", "__setitem__", "__init__", "__array__", "__len__"):
            continue
        value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        if inspect.isfunction(value):
            found.append((f"{name}.{attribute}", value))
    return found


PUBLIC = [
    member
    for name in zarrant.__all__
    for owner in [getattr(zarrant, name)]
    for base in (owner.__mro__ if inspect.isclass(owner) else [owner])
    if getattr(base, "__module__", "").startswith("zarrant")
    for member in members(base, name)
]


def test_the_public_names_are_fully_typed() -> None:
    untyped = []
    for name, function in PUBLIC:
        hints = function.__annotations__  # as they are written: some are imported for the type checker only
        parameters = [p.name for p in inspect.signature(function).parameters.values() if p.name not in ("self", "cls")]
        missing = [
            p
            for p in parameters
            if p not in hints and inspect.signature(function).parameters[p].annotation is inspect.Parameter.empty
        ]
        if missing or ("return" not in hints and not name.endswith("__init__")):
            untyped.append((name, missing))
    assert len(PUBLIC) > 80
    assert untyped == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(zarrant.__file__).parent / "py.typed").exists()
