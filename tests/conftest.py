"""What every test shares: how long hypothesis searches, and the count of the cases of the safety tests.

`tally(row, count)` notes cases, and one table at the end of the run adds them up. A soak run fails where a row stays below its
figure: a proof that became smaller by accident is noticed. (It stands here because the process that reports, where several run
the tests, reads no other conftest.)
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from children import ended, kill_forks
from servers.fixtures import (  # noqa: F401 - fixtures of every test
    azurite,
    fake_gcs,
    gofakes3,
    moto,
    no_conditions,
    object_server,
    redis_url,
    versitygw,
    versitygw_sidecar,
)
from zarrant.codecs import chain
from zarrant.codecs.pipeline import uncompressed
from zarrant.codecs.sharding import dead_bytes
from zarrant.ops import bound_array
from zarrant.stores.local import temp_files, unsynced
from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit import FaultySyscalls

# Every file that this process makes is known as its own. Else one in a hundred (by its mtime), and each of thousands when there are
# too many, is locked while it is changed, and a test that counts calls fails once in hundreds of runs.
temp_files.FINE_NS, temp_files.MAX_MADE = 1 << 62, 1 << 20

# Machines that run tests are shared: a deadline measures the neighbours, and so does slow generation of data.
COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=50, **COMMON)
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
settings.register_profile("soak", max_examples=300 * max(1, SOAK), **COMMON)
settings.load_profile("soak" if SOAK else "quick")

FIGURES = {
    "lost updates": 8_000,
    "mixed with TensorStore": 1_600,
    "foreign reads": 20_000,
    "kills": 5_000,
    "leftovers": 300,
    "crash states": 50_000,
    "power cuts": 40,
    "I/O faults": 15_000,
    "object-store faults": 2_000,
    "object-server changes": 3_200,
    "object-server faults": 100_000,
    "object-server kills": 2_000,
    "machine steps": 300 * 60,
    "malformed fixtures": 400,
    "fuzzed documents": 1_000_000,
    "fuzzed creations": 100_000,
    "fuzzed arrays": 50_000,
    "forks": 200,
    "stale handles": 20_000,
    "contended updates": 1,
    "mutations": 1,
}
"""Cases that one soak run reaches at least."""

OURS = ("tmp", "zarrant-")
"""How names begin that `tempfile` gives by itself, and those of the library. Others are of Dask, servers, killed processes."""

Tally = Callable[[str, int], None]


@pytest.fixture(scope="session", autouse=True)
def nothing_stays_in_the_temp_folder() -> Iterator[None]:
    """What tests, examples and the library make in the system's folder for temporary files, they remove.

    Each process of the tests has a folder of its own for them, which is removed; a warning says what was in it.
    """
    folder = tempfile.mkdtemp(prefix="zarrant-tests-")
    os.chmod(folder, 0o755)  # some tests become another user
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield
    left = [name for name in os.listdir(folder) if name.startswith(OURS)]
    # After multiprocessing has removed its own; and a process of Dask may still do the same.
    Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-200)
    if left:  # no failure: a process that a test killed may have left it
        warnings.warn(f"tests left {len(left)} files in the temp folder: {left[:5]}", stacklevel=1)


def forget_prepared() -> None:
    """Layouts are prepared anew from here on."""
    chain._prepare.cache_clear()
    bound_array._bound.clear()


@pytest.fixture(scope="module")
def ranges_of_small_chunks() -> Iterator[None]:
    """Chunks of nothing but `bytes` are read and written in ranges however small they are, and however little that saves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uncompressed, "MIN_RANGED_CHUNK_BYTES", 0)
        patch.setattr(uncompressed, "RANGE_COST_BYTES", 0)
        forget_prepared()
        yield
    forget_prepared()


@pytest.fixture
def prepared_anew() -> Iterator[None]:
    """Layouts that other tests have prepared are prepared anew, as are those of this one after it."""
    forget_prepared()
    yield
    forget_prepared()


@pytest.fixture
def keep_dead_bytes(prepared_anew: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many dead bytes a shard may keep in any case, also for layouts that other tests have prepared."""

    def keep(most: int) -> None:
        monkeypatch.setattr(dead_bytes, "KEPT_BYTES", most)

    return keep


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Tally:
    """Note that a test went through so many cases of a row."""

    def note(row: str, count: int) -> None:
        assert row in FIGURES, row
        record_property("safety", (row, count))

    return note


@pytest.fixture
def nothing_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process begins: what other tests left unsynced, and the processes they started, do not count."""
    monkeypatch.setattr(unsynced, "_OURS", unsynced.Unsynced())


KilledAt = Callable[..., bool]


@pytest.fixture
def killed_at() -> KilledAt:
    """Let a child of ours write to a store, and kill it before its file call number `step`; False where it ended before that."""

    def killed(
        root: Path, step: int, write: Callable[[Any], None], syscalls: type[FaultySyscalls] = FaultySyscalls, **options: Any
    ) -> bool:
        def kill(index: int, name: str) -> None:
            if index == step:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            try:
                write(FilesystemStore(root, syscalls=syscalls(kill), **options))
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(ended(child))
        assert status in (0, -signal.SIGKILL)
        return status != 0

    return killed


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """The 10^6 objects of tests that are only collected are no garbage, and to look through them took a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The forked processes of a test that failed do not live on: they would keep open what ends the servers, and the tests."""
    report = yield
    if report.failed:
        kill_forks()
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = _counts(terminalreporter)
    if not counts:
        return
    terminalreporter.section("cases of the safety tests")
    for row, figure in FIGURES.items():
        if row in counts:
            short = "" if counts[row] >= figure or not SOAK else "  TOO FEW"
            terminalreporter.write_line(f"{row:<24}{counts[row]:>12,}{f'of {figure:,}' if SOAK else '':>16}{short}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not SOAK or reporter is None or hasattr(session.config, "workerinput") or exitstatus:
        return
    counts = _counts(reporter)
    if any(0 < counts[row] < figure for row, figure in FIGURES.items()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _counts(reporter: pytest.TerminalReporter) -> Counter[str]:
    counts: Counter[str] = Counter()
    for report in reporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if name == "safety":
                row, count = value
                counts[row] += count
    return counts
