"""Fetching the sources of the C libraries: whole or not at all, by pip as it is configured, and only what is pinned."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "sources.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the sources")


def script() -> Any:
    spec = importlib.util.spec_from_file_location("sources", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    return path


def test_every_archive_is_pinned_and_has_its_licences() -> None:
    sources = script()
    pins = [line.split() for line in sources.PINS.splitlines()]
    assert [pin[0].partition("==")[0].replace(".", "_") for pin in pins] == list(sources.PARTS)
    assert all(pin[1].startswith("--hash=sha256:") and len(pin[1]) == 78 for pin in pins)
    assert all(any(place.startswith("licenses/") for place in parts.values()) for parts in sources.PARTS.values())


def test_only_the_parts_are_unpacked(tmp_path: Path) -> None:
    files = {
        "lib/a.c": b"a",
        "lib/in/b.c": b"b",
        "library.c": b"no",
        "LICENSE": b"mine",
        "setup.py": b"no",
        "lib/../../out.c": b"no",
    }
    script().unpack(archive(tmp_path / "x-1.tar.gz", files), {"lib": "zstd", "LICENSE": "licenses/x.txt"}, tmp_path / "to")
    found = {
        str(path.relative_to(tmp_path / "to")): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path.suffix != ".gz"
    }
    assert found == {"zstd/a.c": b"a", "zstd/in/b.c": b"b", "licenses/x.txt": b"mine"}
    with pytest.raises(ValueError, match=r"x-1\.tar\.gz has no gone"):
        script().unpack(tmp_path / "x-1.tar.gz", {"gone": "zstd"}, tmp_path / "to")


@pytest.mark.parametrize("offered", [False, True], ids=["nothing to fetch", "another archive"])
def test_what_cannot_be_fetched_leaves_nothing(tmp_path: Path, offered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip finds no archive, or one whose checksum is not the pinned one."""
    (tmp_path / "links").mkdir()
    if offered:
        for name in ("backports_zstd-1.8.0", "numcodecs-0.17.1", "deflate-0.9.0"):
            archive(
                tmp_path / "links" / f"{name}.tar.gz", {"PKG-INFO": b"Metadata-Version: 2.1\n", "setup.py": b"raise SystemExit(3)"}
            )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    to = tmp_path / "build" / "sources"
    done = subprocess.run([sys.executable, SCRIPT, to], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, list(to.parent.iterdir())) == (1, "", [])
    assert done.stderr.startswith("the sources of zstd, c-blosc and libdeflate could not be fetched: ")
    assert len(done.stderr.splitlines()) == 1
    assert ("HASH" in done.stderr.upper()) == offered


def test_nothing_is_fetched_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = script()
    monkeypatch.setattr(sources, "download", lambda into, work: pytest.fail("it is there"))
    (tmp_path / "pins.txt").write_text(sources.PINS)
    sources.fetch(tmp_path)
