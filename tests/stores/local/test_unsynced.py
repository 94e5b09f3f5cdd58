from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from children import ended
from zarrant.stores.local import unsynced
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import NO_CHILDREN, Syscalls
from zarrant.stores.local.unsynced import ERASED, KEPT, REPLACED, UNKNOWN, Mark, Unsynced, parents, unsynced_by, within
from zarrant.testkit.simulated_disk import SimulatedDisk, SimulatedSyscalls

pytestmark = pytest.mark.usefixtures("nothing_written")
A, B = ((1, 10), (1, 11))


def test_parents_and_prefixes() -> None:
    assert parents("/a/b/c") == ["/a/b", "/a", "/"]
    assert parents("/") == []
    assert within("/a/b", ("/a",))
    assert within("/a", ("/b", "/a"))
    assert within("/a", ("/",))
    assert not within("/ab", ("/a",))
    assert not within("/a", ())


def test_one_for_all_layers_of_the_same_files() -> None:
    class Other(Syscalls):
        """Reaches the same files."""

    assert unsynced_by(Syscalls()) is unsynced_by(Other())
    system = SimulatedDisk()
    syscalls = SimulatedSyscalls(system, "/a")
    assert unsynced_by(syscalls) is not unsynced_by(Syscalls())
    state = unsynced_by(syscalls)
    assert unsynced_by(SimulatedSyscalls(system, "/a")) is state
    assert unsynced_by(SimulatedSyscalls(system, "/b")) is not state


@given(
    before=st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([KEPT, UNKNOWN, (7, 0)])), max_size=4),
    names=st.lists(st.sampled_from("abcdef"), max_size=6),
    mark=st.sampled_from([KEPT, UNKNOWN, (5, 0), (5, 1)]),
    broken=st.booleans(),
)
def test_many_names_are_noted_as_each_is(before: list[tuple[str, Mark]], names: list[str], mark: Mark, broken: bool) -> None:
    states = [Unsynced(), Unsynced()]
    for state in states:
        for name, given_mark in before:
            state.add("/d", name, given_mark)
        if broken:
            state.failed["/d/a"] = OSError()
    states[0].add_all("/d", names, mark)
    for name in names:
        states[1].add("/d", name, mark)
    found = [({"/d": {}} | state.written, state.count, list(state.failed)) for state in states]
    assert found[0] == found[1]


def test_a_mark_holds_until_a_sync() -> None:
    state = Unsynced()
    new = state.mark("/d", "k", None, 5, 1)
    assert new == (5, 0)
    state.add("/d", "k", new)
    assert state.mark("/d", "k", 5, 6, 1)[0] == 6
    assert state.mark("/d", "k", 4, 6, 1)[0] == REPLACED  # another one than was noted
    assert state.mark("/d", "other", 5, 6, 1)[0] == REPLACED
    late = state.mark("/d", "late", None, 7, 1)
    assert state.take(["/d"], []) == {"/d": {"k": 5}}
    state.add("/d", "late", late)  # a sync came in between
    state.add("/d", "erased", UNKNOWN)
    state.add("/d", "kept", KEPT)
    assert state.written == {"/d": {"late": REPLACED, "erased": ERASED, "kept": REPLACED}}
    assert [state.mark("/d", name, None, 8, 1)[0] for name in ("late", "erased", "kept", "new")] == [0, 0, 0, 8]
    state.add("/d", "late", UNKNOWN)
    assert state.count == 3


def test_what_is_taken() -> None:
    state = Unsynced()
    for directory in ("/", "/a", "/a/b", "/a/b/c", "/ab"):
        state.add(directory, "k", UNKNOWN)
    assert set(state.take(["/a/b"], ["/a", "/nothing"])) == {"/a", "/a/b", "/a/b/c"}
    assert (set(state.written), state.count) == ({"/", "/ab"}, 2)
    state.add("/ab", "zarr.json", UNKNOWN)
    assert state.take_metadata({"/ab"}, {"/"}) == {"/": {"k": ERASED}, "/ab": {"zarr.json": ERASED}}
    assert (state.written, state.count) == ({"/ab": {"k": ERASED}}, 1)


def test_places_under_other_names() -> None:
    state = Unsynced()
    state.register_root("/a/b", [("/a/b", B), ("/a", A), ("/", (1, 1))])
    assert state.covers("/moved", [("/moved", B), ("/", (1, 1))], "/moved") == {"/moved": "/moved", "/a/b": "/moved"}
    assert state.covers("/x/b/c", [("/x/b/c", (1, 12)), ("/x/b", B)], "/x/b/c") == {"/x/b/c": "/x/b/c", "/a/b/c": "/x/b/c"}
    state.links["/a/b/link"] = "/far"
    assert state.covers("/a", [("/a", A)], "/a") == {"/a": "/a", "/far": "/far"}


def test_roots_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsynced, "MAX_KEPT", 10)
    state = Unsynced()
    for number in range(35):
        state.register_root(f"/{number}", [(f"/{number}", (1, number))])
        assert len(state.roots) <= 10
        assert len(state.places) <= 11
    assert state.uncovered([1])  # what was written below them is not known by name any more


def test_what_was_covered() -> None:
    state = Unsynced()
    assert not state.uncovered([1, A])
    state.children((3, 0.1), False)
    assert state.uncovered([1, A])
    epoch = state.epoch
    state.children((4, 0.1), False)  # ended in the meantime
    state.cover([1], epoch)
    assert state.uncovered([1, A])
    state.cover([A], state.epoch)
    assert not state.uncovered([1, A])
    assert state.uncovered([1, B])
    state.children((4, 0.1), False)
    assert not state.uncovered([1, A])
    state.children((4, 0.1), True)
    assert state.uncovered([1, A])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux")
def test_child_processes_are_seen() -> None:
    command = [sys.executable, "-S", "-c", "input()"]
    script = """
import os, subprocess, sys
from zarrant.stores.local.syscalls import NO_CHILDREN, Syscalls
children = Syscalls().children
assert children() == NO_CHILDREN
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)
assert children()[1]
child.communicate(b"\\n")
ended, others = children()
assert (ended > NO_CHILDREN[0], others) == (True, False)
if os.fork() == 0:
    os._exit(children() != NO_CHILDREN)
assert os.wait()[1] == 0
assert children()[0] > ended
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script, *command], check=False, env=environment).returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_begins_without_children_and_locks() -> None:
    state = Unsynced()
    state.children((5, 1.0), False)
    state.add("/d", "k", UNKNOWN)
    state.gate.acquire()
    child = os.fork()
    if child == 0:
        free = threading.Thread(target=lambda: state.gate.acquire() and state.gate.release())
        free.start()
        free.join(10)
        os._exit(not (not free.is_alive() and state.ended == NO_CHILDREN[0] and state.written == {"/d": {"k": ERASED}}))
    state.gate.release()
    assert ended(child) == 0


class Slow(Syscalls):
    """Syncs of the file named so wait until they are let go."""

    def __init__(self, name: str) -> None:
        self.name, self.began, self.go = name, threading.Event(), threading.Event()

    def sync(self, fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(self.name):
            self.began.set()
            assert self.go.wait(30)
        super().sync(fd)

    def children(self) -> tuple[tuple[float, ...], bool]:
        return NO_CHILDREN


@pytest.mark.parametrize("other", ["elsewhere", "same", "above", "fsync"])
def test_who_asks_for_what_another_syncs_waits_for_it(other: str, tmp_path: Path) -> None:
    syscalls = Slow("zarr.json")
    store = FilesystemStore(tmp_path / "g" / "a", syscalls=syscalls)
    store.put("zarr.json", [b"{}"])
    FilesystemStore(tmp_path / "b", syscalls=syscalls).put("k", [b"value"])
    first = threading.Thread(target=store.sync)
    first.start()
    assert syscalls.began.wait(30)
    calls = {
        "elsewhere": FilesystemStore(tmp_path / "b", syscalls=syscalls).sync,
        "same": FilesystemStore(tmp_path / "g" / "a", syscalls=syscalls).sync,
        "above": FilesystemStore(tmp_path / "g", syscalls=syscalls).sync,
        "fsync": lambda: FilesystemStore(tmp_path / "g" / "a", syscalls=syscalls, durability="fsync").put("c/0", [b"value"]),
    }
    second = threading.Thread(target=calls[other])
    second.start()
    second.join(10 if other == "elsewhere" else 0.3)
    assert second.is_alive() == (other != "elsewhere")
    syscalls.go.set()
    first.join(30)
    second.join(30)
    assert not first.is_alive()
    assert not second.is_alive()
