"""Copies of metadata in groups: right after every change, right or absent wherever one is killed or fails."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.ops.conftest import make_state
from tests.ops.processes import Disk, Process, run

from zarrant import requests
from zarrant.errors import ConflictError, LockTimeout, MetadataError, NodeExistsError, StoreFullError, ZarrantWarning
from zarrant.metadata.turn import Turn
from zarrant.metadata.v3 import GroupMetadata, dump, parse
from zarrant.ops import consolidated, consolidated_v2, members
from zarrant.ops import node as node_ops
from zarrant.ops import resize as resize_ops
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.consolidation_context import ConsolidationContext


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def objects(objects: Any) -> Any:
    """Objects whose writes are answered with a version, which here are the bytes."""
    store = objects.store
    objects.store = lambda item: (store(item), objects.get(item.key))[1]
    return objects


@pytest.fixture
def tree(objects: Any, state: Any) -> Any:
    """The root and the group g keep copies, the group h does not; t, g/u and h/v are arrays."""
    for path in ("t", "g/u", "h/v"):
        array = state(prefix=path, shape=(4, 3), chunks=(2, 3))
        objects.perform(node_ops.create_node(path, array.metadata))
        objects.perform(resize_ops.append(array, np.ones((1, 3), "int32")))
    for path in ("g", ""):
        objects.perform(consolidated.consolidate(path, ConsolidationContext()))
    objects.log.clear()
    return objects


def copies(objects: Any, group: str) -> dict[str, Any] | None:
    document = parse(objects[node_ops.metadata_key(group)])
    assert isinstance(document, GroupMetadata)
    return None if document.consolidated is None else dict(document.consolidated)


def stored_below(objects: Any, group: str) -> dict[str, Any]:
    """The metadata that copies are made of."""
    prefix = f"{group}/" if group else ""
    found = {child.path[len(prefix) :]: child.metadata for child in objects.perform(members.walk(group))}
    return {path: (d.with_consolidated(None) if isinstance(d, GroupMetadata) else d).to_json() for path, d in found.items()}


def right_or_absent(objects: Any) -> list[str]:
    """The groups that keep copies, which are right."""
    groups = []
    for group in ("", "g"):
        found = copies(objects, group) if node_ops.metadata_key(group) in objects else None
        if found is not None:
            below = stored_below(objects, group)
            # groups above a new node are made after it: a copy may have them a moment before
            early = {path: entry for path, entry in found.items() if path not in below}
            assert all(entry == GroupMetadata().to_json() for path, entry in early.items() if not path.endswith("/z"))
            assert all(any(other.startswith(f"{path}/") for other in found) for path in early if not path.endswith("/z"))
            assert {path: entry for path, entry in found.items() if path in below} == below
            groups.append(group)
    return groups


def array_at(objects: Any, path: str) -> BoundArray:
    return BoundArray.from_metadata(path, objects.perform(node_ops.read_metadata(path)), OpOptions())


CHANGES: dict[str, Callable[[Any, Any], requests.Op[Any]]] = {
    "append": lambda o, new: resize_ops.append(array_at(o, "t"), np.ones((3, 3), "int32")),
    "append below both": lambda o, new: resize_ops.append(array_at(o, "g/u"), np.ones((3, 3), "int32")),
    "shrink": lambda o, new: resize_ops.resize(array_at(o, "g/u"), (1, 2)),
    "attributes of an array": lambda o, new: node_ops.update_attributes("g/u", {"x": 1}),
    "attributes of a group": lambda o, new: node_ops.update_attributes("g", {"x": 1}),
    "create": lambda o, new: node_ops.create_node("g/new", new),
    "create with groups": lambda o, new: node_ops.create_node("g/x/y/z", new),
    "create a group": lambda o, new: node_ops.create_node("group", GroupMetadata({"a": 1})),
    "overwrite an array": lambda o, new: node_ops.create_node("g/u", new, overwrite=True),
    "overwrite a group": lambda o, new: node_ops.create_node("g", GroupMetadata({"a": 1}), overwrite=True),
    "delete an array": lambda o, new: node_ops.delete_node("t"),
    "delete a group": lambda o, new: node_ops.delete_node("g"),
    "delete below a group without": lambda o, new: node_ops.delete_node("h/v"),
    "store metadata": lambda o, new: node_ops.store_metadata("g/u", new),
    "erase metadata": lambda o, new: node_ops.erase_metadata("g/u"),
}
changes = pytest.mark.parametrize("change", CHANGES)


@changes
def test_copies_are_right_after_each_change(tree: Any, state: Any, change: str) -> None:
    new = state(shape=(9, 9)).metadata
    tree.perform(consolidated.in_step(CHANGES[change](tree, new), ConsolidationContext()))
    groups = ["", "g"] if "g" in stored_below(tree, "") and change != "overwrite a group" else [""]
    assert right_or_absent(tree) == groups
    assert copies(tree, "") == stored_below(tree, "")


@changes
def test_who_is_killed_leaves_right_copies_or_none(tree: Any, state: Any, change: str) -> None:
    before, new, steps = dict(tree), state(shape=(9, 9)).metadata, 0
    while True:
        tree.clear()
        tree.update(before)
        op, start = consolidated.in_step(CHANGES[change](tree, new), ConsolidationContext()), len(tree.log)

        def kill(request: Any, last: int = start + steps) -> None:
            if len(tree.log) > last:
                raise Killed

        tree.before = kill
        try:
            tree.perform(op)
            ended = True
        except Killed:
            ended = False
        tree.before = lambda request: None
        groups = right_or_absent(tree)
        if ended:
            break
        steps += 1
    assert steps > 3
    assert "" in groups


@changes
def test_without_locks_copies_go_and_do_not_come_back(tree: Any, state: Any, change: str) -> None:
    tree.perform(consolidated.in_step(CHANGES[change](tree, state(shape=(9, 9)).metadata), ConsolidationContext(exclusive=False)))
    assert copies(tree, "") is None
    right_or_absent(tree)


def test_where_nobody_keeps_copies_the_groups_are_read_once(objects: Any, state: Any) -> None:
    array = state(prefix="g/u")
    objects.perform(node_ops.create_node("g/u", array.metadata))
    context, reads = ConsolidationContext(), []
    for _ in range(3):
        objects.log.clear()
        objects.perform(consolidated.in_step(resize_ops.append(array, np.ones((1, 9), "int32")), context))
        reads.append(sum(isinstance(request, requests.Fetch) and "zarr.json" in request.items[0].key for request in objects.log))
        assert sum(isinstance(request, requests.CheckUnchanged) for request in objects.log) == (0 if len(reads) == 1 else 2)
    assert reads == [3, 1, 1], "the two groups once, and the array's own metadata each time"


@pytest.mark.parametrize("name", ["consolidated_metadata", r"consolidated\u005fmetadata", r"\u0063onsolidated_metadata"])
def test_copies_are_found_however_their_name_is_written(objects: Any, state: Any, name: str) -> None:
    array = state(prefix="u")
    objects.perform(node_ops.create_node("u", array.metadata))
    objects.perform(consolidated.consolidate("", ConsolidationContext()))
    objects["zarr.json"] = objects["zarr.json"].replace(b"consolidated_metadata", name.encode())
    objects.perform(consolidated.in_step(resize_ops.append(array, np.ones((1, 9), "int32")), ConsolidationContext()))
    assert copies(objects, "") == stored_below(objects, "")


@pytest.mark.parametrize("data", [b"{", b'{"consolidated_metadata": 5}', b'"\\u00e9"'])
def test_a_group_that_cannot_be_read_is_in_nobodys_way(objects: Any, state: Any, data: bytes) -> None:
    array = state(prefix="g/u")
    objects.perform(node_ops.create_node("g/u", array.metadata))
    objects["g/zarr.json"] = data
    objects.perform(consolidated.in_step(resize_ops.append(array, np.ones((1, 9), "int32")), ConsolidationContext()))
    assert objects["g/zarr.json"] == data
    assert objects.perform(node_ops.read_metadata("g/u")).shape == (11, 9)


def test_copies_that_others_made_meanwhile_are_found(objects: Any, state: Any) -> None:
    array, context = state(prefix="g/u"), ConsolidationContext()
    objects.perform(node_ops.create_node("g/u", array.metadata))
    objects.perform(consolidated.in_step(resize_ops.append(array, np.ones((1, 9), "int32")), context))
    objects.perform(consolidated.consolidate("", ConsolidationContext()))
    objects.perform(consolidated.in_step(resize_ops.append(array, np.ones((1, 9), "int32")), context))
    assert copies(objects, "") == stored_below(objects, "")


def test_a_refused_creation_takes_no_copies(tree: Any, state: Any) -> None:
    before = dict(tree)
    with pytest.raises(NodeExistsError):
        tree.perform(consolidated.in_step(node_ops.create_node("t", state().metadata), ConsolidationContext()))
    same = parse(tree["t/zarr.json"])
    tree.perform(consolidated.in_step(node_ops.create_node("t", same, match=True), ConsolidationContext()))
    assert tree == before
    assert not any(
        isinstance(r, requests.Put) and r.items[0].key == "zarr.json" and r.items[0].if_version is not None for r in tree.log
    )


def test_what_became_of_a_failed_write_is_not_known_so_no_copies_say_it(tree: Any) -> None:
    real = tree.store

    def fail(item: Any) -> Any:
        if item.key == "t/zarr.json":
            raise StoreFullError("full")
        return real(item)

    tree.store = fail
    with pytest.raises(StoreFullError):
        tree.perform(consolidated.in_step(node_ops.update_attributes("t", {"x": 1}), ConsolidationContext()))
    assert copies(tree, "") is None


def test_a_change_that_is_stored_stays_where_copies_cannot_be(tree: Any) -> None:
    real, puts = tree.store, []

    def fail(item: Any) -> Any:
        if item.key == "zarr.json":
            puts.append(item)
            if len(puts) == 2:
                raise StoreFullError("full")
        return real(item)

    tree.store = fail
    with pytest.warns(ZarrantWarning, match="consolidated"):
        tree.perform(consolidated.in_step(node_ops.update_attributes("t", {"x": 1}), ConsolidationContext()))
    assert json.loads(tree["t/zarr.json"])["attributes"] == {"x": 1}
    assert copies(tree, "") is None


def test_copies_too_large_to_be_read_again_are_left_out(tree: Any) -> None:
    with pytest.warns(ZarrantWarning, match="too large"):
        for name in ("t", "g/u", "h/v"):
            tree.perform(consolidated.in_step(node_ops.update_attributes(name, {"x": "y" * (6 << 20)}), ConsolidationContext()))
    assert copies(tree, "") is None
    assert copies(tree, "g") == stored_below(tree, "g")


def test_the_copies_of_a_group_are_not_copied(tree: Any) -> None:
    entries = copies(tree, "")
    assert entries is not None
    assert "consolidated_metadata" not in entries["g"]
    assert sorted(entries) == ["g", "g/u", "h", "h/v", "t"]


@pytest.mark.parametrize("moment", range(3, 14))
def test_who_consolidates_sees_what_changes_meanwhile(tree: Any, state: Any, moment: int) -> None:
    tree.perform(node_ops.change_metadata("", lambda document: document.with_consolidated(None)))
    tree.log.clear()

    def rival(request: Any) -> None:
        if len(tree.log) == moment:
            tree.before = lambda request: None
            tree.perform(consolidated.in_step(node_ops.create_node("new", state().metadata), ConsolidationContext()))
            tree.perform(consolidated.in_step(node_ops.update_attributes("t", {"x": 1}), ConsolidationContext()))
            tree.perform(consolidated.in_step(node_ops.delete_node("h/v"), ConsolidationContext()))

    tree.before = rival
    tree.perform(consolidated.consolidate("", ConsolidationContext()))
    assert copies(tree, "") == stored_below(tree, "")
    assert "new" in stored_below(tree, "")


def test_a_group_that_never_comes_to_rest_gets_no_copies(tree: Any) -> None:
    count = [0]

    def rival(request: Any) -> None:
        if isinstance(request, requests.ListDir):
            count[0] += 1
            tree["zarr.json"] = dump(parse(tree["zarr.json"]).with_attributes({"n": count[0]}))

    tree.before = rival
    with pytest.raises(ConflictError):
        tree.perform(consolidated.consolidate("", ConsolidationContext()))
    assert copies(tree, "") is None


def test_who_is_killed_while_consolidating_leaves_no_wrong_copies(tree: Any) -> None:
    before, steps, ended = dict(tree), 0, False
    while not ended:
        tree.clear()
        tree.update(before)

        def kill(request: Any, last: int = len(tree.log) + steps) -> None:
            if len(tree.log) > last:
                raise Killed

        tree.before = kill
        try:
            tree.perform(consolidated.consolidate("", ConsolidationContext()))
            ended = True
        except Killed:
            steps += 1
        tree.before = lambda request: None
        tree.perform(consolidated.in_step(node_ops.update_attributes("t", {"x": steps}), ConsolidationContext()))
        tree.perform(consolidated.in_step(node_ops.delete_node("h/v"), ConsolidationContext()))
        right_or_absent(tree)
    assert steps > 10


@pytest.mark.parametrize(
    ("key", "data", "error"),
    [("h/bad/zarr.json", b"{", MetadataError), ("h/bad/.zarray", b"{}", MetadataError)],
)
def test_what_cannot_be_read_cannot_be_copied(tree: Any, key: str, data: bytes, error: type[Exception]) -> None:
    tree[key] = data
    with pytest.raises(error):
        tree.perform(consolidated.consolidate("", ConsolidationContext()))


WITHOUT_LOCKS: dict[str, Callable[[Disk, int], requests.Op[Any]]] = {
    "append": lambda disk, n: resize_ops.append(in_turns(disk, "g/u"), np.full((n, 3), n, "int32")),
    "attributes": lambda disk, n: node_ops.update_attributes("g/u", {f"x{n}": 1}),
    "create": lambda disk, n: node_ops.create_node("g/new", make_state(shape=(n, 3), zarr_format=disk.zarr_format).metadata),
    "delete": lambda disk, n: node_ops.delete_node("g/u"),
}


class Tree(Disk):
    """A root, a group g and an array g/u, of one version of the format."""

    def __init__(self, zarr_format: int) -> None:
        super().__init__()
        self.zarr_format = zarr_format
        made = make_state(prefix="g/u", shape=(1, 3), chunks=(2, 3), zarr_format=zarr_format)
        self.perform(node_ops.create_node("", GroupMetadata(v2={} if zarr_format == 2 else None)))
        self.perform(node_ops.create_node("g/u", made.metadata))

    def store(self, item: Any) -> Any:
        super().store(item)
        return self.get(item.key)

    def copies(self, group: str) -> dict[str, Any] | None:
        if self.zarr_format == 2:
            found = self.perform(consolidated_v2.stored_entries(group))
            return None if found is None else dict(found)
        return copies(self, group)

    def expected(self, group: str) -> dict[str, Any]:
        if self.zarr_format == 3:
            return stored_below(self, group)
        prefix = f"{group}/" if group else ""
        nodes = {child.path[len(prefix) :]: child.metadata for child in self.perform(members.walk(group))}
        return consolidated_v2.entries_of({"": self.perform(node_ops.read_metadata(group)), **nodes})


def in_turns(disk: Disk, path: str) -> BoundArray:
    options = OpOptions(turns=True, erases_if=False)
    return BoundArray.from_metadata(path, disk.perform(node_ops.read_metadata(path)), options)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("change", WITHOUT_LOCKS)
def test_who_consolidates_without_locks_beside_others_tells_the_truth_or_nothing(zarr_format: int, change: str) -> None:
    """In every order of the steps of two who consolidate and two who change something."""
    context = ConsolidationContext(exclusive=False)
    kept = 0
    for seed in range(int(os.environ.get("ZARRANT_SOAK") or 0) * 2000 or 40):
        disk, dice = Tree(zarr_format), random.Random(f"{zarr_format} {change} {seed}")
        changes = [change, dice.choice([name for name in WITHOUT_LOCKS if name != "delete"])]
        ops = [WITHOUT_LOCKS[name](disk, n + 1) for n, name in enumerate(changes)]
        ops = [consolidated.in_step(op, ConsolidationContext(exclusive=False)) for op in ops]
        ops += [consolidated.consolidate(group, context) for group in dice.choice([["", "g"], ["g", "g"], ["", ""]])]
        run(dice, disk, [Process(disk, op) for op in ops])
        for group in ("", "g"):
            found = disk.copies(group)
            assert found is None or found == disk.expected(group), (seed, group)
            kept += found is not None
    assert kept


@pytest.mark.parametrize(("turn", "seconds"), [(Turn("dead", 3, 8.0), 8.0), (Turn("dead", 3, 8.0, creates=True), 0.0)])
def test_who_consolidates_waits_for_a_change_that_has_begun(turn: Turn, seconds: float) -> None:
    """One whose writer was killed is ended in time, so that it cannot go on afterwards."""
    disk = Tree(3)
    found = disk.perform(node_ops.read_metadata("g/u"))
    disk["g/u/zarr.json"] = dump(replace(found, turn=turn))
    process = Process(disk, consolidated.consolidate("g", ConsolidationContext(exclusive=False)))
    run(random.Random(1), disk, [process])
    assert disk.copies("g") == disk.expected("g") == {"u": found.to_json()}
    assert seconds <= disk.now < seconds + 1
    assert (disk.perform(node_ops.read_metadata("g/u")).turn is None) == (seconds > 0)


def test_who_consolidates_gives_up_waiting_for_one_who_is_alive() -> None:
    disk, beat = Tree(3), 0
    found = disk.perform(node_ops.read_metadata("g/u"))
    disk["g/u/zarr.json"] = dump(replace(found, turn=Turn("alive")))
    process = Process(disk, consolidated.consolidate("g", ConsolidationContext(exclusive=False)))
    while not process.done:
        process.step()
        disk.now = max(disk.now, process.wake)
        if disk.now > 5.0 * beat:
            beat += 1
            disk["g/u/zarr.json"] = dump(replace(found, turn=Turn("alive", beat)))
    assert isinstance(process.result, LockTimeout)
    assert disk.copies("g") is None and 80 < disk.now < 100
