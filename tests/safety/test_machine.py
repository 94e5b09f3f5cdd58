"""Histories that hypothesis makes up, against NumPy: every kind of write and read, other handles and processes, crashes.

The same machine runs on a dict, on files, on stores that can only compare and swap, and on a simulated disk, where a crash is an
operation of which any number of file calls was made: each stored object then is old or new, and the history goes on from what
was found. What fails is shrunk to the shortest history.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

import zarrant
from children import ended
from zarrant.codecs import Crc32c
from zarrant.codecs.sharding import dead_bytes
from zarrant.errors import NodeNotFoundError
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.object_store import ObjectStore
from zarrant.testkit import CasStore
from zarrant.testkit.simulated_disk import SimulatedDisk, SimulatedSyscalls

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
HISTORIES, STEPS = (55, 65) if SOAK else (10, 30)
PARTS = range(2 * SOAK or 1)
"""Each of them is as many histories on each store, others each time."""

LONGEST = 24
"""No dimension grows beyond it."""

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"shape": (11, 7), "chunks": (4, 3), "compressors": [Crc32c()]},
    "ranges": {"shape": (11, 7), "chunks": (4, 3), "compressors": None},
    "shards": {"shape": (13, 10), "chunks": (2, 3), "shards": (6, 6)},
    "one shard": {"shape": (8, 8), "chunks": (4, 4), "shards": (8, 8), "compressors": None},
    "nested": {
        "shape": (13, 9), "chunks": (8, 8), "compressors": [],
        "serializer": {"name": "sharding_indexed", "configuration": {
            "chunk_shape": [4, 4], "index_location": "start", "codecs": [
                {"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 2], "codecs": [LITTLE, {"name": "crc32c"}]}}
            ],
        }},
    },
}  # fmt: skip
CONFIGS: list[dict[str, Any]] = [
    {}, {"dead_limit": 1.0}, {"dead_limit": 0.0}, {"shard_updates": "repack"}, {"write_empty_chunks": True}
]  # fmt: skip
pytestmark = pytest.mark.usefixtures("ranges_of_small_chunks")
VALUES = st.integers(0, 3) | st.integers(0, 2**16 - 1)
SEEDS = st.integers(0, 2**32 - 1)
Change = Callable[[Any], None]


def spans(seed: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A region that is not empty."""
    dice = np.random.default_rng(seed)
    low = [int(dice.integers(0, n)) for n in shape]
    return tuple(slice(a, int(dice.integers(a + 1, n + 1))) for a, n in zip(low, shape, strict=True))


def steps(seed: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """A strided region."""
    dice = np.random.default_rng(seed)
    return tuple(slice(int(dice.integers(0, n)), None, int(dice.choice([1, 2, 3, -1]))) for n in shape)


def picks(seed: int, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Some rows and some columns."""
    dice = np.random.default_rng(seed)
    return tuple(np.sort(dice.choice(n, dice.integers(1, n + 1), replace=False)) for n in shape)


def values(seed: int, shape: tuple[int, ...]) -> Any:
    """Values, often the fill value, by chunks or by elements."""
    dice = np.random.default_rng(seed)
    return dice.integers(0, dice.choice([1, 2, 2**16]), shape).astype("uint16")


def encode(a: Any, chunk: tuple[int, ...], pairs: list[tuple[Any, Any]]) -> None:
    with a.partial_encoder(chunk) as encoder:
        for part, data in pairs:
            encoder.store(part, data)


class Machine(RuleBasedStateMachine):
    """An array and a NumPy array to which the same happens."""

    ran: ClassVar[dict[str, int]] = {}
    quick: ClassVar[int] = HISTORIES
    """Histories in the quick lane."""

    def attach(self) -> Any:
        """The store, as another process has it."""
        raise NotImplementedError

    @initialize(layout=st.sampled_from(sorted(LAYOUTS)), config=st.sampled_from(CONFIGS))
    def begin(self, layout: str, config: dict[str, Any]) -> None:
        self.count("histories")
        self.gone: list[tuple[str, Any]] = []
        self.make(layout, config)

    def make(self, layout: str, config: dict[str, Any]) -> None:
        self.config = {**config, "concurrency": 1}
        made = zarrant.create_array(
            self.attach(), name="g/a", dtype="uint16", overwrite=True, config=self.config, **LAYOUTS[layout]
        )
        if hasattr(self, "stale") and self.layout != layout:
            self.gone.append((self.layout, self.stale))
        self.handles, self.stale, self.layout = [made, made], zarrant.open_array(self.attach(), name="g/a", mode="r+"), layout
        self.subchunk = {"shards": (2, 3), "one shard": (4, 4), "nested": (4, 4)}.get(layout)
        self.model, self.attributes = np.zeros(made.shape, "uint16"), dict[str, Any]()

    def count(self, name: str) -> None:
        self.ran[name] = self.ran.get(name, 0) + 1

    def handle(self, seed: int) -> Any:
        self.count("steps")
        return self.handles[seed % 2]

    def change(self, seed: int, kind: str, array: Any = None, model: Any = None) -> tuple[Callable[[Any], None], Any]:
        """A write that is not done yet, and the values after it; of a handle, and of what it knows."""
        after, dice = (self.model if model is None else model).copy(), np.random.default_rng(seed)
        array = self.handles[0] if array is None else array
        chunk = tuple(int(dice.integers(0, n)) for n in array.chunk_grid_shape)
        inside = array.chunk_subset(chunk).slices
        if kind == "region":
            region = spans(seed, after.shape)
            after[region] = data = values(seed, after[region].shape)
            return (lambda a: a.store_array_subset(region, data)), after
        if kind == "regions":
            pairs = [(spans(seed + i, after.shape), int(dice.integers(0, 9))) for i in range(3)]
            for region, value in pairs:
                after[region] = value
            return (lambda a: a.store_array_subsets(pairs)), after
        if kind == "strided":
            strided = steps(seed, after.shape)
            after[strided] = data = values(seed, after[strided].shape)
            return (lambda a: a.__setitem__(strided, data)), after
        if kind == "picked":
            picked = picks(seed, after.shape)
            after[np.ix_(*picked)] = data = values(seed, after[np.ix_(*picked)].shape)
            return (lambda a: a.oindex.__setitem__(picked, data)), after
        if kind == "masked":
            mask = dice.random(after.shape) < dice.choice([0.05, 0.5])
            mask.flat[dice.integers(0, mask.size)] = True  # a write of nothing stores nothing, and is refused by nobody
            after[mask] = data = values(seed, (int(mask.sum()),))
            return (lambda a: a.__setitem__(mask, data)), after
        if kind == "chunk":
            after[inside] = data = values(seed, after[inside].shape)
            return (lambda a: a.store_chunk(chunk, data)), after
        if kind == "erase":
            after[inside] = 0
            return (lambda a: a.erase_chunk(chunk)), after
        if kind == "update":
            region = spans(seed, after.shape)
            after[region] += 1
            return (lambda a: a.update(region, lambda found: found + 1)), after
        part = spans(seed, after[inside].shape)
        if kind == "encoder":
            first = spans(seed + 1, after[inside].shape)
            after[inside][first] = 7
            after[inside][part] = data = values(seed, after[inside][part].shape)
            return (lambda a: encode(a, chunk, [(first, 7), (part, data)])), after
        after[inside][part] = data = values(seed, after[inside][part].shape)
        return (lambda a: a.store_chunk_subset(chunk, part, data)), after

    KINDS = st.sampled_from(
        ["region", "region", "regions", "strided", "picked", "masked", "chunk", "erase", "update", "encoder", "part of a chunk"]
    )
    MOVES = st.sampled_from(["append", "append", "resize"])

    def move(self, seed: int, kind: str) -> tuple[Callable[[Any], None], Any]:
        """A change of the shape that is not done yet, and the values after it."""
        dice, old = np.random.default_rng(seed), self.model
        axis = int(dice.integers(0, old.ndim))
        shape = [int(dice.integers(1, min(n + 5, LONGEST + 1))) for n in old.shape]
        if kind == "append":
            shape = list(old.shape)
            shape[axis] = int(dice.integers(0, min(6, LONGEST + 1 - shape[axis])))
            data = values(seed, tuple(shape))
            return (lambda a: a.append(data, axis=axis)), np.concatenate([old, data], axis)
        after = np.zeros(shape, "uint16")
        common = tuple(slice(0, min(pair)) for pair in zip(shape, old.shape, strict=True))
        after[common] = old[common]
        return (lambda a: a.resize(shape)), after

    @rule(seed=SEEDS, kind=MOVES)
    def change_shape(self, seed: int, kind: str) -> None:
        run, after = self.move(seed, kind)
        run(self.handle(seed))
        self.moved(after)

    def moved(self, after: Any) -> None:
        for array in self.handles:
            array.refresh()
            assert array.shape == after.shape
        self.model = after

    @rule(seed=SEEDS, everything=st.booleans())
    def compact(self, seed: int, everything: bool) -> None:
        array, dice = self.handle(seed), np.random.default_rng(seed)
        if everything:
            array.compact()
        else:
            array.compact_chunk(tuple(int(dice.integers(0, n)) for n in array.chunk_grid_shape))
        self.same(array[...], self.model)

    @rule(seed=SEEDS, kind=KINDS)
    def write(self, seed: int, kind: str) -> None:
        run, after = self.change(seed, kind)
        run(self.handle(seed))
        self.model = after

    @rule(seed=SEEDS, kind=KINDS)
    def write_by_a_handle_that_never_refreshes(self, seed: int, kind: str) -> None:
        """It may know fewer elements than there are, or more: those that are there and that it names are written."""
        self.count("steps")
        known = tuple(slice(0, n) for n in self.stale.shape)
        before = np.zeros(tuple(map(max, self.stale.shape, self.model.shape)), "uint16")
        inside = tuple(slice(0, n) for n in self.model.shape)
        before[inside] = self.model
        run, after = self.change(seed, kind, self.stale, before[known])
        run(self.stale)
        before[known] = after
        self.model = before[inside].copy()
        self.count("writes by stale handles")

    @rule(seed=SEEDS, kind=KINDS)
    def write_to_what_is_gone(self, seed: int, kind: str) -> None:
        """Handles of an array that was replaced or deleted hear so; nothing changes."""
        self.count("steps")
        for array in [array for layout, array in self.gone if layout != self.layout]:
            run, _ = self.change(seed, kind, array, np.zeros(array.shape, "uint16"))
            with pytest.raises(NodeNotFoundError):
                run(array)
            self.count("writes to what is gone")

    @rule(value=VALUES)
    def write_everything(self, value: int) -> None:
        self.handle(value)[...] = value
        self.model[...] = value

    @rule(seed=SEEDS, kind=st.sampled_from(["all", "region", "strided", "picked", "chunk", "subchunk", "decoder"]))
    def read(self, seed: int, kind: str) -> None:
        array, model = self.handle(seed), self.model
        dice = np.random.default_rng(seed)
        chunk = tuple(int(dice.integers(0, n)) for n in array.chunk_grid_shape)
        inside = array.chunk_subset(chunk).slices
        whole = tuple(slice(0, s.stop - s.start) for s in inside)
        if kind == "all":
            self.same(array[...], model)
        elif kind == "region":
            self.same(array.retrieve_array_subset(spans(seed, model.shape)), model[spans(seed, model.shape)])
        elif kind == "strided":
            self.same(array[steps(seed, model.shape)], model[steps(seed, model.shape)])
        elif kind == "picked":
            self.same(array.oindex[picks(seed, model.shape)], model[np.ix_(*picks(seed, model.shape))])
        elif kind == "chunk":
            self.same(array.retrieve_chunk(chunk)[whole], model[inside])
        elif kind == "decoder":
            part = spans(seed, model[inside].shape)
            self.same(array.partial_decoder(chunk).retrieve(part), model[inside][part])
        elif self.subchunk is not None:
            at = tuple(int(dice.integers(0, n)) for n in array.subchunk_grid_shape)
            piece = tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, self.subchunk, strict=True))
            self.same(array.retrieve_subchunk(at), model[piece])

    @rule(name=st.sampled_from("abc"), value=st.none() | st.integers() | st.text(max_size=5), seed=SEEDS)
    def set_attribute(self, name: str, value: Any, seed: int) -> None:
        self.handle(seed).attrs[name] = value
        self.attributes[name] = value

    @rule()
    def attributes_are_there(self) -> None:
        self.count("steps")
        opened = zarrant.open_array(self.attach(), name="g/a", mode="r")
        assert dict(opened.attrs) == self.attributes

    @rule(which=st.integers(0, 1))
    def reopen(self, which: int) -> None:
        """Another handle on another store takes the place of one; the old one is dropped as it is."""
        self.count("steps")
        self.handles[which] = zarrant.open_array(self.attach(), name="g/a", mode="r+", config=self.config)

    @rule(layout=st.sampled_from(sorted(LAYOUTS)), config=st.sampled_from(CONFIGS), erase=st.booleans())
    def delete_and_create(self, layout: str, config: dict[str, Any], erase: bool) -> None:
        self.count("steps")
        if erase:
            del zarrant.open_group(self.attach(), name="g", mode="r+")["a"]
            with pytest.raises(NodeNotFoundError):
                zarrant.open_array(self.attach(), name="g/a", mode="r")
        self.make(layout, config)

    @staticmethod
    def same(found: Any, expected: Any) -> None:
        assert np.asarray(found).shape == expected.shape
        assert np.array_equal(found, expected)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.same(zarrant.open_array(self.attach(), name="g/a", mode="r")[...], self.model)


class InMemory(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.place: dict[str, bytes] = {}

    def attach(self) -> Any:
        return self.place


class OnFiles(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)

    def attach(self) -> Any:
        return FilesystemStore(self.root)

    @precondition(lambda self: hasattr(os, "fork"))
    @rule(seed=SEEDS, kind=Machine.KINDS)
    def another_process_writes(self, seed: int, kind: str) -> None:
        self.count("writes of other processes")
        run, after = self.change(seed, kind)
        self.elsewhere(run, self.handle(seed))
        self.model = after

    @precondition(lambda self: hasattr(os, "fork"))
    @rule(seed=SEEDS, kind=Machine.MOVES)
    def another_process_changes_the_shape(self, seed: int, kind: str) -> None:
        self.count("writes of other processes")
        run, after = self.move(seed, kind)
        self.elsewhere(run, self.handle(seed))
        self.moved(after)

    def elsewhere(self, run: Callable[[Any], None], array: Any) -> None:
        child = os.fork()
        if child == 0:
            try:
                run(array)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 0

    def teardown(self) -> None:
        super().teardown()
        left = [name for _, _, names in os.walk(self.root) for name in names if name.endswith("__lock")]
        shutil.rmtree(self.root)
        assert left == []


class OnCompareAndSwap(OnFiles):
    """A store that processes share, and that has no locks: the shape is changed in turns."""

    quick = 4

    def attach(self) -> Any:
        return CasStore(f"{self.root}/s")

    @rule()
    def nobody_keeps_the_turn(self) -> None:
        self.count("steps")
        assert zarrant.open_array(self.attach(), name="g/a", mode="r").metadata.turn is None


class OnAnObjectStore(Machine):
    """The store that all of S3, Google and Azure go through, over objects in memory."""

    quick = 4

    def __init__(self) -> None:
        super().__init__()
        import obstore.store

        self.inside = obstore.store.MemoryStore()

    def attach(self) -> Any:
        return ObjectStore(self.inside)


class OnASimulatedDisk(Machine):
    disks = 0

    def __init__(self) -> None:
        super().__init__()
        self.system = SimulatedDisk()

    def attach(self) -> Any:
        OnASimulatedDisk.disks += 1
        root = f"/machine/{OnASimulatedDisk.disks}"
        return FilesystemStore(root, syscalls=SimulatedSyscalls(self.system, root))

    @rule(seed=SEEDS, kind=Machine.KINDS, moment=st.floats(0, 1))
    def crash(self, seed: int, kind: str, moment: float) -> None:
        """All processes end in the middle of a write: some of its calls were made, the rest never."""
        run, after = self.change(seed, kind)
        found = self.broken_off(run, seed, moment)
        for chunk in np.ndindex(*self.handles[0].chunk_grid_shape):
            part = self.handles[0].chunk_subset(chunk).slices
            assert np.array_equal(found[part], self.model[part]) or np.array_equal(found[part], after[part])
        self.model = found

    @rule(seed=SEEDS, kind=Machine.MOVES, moment=st.floats(0, 1))
    def crash_while_the_shape_changes(self, seed: int, kind: str, moment: float) -> None:
        """The array is the old one or the new one."""
        run, after = self.move(seed, kind)
        found = self.broken_off(run, seed, moment)
        assert np.array_equal(found, self.model) or np.array_equal(found, after)
        self.model = found

    def broken_off(self, run: Callable[[Any], None], seed: int, moment: float) -> Any:
        """Do a change up to a moment; what new handles find afterwards."""
        self.count("crashes")
        base = self.system.disk.copy()
        self.system.journal.clear()
        run(self.handle(seed))
        journal = self.system.journal
        self.system = SimulatedDisk(base.apply(journal[: round(moment * len(journal))]))
        for which in range(2):
            self.handles[which] = zarrant.open_array(self.attach(), name="g/a", mode="r+", config=self.config)
        self.stale, self.gone = zarrant.open_array(self.attach(), name="g/a", mode="r+"), []
        return self.handles[0][...]

    @rule()
    def nothing_is_open(self) -> None:
        self.count("steps")
        assert (self.system.opened, self.system.locks) == ({}, {})


@pytest.fixture(autouse=True)
def small_allowance(monkeypatch: pytest.MonkeyPatch, keep_dead_bytes: Callable[[int], None]) -> None:
    """Room of dead bytes is given back and used again in shards of a few bytes too."""
    keep_dead_bytes(64)
    monkeypatch.setattr(dead_bytes, "MIN_HOLE_BYTES", 16)


# A fork while threads run warns; the child runs its operation with what it makes itself.
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("machine", [InMemory, OnFiles, OnCompareAndSwap, OnAnObjectStore, OnASimulatedDisk])
def test_machine(machine: type[Machine], part: int, tally: Callable[[str, int], None]) -> None:
    if machine is OnAnObjectStore:
        pytest.importorskip("obstore")
    machine.ran, histories = {}, HISTORIES if SOAK else machine.quick
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    print(", ".join(f"{count} {name}" for name, count in machine.ran.items()))
    tally("machine steps", machine.ran["steps"])
    assert machine.ran["histories"] >= histories
    assert machine.ran["steps"] > histories * STEPS // 3
