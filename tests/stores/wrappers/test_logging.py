from __future__ import annotations

import asyncio
import logging
import re

import pytest

from zarrant.errors import StorePermissionError, VersionChangedError
from zarrant.storage import ByteRange
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Fault, Faults, Logging
from zarrant.testkit import CoroutineStore

SECRET = b"the-secret-of-the-user"


def test_one_line_for_each_call(caplog: pytest.LogCaptureFixture) -> None:
    store = Logging(MemoryStore())
    with caplog.at_level("DEBUG", "zarrant.store"):
        version = store.put("a", [SECRET])
        store.get("a")
        store.get("b")
        store.get_ranges("a", [ByteRange(0, 3), ByteRange.suffix(2)])
        store.splice("a", [ByteRange(1, 2), b"x"], version)
        with pytest.raises(VersionChangedError):
            store.put_if("a", [SECRET], version)
        store.list_dir("")
    lines = [re.sub(r"0\.\d{6}", "0.1", record.getMessage()) for record in caplog.records]
    assert lines == [
        "put 'a' sent 22 B, 0.1 s: ok",
        "get 'a' received 22 B, 0.1 s: ok",
        "get 'b' 0.1 s: absent",
        "get_ranges 'a' ranges [(0, 3), (-2, None)], received 5 B, 0.1 s: ok",
        "splice 'a' ranges [(1, 2)], sent 1 B, 0.1 s: ok",
        "put_if 'a' sent 22 B, 0.1 s: VersionChangedError",
        "list_dir 0.1 s: ok",
    ]
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    facts = caplog.records[3].call  # type: ignore[attr-defined]
    assert (facts["method"], facts["received"], facts["ranges"]) == ("get_ranges", 5, [(0, 3), (-2, None)])


def test_a_failure_is_logged_at_its_own_level_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    class Leaky(StorePermissionError):
        def __str__(self) -> str:
            return SECRET.decode()

    store = Logging(Faults(MemoryStore(), Fault("error", at=0, error=Leaky)), "mine", logging.INFO, logging.ERROR)
    with caplog.at_level("ERROR", "mine"):
        with pytest.raises(Leaky):
            store.get("a")
        store.get("a")
    (record,) = caplog.records
    assert (record.levelname, record.name, record.call["outcome"]) == ("ERROR", "mine", "Leaky")  # type: ignore[attr-defined]
    assert SECRET.decode() not in record.getMessage() + repr(vars(record))


def test_calls_under_a_lock_and_coroutines_are_logged(caplog: pytest.LogCaptureFixture, tmp_path: object) -> None:
    from zarrant.stores.local.store import FilesystemStore

    with caplog.at_level("DEBUG", "zarrant.store"):
        with Logging(FilesystemStore(str(tmp_path))).lock(["a", "b"]) as held:
            held.put("a", [b"1"])
        asyncio.run(Logging(CoroutineStore()).put_async("c", [b"1"]))
    assert [record.getMessage().split(" 0.")[0].split(" sent")[0] for record in caplog.records] == [
        "lock 'a, b'",
        "put 'a'",
        "put 'c'",
    ]
