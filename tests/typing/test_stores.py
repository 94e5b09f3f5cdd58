"""Which store satisfies which protocol, and that a store which lacks one is no store for what needs it, as mypy sees it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import zarrant
from zarrant.storage import protocols

api = pytest.importorskip("mypy.api")

BLOCKING = (
    *("Get", "GetWithin", "Put", "PutIf", "EraseIf", "Splice", "Erase", "List", "Lock", "Sync", "CheckUnlocked", "LockOwner"),
    *(
        "WriteBatch",
        "Versions",
        "Conditional",
        "GetAll",
        "GetInto",
        "GetDecoded",
        "PutAll",
        "PutsFirst",
        "UpdatesBoxes",
        "ListStored",
        "EraseLink",
        "WithOptions",
        "Coalesce",
        "Readable",
        "Writable",
        "ReadableWritable",
    ),
)
COROUTINES = (
    *("AsyncGet", "AsyncGetWithin", "AsyncPut", "AsyncPutIf", "AsyncEraseIf", "AsyncErase", "AsyncList", "AsyncLock"),
    "AsyncReadableWritable",
)
ASYNC_READS, ASYNC_WRITES = {"AsyncGet", "AsyncGetWithin", "AsyncList"}, {"AsyncPut", "AsyncErase"}
MEMORY = {"Get", "Put", "PutIf", "EraseIf", "Splice", "Erase", "List", "Versions", "Conditional", "ListStored"}
NODE = {"Readable", "Writable", "ReadableWritable"}
READS = {"Get", "GetWithin", "List", "Versions", "CheckUnlocked", "Sync", "WithOptions", "Coalesce", "Readable"}
READS |= {"GetAll", "GetInto", "GetDecoded", "ListStored"}

SATISFIES = {
    "memory": MEMORY | NODE,
    "files": {*BLOCKING} - {"Coalesce"},
    "held_files": {*BLOCKING} - {"WithOptions", "Coalesce", "PutsFirst"},
    "read_only": READS | ASYNC_READS,
    "write_only": {"Put", "Erase", "Sync", "WithOptions", "Coalesce", "Writable"} | ASYNC_WRITES,
    # What a wrapper passes on is decided by the store inside, at run time.
    "recording": {*BLOCKING, *COROUTINES} - {"GetAll", "GetInto", "GetDecoded", "PutsFirst", "UpdatesBoxes", "ListStored"},
    "synchronized": {*BLOCKING, *COROUTINES} - {"PutAll", "PutsFirst", "UpdatesBoxes"},
}

PREAMBLE = """
from zarrant.storage import protocols as p
from zarrant import FilesystemStore, MemoryStore
from zarrant.nodes.array import Array
from zarrant.stores.wrappers import ReadOnly, Recording, WriteOnly
from zarrant.stores.synchronizer import Synchronized
from zarrant.stores.local.locked import LockedFiles
import zarrant

def check(
    memory: MemoryStore, files: FilesystemStore, held_files: LockedFiles, read_only: ReadOnly, write_only: WriteOnly,
    recording: Recording, synchronized: Synchronized,
) -> None:
"""

PAIRS = [(store, protocol) for store in SATISFIES for protocol in (*BLOCKING, *COROUTINES)]


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The pairs that mypy refuses."""
    folder = tmp_path_factory.mktemp("typing")
    program = folder / "program.py"
    lines = [f"    x{i}: p.{protocol} = {store}" for i, (store, protocol) in enumerate(PAIRS)]
    program.write_text(PREAMBLE + "\n".join(lines) + "\n", encoding="utf-8")
    options = ["--strict", "--no-error-summary", "--config-file=", f"--cache-dir={folder / 'cache'}", "--follow-imports=silent"]
    source = Path(zarrant.__file__).parents[1]
    with pytest.MonkeyPatch.context() as patch:
        if source.name != "site-packages":
            patch.setenv("MYPYPATH", str(source))
        output, trouble, _ = api.run([*options, "--ignore-missing-imports", str(program)])
    assert not trouble, trouble
    first = len(PREAMBLE.splitlines()) + 1
    numbers = [int(number) - first for number in re.findall(r"program\.py:(\d+): error:", output)]
    assert all(0 <= number < len(PAIRS) for number in numbers), output
    return {PAIRS[number] for number in numbers}


@pytest.mark.parametrize("store", SATISFIES)
def test_a_store_satisfies_what_it_has(store: str, wrong: set[tuple[str, str]]) -> None:
    assert {protocol for protocol in (*BLOCKING, *COROUTINES) if (store, protocol) not in wrong} == SATISFIES[store]


def test_every_protocol_is_looked_at() -> None:
    found = {name for name, kind in vars(protocols).items() if getattr(kind, "_is_protocol", False) and name != "Protocol"}
    assert found - {*BLOCKING, *COROUTINES} == {"Synchronizer", "LockCheck", "FileDecoder", "BlockingStore", "Store"}
