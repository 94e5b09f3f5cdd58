"""Every disk that a crash can leave, made from the recorded file operations: each object is old or new, the next write exact.

Two models, for two promises:

- *The process is killed* (any durability): the system keeps every call that was made, so the disks are the prefixes of the
  journal, and each prefix with a part of the next write, which was cut short. Nothing that was acknowledged is missing.
- *Power is lost*: of each directory a prefix of its changes is kept, at least what was there at its last sync; of the data of
  each file what its last sync covered, and of the rest anything: all, nothing, a torn prefix, some writes without those
  before them, or the size with zeros. Without syncs (the default, `durability="rename"`) an object may then be torn, which is
  noticed by a typed error wherever the format has a checksum, and a whole write mends it.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c, Zstd
from zarrant.codecs.sharding import dead_bytes
from zarrant.errors import NodeNotFoundError, ZarrantError
from zarrant.stores.local import direct_io, durability, file_reuse
from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit import together
from zarrant.testkit.simulated_disk import TOP, Disk, SimulatedDisk, SimulatedSyscalls, Step

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
OPERATIONS, CUTS, RUNS = (32, 6, 2 * SOAK) if SOAK else (14, 4, 1)
EVERY, LOSSES = (1, 4) if SOAK else (4, 3)
"""Steps of the journal between two losses of power, and disks made of each loss."""

Tally = Callable[[str, int], None]
FIRST = {
    "name": "sharding_indexed",
    "configuration": {
        "chunk_shape": [4],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "start",
    },
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"shape": (20,), "chunks": (8,), "compressors": [Crc32c()]},
    "ranges": {"shape": (20,), "chunks": (8,), "compressors": None},
    "shards": {"shape": (44,), "chunks": (4,), "shards": (16,), "compressors": [Zstd(), Crc32c()]},
    "index first": {"shape": (44,), "chunks": (16,), "serializer": FIRST, "compressors": None},
}
SHORT = b"short"

pytestmark = pytest.mark.usefixtures("ranges_of_small_chunks")


@pytest.fixture(autouse=True)
def small_allowance(monkeypatch: pytest.MonkeyPatch, keep_dead_bytes: Callable[[int], None]) -> None:
    """Room of dead bytes is given back and used again in shards of a few bytes too."""
    keep_dead_bytes(64)
    monkeypatch.setattr(dead_bytes, "MIN_HOLE_BYTES", 16)


@pytest.fixture(params=[False, True], ids=["", "reuse"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether what an update replaced is kept for the next one, as it is on real disks after a slow copy."""
    keeps: bool = request.param
    if keeps:
        monkeypatch.setitem(STORE_OPTIONS, "file_reuse", True)
        monkeypatch.setattr(file_reuse, "MIN_COPY_S", {"disk": -1.0})
        monkeypatch.setattr(file_reuse, "MIN_BYTES", 0)
        monkeypatch.setattr(file_reuse, "left_behind", lambda path, remove: idle.append(remove))  # time does not pass by itself
    return keeps


@pytest.fixture(params=["rename", "fsync"])
def direct(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Objects of any size go around the page cache, in blocks and pieces so small that they need several; the durability."""
    for name, size in {"BLOCK": 16, "MIN_BYTES": 1, "MIN_STRAIGHT": 16, "PIECE": 32}.items():
        monkeypatch.setattr(direct_io, name, size)
    durability: str = request.param
    return durability


STORE_OPTIONS: dict[str, Any] = {}
"""Options of every store of a test."""

idle: list[Callable[[], bool]] = []
"""What removes the previous files that were left."""

roots = itertools.count()


def attach(system: SimulatedDisk, **options: Any) -> FilesystemStore:
    """A store on the disk, as another process has it: its root has a name of its own, under which no other knows anything."""
    root = f"/{next(roots)}"
    return FilesystemStore(root, syscalls=SimulatedSyscalls(system, root), **{**STORE_OPTIONS, **options})


class Recording:
    """One array, what was done to it, and what it may show after each step of the journal."""

    def __init__(self, layout: str, durability: str = "rename", direct: bool = False, **config: Any) -> None:
        self.system = SimulatedDisk()
        self.options = {**LAYOUTS[layout], "dtype": "uint32", "fill_value": 0, "config": {"concurrency": 1, **config}}
        self.store = attach(self.system, durability=durability, direct_io=direct)
        self.array = zarrant.create_array(self.store, attributes={"n": 0}, **self.options)
        self.shape, self.unit = self.array.shape[0], self.array.write_unit[0]
        self.base = self.system.disk.copy()
        self.system.journal.clear()
        self.known: dict[tuple[str, bytes], Any] = {}
        self.objects = [slice(at, min(at + self.unit, self.shape)) for at in range(0, self.shape, self.unit)]
        self.keys = [f"c/{i}" for i in range(len(self.objects))]
        self.place: dict[str, bytes] = {}
        self.take_write_lease = zarrant.create_array(self.place, **self.options)

    def decoded(self, index: int, data: bytes | None) -> Any:
        """The values of an object, by its bytes; ZarrantError where they are none."""
        key = self.keys[index]
        if data is None:
            return np.zeros(self.objects[index].stop - self.objects[index].start, "uint32")
        if (key, data) not in self.known:
            self.place[key] = data
            self.known[key, data] = self.take_write_lease[self.objects[index]]
            del self.place[key]
        return self.known[key, data]

    def attributes(self, data: bytes) -> Any:
        if ("zarr.json", data) not in self.known:
            self.known["zarr.json", data] = json.loads(data)["attributes"]
        return self.known["zarr.json", data]


def write_whole(a: Any, model: Any, dice: random.Random, value: int) -> None:
    a[...] = model[:] = value


def write_one(a: Any, model: Any, dice: random.Random, value: int) -> None:
    n = dice.randrange(a.chunk_grid_shape[0])
    part = slice(n * a.write_unit[0], min((n + 1) * a.write_unit[0], len(model)))
    model[part] = np.arange(part.stop - part.start) * dice.choice([0, 7919]) + value
    a.store_chunk((n,), model[part])


def update(a: Any, model: Any, dice: random.Random, value: int) -> None:
    low = dice.randrange(len(model))
    high = dice.randint(low + 1, len(model))
    a[low:high] = model[low:high] = value


def update_many(a: Any, model: Any, dice: random.Random, value: int) -> None:
    pairs = []
    for low in dice.sample(range(len(model) - 2), 3):
        pairs.append((np.s_[low : low + 2], value + low))
        model[low : low + 2] = value + low
    a.store_array_subsets(pairs)


def erase(a: Any, model: Any, dice: random.Random, value: int) -> None:
    n = dice.randrange(a.chunk_grid_shape[0])
    a.erase_chunk((n,))
    model[n * a.write_unit[0] : (n + 1) * a.write_unit[0]] = 0


def fill(a: Any, model: Any, dice: random.Random, value: int) -> None:
    low = dice.randrange(len(model))
    a[low:] = model[low:] = 0


def attribute(a: Any, model: Any, dice: random.Random, value: int) -> None:
    a.attrs.update({"n": value, "text": "x" * dice.randrange(50)})


WORK: list[Callable[[Any, Any, random.Random, int], None]] = [
    *(write_whole, write_one, write_one, update, update, update, update_many, erase, fill, attribute)
]


def through_a_buffer(a: Any, model: Any, dice: random.Random, value: int) -> None:
    """Pieces of one region in any order: an object is stored once it is complete, or by the flush at the end."""
    low = dice.randrange(len(model))
    high = dice.randint(low + 1, len(model))
    borders = [low, *sorted(dice.sample(range(low + 1, high), min(3, high - low - 1))), high]
    pieces = list(itertools.pairwise(borders))
    with a.buffered() as w:
        for first, last in dice.sample(pieces, len(pieces)):
            w[first:last] = model[first:last] = value + first


def record(
    layout: str, seed: str, work: Sequence[Callable[..., None]] = WORK, **config: Any
) -> tuple[Recording, list[tuple[Any, int]]]:
    """Random operations, one after the other; the state (values, attribute) after each of them."""
    recording, dice = Recording(layout, **config), random.Random(seed)
    model, number = np.zeros(recording.shape, "uint32"), 0
    states = [(model.copy(), number)]
    for value in range(1, OPERATIONS + 1):
        action = dice.choice(work)
        action(recording.array, model, dice, 1000 * value)
        number = 1000 * value if action is attribute else number
        states.append((model.copy(), number))
        recording.system.mark("done", value)
    return recording, states


def killed(journal: Sequence[Step], base: Disk, cuts: int, dice: random.Random) -> Iterator[tuple[Disk, int]]:
    """The disks a kill leaves, and the number of the last step that is whole; those that changes nothing are left out."""
    disk = base.copy()
    yield disk.copy(), 0
    for count, step in enumerate(journal, 1):
        if step.kind == "write":
            size = len(step.data)
            for cut in {1, size // 2, size - 1, *(dice.randrange(1, max(2, size)) for _ in range(cuts - 3))} - {0, size}:
                yield disk.copy().apply([step._replace(data=step.data[:cut])]), count - 1
        disk.apply([step])
        if step.kind not in ("mark", "sync", "time"):
            yield disk.copy(), count


def power_lost(journal: Sequence[Step], base: Disk, dice: random.Random) -> Disk:
    """One disk that a loss of power leaves after all steps of the journal."""
    names: dict[int, list[int]] = {}
    data: dict[int, list[int]] = {}
    synced: dict[int, int] = {}
    for at, step in enumerate(journal):
        if step.kind == "sync":
            synced[step.node] = at
        elif step.kind in ("write", "truncate"):
            data.setdefault(step.node, []).append(at)
        elif step.kind not in ("mark", "time", "set_xattr"):
            names.setdefault(step.node, []).append(at)
    kept: dict[int, Step] = {}
    for node, steps in names.items():
        floor = sum(at < synced.get(node, -1) for at in steps)
        cut = dice.choice([floor, len(steps), dice.randint(floor, len(steps))])
        kept.update((at, journal[at]) for at in steps[:cut])
    for node, steps in data.items():
        last = synced.get(node, -1)
        kept.update((at, journal[at]) for at in steps if at < last)
        kept.update(_unsynced([at for at in steps if at > last], journal, dice))
    return base.copy().apply(kept[at] for at in sorted(kept))


def _unsynced(steps: list[int], journal: Sequence[Step], dice: random.Random) -> Iterable[tuple[int, Step]]:
    how = dice.choice(["kept", "dropped", "torn", "reordered", "zeros"])
    if how == "kept":
        return [(at, journal[at]) for at in steps]
    if how == "dropped" or not steps:
        return []
    if how == "torn":
        *whole, last = steps[: dice.randint(1, len(steps))]
        torn = journal[last]._replace(data=journal[last].data[: dice.randint(0, len(journal[last].data))])
        return [*((at, journal[at]) for at in whole), (last, torn)]
    if how == "reordered":
        return [(at, journal[at]) for at in steps if dice.random() < 0.5]
    return [(at, journal[at]._replace(data=bytes(len(journal[at].data)))) for at in steps]


class Judge:
    """Looks at disks: each object is one of those allowed, and the next write is exact and leaves nothing behind."""

    def __init__(self, recording: Recording, states: Sequence[tuple[Any, int]]) -> None:
        self.recording, self.states = recording, states
        self.looked = self.written = 0
        self.different: set[int] = set()

    def look(self, disk: Disk, done: int) -> None:
        """Operation `done` is the last that was acknowledged, the one after it may show, whole, in any object."""
        recording = self.recording
        (before, number), (after, other) = self.states[done], self.states[min(done + 1, len(self.states) - 1)]
        system = SimulatedDisk(disk)
        store = attach(system)
        for index, part in enumerate(recording.objects):
            blob = store.get(recording.keys[index])
            found = recording.decoded(index, None if blob is None else bytes(blob.data[0]))
            assert np.array_equal(found, before[part]) or np.array_equal(found, after[part])
        document = store.get("zarr.json")
        assert document is not None
        assert recording.attributes(bytes(document.data[0]))["n"] in (number, other)
        self.looked += 1
        idle.clear()
        self.different.add(hash(tuple(sorted(disk.tree().items(), key=lambda item: item[0]))))
        if self.looked % 10 == 0:
            self.write_array(store, before, after)
        else:
            self.write_objects(store)
        removed = [remove() for remove in idle]
        assert all(removed)
        left = [name for name in system.disk.tree() if name.endswith("__lock")]
        assert left == []
        assert (system.opened, system.locks) == ({}, {})

    def write_objects(self, store: FilesystemStore) -> None:
        """The shortest value over what is there, under what is left over."""
        for key in [*self.recording.keys, "zarr.json"]:
            store.put(key, [SHORT])
            assert bytes(store.get(key).data[0]) == SHORT  # type: ignore[union-attr]

    def write_array(self, store: FilesystemStore, before: Any, after: Any) -> None:
        array = zarrant.open_array(store, mode="r+", config={"concurrency": 1})
        model = array[...]
        assert np.array_equal(np.where(model == before, before, after), model)
        array[3:-3] = model[3:-3] = 5
        assert np.array_equal(array[...], model)
        array[...] = 6
        assert (array[...] == 6).all()
        array.attrs["n"] = 1
        self.written += 1


def done_before(journal: Sequence[Step]) -> list[int]:
    """For each number of steps, the last operation that was acknowledged."""
    found = [0]
    for step in journal:
        found.append(step.offset if step.kind == "mark" else found[-1])
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed(layout: str, kept: bool, tally: Tally) -> None:
    looked = different = written = 0
    runs = 6 * RUNS if SOAK else 2
    for run in range(runs):
        config = [{}, {"dead_limit": 1.0}, {"shard_updates": "repack"}][run % 3]
        recording, states = record(layout, f"{layout} {run}", **config)
        judge, done = Judge(recording, states), done_before(recording.system.journal)
        for disk, count in killed(recording.system.journal, recording.base, CUTS, random.Random(run)):
            judge.look(disk, done[count])
        looked, different, written = looked + judge.looked, different + len(judge.different), written + judge.written
    print(f"{looked} states after kills ({different} of them different), the next write done on arrays in {written} of them")
    tally("crash states", looked)
    assert looked > (400 if SOAK else 120) * runs
    assert different > looked // 3


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_while_writing_through_a_buffer(layout: str, tally: Tally) -> None:
    """At any file call, and within any write to a file: every object is whole, and of before or after."""
    looked = 0
    for run in range(RUNS if SOAK else 1):
        recording, states = record(layout, f"buffer {layout} {run}", [through_a_buffer, through_a_buffer, update])
        judge, done = Judge(recording, states), done_before(recording.system.journal)
        for disk, count in killed(recording.system.journal, recording.base, CUTS, random.Random(run)):
            judge.look(disk, done[count])
        looked += judge.looked
    print(f"{looked} states after kills during writes through a buffer")
    tally("crash states", looked)
    assert looked > 100


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_during_direct_writes(layout: str, direct: str, tally: Tally) -> None:
    """Padded blocks, a file that is still too long, one that is not named yet: an object is old or new all the same."""
    looked = 0
    for run in range(2 * RUNS if SOAK else 1):
        recording, states = record(layout, f"direct {layout} {run}", durability=direct, direct=True)
        journal, judge = recording.system.journal, Judge(recording, states)
        done, dice = done_before(journal), random.Random(run)
        cut = [step for step in journal if step.kind == "truncate"]
        assert cut, "nothing was padded"
        for disk, count in killed(journal, recording.base, CUTS, dice):
            if SOAK or dice.random() < 0.5:
                judge.look(disk, done[count])
        looked += judge.looked
    print(f"{looked} states after kills during direct writes, {len(cut)} of them padded")
    tally("crash states", looked)
    assert looked > 100


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("direct", ["fsync"], indirect=True)
def test_power_lost_with_fsync_and_direct_io(layout: str, direct: str, tally: Tally) -> None:
    """The disk may keep directly written blocks in a cache of its own, and the size of the file is not on it yet."""
    looked = 0
    for run in range(RUNS):
        recording, states = record(layout, f"direct power {layout} {run}", durability=direct, direct=True)
        journal, dice, judge = recording.system.journal, random.Random(run), Judge(recording, states)
        done = done_before(journal)
        for count in range(0, len(journal), EVERY):
            for _ in range(LOSSES):
                judge.look(power_lost(journal[:count], recording.base, dice), done[count])
        looked += judge.looked
    print(f"{looked} states after a loss of power with fsync and direct I/O, nothing acknowledged is missing, nothing torn")
    tally("crash states", looked)
    assert looked > 100


WRITERS = 3


def race(recording: Recording, updates: int) -> None:
    """Writers, each of its own elements of all objects; the n-th update of each sets them to n."""

    def writer(number: int) -> Callable[[], None]:
        array = zarrant.open_array(attach(recording.system), mode="r+", config={"concurrency": 1})

        def work() -> None:
            for value in range(1, updates + 1):
                recording.system.mark(f"begin {number}", value)
                array[number::WRITERS] = value
                recording.system.mark(f"done {number}", value)

        return work

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        together(*[writer(number) for number in range(WRITERS)])
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_while_several_write(layout: str, kept: bool, tally: Tally) -> None:
    looked = mixed = 0
    for run in range(5 * SOAK or 1):
        recording = Recording(layout)
        race(recording, 12)
        told = {f"{what} {number}": 0 for what in ("begin", "done") for number in range(WRITERS)}
        journal, at = recording.system.journal, 0
        judge, dice = Judge(recording, []), random.Random(f"{layout} {run}")
        for disk, count in killed(journal, recording.base, CUTS, random.Random(run)):
            for step in journal[at:count]:
                if step.kind == "mark":
                    told[step.name] = step.offset
            at = max(at, count)
            if not SOAK and dice.random() < 0.7:
                continue
            mixed += sum(told[f"begin {n}"] > told[f"done {n}"] for n in range(WRITERS)) > 1
            system = SimulatedDisk(disk)
            store = attach(system)
            for index, part in enumerate(recording.objects):
                blob = store.get(recording.keys[index])
                values = recording.decoded(index, None if blob is None else bytes(blob.data[0]))
                for number in range(WRITERS):
                    mine = values[(number - part.start) % WRITERS :: WRITERS]
                    assert mine[0] == mine[-1]
                    assert (mine == mine[0]).all()
                    assert told[f"done {number}"] <= mine[0] <= told[f"begin {number}"], "an acknowledged write is lost"
            judge.write_objects(store)
            assert [name for name in system.disk.tree() if name.endswith("__lock")] == []
            looked += 1
    print(f"{looked} states after kills of {WRITERS} writers, {mixed} of them with several at work")
    tally("crash states", looked)
    assert mixed > looked // 4


def test_killed_while_creating_and_deleting(tally: Tally) -> None:
    """A node is there, whole, or not there; it can be made again over what is left."""
    looked = absent = 0
    for layout in LAYOUTS.values():
        system = SimulatedDisk()
        group = zarrant.create_group(attach(system), config={"concurrency": 1})
        base = system.disk.copy()
        system.journal.clear()
        options = {**layout, "dtype": "uint32"}
        for _ in range(4 * SOAK or 1):
            group.create_array("a", **options)[...] = 4
            group.create_group("g", attributes={"n": 1}).create_array("b", **options)[...] = 4
            del group["a"]
            del group["g"]
        dice = random.Random(0)
        for disk, _ in killed(system.journal, base, CUTS, dice):
            if not SOAK and dice.random() < 0.6:
                continue
            after = SimulatedDisk(disk)
            again = zarrant.open_group(attach(after), mode="r+", config={"concurrency": 1})
            for name in ("a", "g/b"):
                try:
                    array = zarrant.open_array(attach(after), name=name, mode="r")
                except NodeNotFoundError:
                    absent += 1
                else:
                    units = array.write_unit[0]
                    for at in range(0, array.shape[0], units):
                        assert set(array[at : at + units].tolist()) in ({0}, {4})
            made = again.create_array("a", overwrite=True, **options)
            assert not made[...].any()
            made[...] = 9
            assert (made[...] == 9).all()
            looked += 1
    print(f"{looked} states after kills of who creates and deletes")
    tally("crash states", looked)
    assert looked > 100
    assert 0 < absent < 2 * looked


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "ranges"])  # nothing tells that those are torn
def test_power_lost_without_syncs(layout: str, tally: Tally) -> None:
    """What the default does not promise: objects may be torn. It is told, the other objects are right, a write mends it."""
    looked = torn = 0
    for run in range(RUNS):
        recording, states = record(layout, f"power {layout} {run}")
        journal, dice = recording.system.journal, random.Random(run)
        for count in range(0, len(journal), EVERY):
            for _ in range(LOSSES):
                disk = power_lost(journal[:count], recording.base, dice)
                torn += torn_and_mended(recording, [values for values, _ in states], disk)
                looked += 1
    print(f"{looked} states after a loss of power without syncs, {torn} objects torn, each told and mended")
    tally("crash states", looked)
    assert torn, "a model that tears nothing proves nothing"


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_lost_with_fsync(layout: str, kept: bool, tally: Tally) -> None:
    """`durability="fsync"`: all that was acknowledged is there, the operation in flight is whole in each object or is not."""
    looked = 0
    for run in range(RUNS):
        recording, states = record(layout, f"fsync {layout} {run}", durability="fsync")
        journal, dice, judge = recording.system.journal, random.Random(run), Judge(recording, states)
        done = done_before(journal)
        for count in range(0, len(journal), EVERY):
            for _ in range(LOSSES):
                judge.look(power_lost(journal[:count], recording.base, dice), done[count])
        looked += judge.looked
    print(f"{looked} states after a loss of power with fsync, nothing acknowledged is missing, nothing torn")
    tally("crash states", looked)
    assert looked > 100


def same_handle(recording: Recording) -> None:
    recording.array.sync()


def another_handle(recording: Recording) -> None:
    """The one that wrote is gone by then."""
    root, files = recording.store.root, recording.store.files
    del recording.store, recording.array
    FilesystemStore(root, syscalls=files).sync()


def many_at_once(recording: Recording) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durability, "MAX_SYNCED_ONE_BY_ONE", 0)
        recording.array.sync()


def not_at_once(syscalls: SimulatedSyscalls, fd: int) -> None:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def of_unknown_names(recording: Recording) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimulatedSyscalls, "children", lambda self: ((1, 1.0), False))
        patch.setattr(SimulatedSyscalls, "sync_all", not_at_once)
        recording.store.unsynced_paths.state.forget()
        another_handle(recording)


SYNCS = (same_handle, another_handle, many_at_once, of_unknown_names)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_lost_after_a_sync(layout: str, kept: bool, tally: Tally) -> None:
    """By default, what was done before `sync` is there, whichever handle of the process wrote, and whichever syncs."""
    looked = 0
    for run in range(10 * RUNS if SOAK else 4):
        recording, states = record(layout, f"sync {layout} {run}")
        written = recording.store.unsynced_paths.state  # lives as long as the process
        SYNCS[run % len(SYNCS)](recording)
        assert written.count == 0
        dice, judge = random.Random(run), Judge(recording, states)
        for _ in range(30):
            judge.look(power_lost(recording.system.journal, recording.base, dice), len(states) - 1)
        looked += judge.looked
    print(f"{looked} states after a loss of power after a sync, nothing is missing, nothing torn")
    tally("crash states", looked)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_lost_while_what_was_synced_is_updated(layout: str, kept: bool, tally: Tally) -> None:
    """What `sync` covered stays, old or new, through updates that nobody synced; also where it is erased and written again."""
    looked = 0
    for run in range(RUNS):
        recording, dice = Recording(layout), random.Random(f"update {layout} {run}")
        model = np.zeros(recording.shape, "uint32")
        write_whole(recording.array, model, dice, 1)
        recording.array.sync()
        recording.base = recording.system.disk.copy()
        recording.system.journal.clear()
        states = [model.copy()]
        for value in range(2, OPERATIONS + 2):
            dice.choice(WORK)(recording.array, model, dice, 1000 * value)
            states.append(model.copy())
        journal = recording.system.journal
        for count in range(0, len(journal), EVERY):
            for _ in range(LOSSES):
                store = attach(SimulatedDisk(power_lost(journal[:count], recording.base, dice)))
                for index, part in enumerate(recording.objects):
                    blob = store.get(recording.keys[index])
                    found = recording.decoded(index, None if blob is None else bytes(blob.data[0]))
                    assert any(np.array_equal(found, values[part]) for values in states)
                document = store.get("zarr.json")
                assert document is not None
                assert recording.attributes(bytes(document.data[0]))["n"] in (0, *range(2000, 1000 * OPERATIONS + 2000, 1000))
                looked += 1
    print(f"{looked} states after a loss of power during updates of what was synced, nothing torn")
    tally("crash states", looked)
    assert looked > 50


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kept", [True], indirect=True)
@pytest.mark.parametrize("layout", ["shards", "index first"])
def test_power_lost_while_files_are_reused(layout: str, kept: bool, tally: Tally) -> None:
    """A file is never changed while a directory on disk may lead to it, and is on disk before it takes the place of the object."""
    looked, reused = 0, 0
    for run in range(4 * SOAK or 1):
        recording, dice = Recording(layout), random.Random(f"{layout} {run}")
        array, model = recording.array, np.zeros(recording.shape, "uint32")
        write_whole(array, model, dice, 1)
        array[5:8] = model[5:8] = 2
        recording.store.sync()
        recording.base = recording.system.disk.copy()
        recording.system.journal.clear()
        states = [(model.copy(), 0)]
        for value in range(3, 12):
            low = dice.randrange(4, 12)
            array[low : low + 3] = model[low : low + 3] = value
            states.append((model.copy(), 0))
            recording.system.mark("done", len(states) - 1)
        journal = recording.system.journal
        reused += sum(step.kind == "rename" and "__new0" in step.source for step in journal)
        for count in range(len(journal)):
            for _ in range(LOSSES):
                disk = power_lost(journal[:count], recording.base, dice)
                blob = attach(SimulatedDisk(disk)).get("c/0")
                assert blob is not None
                found = recording.decoded(0, bytes(blob.data[0]))
                assert any(np.array_equal(found, values[recording.objects[0]]) for values, _ in states)
                looked += 1
    print(f"{looked} states after a loss of power while {reused} files were reused, nothing torn")
    tally("crash states", looked)
    assert reused > 5 * (4 * SOAK or 1)


def torn_and_mended(recording: Recording, states: Sequence[Any], disk: Disk) -> int:
    """How many objects are torn; none shows what was never written."""
    store = attach(SimulatedDisk(disk))
    torn = 0
    for index, part in enumerate(recording.objects):
        blob = store.get(recording.keys[index])
        try:
            found = recording.decoded(index, None if blob is None else bytes(blob.data[0]))
        except ZarrantError as error:
            assert error.key == recording.keys[index]
            torn += 1
        else:
            assert any(np.array_equal(found, state[part]) for state in states)
        store.put(recording.keys[index], [SHORT])
        assert bytes(store.get(recording.keys[index]).data[0]) == SHORT  # type: ignore[union-attr]
    return torn


@pytest.mark.parametrize("layout", LAYOUTS)
def test_zarr_python_reads_what_a_kill_leaves(layout: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    recording, states = record(layout, layout)
    done, dice, looked = done_before(recording.system.journal), random.Random(0), 0
    for disk, count in killed(recording.system.journal, recording.base, CUTS, dice):
        if dice.random() > (0.2 if SOAK else 0.06):
            continue
        root = tmp_path / str(looked)
        disk.materialise(root)
        before, after = states[done[count]][0], states[min(done[count] + 1, len(states) - 1)][0]
        found = zarr.open_array(root, mode="r")[...]
        for part in recording.objects:
            assert np.array_equal(found[part], before[part]) or np.array_equal(found[part], after[part])
        array = zarrant.open_array(root, mode="r+")
        array[2:-2] = found[2:-2] = 77
        assert np.array_equal(zarr.open_array(root, mode="r")[...], found)
        assert np.array_equal(array[...], found)
        looked += 1
    print(f"{looked} states on a real disk, read by zarr-python before and after the next write")
    assert looked > 3


def test_the_journal_tells_every_change() -> None:
    """The journal, applied to the disk as it was, makes the disk as it is: no change goes unrecorded."""
    for layout in LAYOUTS:
        recording, states = record(layout, layout)
        assert recording.base.copy().apply(recording.system.journal).tree() == recording.system.disk.tree()
        assert np.array_equal(recording.array[...], states[-1][0])
    assert recording.system.disk.dirs[TOP]
