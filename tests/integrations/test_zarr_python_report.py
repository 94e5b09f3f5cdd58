"""What `zarrant doctor` says of zarr-python: whether it goes through Zarrant, and which way it takes at a place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servers import Server

zarr = pytest.importorskip("zarr", minversion="3.1")

from zarrant.cli import main  # noqa: E402
from zarrant.integrations import zarr_python  # noqa: E402
from zarrant.integrations.zarr_python.report import facts, place  # noqa: E402


def test_it_says_whether_it_is_on_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZARR_CODEC_PIPELINE__PATH", raising=False)
    off = facts()
    assert (off["enabled"], off["by"], off["version"]) == (False, None, zarr.__version__)
    assert "export ZARR_CODEC_PIPELINE__PATH=zarrant.integrations.zarr_python.CodecPipeline" in off["problem"]
    with zarr.config.set({"codec_pipeline.path": zarr_python.PATH}):
        assert facts()["by"] == "zarr-python's configuration"
    zarr_python.enable(strict=True)
    on = facts()
    zarr_python.disable()
    assert (on["enabled"], on["strict"], on["by"]) == (True, True, "the variable ZARR_CODEC_PIPELINE__PATH")


@pytest.mark.filterwarnings("ignore")
def test_each_array_has_its_way(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "g")
    group.create_array("known", shape=(4,), dtype="i4")
    group.create_array("deep/text", shape=(4,), dtype=str)
    assert place(str(tmp_path / "g"))["arrays"] == {
        "known": {"way": "native", "why": ""},
        "deep/text": {"way": "locked", "why": "elements of variable length"},
    }
    only = place(str(tmp_path / "g" / "known"))
    assert (only["way"], only["safe"], list(only["arrays"].values())) == ("locked", True, [{"way": "native", "why": ""}])
    assert place(str(tmp_path / "nothing"))["arrays"] == {}
    assert list((tmp_path).iterdir()) == [tmp_path / "g"], "nothing is written"


def test_object_stores_and_stores_that_keep_nobody_apart(gofakes3: Server) -> None:
    service = place(gofakes3.fresh_url(), gofakes3.storage_options)
    assert (service["way"], service["safe"]) == ("compare-and-swap", True)
    assert "zarr.storage.ObjectStore" in service["hint"]
    pytest.importorskip("fsspec")
    remote = place("ftp://127.0.0.1/a")
    assert (remote["way"], remote["safe"]) == ("in turns", False)
    assert remote["meaning"].startswith("cannot promise")


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarr.create_array(tmp_path / "a", shape=(4,), dtype="i4")
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path / "a")])
    said = " ".join(capsys.readouterr().out.split())
    assert "zarr-python" in said and "native" in said
    with pytest.raises(SystemExit):
        main(["doctor", str(tmp_path / "a"), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["zarr_python"]
    assert list(found["place"]["arrays"].values()) == [{"way": "native", "why": ""}]


def test_without_zarr_python_it_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['zarr'] = None; from zarrant.cli import main; main(['doctor', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["zarr_python"]
    assert found["version"] is None and "zarrant[zarr]" in found["problem"]


def test_a_zarr_python_that_is_too_old_is_a_typed_error() -> None:
    code = (
        "import zarr.abc.codec as codec\n"
        "del codec.CodecPipeline.from_array_metadata_and_store\n"
        "from zarrant.errors import CapabilityError\n"
        "try:\n    import zarrant.integrations.zarr_python\nexcept CapabilityError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "zarr >= 3.1" in done.stdout, done.stderr
