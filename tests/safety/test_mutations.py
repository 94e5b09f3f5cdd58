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
QUICK = ("lock", "version", "killed holder")
MARK = re.compile(r"^(?P<indent> *)(?P<line>\S.*?)  # safety: (?P<name>.+)$", re.MULTILINE)


class Mutation(NamedTuple):
    """What stands in place of the marked line, and a test that notices."""

    instead: str
    test: str


MUTATIONS: dict[str, Mutation] = {
    "truncate": Mutation("pass", "locking/test_files.py::test_a_leftover_is_emptied"),
    "lock": Mutation("granted = True", "stores/test_filesystem.py::test_timeouts_name_key_path_and_wait"),
    "inode": Mutation("return there", "locking/test_files.py::test_check"),
    "second name": Mutation("if False:", "stores/test_filesystem.py::test_a_lock_file_with_other_names_is_not_emptied"),
    "other mode": Mutation("if False:", "locking/test_created.py::test_the_other_mode_waits_and_says_why"),
    "stale draft": Mutation("pass", "stores/test_drafts.py::test_temp_file_takes_over_a_leftover"),
    "last look": Mutation("pass", "stores/test_filesystem.py::test_a_lock_file_taken_away_during_a_write"),
    "rename": Mutation("pass", "safety/test_crash_states.py::test_the_journal_tells_every_change"),
    "draft of another": Mutation("if True:", "stores/test_filesystem.py::test_the_draft_of_the_next_holder_is_left_alone"),
    "failed draft": Mutation("pass", "stores/test_filesystem.py::test_a_failed_write_changes_nothing"),
    "later than the old": Mutation("least = files.now()", "stores/test_drafts.py::test_a_draft_is_newer_than_what_it_replaces"),
    "coarse times": Mutation("if True:", "stores/test_drafts.py::test_a_draft_is_newer_than_what_it_replaces"),
    "version": Mutation("pass", "stores/test_filesystem.py::TestFilesystem::test_put_if"),
    "data sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_with_fsync"),
    "data syncs": Mutation("pass", "stores/test_durable.py::test_what_returned_outlives_a_loss_of_power"),
    "killed holder": Mutation("pass", "stores/test_filesystem.py::test_stale_files"),
    "probe": Mutation("pass", "stores/test_filesystem.py::test_locks_that_exclude_nobody_are_found"),
    "hold exit": Mutation("pass", "stores/test_filesystem.py::test_a_hold_outlives_its_writes"),
    "later data sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_after_a_sync"),
    "spare": Mutation("if True:", "stores/test_spares.py::test_readers_of_the_old_version_keep_it"),
    "spare sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_while_spares_are_used"),
    "spare tail": Mutation("pass", "stores/test_spares.py"),
    "told": Mutation("pass", "run/test_joining.py::test_who_is_acted_for_is_told_when_it_is_on_disk"),
    "shape": Mutation("if True:", "nodes/test_edges.py::test_what_is_being_appended_stays"),
    "dead bytes": Mutation("runs = runs[:0]", "codecs/test_dead_bytes.py::test_a_reader_with_an_old_index_finds_what_it_leads_to"),
    "dead clock": Mutation("clock = record.clock + kept_bytes", "codecs/test_dead_bytes.py::test_large_updates_outlive_each_other"),
    "entry at fault": Mutation(
        "keep_all = False", "ops/test_damage.py::test_much_that_is_dead_is_left_alone_while_an_entry_is_at_fault"
    ),
    "directory sync": Mutation("pass", "safety/test_crash_states.py::test_power_lost_with_fsync"),
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


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS if SOAK else QUICK)
def test_without_the_line(name: str, package: Path, tally: Callable[[str, int], None]) -> None:
    (path,) = marks()[name]
    file, mutation = package / "zarrant" / path, MUTATIONS[name]

    def without(mark: re.Match[str]) -> str:
        return mark["indent"] + mutation.instead if mark["name"] == name else mark[0]

    text = file.read_text(encoding="utf-8")
    file.write_text(MARK.sub(without, text), encoding="utf-8")
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
