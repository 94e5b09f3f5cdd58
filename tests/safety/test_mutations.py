"""Each line that safety hangs on is marked in the source, `# safety: NAME`; without it, the test named here fails.

A copy of the package is made in which one such line does nothing (or its condition is always met), and the test is run with
it. A mark without a test, or a test without a mark, fails too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

import zarrant

ROOT = Path(__file__).parents[2]
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
QUICK = ("lock", "version", "killed owner")
MARK = re.compile(r"^(?P<indent> *)(?P<line>\S.*?)  (?:#|//) safety: (?P<name>.+)$", re.MULTILINE)


class Mutation(NamedTuple):
    """What stands in place of the marked line, and a test that notices."""

    instead: str
    test: str


BUFFERED = "nodes/test_buffered.py"
PROBE = "stores/test_probe.py"
BOX_UPDATE = "codecs/test_box_update.py"
AT_ONCE = "stores/local/test_put_at_once.py"
UPDATE_AT_ONCE = "stores/local/test_update_at_once.py"
BATCH_AT_ONCE = "stores/local/test_batch_at_once.py"
READ_AT_ONCE = "stores/local/test_read_at_once.py"
OBSPEC = "stores/test_obspec.py"
EVERY_ORDER = "ops/test_turns.py::test_every_order_of_steps"
STOPPED = "ops/test_turns.py::test_who_is_stopped_at_any_step_harms_nobody"
WITHOUT_LOCKS = "ops/test_consolidated.py::test_who_consolidates_without_locks_beside_others_tells_the_truth_or_nothing"
MUTATIONS: dict[str, Mutation] = {
    "truncate": Mutation("pass", "locking/test_file_locks.py::test_a_leftover_is_emptied"),
    "lock": Mutation("granted = True", "stores/local/test_store.py::test_timeouts_name_key_path_and_wait"),
    "inode": Mutation("return there", "locking/test_file_locks.py::test_check"),
    "second name": Mutation("if False:", "stores/local/test_store.py::test_a_lock_file_with_other_names_is_not_emptied"),
    "other mode": Mutation("if False:", "locking/test_created_locks.py::test_the_other_mode_waits_and_says_why"),
    "stale temp file": Mutation("pass", "stores/local/test_temp_files.py::test_temp_file_takes_over_a_leftover"),
    "lease check": Mutation("pass", "stores/test_synchronizer.py::test_nothing_is_written_under_a_lock_that_ended"),
    "lease check afterwards": Mutation("pass", "stores/test_synchronizer.py::test_a_lock_that_ends_during_a_write_is_said"),
    "kept index": Mutation("if False:", "ops/test_kept_indexes.py::test_what_is_not_stored_in_a_shard_is_asked_for"),
    "lasting version": Mutation(
        "lasting = True", "ops/test_kept_indexes.py::test_the_index_of_a_file_is_kept_once_a_write_in_place_would_show"
    ),
    "state by name": Mutation("known = True", "ops/test_kept.py::test_a_version_by_name_is_not_believed_of_another_machine"),
    "size of one subchunk": Mutation("if False:", "bad_input/test_bounded.py::test_a_subchunk_that_is_too_large_costs_itself"),
    "size of decoded subchunks": Mutation("most = 2**62", "codecs/sharding/test_planned.py::test_what_is_too_large_is_not_decoded"),
    "size of planned subchunks": Mutation("most = 2**62", "codecs/sharding/test_planned.py::test_what_is_too_large_is_not_read"),
    "shared index": Mutation(
        "self._take(found); self.confirmed = True",
        "ops/test_kept_indexes.py::test_an_index_that_another_has_asked_for_is_not_believed",
    ),
    "shared lasting version": Mutation(
        "lasts = self.index is not None",
        "ops/test_kept_indexes.py::test_an_index_of_a_version_that_need_not_last_is_not_shared",
    ),
    "merged reads": Mutation("pass", "stores/test_merging.py::test_who_comes_after_the_request_was_sent_asks_again"),
    "lock check": Mutation("pass", "stores/local/test_store.py::test_a_lock_file_taken_away_during_a_write"),
    "rename": Mutation("pass", "safety/test_crash_states.py::test_the_journal_tells_every_change"),
    "temp file of another": Mutation("if True:", "stores/local/test_store.py::test_the_temp_file_of_the_next_owner_is_left_alone"),
    "scanned twice": Mutation("if not found:", "stores/local/test_store.py::test_erase_prefix_takes_what_is_made_while_it_scans"),
    "one version": Mutation("pass", f"{OBSPEC}::test_ranges_are_of_one_version"),
    "own write": Mutation("if False:", f"{OBSPEC}::test_a_put_that_others_built_upon"),
    "length of a reply": Mutation("if True:", f"{OBSPEC}::test_a_reply_of_another_length_is_not_believed"),
    "not known": Mutation("if False:", f"{OBSPEC}::test_a_put_that_is_no_longer_remembered_is_no_conflict"),
    "conflict": Mutation("pass", f"{OBSPEC}::test_a_conflict_is_one_also_when_a_reply_was_lost"),
    "failed temp file": Mutation("pass", "stores/local/test_store.py::test_a_failed_write_changes_nothing"),
    "later than the old": Mutation(
        "earliest = files.now()", "stores/local/test_temp_files.py::test_a_temp_file_is_newer_than_what_it_replaces"
    ),
    "coarse times": Mutation("if True:", "stores/local/test_temp_files.py::test_a_temp_file_is_newer_than_what_it_replaces"),
    "version": Mutation("pass", "stores/local/test_store.py::TestFilesystem::test_put_if"),
    "attributes of another creator": Mutation(
        "version = getattr((yield from fetch_one(key)), 'version', None)",
        "ops/test_create.py::test_a_creator_who_is_stopped_at_any_step_leaves_the_attributes_of_another",
    ),
    "unchanged directory": Mutation(
        "return entries", "ops/test_stored_chunks.py::test_a_chunk_that_a_scan_does_not_show_is_erased_too"
    ),
    "data sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_with_fsync"),
    "data syncs": Mutation("pass", "stores/local/test_durability.py::test_what_returned_outlives_a_loss_of_power"),
    "condition at once": Mutation("condition = None", "nodes/test_replaced.py"),
    "no ghost at once": Mutation("pass", f"{UPDATE_AT_ONCE}::test_the_directory_of_a_removed_array_is_not_made_again"),
    "data before the name of an update": Mutation(
        "must_replace = False", f"{UPDATE_AT_ONCE}::test_what_may_be_on_disk_is_begun_anew_as_the_general_way_does"
    ),
    "probe at once": Mutation("if False:", f"{AT_ONCE}::test_it_is_used_where_it_may_be"),
    "version at once": Mutation("wanted = None", f"{AT_ONCE}::test_it_is_equal_to_the_general_way"),
    "metadata at once": Mutation("condition = None", f"{AT_ONCE}::test_it_is_equal_to_the_general_way"),
    "data before the name at once": Mutation(
        "must_replace = False", f"{AT_ONCE}::test_what_may_be_on_disk_is_replaced_as_the_general_way_does"
    ),
    "object size at once": Mutation("most = -1", f"{READ_AT_ONCE}::test_what_is_too_large_is_not_read"),
    "object size decoded": Mutation("most = -1", f"{READ_AT_ONCE}::test_what_is_too_large_is_not_decoded"),
    "version of a read at once": Mutation("wanted = None", f"{READ_AT_ONCE}::test_a_range_of_another_version_is_not_read"),
    "fine times": Mutation("if True:", "ops/test_swap_first.py::test_only_a_time_in_nanoseconds_tells_our_files_from_others"),
    "swap by a unique version": Mutation(
        "if False:", "ops/test_swap_first.py::test_a_version_that_another_object_may_have_is_not_believed"
    ),
    "killed owner": Mutation("pass", "stores/local/test_store.py::test_stale_files"),
    "probe": Mutation("pass", "stores/local/test_store.py::test_locks_that_exclude_nobody_are_found"),
    "lock exit": Mutation("pass", "stores/local/test_store.py::test_a_lock_outlives_its_writes"),
    "later data sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_after_a_sync"),
    "children": Mutation("pass", "stores/local/test_durability.py::test_what_is_not_known_by_name_is_synced_too"),
    "metadata sync": Mutation(
        "pass", "stores/local/test_durability.py::test_a_directory_made_through_another_store_is_synced_in_the_one_above"
    ),
    "file system sync": Mutation("pass", "stores/local/test_durability.py::test_many_objects_are_synced_at_once"),
    "data before the name": Mutation("pass", "safety/test_crash_states.py::test_power_lost_while_what_was_synced_is_updated"),
    "data before the name anywhere": Mutation(
        "pass", "stores/local/test_durability.py::test_data_go_to_the_device_before_they_replace_what_may_be_on_disk"
    ),
    "reused file": Mutation("if True:", "stores/local/test_file_reuse.py::test_readers_of_the_old_version_keep_it"),
    "reused file sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_while_files_are_reused"),
    "reused file tail": Mutation("pass", "stores/local/test_file_reuse.py"),
    "direct tail": Mutation("pass", "stores/local/test_direct_io.py::test_every_size_from_any_memory"),
    "direct rest": Mutation("pass", "stores/local/test_direct_io.py::test_any_parts_in_any_memory"),
    "lent": Mutation("free = True", "codecs/test_buffer_pool.py::test_a_lent_block_is_not_lent_again_while_anything_refers_to_it"),
    "parts of huge pages": Mutation(
        "if nbytes < MIN_KEPT_BLOCK_BYTES:",
        "codecs/test_buffer_pool.py::test_where_a_huge_page_is_copied_whole_no_blocks_share_one",
    ),
    "acknowledged": Mutation("pass", "run/test_group_commit.py::test_who_is_acted_for_is_told_when_it_is_on_disk"),
    "shape": Mutation("if False:", "nodes/test_stale_bounds.py::test_what_others_appended_stays"),
    "bounds": Mutation("if (yield from shape_stands(array)) or True:", "nodes/test_stale_bounds.py"),
    "condition": Mutation("condition = None", "nodes/test_replaced.py"),
    "metadata": Mutation("pass", "nodes/test_replaced.py"),
    "unlocked": Mutation("if False:", "nodes/test_stale_bounds.py::test_an_append_that_is_not_finished_stays"),
    "no ghost": Mutation("pass", "nodes/test_replaced.py::test_a_removed_array_is_not_remade"),
    "copies begun meanwhile": Mutation(
        "if False:", "nodes/test_put_first.py::test_copies_that_others_make_meanwhile_have_the_new_array"
    ),
    "members counted": Mutation(
        "if depth <= limits.depth:", "metadata/test_json_text.py::test_a_repeated_member_among_many_objects"
    ),
    "no ghost of a put": Mutation(
        "node = None", "stores/local/test_directories.py::test_no_directory_is_made_of_a_node_that_is_gone"
    ),
    "unseen": Mutation("pass", "nodes/test_resize.py::test_a_resize_cuts_nothing_that_its_handle_has_not_seen"),
    "turn taken by version": Mutation("stored = yield from put_one(_key(now), [dump(metadata)])", EVERY_ORDER),
    "commit by version": Mutation("stored = yield from put_one(_key(now), [dump(wanted)])", STOPPED),
    "no locks": Mutation("if False:", EVERY_ORDER),
    "new chunk by version": Mutation("wanted.append(item._replace(parts=parts))", STOPPED),
    "turn seen": Mutation("replies = yield from put([wanted[i] for i in pending])", STOPPED),
    "turn seen after a read": Mutation("if False:", STOPPED),
    "turn seen just now": Mutation("return True", "ops/test_turns.py::test_the_look_of_a_take_serves_new_chunks_for_a_moment"),
    "copied in no turn": Mutation("if False:", f"{WITHOUT_LOCKS}[append-3]"),
    "kept versions last": Mutation(
        "lasts = blob.version is not None", "stores/test_http.py::test_a_cache_keeps_only_what_has_the_same_bytes_for_good"
    ),
    "erased by version": Mutation("wanted.append(WriteRequest(key, parts))", STOPPED),
    "created in a turn": Mutation("if False:", "ops/test_create.py::test_chunks_of_creators_do_not_mix"),
    "dropped by version": Mutation(
        "yield from put_one(key, [Record(DROPPED, record.arrays).dump(turn.token)])",
        "ops/test_group_turns.py::test_who_decides_while_another_one_drops_it_wins",
    ),
    "decided by version": Mutation("yield from put_one(key, [Record(DECIDED, shapes).dump(token)])", "ops/test_group_turns.py"),
    "archive on disk": Mutation("pass", "stores/test_zip.py::test_an_archive_is_on_disk_before_it_has_its_name"),
    "tried out": Mutation("if False:", f"{PROBE}::test_a_service_that_ignores_conditions_is_refused"),
    "tried out in a loop": Mutation("if False:", f"{PROBE}::test_it_is_refused_by_coroutines_too"),
    "lost increments": Mutation("lost = 0", f"{PROBE}::test_a_race_is_found_by_concurrent_writers_only"),
    "leftovers": Mutation("if False:", "nodes/test_replaced.py::TestCreation::test_chunks_without_metadata_are_refused"),
    "copies go first": Mutation(
        "version = blob.version", "ops/test_consolidated.py::test_who_is_killed_leaves_right_copies_or_none"
    ),
    "V2 copies go first": Mutation("pass", "nodes/test_v2.py::test_who_is_killed_leaves_right_copies_or_none"),
    "copies go afterwards": Mutation("pass", WITHOUT_LOCKS),
    "V2 copies go afterwards": Mutation("pass", WITHOUT_LOCKS),
    "V2 note": Mutation("if False:", WITHOUT_LOCKS),
    "record": Mutation("pass", "ops/test_group_changes.py::test_what_a_kill_leaves_is_completed_by_the_next_append"),
    "undone": Mutation("pass", "ops/test_group_changes.py::test_what_fails_is_undone"),
    "V2 above": Mutation("pass", "ops/test_node.py::test_new_metadata_never_hide_a_v2_node"),
    "shared lock file": Mutation("pass", "locking/test_file_locks.py::test_a_lock_file_gets_the_permissions_of_its_directory_only"),
    "link out": Mutation("if False:", "stores/local/test_links.py::test_no_operation_enters_a_directory_outside"),
    "made where it was entered": Mutation(
        "if False:", "stores/local/test_directories.py::test_what_was_made_is_looked_at_where_the_one_above_may_be_a_link_by_now"
    ),
    "mount type": Mutation('self._chosen = "os"', "stores/local/test_mounts.py::test_auto_chooses_by_type"),
    "second look": Mutation("opened = None", "stores/local/test_mounts.py::test_what_is_not_found_is_looked_for_again"),
    "listed look": Mutation("if looked_for:", "stores/local/test_mounts.py::test_what_is_not_found_is_looked_for_again"),
    "last time": Mutation("if True:", "stores/local/test_temp_files.py::test_no_later_time"),
    "dead bytes": Mutation(
        "runs = runs[:0]", "codecs/sharding/test_dead_bytes.py::test_a_reader_with_an_old_index_finds_what_it_leads_to"
    ),
    "dead clock": Mutation(
        "clock = record.clock + kept_bytes", "codecs/sharding/test_dead_bytes.py::test_large_updates_outlive_each_other"
    ),
    "entry at fault": Mutation(
        "keep_all = False", "ops/test_damage.py::test_much_that_is_dead_is_left_alone_while_an_entry_is_at_fault"
    ),
    "directory sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_with_fsync"),
    "written size": Mutation("pass", "metadata/test_v3.py::test_the_limits_of_reading_are_those_of_writing"),
    "known written form": Mutation('place = b""', "metadata/test_v3.py::test_what_was_written_is_known_by_all_of_it"),
    "remembered by value": Mutation(
        "if place is None:", "metadata/test_remembered.py::test_what_is_no_plain_value_is_not_remembered"
    ),
    "written form": Mutation("pass", "metadata/test_v3.py::test_what_would_not_be_read_is_not_written"),
    "before overwrite": Mutation(
        "data = repr(document.to_json()).encode()",
        "bad_input/test_limits.py::test_creating_beyond_a_limit_stores_and_erases_nothing",
    ),
    "configuration": Mutation("if False:", "codecs/library/test_numcodecs_adapter.py::test_a_configuration_chooses_no_other_codec"),
    "skipped codecs": Mutation("if False:", "bad_input/test_other_writers.py::test_a_plug_in_writes_what_others_skip"),
    "subchunk size": Mutation("if False:", "bad_input/test_bounded.py::test_a_subchunk_that_is_too_large_costs_itself"),
    "version of a kept chunk": Mutation("if each is not None:", "ops/test_kept.py::test_reads_what_is_there_now"),
    "kept by name": Mutation("by_name = True", "ops/test_kept_boxes.py::test_files_of_another_machine_are_opened"),
    "version of a kept subchunk": Mutation("if each is not None", "ops/test_kept.py::test_reads_what_is_there_now"),
    "written only": Mutation("if True:", f"{BUFFERED}::test_elements_that_nobody_wrote_stay"),
    "order of writes": Mutation("if False:", "ops/test_buffered.py::test_a_newer_state_waits_for_the_older_one"),
    "order of appends": Mutation("if False:", "ops/test_appending.py::test_one_append_is_in_flight_at_a_time"),
    "first error": Mutation("if False:", f"{BUFFERED}::test_the_first_error_names_its_chunk_stops_writes_and_comes_at_the_end"),
    "buffer of the parent": Mutation("if False:", f"{BUFFERED}::test_a_forked_child_cannot_use_it_and_stores_nothing"),
    "object size": Mutation("if False:", "bad_input/test_bounded.py::test_a_chunk_that_is_too_large_is_not_read"),
    "fill in the place of an object": Mutation(
        "if False:", "integrations/test_zarr_python.py::test_an_object_that_became_fill_is_not_erased_without_a_condition"
    ),
    "parts of one version": Mutation(
        "return await self.plain.read(batch, out, drop_axes)",
        "integrations/test_zarr_python_codecs.py::test_a_shard_that_is_replaced_while_it_is_read",
    ),
    "metadata by version": Mutation(
        'self._stored(seen, wanted, await self._call("put", key, [wanted]), mine)',
        "integrations/test_zarr_python_store.py::test_attributes_of_two_handles_are_merged",
    ),
}

# An installed package may be found by a hook that comes before the path.
RUN = """
import sys
sys.path.insert(0, sys.argv[1])
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
import pytest, zarrant
assert zarrant.__file__.startswith(sys.argv[1]), zarrant.__file__
options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
sys.exit(pytest.main([*options, "--rootdir", sys.argv[3], "-c", sys.argv[4], sys.argv[2]]))
"""


def marks() -> dict[str, list[Path]]:
    package = Path(zarrant.__file__).parent
    found: dict[str, list[Path]] = {}
    for path in sorted(package.rglob("*.py")):
        for mark in MARK.finditer(path.read_text(encoding="utf-8")):
            found.setdefault(mark["name"], []).append(path.relative_to(package))
    return found


def run(package: Path, test: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, str(package), str(ROOT / "tests" / test), str(ROOT), str(ROOT / "pyproject.toml")]
    environment = {name: value for name, value in os.environ.items() if name != "ZARRANT_SOAK"}
    # Compiled files of the same second and size would hide a change.
    environment |= {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=170, check=False, cwd=ROOT)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    shutil.copytree(Path(zarrant.__file__).parent, tmp_path / "zarrant", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_mark_has_a_test() -> None:
    found = marks()
    assert {name: len(paths) for name, paths in found.items()} == dict.fromkeys(MUTATIONS, 1)
    assert {"lock", "truncate", "rename", "inode", "data sync", "directory sync"} <= set(found)
    print(f"{len(found)} marked lines")


def mutated(text: str, name: str) -> str:
    """The source without the line of a mark."""
    return MARK.sub(lambda mark: mark["indent"] + MUTATIONS[name].instead if mark["name"] == name else mark[0], text)


def test_every_mark_is_on_a_line_of_its_own() -> None:
    """One on a part of a statement (a formatter may cut it in two) would leave a module that cannot be imported."""
    for name, paths in marks().items():
        text = (Path(zarrant.__file__).parent / paths[0]).read_text(encoding="utf-8")
        compile(mutated(text, name), f"{paths[0]} without {name!r}", "exec")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS if SOAK else QUICK)
def test_without_the_line(name: str, package: Path, tally: Callable[[str, int], None]) -> None:
    (path,) = marks()[name]
    file, mutation = package / "zarrant" / path, MUTATIONS[name]
    text = file.read_text(encoding="utf-8")
    file.write_text(mutated(text, name), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != text
    ran = run(package, mutation.test)
    assert ran.returncode == 1, (
        f"{mutation.test} does not notice that {name!r} is missing: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    )
    tally("mutations", 1)


@pytest.mark.timeout(600)
@pytest.mark.soak
@pytest.mark.parametrize("test", sorted({mutation.test for mutation in MUTATIONS.values()}))
def test_with_every_line(test: str, package: Path) -> None:
    """What notices must pass where nothing is missing."""
    ran = run(package, test)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
