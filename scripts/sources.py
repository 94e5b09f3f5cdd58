"""Fetches the sources of the C libraries that the kernels are compiled with: zstd, c-blosc (with lz4 and zlib), libdeflate.

`sources.py DIRECTORY` leaves them there, with their licences, for cmake/vendored.cmake; or it says why not, with status 1, and
leaves nothing. They are parts of source archives of Python packages, so pip, as it is configured here, brings them. Each archive
is pinned by its SHA-256, and none of its code is run: where pip would build its metadata, a stand-in for the build backend
copies those that the archive has. Nothing is done twice: `pins.txt` in the directory says what is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path, PurePosixPath

PINS = """\
backports.zstd==1.8.0 --hash=sha256:9dae4f4c481716e3db473d667457b4f508ff7459c0931b567a5c9677fb3db316
numcodecs==0.17.1 --hash=sha256:5069dc01b0087c6135cbb3b043707aaf927c992fcd325248d15d907c51dd3747
deflate==0.9.0 --hash=sha256:962e0a6f1ea3a94b900a8ea0ce138fa92bfcbafda5b86367104a259ffcd3462b
"""  # zstd 1.5.7, c-blosc 1.21.7.dev, lz4 1.10.0 and zlib 1.3.1, libdeflate 1.26

PARTS = {  # folder or file in the archive, without its first folder: where it goes
    "backports_zstd": {
        "src/c/zstd/lib": "zstd",
        "src/c/zstd/LICENSE": "licenses/zstd.txt",
    },
    "numcodecs": {
        "c-blosc/blosc": "blosc/blosc",
        "c-blosc/internal-complibs/lz4-1.10.0": "blosc/lz4",
        "c-blosc/internal-complibs/zlib-1.3.1": "blosc/zlib",
        "c-blosc/internal-complibs/zlib-1.3.1/LICENSE": "licenses/zlib.txt",
        "c-blosc/LICENSE.txt": "licenses/c-blosc.txt",
        "c-blosc/LICENSES/BITSHUFFLE.txt": "licenses/bitshuffle.txt",
        "c-blosc/LICENSES/FASTLZ.txt": "licenses/fastlz.txt",
        "c-blosc/LICENSES/LZ4.txt": "licenses/lz4.txt",
    },
    "deflate": {
        "libdeflate/lib": "libdeflate/lib",
        "libdeflate/libdeflate.h": "libdeflate/libdeflate.h",
        "libdeflate/common_defs.h": "libdeflate/common_defs.h",
        "libdeflate/COPYING": "licenses/libdeflate.txt",
    },
}

BACKEND = """
import email, pathlib, shutil
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    found = email.message_from_string(pathlib.Path("PKG-INFO").read_text("utf-8"))
    made = pathlib.Path(directory, "{}-{}.dist-info".format(found["Name"].replace("-", "_").replace(".", "_"), found["Version"]))
    made.mkdir()
    shutil.copy("PKG-INFO", made / "METADATA")
    return made.name
"""
BACKENDS = ("setuptools/build_meta.py", "mesonpy/__init__.py", "scikit_build_core/build.py")


def download(into: Path, work: Path) -> None:
    """The archives; CalledProcessError where pip finds them not, or others."""
    for name in BACKENDS:
        path = work / "backends" / name
        path.parent.mkdir(parents=True)
        (path.parent / "__init__.py").touch()
        path.write_text(BACKEND)
    (work / "pins.txt").write_text(PINS)
    # Offline, what pip does by default takes minutes.
    options = ["--no-deps", "--no-binary=:all:", "--no-build-isolation", "--require-hashes", "--retries=1", "--timeout=20"]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", *options, "-r", work / "pins.txt", "-d", into],
        env=os.environ | {"PYTHONPATH": str(work / "backends")},
        check=True,
        capture_output=True,
        text=True,
    )


def unpack(archive: Path, parts: dict[str, str], into: Path) -> None:
    """The parts of an archive; ValueError where one is not in it."""
    found = set()
    with tarfile.open(archive) as opened:
        for member in opened:
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            for part, place in parts.items():
                if not member.isfile() or not inside.is_relative_to(part) or ".." in inside.parts:
                    continue
                target = into / place / inside.relative_to(part)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.extractfile(member) as content:  # type: ignore[union-attr]
                    target.write_bytes(content.read())
                found.add(part)
    if absent := parts.keys() - found:
        raise ValueError(f"{archive.name} has no {', '.join(sorted(absent))}")


def fetch(directory: Path) -> None:
    """Leave the sources in `directory`, whole or not at all."""
    if (directory / "pins.txt").is_file() and (directory / "pins.txt").read_text() == PINS:
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        work = Path(name)
        download(work / "archives", work)
        for archive in sorted((work / "archives").iterdir()):
            unpack(archive, PARTS[archive.name.rpartition("-")[0]], work / "sources")
        (work / "sources" / "pins.txt").write_text(PINS)
        shutil.rmtree(directory, ignore_errors=True)
        (work / "sources").rename(directory)


def main() -> int:
    """Run from the command line."""
    try:
        fetch(Path(sys.argv[1]).absolute())
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")] or error.stderr.splitlines()[-1:]
        print(f"the sources of zstd, c-blosc and libdeflate could not be fetched: {' '.join(lines)[:200]}", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"the sources of zstd, c-blosc and libdeflate could not be fetched: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
