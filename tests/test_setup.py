"""Which Python the set-up takes: the newest that serves, wherever it is; asked of interpreters that lie about themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[1] / "scripts" / "setup.sh"
pytestmark = pytest.mark.skipif(not SETUP.exists() or shutil.which("bash") is None, reason="needs the sources, and bash")

LIAR = """#!/bin/sh
# Runs what comes as `-I -c CODE`, as another Python would.
exec {python} -I - "$3" <<'CODE'
import collections, sys, sysconfig
sys.version_info = collections.namedtuple("V", "major minor micro releaselevel serial")({version}, 0)
sys._base_executable = "{path}"
sysconfig.get_config_var = lambda name: {threaded} if name == "Py_GIL_DISABLED" else None
exec(sys.argv[1])
CODE
"""


def python(place: Path, version: str, name: str = "", level: str = "final", threaded: int = 0) -> Path:
    """An executable that says it is that Python."""
    path = place / (name or f"python{version.rpartition('.')[0]}")
    place.mkdir(parents=True, exist_ok=True)
    numbers = f"{version.replace('.', ', ')}, {level!r}"
    path.write_text(LIAR.format(python=sys.executable, version=numbers, path=path, threaded=threaded))
    path.chmod(0o755)
    return path


def call(function: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A function of the script, with nothing of this machine to be found but what tmp_path has."""
    environment = {"PATH": f"{tmp_path / 'bin'}:{tmp_path / 'pyenv' / 'shims'}:{os.defpath}:/usr/bin:/bin", "HOME": str(tmp_path)}
    return subprocess.run(
        ["bash", "-c", f"source {SETUP}; {function}"],
        env=environment | {"PYENV_ROOT": str(tmp_path / "pyenv")} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def found(tmp_path: Path, **variables: str) -> list[str]:
    """The candidates that are in tmp_path, best first."""
    done = call("pythons", tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    return [line.split()[2] for line in done.stdout.splitlines() if str(tmp_path) in line]


def test_the_newest_comes_first_wherever_it_is(tmp_path: Path) -> None:
    on_path = [python(tmp_path / "bin", version) for version in ("3.11.9", "3.13.2", "3.9.1")]
    pyenv = [python(tmp_path / "pyenv" / "versions" / version / "bin", version) for version in ("3.12.4", "3.13.10", "3.10.2")]
    python(tmp_path / "pyenv" / "shims", "3.99.0")
    wanted = [pyenv[1], on_path[1], pyenv[0], on_path[0]]
    assert found(tmp_path) == [str(path) for path in wanted]


def test_plain_python3_is_asked_too_and_none_twice(tmp_path: Path) -> None:
    newest = python(tmp_path / "bin", "3.14.1", name="python3")
    (tmp_path / "bin" / "python3.14").symlink_to(newest)
    text = newest.read_text().replace(f'"{newest}"', f'"{tmp_path}/bin/python3.14"')
    newest.write_text(text)  # it names itself by the link
    assert found(tmp_path) == [str(newest)]


@pytest.mark.parametrize("odd", [{"level": "candidate"}, {"threaded": 1}], ids=["pre-release", "without GIL"])
def test_what_is_not_final_comes_last(tmp_path: Path, odd: dict[str, object]) -> None:
    python(tmp_path / "bin", "3.15.0", **odd)  # type: ignore[arg-type]
    python(tmp_path / "bin", "3.12.0")
    assert [path.rpartition("/")[2] for path in found(tmp_path)] == ["python3.12", "python3.15"]


def test_a_python_that_is_named_is_the_only_one(tmp_path: Path) -> None:
    python(tmp_path / "bin", "3.14.0")
    named = python(tmp_path / "elsewhere", "3.11.1")
    assert found(tmp_path, PYTHON=str(named)) == [str(named)]
    for wrong in (str(python(tmp_path / "elsewhere", "3.10.9")), "no-such-python"):
        done = call("pythons", tmp_path, PYTHON=wrong)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"PYTHON={wrong} is no Python 3.11 or newer" in done.stderr


def test_the_next_one_is_taken_where_the_newest_does_not_serve(tmp_path: Path) -> None:
    """Without wheels it does not serve; without headers it comes after those that have them."""
    candidates = "\n".join(f"rank {version} /{version}" for version in ("3.16.0", "3.15.0", "3.14.0", "3.13.0"))
    stand_ins = """
        system_libraries() { :; }
        has_headers() { [ "$1" != /3.16.0 ]; }
        make_venv() { taken=$1; [ "$1" != /3.15.0 ]; }
        has_wheels() { [ "$taken" = "$serving" ]; }
    """
    for serving, tried in (("/3.13.0", "3.16.0 3.15.0 3.14.0"), ("/3.16.0", "3.16.0 3.15.0 3.14.0 3.13.0"), ("none", "")):
        done = call(f'{stand_ins} serving={serving}; choose_python "{candidates}" && echo "$taken"', tmp_path)
        assert done.stdout.strip() == ("" if serving == "none" else serving), done.stderr
        assert all(f"Python {version} " in done.stderr for version in tried.split())
        assert ("no Python 3.11 or newer serves here" in done.stderr) == (serving == "none")
