"""The page about the command line: its examples run, in order, in an empty directory, and it names every command."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from zarrant.cli import main

pytest.importorskip("typer")
pytest.importorskip("rich")
from zarrant.cli.app import app

PAGE = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = 0
    for kind, text in BLOCK.findall(PAGE):
        if kind == "python":
            exec(text, names)
            continue
        for line in text.splitlines():
            command, _, said = line.partition("  # exit status ")
            program, *words = shlex.split(command.removeprefix("$ "))
            assert line.startswith("$ ") and program == "zarrant"
            with pytest.raises(SystemExit) as end:
                main(words)
            assert str(end.value.code or 0) == (said[:1] or "0"), f"{line}\n{capsys.readouterr().err}"
            ran += 1
    assert ran > 30


def test_every_command_is_on_the_page() -> None:
    commands = {str(each.name or each.callback.__name__) for each in app.registered_commands if each.callback}
    assert [name for name in commands if f"$ zarrant {name}" not in PAGE and name != "demo"] == []
