"""Every file call of every operation of arrays and groups fails, with every errno, once or from then on.

Afterwards: the error is typed, names the key and says what the system said; each stored object is the old one or the new one;
no descriptor is open that was not before; what lies about is at most a lock file and a temp file for each object; no lock is kept:
the next write, by the same handle or by another store, succeeds, is exact, and leaves nothing behind. An operation that did not
raise was done.

`test_faults_store.py` does the same to single calls of the store.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c
from zarrant.errors import CapabilityError, NodeNotFoundError, PartialFailure, StoreError, StoreFullError, StorePermissionError
from zarrant.stores.local import direct_io, file_reuse
from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit import FaultySyscalls
from zarrant.tools.check import check
from zarrant.tools.repair import repair

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open descriptors cannot be counted")

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
QUICK = 4
"""Faults of each operation in the quick run."""

EACH = 2
"""Errnos with which each call fails once, and for ever, in a soak run; the next size has the double, up to all of them."""

S = np.s_
NUMBERS = (
    *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EROFS, errno.ESTALE),
    *(errno.EINTR, errno.ENOMEM, errno.ENOLCK),
)
KINDS = {
    **dict.fromkeys([errno.EACCES, errno.EROFS], StorePermissionError),
    **dict.fromkeys([errno.ENOSPC, errno.EDQUOT], StoreFullError),
}
CONFIG = {"concurrency": 1}  # one order of calls
SHAPE, UNIT = (8, 12), (4, 8)
OLD = np.arange(96, dtype="uint16").reshape(SHAPE) + 1
DATA = OLD + 500
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": UNIT, "compressors": [Crc32c()]},
    "shards": {"chunks": (2, 4), "shards": UNIT, "compressors": [Crc32c()]},
}
BROKEN = S[0:2, 0:4]
"""What a subchunk holds whose bytes were changed, in the layout "broken"."""


def build(place: Path, layout: str) -> None:
    group = zarrant.create_group(place, config=CONFIG)
    a = group.create_array(
        "a", shape=SHAPE, dtype="uint16", attributes={"n": 0}, **LAYOUTS["chunks" if layout == "chunks" else "shards"]
    )
    a.store_chunk((0, 0), OLD[:4, :8])
    a[...] = OLD
    if layout != "chunks":  # with bytes that are dead
        a.with_config(dead_limit=1.0, **CONFIG)[0:2, 0:4] = 7
        a.with_config(dead_limit=1.0, **CONFIG)[0:2, 0:4] = OLD[0:2, 0:4]
    if layout == "broken":
        path = place / "a" / "c" / "0" / "0"
        data = bytearray(path.read_bytes())
        at = data.index(OLD[0:2, 0:4].tobytes())
        data[at + 3] ^= 1
        path.write_bytes(data)


@dataclass(frozen=True)
class Found:
    """What a place shows."""

    shape: tuple[int, ...]
    n: Any
    values: Any


def look(place: Path, name: str = "a") -> Found | None:
    try:
        a = zarrant.open_array(FilesystemStore(place), name=name, mode="r", config=CONFIG)
    except NodeNotFoundError:
        return None
    return Found(a.shape, a.attrs.get("n"), a[...])


def update_many(a: Any) -> None:
    a.store_array_subsets([(S[1:3, 1:10], 5), (S[2:6, 2:6], 6)])


def update_again(a: Any) -> None:
    a = a.with_config(dead_limit=1.0, **CONFIG)  # else all is written anew
    a[0:2, 1:3] = 5
    a[1:2, 2:4] = 6


def after_one_update(old: Any) -> Any:
    old[0:2, 1:3] = 5
    return old


def encode(a: Any) -> None:
    with a.partial_encoder((0, 0)) as encoder:
        encoder.store(S[0:3, 0:3], 5)
        encoder.store(S[1:4, 2:7], 6)


def encode_twice(a: Any) -> None:
    with a.partial_encoder((0, 0)) as encoder:
        encoder.store(S[0:1, 0:3], 5)
        encoder.flush()
        encoder.store(S[1:4, 2:7], 6)


def after_one_flush(old: Any) -> Any:
    old[0:1, 0:3] = 5
    return old


def lock(a: Any) -> None:
    with a.lock(S[0:4, 0:12]) as locked:
        locked[0:4, 0:12] = locked[0:4, 0:12] + 1


def create(store: Any, **options: Any) -> None:
    zarrant.create_array(store, name="a", data=DATA, config=CONFIG, **LAYOUTS["shards"], **options)


def make_group(store: Any) -> None:
    zarrant.create_group(store, name="h/i", attributes={"n": 1}, config=CONFIG)


def delete(store: Any) -> None:
    del zarrant.open_group(store, mode="r+", config=CONFIG)["a"]


def mend(store: Any) -> None:
    done = repair(store, apply=True, deep=True, backup=f"{store.root}.copies")
    for action in done.actions:
        if action.outcome != "done":
            raise Failed(action.detail)


def examine(store: Any) -> None:
    found = check(store, deep=True)
    if not found.clean:
        raise Failed(str(found.to_json()))


class Failed(Exception):
    """A tool that reports instead of raising said so."""


def read(a: Any) -> None:
    assert np.array_equal(a[...], OLD)
    assert np.array_equal(a.partial_decoder((0, 0)).retrieve(S[1:3, 1:5]), OLD[1:3, 1:5])
    a.chunk_stats((1, 1))


WHOLE, GROWN, REPLACED, SYNCED = "each object", "the whole array", "replaced", "synced"


@dataclass(frozen=True)
class Operation:
    """`on_array` is done with an array that is open, or `on_store` with a store. `sees`: what of it may be seen halfway.

    `reuse`: with file reuse, and however fast it is, each update leaves its previous file.
    """

    on_array: Callable[[Any], object] | None = None
    on_store: Callable[[Any], object] | None = None
    sees: str = WHOLE
    between: Callable[[Any], Any] | None = None
    layouts: tuple[str, ...] = ("chunks", "shards")
    reuse: bool = False


OPERATIONS: dict[str, Operation] = {
    "write everything": Operation(lambda a: a.__setitem__(..., DATA)),
    "write a chunk": Operation(lambda a: a.store_chunk((1, 0), 9)),
    "write a part": Operation(lambda a: a.__setitem__(S[1:7, 3:9], 9)),
    "write parts": Operation(update_many),
    "write bytes": Operation(lambda a: a.store_encoded_chunk((0, 0), a.retrieve_encoded_chunk((1, 0)))),
    "write fill": Operation(lambda a: a.__setitem__(S[0:4, :], 0)),
    "erase": Operation(lambda a: a.erase_chunk((1, 1))),
    "erase all": Operation(lambda a: a.erase_chunks(S[:, :])),
    "update": Operation(lambda a: a.update(S[1:7, 3:9], lambda values: values * 2)),
    "update again": Operation(update_again, between=after_one_update, layouts=("shards",), reuse=True),
    "encode": Operation(encode),
    "encode, flush, encode": Operation(encode_twice, between=after_one_flush),
    "lock": Operation(lock, between=lambda old: old),
    "append": Operation(lambda a: a.append(DATA[:3]), sees=GROWN),
    "append columns": Operation(lambda a: a.append(DATA[:, :5], axis=1), sees=GROWN),
    "grow": Operation(lambda a: a.resize((9, 17)), sees=GROWN),
    "shrink": Operation(lambda a: a.resize((3, 7)), sees=GROWN),
    "annotate": Operation(lambda a: a.attrs.update({"n": 1})),
    "compact": Operation(lambda a: a.compact(), layouts=("shards",)),
    "sync": Operation(lambda a: (a.__setitem__(S[1:7, 3:9], 9), a.sync()), sees=SYNCED),
    "read": Operation(read),
    "create": Operation(on_store=create, sees=REPLACED, layouts=("nothing",)),
    "create over": Operation(on_store=lambda store: create(store, overwrite=True), sees=REPLACED),
    "create if missing": Operation(on_store=lambda store: create(store, if_exists="match"), sees=REPLACED, layouts=("nothing",)),
    "create a group": Operation(on_store=make_group, layouts=("nothing", "chunks")),
    "delete": Operation(on_store=delete, sees=REPLACED),
    "repair": Operation(on_store=mend, layouts=("broken",)),
    "check": Operation(on_store=examine, layouts=("shards",)),
}
MODES: dict[str, dict[str, Any]] = {
    "os": {},
    "fsync": {"durability": "fsync"},
    "lockfile": {"locking": "lockfile"},
    "no locks": {"locking": "none"},
    "direct": {"direct_io": True},
    "direct, fsync": {"direct_io": True, "durability": "fsync"},
}
ELSEWHERE = {
    "fsync": ("write everything", "write a part", "update again", "erase", "encode", "append", "annotate", "create", "create over"),
    "lockfile": ("write everything", "write a part", "erase", "encode", "append", "annotate", "create"),
    "no locks": ("write everything", "write a part", "erase", "annotate", "create"),
    "direct": (
        "write everything",
        "write a chunk",
        "write a part",
        "write bytes",
        "encode",
        "append",
        "annotate",
        "read",
        "create",
    ),
    "direct, fsync": ("write everything", "write a part", "append", "create over"),
}
"""Operations that are tried in other modes too."""

CASES = [
    (name, layout, mode)
    for mode in MODES
    for name in (OPERATIONS if mode == "os" else ELSEWHERE[mode])
    for layout in OPERATIONS[name].layouts
]


class Layer(FaultySyscalls):
    """Lists calls, and lets them fail, once it is armed. Syncs nothing: no power is lost here. All is on a disk."""

    def __init__(self, fails: Callable[[int], int]) -> None:
        super().__init__(self._tell)
        self.fails, self.armed = fails, False
        self.failed: list[str] = []

    def sync(self, fd: int) -> None:
        self.calls.append("sync")
        self.fault(len(self.calls) - 1, "sync")

    def kind(self, device: int) -> str:
        return "disk"

    def arm(self) -> None:
        self.calls.clear()
        self.armed = True

    def _tell(self, index: int, name: str) -> None:
        number = self.fails(index) if self.armed else 0
        if number:
            self.failed.append(name)
            raise OSError(number, os.strerror(number))


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Sweep:
    """One operation on one layout in one mode; a fault at a time."""

    def __init__(self, base: Path, name: str, layout: str, mode: str) -> None:
        self.base, self.operation, self.options = base, OPERATIONS[name], MODES[mode]
        self.mode = mode
        self.template = base / "template"
        self.template.mkdir()
        if layout != "nothing":
            build(self.template, layout)
        self.old = None if layout == "broken" else look(self.template)
        self.roots = itertools.count()
        syscalls, root, error = self.run(lambda index: 0)
        assert error is None
        self.calls, self.new = list(syscalls.calls), look(root)
        assert ("take_write_lease" in self.calls and "link" in self.calls) is self.operation.reuse
        assert ("set_direct" in self.calls) is mode.startswith("direct")
        file_reuse.remove_all()
        self.told = self.silent = 0
        self.warned: list[warnings.WarningMessage] = []

    def run(self, fails: Callable[[int], int]) -> tuple[Layer, Path, Exception | None]:
        root = self.base / str(next(self.roots))
        shutil.copytree(self.template, root)
        syscalls = Layer(fails)
        store = FilesystemStore(root, syscalls=syscalls, lock_timeout=0.5, file_reuse=self.operation.reuse, **self.options)
        self.handle, error = None, None
        if self.operation.on_array is not None:
            self.handle = zarrant.open_array(store, name="a", mode="r+", config=CONFIG)
        syscalls.arm()
        before, least = (file_reuse.MIN_COPY_S, file_reuse.MIN_BYTES), direct_io.MIN_BYTES
        if self.mode.startswith("direct"):
            direct_io.MIN_BYTES = 1
        if self.operation.reuse:
            file_reuse.MIN_COPY_S, file_reuse.MIN_BYTES = {"disk": -1.0}, 0
        try:
            if self.operation.on_array is not None:
                with warnings.catch_warnings(record=True) as self.warned:
                    self.operation.on_array(self.handle)
            else:
                assert self.operation.on_store is not None
                self.operation.on_store(store)
        except (OSError, zarrant.errors.ZarrantError, Failed) as raised:
            error = raised.with_traceback(None)
        finally:
            (file_reuse.MIN_COPY_S, file_reuse.MIN_BYTES), direct_io.MIN_BYTES = before, least
        syscalls.armed = False
        return syscalls, root, error

    def fail(self, fails: Callable[[int], int], numbers: set[int], same_handle: bool) -> None:
        before = descriptors()
        syscalls, root, error = self.run(fails)
        assert descriptors() - before == set(), "descriptors stay open"
        if not syscalls.failed:
            return  # a call of another turn of the same operation
        if error is None:
            self.silent += not self.warned
            self.told += bool(self.warned)  # the array has its new shape, and what was cut off is still there
        else:
            self.told += 1
            check_error(error, numbers, self.operation)
        self.check_objects(root, done=error is None)
        self.check_leftovers(root)
        self.write_again(root, same_handle)
        file_reuse.remove_all()  # before another sweep's count: a process keeps so many at most
        shutil.rmtree(root)

    def check_objects(self, root: Path, done: bool) -> None:
        found, old, new = look(root), self.old, self.new
        if done:
            assert (found is None) == (new is None)
        if found is None or new is None:
            assert found is None or same(found, [old])
            assert old is None or self.operation.sees == REPLACED
            return
        if done:
            assert same(found, [new])
        elif self.operation.sees == GROWN:
            assert same(found, [old]) or same(found, [new])
        elif self.operation.sees == REPLACED:
            assert same(found, [old]) or same(found, [new, Found(new.shape, new.n, np.zeros_like(new.values))])
        else:
            assert same(found, [old, new, *self.halfway()])

    def halfway(self) -> Iterator[Found]:
        if self.operation.between is not None:
            yield Found(SHAPE, 0, self.operation.between(OLD.copy()))

    def check_leftovers(self, root: Path) -> None:
        """At most a lock file, a temp file and a previous file beside each object."""
        left = [path for path in root.rglob("*") if path.name.endswith("__lock")]
        owners = [str(path).split(".__")[0] for path in left]
        assert max(map(owners.count, owners), default=0) <= 2 + self.operation.reuse

    def write_again(self, root: Path, same_handle: bool) -> None:
        """The next write succeeds, is exact, and clears what was left."""
        if self.mode == "lockfile":
            for path in root.rglob("*.__lock"):  # by hand, as the mode has it
                path.unlink()
        handle = self.handle if same_handle else None
        if handle is None:
            store = FilesystemStore(root, lock_timeout=5, file_reuse=self.operation.reuse, **self.options)
            found = look(root)
            options = {"shape": SHAPE, "dtype": "uint16", **LAYOUTS["chunks"]}
            if found is None:
                zarrant.create_array(store, name="a", config=CONFIG, overwrite=True, **options)
            handle = zarrant.open_array(store, name="a", mode="r+", config=CONFIG)
        else:
            handle.refresh()
        handle[...] = 3
        handle.attrs["n"] = 5
        assert (handle[...] == 3).all()
        again = look(root)
        assert again is not None
        assert again.n == 5
        assert (again.values == 3).all()
        if self.mode != "no locks":
            written = {root / "a" / handle.chunk_key(chunk).removeprefix("a/") for chunk in handle.iter_chunks()} | {
                root / "a" / "zarr.json"
            }
            left = [path for path in root.rglob("*") if path.name.endswith("__lock")]
            assert [path for path in left if path.with_name(path.name.split(".__")[0]) in written] == []


def same(found: Found, allowed: list[Found | None]) -> bool:
    """Each stored object is as one of those allowed has it."""
    options = [one for one in allowed if one is not None and one.shape == found.shape]
    if not options or found.n not in [one.n for one in options]:
        return False
    for start in itertools.product(*(range(0, extent, size) for extent, size in zip(found.shape, UNIT, strict=True))):
        part = tuple(slice(low, low + size) for low, size in zip(start, UNIT, strict=True))
        if not any(np.array_equal(found.values[part], one.values[part]) for one in options):
            return False
    return True


def check_error(error: Exception, numbers: set[int], operation: Operation) -> None:
    if isinstance(error, Failed):  # a check tells what it cannot read
        assert any(os.strerror(number) in str(error) for number in numbers)
        return
    each = list(error.failed.values()) if isinstance(error, PartialFailure) else [error]
    for one in each:
        assert isinstance(one, StoreError | CapabilityError), repr(one)
        assert one.store
        assert one.key is not None or str(one).startswith(("cannot list", "cannot open")), repr(one)  # the root has no key
        if isinstance(one, CapabilityError):
            assert errno.ENOLCK in numbers
            continue
        assert one.errno in numbers, repr(one)
        assert type(one) is KINDS.get(one.errno, StoreError), repr(one)
        assert os.strerror(one.errno) in str(one)


def faults(calls: int, dice: random.Random) -> list[tuple[Callable[[int], int], set[int]]]:
    """(the errno with which the call of an index fails, or 0; all of them)."""

    def once(at: int, number: int) -> Callable[[int], int]:
        return lambda index: number if index == at else 0

    def for_ever(at: int, number: int) -> Callable[[int], int]:
        return lambda index: number if index >= at else 0

    made = [
        (how(at, number), {number})
        for at in range(calls)
        for how in (once, for_ever)
        for number in dice.sample(NUMBERS, min(len(NUMBERS), EACH * SOAK or 1))
    ]
    return made if SOAK else dice.sample(made, min(QUICK, len(made)))


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path))
    yield root
    shutil.rmtree(root)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "layout", "mode"), CASES)
def test_a_file_call_fails(fast: Path, name: str, layout: str, mode: str, tally: Callable[[str, int], None]) -> None:
    sweep = Sweep(fast, name, layout, mode)
    plans = faults(len(sweep.calls), random.Random(f"{name} {layout} {mode}"))
    for turn, (fails, numbers) in enumerate(plans):
        sweep.fail(fails, numbers, same_handle=turn % 2 == 0)
    print(f"{name}: {len(sweep.calls)} calls, {sweep.told} faults were told, {sweep.silent} did not matter")
    tally("I/O faults", sweep.told + sweep.silent)
    assert sweep.told
