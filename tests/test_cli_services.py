"""Every command on a service that needs options: they come from --option, and nothing is asked of the environment."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Server
from zarrant.cli import main

pytest.importorskip("typer")
pytest.importorskip("rich")

VALUES = np.arange(24, dtype="int32").reshape(4, 6)


@pytest.fixture
def words(gofakes3: Server, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options of the service as words of a command line; the environment has none of them."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    options = dict(gofakes3.storage_options)
    return [word for name, value in options.items() for word in ("-o", f"{name}={json.dumps(value)}")]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*words, "--json"])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    found = json.loads(out)
    return int(end.value.code or 0), found.get("error", found)


def test_each_command_takes_options(gofakes3: Server, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    url = gofakes3.fresh_url()
    shape = ["--shape", "4,6", "--dtype", "int32", "--chunks", "2,3"]
    assert run(capsys, "create", f"{url}/a", *shape, *words)[0] == 0
    zarrant.open_array(f"{url}/a", mode="r+", storage_options=gofakes3.storage_options)[...] = VALUES
    zarrant.open_group(url, mode="a", storage_options=gofakes3.storage_options)
    assert run(capsys, "info", f"{url}/a", *words)[1]["shape"] == [4, 6]
    assert [child["name"] for child in run(capsys, "tree", url, *words)[1]["children"]] == ["a"]
    assert run(capsys, "consolidate", url, *words)[1]["nodes"] == 1
    assert run(capsys, "check", url, "--deep", *words)[1]["objects"] == 4
    assert run(capsys, "check", url, "--repair", *words)[0] == 0
    assert len(run(capsys, "convert", url, "--to", "3", *words)[1]["unchanged"]) == 2
    assert run(capsys, "archive", url, str(tmp_path / "a.zip"), *words)[1]["objects"] == 6
    assert np.array_equal(zarrant.open_array(f"zip://a::{tmp_path / 'a.zip'}", mode="r")[...], VALUES)


def test_a_copy_has_options_of_the_source_and_of_the_target(
    gofakes3: Server, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    here, there = str(tmp_path / "a.zarr"), gofakes3.fresh_url()
    zarrant.create_array(here, data=VALUES, chunks=(2, 3))
    assert run(capsys, "copy", here, f"{there}/a", *words)[0] == 0
    source_words = [word.replace("-o", "--source-option") if word == "-o" else word for word in words]
    assert run(capsys, "copy", f"{there}/a", f"{there}/b", *words, *source_words)[0] == 0
    assert run(capsys, "copy", f"{there}/b", str(tmp_path / "b.zarr"), *source_words)[0] == 0
    assert np.array_equal(zarrant.open_array(tmp_path / "b.zarr", mode="r")[...], VALUES)
    status, error = run(capsys, "copy", f"{there}/a", f"{there}/a/inside", *words, *source_words)
    assert status == 1 and (error["class"], error["field"]) == ("OptionError", "target") and "lie in each other" in error["message"]


@pytest.mark.parametrize("command", ["info", "tree", "check", "consolidate", "convert"])
def test_what_is_no_option_is_refused(command: str, capsys: pytest.CaptureFixture[str], gofakes3: Server) -> None:
    status, error = run(capsys, command, gofakes3.fresh_url(), "-o", "region")
    assert status == 1 and "NAME=VALUE" in error["expected"]
    status, error = run(capsys, command, gofakes3.fresh_url(), "-o", "regoin=x")
    assert status == 1 and error["field"] == "regoin"
