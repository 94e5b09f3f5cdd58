"""The command line: output for people and for programs, exit statuses, one message and no traceback for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.cli import main
from zarrant.cli.failure import facts_of
from zarrant.errors import FIELDS, LockTimeout, PartialFailure, ZarrantError
from zarrant.tools.units import copy_unit

pytest.importorskip("typer")
pytest.importorskip("rich")
from zarrant.cli.app import app
from zarrant.cli.command import SHORT_HELP

VALUES = np.arange(40 * 30, dtype="int32").reshape(40, 30)


class Shell:
    """Runs command lines in this process, as the script does."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.out = self.err = ""
        self.directory = Path()

    def __call__(self, *words: str) -> int:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(words)
        self.out, self.err = self.capsys.readouterr()
        assert "Traceback" not in self.out + self.err
        return int(end.value.code or 0)

    def json(self, *words: str) -> Any:
        assert self(*words, "--json") == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")
    shell = Shell(capsys)
    shell.directory = tmp_path
    return shell


@pytest.fixture
def array(run: Shell) -> None:
    zarrant.create_array("a.zarr", data=VALUES, chunks=(5, 5), shards=(10, 10))


def test_create_makes_what_the_words_say(run: Shell) -> None:
    words = "create new/a.zarr --shape 100,200 --dtype float32 --chunks 10,20 --shards 50,40 --fill-value NaN --dimension-names y,x"
    facts = run.json(*words.split(), "--compressor", "blosc:lz4:3:bitshuffle")
    a = zarrant.open_array("new/a.zarr", mode="r")
    assert (a.shape, a.dtype, a.chunks, a.shards, a.dimension_names) == ((100, 200), np.float32, (10, 20), (50, 40), ("y", "x"))
    assert np.isnan(a[0, 0])
    assert a.metadata.codecs[0].configuration["codecs"][-1]["configuration"]["shuffle"] == "bitshuffle"
    assert facts["stored_objects"] == 10
    before = Path("new/a.zarr/zarr.json").read_bytes()
    assert run("create", "new/a.zarr", "--shape", "3", "--dtype", "int8") == 1
    assert run("create", "new/a.zarr", "--shape", "3", "--dtype", "int8", "--chunks", "0", "--overwrite") == 1
    assert Path("new/a.zarr/zarr.json").read_bytes() == before
    assert run("create", "new/a.zarr", "--shape", "3", "--dtype", "int8", "--overwrite") == 0
    assert zarrant.open_array("new/a.zarr", mode="r").shape == (3,)


@pytest.mark.usefixtures("array")
def test_info_and_tree(run: Shell) -> None:
    assert run("info", "a.zarr") == 0
    for words in ("40 × 30", "int32", "10 × 10", "12 in a grid of 4 × 3", "sharding_indexed", "locks"):
        assert words in run.out
    assert run.json("info", "a.zarr")["shards"] == [10, 10]
    zarrant.open_group("g.zarr", mode="w").create_array("x/[raw]", shape=(2,), dtype="int8")
    assert run("tree", "g.zarr") == 0
    assert "└── x" in run.out and "[raw]  2 int8" in run.out
    assert run("info", "g.zarr") == 0
    assert "x: group" in run.out
    assert run.json("tree", "g.zarr")["children"][0]["children"][0]["name"] == "[raw]"


@pytest.mark.usefixtures("array")
def test_copy(run: Shell) -> None:
    words = ["copy", "a.zarr", "b.zarr", "--chunks", "4,3", "--shards", "none", "--compressor", "gzip:1", "--dtype", "int64"]
    assert run(*words, "--dry-run") == 0
    assert "Nothing was written" in run.out and not Path("b.zarr").exists()
    assert run(*words) == 0
    assert "Copied" in run.out and "100" in run.out
    b = zarrant.open_array("b.zarr", mode="r")
    assert (b.chunks, b.shards, b.dtype) == ((4, 3), None, np.int64)
    assert np.array_equal(b[...], VALUES)
    facts = run.json("copy", "b.zarr", "b.npy")
    assert facts["stored_bytes"] == Path("b.npy").stat().st_size
    assert np.array_equal(np.load("b.npy"), VALUES)


@pytest.mark.usefixtures("array")
@pytest.mark.parametrize(
    ("status", "message", "words"),
    [
        (1, "no such directory", "info none"),
        (1, "no such directory", "tree none"),
        (1, "unknown kind of store", "info nothing://bucket/x"),
        (1, "not a directory", "info a.zarr/zarr.json"),
        (1, "nothing to copy here", "copy none b"),
        (1, "already", "copy a.zarr a2.zarr"),
        (1, "not a shape", "copy a.zarr b --chunks 3,x"),
        (1, "not a compressor", "copy a.zarr b --compressor rar"),
        (1, "must divide", "copy a.zarr b --shards 7,7"),
        (1, "keeps every value", "copy a.zarr b --dtype int8"),
        (1, "not a data type", "create b --shape 3 --dtype nonsense"),
        (1, "not a fill value", "create b --shape 3 --dtype int8 --fill-value 1000"),
        (1, "not a size", "demo --size much"),
        (1, "not a path", "doctor memory://x"),
        (2, "No such command", "bogus"),
        (2, "--dtype", "create b --shape 3"),
        (2, "--processes", "demo --processes 1"),
    ],
)
def test_what_is_wrong_is_one_message(run: Shell, status: int, message: str, words: str) -> None:
    zarrant.create_array("a2.zarr", shape=(1,), dtype="int8")
    before = sorted(Path().rglob("*"))
    assert run(*words.split()) == status
    assert message in run.err
    assert run.out == ""
    assert sorted(Path().rglob("*")) == before
    assert run(*words.split(), "--json") == status
    error = json.loads(run.out)["error"]
    assert error["class"][0].isupper() and error["message"] and message in json.dumps(error)
    assert message in run.err, "people still read it"
    assert sorted(Path().rglob("*")) == before


@pytest.mark.usefixtures("array")
def test_an_error_is_one_json_document_for_programs(run: Shell) -> None:
    def error_of(words: str, status: int) -> dict[str, Any]:
        assert run(*words.split()) == status
        document = json.loads(run.out)
        assert list(document) == ["error"]
        found: dict[str, Any] = document["error"]
        assert found.keys() == dict.fromkeys(["class", "blame", "message", "retryable", *FIELDS, "failed"]).keys()
        return found

    found = error_of("copy a.zarr b --shards 7,7 --json", 1)
    assert (found["class"], found["blame"], found["retryable"], found["failed"]) == ("ShapeError", "caller", False, [])
    assert "must divide" in found["message"] and found["got"] is not None
    found = error_of("info --json none", 1)
    assert found["class"] == "NodeNotFoundError" and str(found["path"]).endswith("none")
    found = error_of("create b --shape 3 --json", 2)
    assert (found["class"], found["path"]) == ("MissingParameter", None) and "--dtype" in found["message"]
    assert "Usage" in run.err and "--dtype" in run.err
    assert run("info", "--", "--json") == 1 and run.out == "", "this one is an address"


def test_every_chunk_that_failed_is_in_the_document(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path / "a.zarr", data=VALUES, chunks=(20, 30), config={"missing_chunks": "error"})
    (tmp_path / "a.zarr/c/0/0").write_bytes(b"torn")
    (tmp_path / "a.zarr/c/1/0").unlink()
    with pytest.raises(ZarrantError) as caught:
        a[...]
    found = json.loads(json.dumps(facts_of(caught.value), allow_nan=False))
    each = found["failed"] or [found]
    assert found["class"] in ("PartialFailure", "ChunkError", "ChunkMissingError") and all(one["chunk"] for one in each)
    failure = PartialFailure(failed={(0, 1): LockTimeout("waited", key="c/0/1", limit=1.5), (1, 1): ValueError("x")})
    found = facts_of(failure)
    assert [(one["class"], one["chunk"], one["key"]) for one in found["failed"]] == [
        ("LockTimeout", [0, 1], "c/0/1"),
        ("ValueError", [1, 1], None),
    ]


def test_broken_metadata_is_one_message(run: Shell) -> None:
    Path("x.zarr").mkdir()
    Path("x.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "array"}')
    assert run("info", "x.zarr") == 1
    assert "zarr.json" in run.err and len(run.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [("typer", "info x", "cli"), ("rich", "info x", "cli"), ("nibabel", "copy x.nii y", "nifti"), ("nibabel", "demo", "demo")],
)
def test_a_missing_package_is_named_with_its_extra(
    run: Shell, monkeypatch: pytest.MonkeyPatch, package: str, words: str, extra: str
) -> None:
    Path("x.nii").write_bytes(b"")
    monkeypatch.setitem(sys.modules, package, None)
    assert run(*words.split()) == 2
    assert f'pip install "zarrant[{extra}]"' in run.err
    assert run(*words.split(), "--json") == 2
    assert json.loads(run.out)["error"]["hint"] == f'pip install "zarrant[{extra}]"'


def test_help_names_every_command(run: Shell) -> None:
    assert run("--help") == 0
    commands = [line.split()[0] for line in run.out.split("Commands:")[1].split("Exit status")[0].splitlines() if line[2:3].strip()]
    assert len(commands) >= 14
    for command in commands:
        help_of = Shell(run.capsys)
        assert help_of(command, "--help") == 0 and "--json" in help_of.out


@pytest.mark.parametrize("columns", ["80", "60"])
def test_nothing_of_the_help_is_cut(run: Shell, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run("--help") == 0
    for name in (command.name for command in app.registered_commands):
        assert f"  {name or ''}" in run.out
    text = " ".join(run.out.split())
    assert "..." not in text.replace("[ARGS]...", "") and "…" not in text
    for each in app.registered_commands:
        assert str(each.short_help) in text and len(str(each.short_help)) <= SHORT_HELP
    assert max(map(len, run.out.splitlines())) <= int(columns)


@pytest.mark.usefixtures("array")
def test_progress_is_shown_in_terminals_only(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("check", "a.zarr") == 0 and run.err == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for command in ("check a.zarr", "compact a.zarr", "archive a.zarr a.zip", "copy a.zarr b.zarr", "rechunk a.zarr c.zarr"):
        assert run(*command.split()) == 0 and "\x1b[?25l" in run.err, command
    assert run("check", "a.zarr", "--quiet") == 0 and run.err == ""
    assert run("check", "a.zarr", "--json") == 0 and run.err == ""


def test_doctor(run: Shell) -> None:
    assert run("doctor", ".") == 0
    assert zarrant.__version__ in run.out and "compiled" in run.out and "locks" in run.out and "direct I/O" in run.out
    assert run.json("doctor")["version"] == zarrant.__version__


@pytest.mark.parametrize(
    ("reason", "advised"), [("the compiled kernels are absent: no module", True), ("ZARRANT_KERNELS=reference", False)]
)
def test_doctor_says_what_missing_kernels_cost(run: Shell, monkeypatch: pytest.MonkeyPatch, reason: str, advised: bool) -> None:
    active = dict.fromkeys(zarrant.kernels.active(), "reference")
    monkeypatch.setattr("zarrant.kernels.active", lambda: active)
    monkeypatch.setattr("zarrant.kernels.missing", lambda: dict.fromkeys(active, reason))
    assert run("doctor") == 0
    assert f"0 of {len(active)} compiled" in run.out and reason in " ".join(run.out.split())
    assert "much is slower" in run.out and ("g++" in run.out) == advised


def test_the_module_runs_and_says_its_version() -> None:
    done = subprocess.run([sys.executable, "-m", "zarrant", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == zarrant.__version__


def test_the_demo_outside_of_a_checkout_says_where_it_is(run: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zarrant.tools.examples.checkouts", lambda: [tmp_path])
    assert run("demo") == 1
    assert "in the repository" in run.err and "make demo" in run.err


def test_check_says_what_is_wrong_and_repairs_it_when_told_to(run: Shell, array: None) -> None:
    assert run("check", "a.zarr", "--deep") == 0
    assert "Nothing is wrong" in run.out
    facts = run.json("check", "a.zarr")
    assert (facts["clean"], facts["objects"], facts["findings"]) == (True, 12, [])
    torn = bytearray(Path("a.zarr/c/0/0").read_bytes())
    torn[8] ^= 0xFF
    Path("a.zarr/c/0/0").write_bytes(torn)
    Path("a.zarr/c/1/1.__lock").touch()
    assert run("check", "a.zarr", "--deep", "--json") == 1
    facts = json.loads(run.out)
    assert [(each["kind"], each["key"], each["repairable"]) for each in facts["findings"]] == [
        ("subchunk", "c/0/0", True),
        ("lock", "c/1/1.__lock", True),
    ]
    assert facts["next"][0]["command"].endswith("a.zarr --deep --repair")
    assert run("check", "a.zarr", "--deep") == 1 and "→ " in run.out and "a.zarr --deep --repair" in run.out
    assert run("check", "a.zarr", "--deep", "--repair") == 1
    assert "would salvage c/0/0" in run.out
    assert "Nothing was changed" in run.out
    assert Path("a.zarr/c/0/0").read_bytes() == torn
    assert run("check", "a.zarr", "--deep", "--repair", "--yes", "--backup", "copies") == 0
    assert "copies" in run.out
    assert Path("copies/c/0/0").read_bytes() == torn
    expected = VALUES.copy()
    expected[:5, :5] = 0
    assert np.array_equal(zarrant.open_array("a.zarr", mode="r")[...], expected)
    assert run("check", "a.zarr", "--deep", "--repair", "--yes") == 0


def test_check_refuses_words_that_do_not_go_together(run: Shell, array: None) -> None:
    assert run("check", "a.zarr", "--yes") == 2
    assert run("check", "nothing.zarr") == 1
    assert "no array or group" in run.err
    assert not Path("nothing.zarr").exists()


@pytest.fixture
def group(run: Shell) -> Any:
    """A group with two arrays and a group below, attributes, and consolidated metadata."""
    group = zarrant.create_group("g.zarr", attributes={"title": "all"})
    group.create_array("x/raw", data=VALUES, chunks=(5, 5), shards=(10, 10), attributes={"unit": "mm"})
    group.create_array("labels", shape=(6,), dtype="uint8", chunks=(2,), fill_value=3)
    group["x"].update_attributes({"depth": 1})
    group.consolidate_metadata()
    return group


@pytest.mark.parametrize("scheduler", [[], ["--scheduler", "none"]])
def test_a_group_is_copied_with_all_below_it(run: Shell, group: Any, scheduler: list[str]) -> None:
    assert run("copy", "g.zarr", "h.zarr", "--dry-run") == 0 and not Path("h.zarr").exists()
    facts = run.json("copy", "g.zarr", "h.zarr", *scheduler)
    assert (facts["source"]["kind"], facts["source"]["arrays"], facts["source"]["groups"]) == ("group", 2, 2)
    assert facts["moved"] and sorted(facts["target"]["arrays"]) == ["labels", "x/raw"]
    copied = zarrant.open_group("h.zarr", mode="r")
    assert (dict(copied.attrs), dict(copied["x"].attrs), dict(copied["x/raw"].attrs)) == (
        {"title": "all"},
        {"depth": 1},
        {"unit": "mm"},
    )
    assert np.array_equal(copied["x/raw"][...], VALUES) and (copied["labels"][...] == 3).all()
    files = [sorted(str(path.relative_to(top)) for path in Path(top).rglob("*")) for top in ("g.zarr", "h.zarr")]
    assert files[0] == files[1]
    assert json.loads(Path("h.zarr/zarr.json").read_text())["consolidated_metadata"]["metadata"].keys() == {"labels", "x", "x/raw"}
    assert run.json("check", "h.zarr")["clean"]
    assert run("copy", "g.zarr", "h.zarr") == 1 and "already" in run.err


def test_a_group_is_copied_to_other_codecs_and_to_v2(run: Shell, group: Any) -> None:
    assert run("copy", "g.zarr", "h.zarr", "--compressor", "none") == 0
    assert np.array_equal(zarrant.open_group("h.zarr", mode="r")["x/raw"][...], VALUES)
    zarrant.create_group("plain.zarr").create_array("a", data=VALUES, chunks=(5, 5), compressors=[zarrant.codecs.Zstd()])
    facts = run.json("convert", "plain.zarr", "v2.zarr", "--to", "2")
    assert facts["source"]["arrays"] == 1 and Path("v2.zarr/a/.zarray").exists()
    assert np.array_equal(zarrant.open_group("v2.zarr", mode="r")["a"][...], VALUES)
    assert run("convert", "plain.zarr", "--scheduler", "none") == 2 and "go with a target" in run.err


@pytest.mark.usefixtures("array")
def test_what_was_broken_off_goes_on(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["rechunk", "a.zarr", "b.zarr", "--chunks", "10,6", "--shards", "none", "--workers", "1", "--block-size", "1B"]
    done: list[Any] = []

    def unit(part: Any, box: Any) -> bool:
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(box)
        return copy_unit(part, box)

    monkeypatch.setattr("zarrant.tools.units.copy_unit", unit)
    assert run(*words) == 130 and "interrupted" in run.err
    check = run("check", "b.zarr", "--json")
    assert check == 1 and [each["kind"] for each in json.loads(run.out)["findings"]] == ["unfinished"]
    assert run("copy", "a.zarr", "b.zarr") == 1  # another layout
    monkeypatch.undo()
    monkeypatch.chdir(run.directory)
    facts = run.json(*words)
    assert (facts["units"], facts["resumed"]) == (20, 7)
    assert np.array_equal(zarrant.open_array("b.zarr", mode="r")[...], VALUES)


def test_compact(run: Shell, group: Any) -> None:
    raw = group["x/raw"]
    raw[0, 0] = 77
    stored = Path("g.zarr/x/raw/c/0/0").stat().st_size
    assert run("compact", "g.zarr") == 0 and "freed" in run.out
    assert Path("g.zarr/x/raw/c/0/0").stat().st_size < stored
    labels = zarrant.open_array("g.zarr/labels", config={"write_empty_chunks": True})
    labels[...] = 3
    labels[0] = 1
    assert run.json("compact", "g.zarr")["erased"] == 0
    facts = run.json("compact", "g.zarr", "--fill")
    assert (facts["erased"], facts["changed"]) == (2, 2) and facts["freed"] > 0
    assert labels[...].tolist() == [1, 3, 3, 3, 3, 3]
    assert sorted(path.name for path in Path("g.zarr/labels/c").iterdir()) == ["0"]
    Path("g.zarr/labels/zarr.json").write_text("{")
    assert run("compact", "g.zarr") == 1 and "labels" in run.out
    assert run("compact", "nothing") == 1


def test_attributes(run: Shell, group: Any) -> None:
    assert run.json("attrs", "g.zarr") == {"title": "all"}
    assert run("attrs", "g.zarr", "views=3", "unit=mm", 'axes=["y", "x"]', "--delete", "title") == 0
    assert dict(zarrant.open_group("g.zarr").attrs) == {"views": 3, "unit": "mm", "axes": ["y", "x"]}
    assert run("attrs", "g.zarr", "axes") == 0 and run.out.strip() == 'axes = ["y", "x"]'
    before = Path("g.zarr/zarr.json").read_bytes()
    assert run("attrs", "g.zarr", "veiws") == 1 and "views" in run.err
    assert run("attrs", "g.zarr", "new=1", "-d", "title") == 1
    assert run("attrs", "nowhere.zarr", "new=1") == 1
    assert Path("g.zarr/zarr.json").read_bytes() == before and not Path("nowhere.zarr").exists()
    assert run.json("attrs", "g.zarr/x/raw", "unit") == {"unit": "mm"}


@pytest.mark.usefixtures("array")
def test_plan_says_what_a_read_or_a_write_will_do(run: Shell) -> None:
    assert run("plan", "a.zarr", "5:20, :7", "--write", "--workers", "2") == 0
    for words in ("write 15 × 7", "2 merged", "locked", "guard", "batches", "advice"):
        assert words in run.out
    facts = run.json("plan", "a.zarr", "5:20, :7", "--write", "--workers", "2")
    plan = zarrant.open_array("a.zarr", mode="r+").explain(np.s_[5:20, :7], write=True, workers=2)
    assert facts == json.loads(json.dumps(plan.to_json()))
    assert run.json("plan", "a.zarr") == json.loads(json.dumps(zarrant.open_array("a.zarr").explain().to_json()))
    for wrong in (("a.zarr", "5;7"), ("a.zarr", "1:2:3:4"), ("a.zarr", "x"), ("a.zarr", "99"), ("none.zarr",)):
        assert run("plan", *wrong) == 1, wrong
