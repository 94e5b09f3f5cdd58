from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from zarrant import requests
from zarrant.storage import Blob, ByteRange

BLOB = Blob((memoryview(b"x"),), 1, 1)


def play(op: requests.Op[Any], *replies: Any) -> tuple[Any, list[Any]]:
    asked = []
    left = list(replies)
    request = next(op)
    while True:
        asked.append(request)
        try:
            request = op.send(left.pop(0))
        except StopIteration as stop:
            return stop.value, asked


def test_each_helper_asks_once() -> None:
    def nothing() -> requests.Op[int]:
        yield from requests.pause(0)
        return 3

    op = nothing()
    for helper, reply, request in [
        (requests.fetch([requests.ReadRequest("k")]), [BLOB], requests.Fetch([requests.ReadRequest("k")])),
        (requests.put([requests.WriteRequest("k", None)]), [None], requests.Put([requests.WriteRequest("k", None)])),
        (requests.list_dir("a/"), ([], []), requests.ListDir("a/")),
        (requests.list_prefix("a/"), [], requests.ListPrefix("a/")),
        (requests.locked(("k",), op), 3, requests.Locked(("k",), op)),
    ]:
        assert play(helper, reply) == (reply, [request])
    assert play(requests.erase_prefix("a/"), None)[1] == [requests.ErasePrefix("a/")]
    assert play(requests.pause(0.5), None)[1] == [requests.Pause(0.5)]


def test_one_is_a_batch_of_one_whose_error_is_raised() -> None:
    result, asked = play(requests.fetch_one("k", (ByteRange(0, 1),), 7), [BLOB])
    assert (result, asked) == (BLOB, [requests.Fetch((requests.ReadRequest("k", (ByteRange(0, 1),), 7),))])
    assert play(requests.fetch_one("k"), [None])[0] is None
    assert play(requests.put_one("k", [b"x"], 3), [None])[1] == [requests.Put((requests.WriteRequest("k", [b"x"], 3),))]
    assert requests.WriteRequest("k", []).if_version is requests.ANY
    for op in (requests.fetch_one("k"), requests.put_one("k", None)):
        with pytest.raises(KeyError):
            play(op, [KeyError("k")])


def test_gather_raises_the_first_error_and_outcomes_none() -> None:
    outcomes = [1, KeyError("a"), ValueError("b")]
    ops = [requests.pause(1)] * 3
    assert play(requests.gather_outcomes(iter(ops), 5), outcomes)[0] == outcomes
    with pytest.raises(KeyError):
        play(requests.gather(iter(ops), 5), outcomes)
    assert play(requests.gather(iter(ops), 5), [1, 2])[0] == [1, 2]


def test_one_operation_alone_is_no_group() -> None:
    """Its requests are the caller's, and an error of its own is its outcome."""

    def fails() -> requests.Op[int]:
        yield requests.Pause(1)
        raise ValueError("no")

    found, asked = play(requests.gather_outcomes([requests.list_prefix("p")], 5), ["k"])
    assert (found, asked) == ([["k"]], [requests.ListPrefix("p")])
    (error,), _ = play(requests.gather_outcomes([fails()], 5), None)
    assert isinstance(error, ValueError)
    assert list(requests.gather_outcomes([], 5)) == []


def test_the_vocabulary_is_what_the_drivers_answer() -> None:
    from zarrant.run import asynchronous, blocking

    known = {cls.__name__ for cls in vars(requests).values() if inspect.isclass(cls) and cls.__module__ == requests.__name__} - {
        "ReadRequest",
        "WriteRequest",
        "OnlyWhile",
        "AnyVersion",
        "CommitGroup",
    }
    assert {cls.__name__ for cls in blocking._ANSWERS} == known
    tree = ast.parse(inspect.getsource(asynchronous._answer_async))
    assert {node.cls.id for node in ast.walk(tree) if isinstance(node, ast.MatchClass)} == known
