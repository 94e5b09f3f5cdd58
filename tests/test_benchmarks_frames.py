"""The benchmark of frames does what it times, with every library, and notices what is wrong; its times are not looked at."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks import frames

ARGUMENTS = ["--frames", "5", "--side", "32", "--depth", "2", "--rounds", "1", "--dir"]


def test_every_library_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert frames.main([*ARGUMENTS, str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for writer in frames.WRITERS:
        if all(map(importlib.util.find_spec, writer.needs)):
            assert text.count(f"| {writer.name} |") == len(frames.CODECS)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    right = frames.Buffered.write
    monkeypatch.setattr(frames.Buffered, "write", lambda self, path, values, depth: right(self, path, values + 1, depth))
    assert frames.main([*ARGUMENTS, str(tmp_path)]) == 1
    assert "zarrant buffered: 5120 of 5120 values are wrong" in capsys.readouterr().out
