"""macOS and Windows, as far as this system can say: files are written, locked and read with the calls that there are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import zarrant

PROGRAM = Path(__file__).with_name("other_system.py")


@pytest.mark.skipif(sys.platform != "linux", reason="takes away what Linux has")
@pytest.mark.parametrize("system", ["darwin", "old darwin", "win32"])
def test_writers_lose_nothing_with_the_calls_of_another_system(system: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(zarrant.__file__).parents[1])}
    command = [sys.executable, str(PROGRAM), system, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
