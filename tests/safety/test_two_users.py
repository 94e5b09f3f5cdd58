"""Two users who write one array in a directory of their group. Needs root, which becomes one or the other."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import zarrant
from children import said

GROUP, FIRST, SECOND = 3000, 2001, 2002
S = np.s_

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become another user")


@pytest.fixture
def shared() -> Iterator[Path]:
    """Not below pytest's own directory, which other users cannot enter."""
    root = Path(tempfile.mkdtemp())
    os.chown(root, 0, GROUP)
    root.chmod(0o2775)
    yield root
    shutil.rmtree(root)


def start(user: int, umask: int, act: Callable[[], object]) -> tuple[int, int]:
    """Fork a child of that user; its process and the pipe that tells what became of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([GROUP])
        os.setgid(GROUP)
        os.setuid(user)
        os.umask(umask)
        try:
            told = str(act())
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writer, told.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    return child, reader


def ended(child: int, reader: int) -> str:
    told = said(child, reader).decode()
    os.waitpid(child, 0)
    return told


def as_user(user: int, umask: int, act: Callable[[], object]) -> str:
    return ended(*start(user, umask, act))


def make(path: Path, mode: int = 0o2775, locking: str = "auto", umask: int = 0o002) -> None:
    def create() -> None:
        options = {"shape": (64,), "chunks": (16,), "shards": (64,), "dtype": "i8", "fill_value": 0}
        zarrant.create_array(path, **options)[...] = 1  # type: ignore[arg-type]

    assert as_user(FIRST, umask, create) == "None"
    for directory, _, _ in os.walk(path):
        os.chmod(directory, mode)


def add(path: Path, times: int, locking: str = "auto") -> Callable[[], str]:
    def act() -> str:
        a = zarrant.open_array(path, mode="r+", config={"lock_timeout": 20, "locking": locking})
        for _ in range(times):
            a.update(S[0:64], lambda x: x + 1)
        return "done"

    return act


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027])
@pytest.mark.parametrize("locking", ["os", "lockfile"])
def test_both_write_whatever_their_umask(shared: Path, umask: int, locking: str) -> None:
    make(shared / "a")
    children = [start(user, umask, add(shared / "a", 40, locking)) for user in (FIRST, SECOND)]
    assert [ended(*child) for child in children] == ["done", "done"]
    assert set(zarrant.open_array(shared / "a", mode="r")[...].tolist()) == {81}


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027])
def test_what_a_killed_writer_of_the_other_left_is_no_obstacle(shared: Path, umask: int) -> None:
    make(shared / "a")

    def killed() -> None:
        with zarrant.open_array(shared / "a", mode="r+").lock(S[0:64]):
            (shared / "a/c/0.__new.__lock").write_bytes(b"left")
            os.kill(os.getpid(), signal.SIGKILL)

    as_user(FIRST, umask, killed)
    assert (shared / "a/c/0.__lock").exists()
    for user in (SECOND, FIRST):
        assert as_user(user, umask, add(shared / "a", 1)) == "done"
    assert set(zarrant.open_array(shared / "a", mode="r")[...].tolist()) == {3}
    assert sorted(path.name for path in (shared / "a/c").iterdir()) == ["0"]


@pytest.mark.parametrize("left", ["by a stranger", "in a sticky directory"])
def test_what_cannot_be_taken_is_named_and_what_to_change(shared: Path, left: str) -> None:
    make(shared / "a", 0o3775 if left == "in a sticky directory" else 0o2775)
    obstacle = shared / "a/c/0"
    if left == "by a stranger":
        obstacle = shared / "a/c/0.__lock"
        obstacle.touch(mode=0o600)
    told = as_user(SECOND, 0o022, add(shared / "a", 1))
    assert told.startswith("StorePermissionError")
    assert str(obstacle) in told
    assert ("chmod g+rw" if left == "by a stranger" else "chmod -t") in told
    assert set(zarrant.open_array(shared / "a", mode="r")[...].tolist()) == {1}
    assert sorted(path.name for path in (shared / "a/c").iterdir() if not path.name.endswith("__lock")) == ["0"]


def test_permissions_set_by_hand_stay(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(8,), chunks=(4,), shards=(8,), dtype="i4")
    a[...] = 1
    for name in ("zarr.json", "c/0"):
        (tmp_path / "a" / name).chmod(0o640)
    a.attrs["x"] = 1
    a[0] = 2
    a[...] = 3
    for name in ("zarr.json", "c/0"):
        assert stat.S_IMODE((tmp_path / "a" / name).stat().st_mode) == 0o640


def test_an_object_of_another_user_stays_readable_for_both(shared: Path) -> None:
    make(shared / "a")
    (shared / "a/c/0").chmod(0o640)
    assert as_user(SECOND, 0o002, add(shared / "a", 1)) == "done"
    assert stat.S_IMODE((shared / "a/c/0").stat().st_mode) & 0o060 == 0o060
    assert as_user(FIRST, 0o002, add(shared / "a", 1)) == "done"
