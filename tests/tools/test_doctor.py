"""What the doctor says of a place: what writers may rely on, and how fast it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import zarrant
from servers import Server
from zarrant import extensions
from zarrant.cli import main
from zarrant.errors import CapabilityError, OptionError
from zarrant.storage.wrapper import Forwarding, Reads, Writes
from zarrant.stores.memory import MemoryStore
from zarrant.stores.zip_store import ZipStore
from zarrant.tools import doctor
from zarrant.tools.measure import measure


class Shared(Forwarding):
    """Memory that says that other processes reach it."""

    lacks = ("one_process", "async_calls")
    probe = "auto"


class Liar(Shared):
    """Takes any condition for true."""

    def put_if(self, key: str, parts: Any, if_version: Any) -> Any:
        return self.store.put(key, parts)


class OneWriter(Reads, Writes):
    """Has no condition, and no lock."""

    lacks = ("one_process",)


class ReadOnly(Reads):
    """Is only read."""

    lacks = ("one_process",)


PLACES: dict[str, Any] = {"shared": Shared, "liar": Liar, "one": OneWriter, "reads": ReadOnly}


class Url:
    """`doctor-test://NAME/prefix`."""

    options: Mapping[str, Any] = {}
    objects: Mapping[str, Any] = {}

    @classmethod
    def from_url(cls, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        Url.options, Url.objects = options, {}
        name, _, prefix = url.partition("://")[2].partition("/")
        return PLACES[name](MemoryStore(Url.objects)), f"{prefix}/" if prefix else ""


@pytest.fixture(autouse=True)
def scheme() -> Iterator[None]:
    extensions.stores.register("doctor-test", Url)
    yield
    extensions.stores.unregister("doctor-test")


def test_a_service_that_writers_can_share() -> None:
    place = doctor.examine("doctor-test://shared/a/b", {"region": "x"})["path"]
    assert (place["safe"], place["problem"]) == (True, None)
    assert "any process or machine" in place["scope"]
    assert any("none is lost" in text for text in place["promises"])
    assert place["probe"]["lost"] == 0 and all(place["probe"]["checks"].values())
    assert set(place["latency"]) == {"put", "head", "get", "range", "list"}
    assert all(0 <= times["median_ms"] <= times["p95_ms"] for times in place["latency"].values())
    assert set(place["throughput"]) == {"put", "get"}
    assert Url.options == {"region": "x"} and Url.objects == {}
    json.dumps(place)


def test_a_real_service(gofakes3: Server) -> None:
    # Its own options: what another test has found out of this service is not known of it.
    options = {**gofakes3.storage_options, "client_options": {"allow_http": True, "timeout": 31}}
    place = doctor.examine(gofakes3.fresh_url(), options)["path"]
    assert place["safe"] and "7 of 7 serial checks hold, 0 of 48 concurrent increments lost" in place["guard"]


def test_a_service_that_ignores_conditions() -> None:
    place = doctor.examine("doctor-test://liar")["path"]
    assert not place["safe"] and "no object is created where there is one" in place["problem"]
    assert place["scope"] == "one writer" and "can be lost" in place["exceptions"][0]
    assert Url.objects == {}


def test_a_service_without_conditions_and_locks() -> None:
    place = doctor.examine("doctor-test://one")["path"]
    assert not place["safe"] and place["problem"].endswith("has no locks, and no compare-and-swap")
    assert place["probe"] is None and place["latency"]["put"]["median_ms"] >= 0


def test_a_place_that_is_only_read() -> None:
    place = doctor.examine("doctor-test://reads")["path"]
    assert place["safe"] and place["probe"] is None and place["latency"] is None
    assert len(place["promises"]) == 1 and place["exceptions"] == []


def test_an_archive_is_a_place_that_is_only_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    with ZipStore(tmp_path / "a.ozx", "w") as store:
        zarrant.create_array(store, data=[1, 2])
    with pytest.raises(SystemExit) as end:
        main(["doctor", str(tmp_path / "a.ozx")])
    assert not end.value.code
    printed = capsys.readouterr().out
    assert "only read" in printed and "Several writers" not in printed


def test_a_directory_is_described_in_the_same_form_and_nothing_is_written(tmp_path: Path) -> None:
    place = doctor.examine(str(tmp_path))["path"]
    assert {"guard", "scope", "safe", "promises", "exceptions", "problem", "type", "locking"} <= set(place)
    assert place["safe"] and list(tmp_path.iterdir()) == []
    unlocked = doctor.examine(str(tmp_path), {"locking": "none"})["path"]
    assert not unlocked["safe"] and unlocked["scope"] == "threads of this process"


def test_memory_is_no_place_that_others_reach() -> None:
    with pytest.raises(OptionError, match="not a path, nor the URL"):
        doctor.examine("memory://x")


def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer")
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", "150")

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["doctor", *words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(end.value.code or 0), " ".join((out + err).split())  # a console that another test made may be narrow

    status, text = run("doctor-test://shared", "-o", "region=eu", "-o", 'client_options={"timeout": "5s"}')
    assert status == 0 and Url.options == {"region": "eu", "client_options": {"timeout": "5s"}}
    for words in (
        "may share this place",
        "7 of 7 checks hold",
        "0 of 48 increments lost",
        "put 8 × 4 MiB",
        "(median)",
        "not promised",
    ):
        assert words in text
    status, text = run("doctor-test://liar")
    assert status == 1 and "cannot share this place" in text and "not: no object is created where there is one" in text
    status, text = run("doctor-test://liar", "--json")
    assert status == 1 and json.loads(text)["path"]["safe"] is False
    assert run("doctor-test://shared", "-o", "region")[0] == 1


def test_what_was_measured_is_erased_when_it_fails() -> None:
    class Full(Forwarding):
        def put(self, key: str, parts: Any) -> Any:
            if not key.endswith("small"):
                raise CapabilityError("no more", store="test://full", key=key)
            return super().put(key, parts)

    objects: dict[str, Any] = {}
    with pytest.raises(CapabilityError, match="no more"):
        measure(Full(zarrant.MemoryStore(objects)), "a/")
    assert objects == {}
