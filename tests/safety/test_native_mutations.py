"""The marked lines of the compiled file calls (`// safety: NAME`), each taken out in turn; see `test_mutations`.

In come the sources of the kernels. They are built once, and again for each line that is missing; the test named here must fail
with that module. It takes a compiler, and 10 to 30 s a line: the soak run does it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.safety.test_mutations import (
    AT_ONCE,
    BATCH_AT_ONCE,
    BOX_UPDATE,
    MARK,
    READ_AT_ONCE,
    ROOT,
    UPDATE_AT_ONCE,
    Mutation,
    run,
)

NATIVE = ROOT / "src" / "zarrant" / "kernels" / "native"
SAME_CALLS = f"{AT_ONCE}::test_the_calls_are_those_of_the_general_way"
EQUAL = f"{AT_ONCE}::test_it_is_equal_to_the_general_way"
UNUSUAL = f"{AT_ONCE}::test_what_is_not_the_usual_case_is_left_to_the_general_way"
MUTATIONS: dict[str, Mutation] = {
    "native fork": Mutation("", f"{AT_ONCE}::test_a_child_that_is_forked_meanwhile_has_no_file_of_a_write"),
    "native lock": Mutation("const bool granted = usual;", SAME_CALLS),
    "native inode": Mutation("const bool in_place = (there = {}, there.st_nlink = 1, true);", SAME_CALLS),
    "native lock of the caller": Mutation("return true;", f"{AT_ONCE}::test_the_calls_under_a_lock_are_those_of_the_general_way"),
    "native alone": Mutation("", "nodes/test_put_first.py"),
    "native no ghost": Mutation("", "stores/local/test_directories.py::test_no_directory_is_made_of_a_node_that_is_gone"),
    "native metadata lock": Mutation("", f"{AT_ONCE}::test_a_condition_on_what_is_locked_does_not_hold"),
    "native metadata": Mutation("return true;", EQUAL),
    "native absent": Mutation("if (wanted_.if_version == IfVersion::absent) return true;", UNUSUAL),
    "native nothing there": Mutation("", f"{UPDATE_AT_ONCE}::test_a_call_that_fails_leaves_everything_as_it_was"),
    "native must replace": Mutation(
        "if (!replaces_) return true;", f"{UPDATE_AT_ONCE}::test_nothing_is_begun_where_an_object_must_be_there"
    ),
    "native version": Mutation("return true;", UNUSUAL),
    "native later than the old": Mutation("", f"{AT_ONCE}::test_it_is_newer_than_what_it_replaces"),
    "native lock exit": Mutation("(void)mine;", SAME_CALLS),
    "native whole chunk": Mutation("", f"{BOX_UPDATE}::test_at_the_end_of_the_array_what_others_appended_stays"),
    "native chunk size": Mutation("", f"{BOX_UPDATE}::test_a_chunk_with_more_bytes_than_its_codecs_make_is_not_read"),
    "native subchunk size": Mutation("", f"{BOX_UPDATE}::test_a_subchunk_with_more_bytes_than_its_codecs_make_is_not_read"),
    "native index": Mutation("true;", f"{BOX_UPDATE}::test_what_is_damaged_is_an_error_as_ever"),
    "native dead bytes": Mutation("return false;", f"{BOX_UPDATE}::test_dead_bytes_are_laid_out_anew_when_there_are_many"),
    "native dead clock": Mutation(
        "const std::int64_t clock = record->clock + most;",
        f"{BOX_UPDATE}::test_dead_bytes_are_laid_out_anew_when_there_are_many",
    ),
    "native dead bytes that stay": Mutation(
        "dead.clear();", f"{BOX_UPDATE}::test_dead_bytes_are_laid_out_anew_when_there_are_many"
    ),
    "native lock of another": Mutation(
        "const bool renamed = mine && renameat(directory_.at, from, directory_.at, to) == 0;",
        f"{BATCH_AT_ONCE}::test_the_lock_of_another_writer_is_not_replaced",
    ),
    "native new object": Mutation(
        'unlinkat(directory_.at, wanted_.path, 0);return linkat(temp_.get(), "", directory_.at, wanted_.path, AT_EMPTY_PATH) == 0;',
        f"{BATCH_AT_ONCE}::test_what_is_there_where_nothing_was_expected_is_replaced_as_any",
    ),
    "native moved lock": Mutation("const bool moved = renamed;", f"{BATCH_AT_ONCE}::test_one_lock_file_serves_all"),
    "native object size": Mutation("const bool too_large = false;", f"{READ_AT_ONCE}::test_what_is_too_large_is_not_read"),
    "native version of a decoded read": Mutation(
        "if (file.found != Found::there) return false;",
        "codecs/sharding/test_planned.py::test_a_shard_that_was_replaced_is_read_anew",
    ),
    "native version of what is kept": Mutation(
        "return file.found == Found::there;", "ops/test_kept_boxes.py::test_what_was_replaced_is_read_anew"
    ),
    "native version of a read": Mutation(
        "const bool wanted = there;", f"{READ_AT_ONCE}::test_a_range_of_another_version_is_not_read"
    ),
}


def marks() -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(NATIVE.glob("*.cpp")):
        for mark in MARK.finditer(path.read_text(encoding="utf-8")):
            found.setdefault(mark["name"], []).append(path)
    return found


def test_every_mark_has_a_test() -> None:
    assert {name: len(paths) for name, paths in marks().items()} == dict.fromkeys(MUTATIONS, 1)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sources in `source`, built in `build`."""
    if not (shutil.which("cmake") and shutil.which("ninja") and importlib.util.find_spec("nanobind")):
        pytest.skip("nothing to build with")
    root = tmp_path_factory.mktemp("native")
    ignored = shutil.ignore_patterns("build", ".git", ".venv", "tests", "docs", "__pycache__", "*.so")
    shutil.copytree(ROOT, root / "source", ignore=ignored)
    options = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", f"-DPython_EXECUTABLE={sys.executable}"]
    sources = os.environ.get("ZARRANT_SOURCES") or str(ROOT / "build" / "sources")
    command = ["cmake", "-S", str(root / "source"), "-B", str(root / "build"), *options, f"-DZARRANT_SOURCES={sources}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    compiled(root)
    return root


def compiled(root: Path) -> Path:
    """The module as the sources are now."""
    made = subprocess.run(["cmake", "--build", str(root / "build")], check=False, capture_output=True, text=True, timeout=900)
    assert made.returncode == 0, made.stdout[-3000:]
    (module,) = (root / "build").glob("_native*.so")
    return module


@pytest.mark.timeout(1500)
@pytest.mark.soak
@pytest.mark.parametrize("name", [None, *MUTATIONS])
def test_without_the_line(name: str | None, build: Path, tmp_path: Path, tally: Callable[[str, int], None]) -> None:
    """None: with every line each of the tests passes."""
    kept = {path: path.read_text(encoding="utf-8") for path in (build / "source/src/zarrant/kernels/native").glob("*.cpp")}
    try:
        for path, text in kept.items():
            wanted = MARK.sub(lambda mark: mark["indent"] + MUTATIONS[name].instead if mark["name"] == name else mark[0], text)
            if wanted != text:
                path.write_text(wanted, encoding="utf-8")
        shutil.copytree(build / "source/src/zarrant", tmp_path / "zarrant")
        shutil.copy(compiled(build), tmp_path / "zarrant" / "kernels")
        tests = sorted({each.test for each in MUTATIONS.values()}) if name is None else [MUTATIONS[name].test]
        for test in tests:
            ran = run(tmp_path, test)
            assert ran.returncode == (0 if name is None else 1), f"{test}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
        tally("mutations", name is not None)
    finally:
        for path, text in kept.items():
            if path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
