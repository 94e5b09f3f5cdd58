from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from zarrant import effects
from zarrant.storage import Blob, ByteRange

BLOB = Blob((memoryview(b"x"),), 1, 1)


def play(op: effects.Op[Any], *replies: Any) -> tuple[Any, list[Any]]:
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
    def nothing() -> effects.Op[int]:
        yield from effects.pause(0)
        return 3

    op = nothing()
    for helper, reply, request in [
        (effects.fetch([effects.Want("k")]), [BLOB], effects.Fetch([effects.Want("k")])),
        (effects.put([effects.New("k", None)]), [None], effects.Put([effects.New("k", None)])),
        (effects.list_dir("a/"), ([], []), effects.ListDir("a/")),
        (effects.list_prefix("a/"), [], effects.ListPrefix("a/")),
        (effects.locked(("k",), op), 3, effects.Locked(("k",), op)),
    ]:
        assert play(helper, reply) == (reply, [request])
    assert play(effects.erase_prefix("a/"), None)[1] == [effects.ErasePrefix("a/")]
    assert play(effects.pause(0.5), None)[1] == [effects.Pause(0.5)]


def test_one_is_a_batch_of_one_whose_error_is_raised() -> None:
    result, asked = play(effects.fetch_one("k", (ByteRange(0, 1),), 7), [BLOB])
    assert (result, asked) == (BLOB, [effects.Fetch((effects.Want("k", (ByteRange(0, 1),), 7),))])
    assert play(effects.fetch_one("k"), [None])[0] is None
    assert play(effects.put_one("k", [b"x"], 3), [None])[1] == [effects.Put((effects.New("k", [b"x"], 3),))]
    assert effects.New("k", []).if_version is effects.ANY
    for op in (effects.fetch_one("k"), effects.put_one("k", None)):
        with pytest.raises(KeyError):
            play(op, [KeyError("k")])


def test_gather_raises_the_first_error_and_outcomes_none() -> None:
    outcomes = [1, KeyError("a"), ValueError("b")]
    ops = [effects.pause(1)] * 3
    assert play(effects.gather_outcomes(iter(ops), 5), outcomes)[0] == outcomes
    with pytest.raises(KeyError):
        play(effects.gather(iter(ops), 5), outcomes)
    assert play(effects.gather(iter(ops), 5), [1, 2])[0] == [1, 2]


def test_one_operation_alone_is_no_group() -> None:
    """Its requests are the caller's, and an error of its own is its outcome."""

    def fails() -> effects.Op[int]:
        yield effects.Pause(1)
        raise ValueError("no")

    found, requests = play(effects.gather_outcomes([effects.list_prefix("p")], 5), ["k"])
    assert (found, requests) == ([["k"]], [effects.ListPrefix("p")])
    (error,), _ = play(effects.gather_outcomes([fails()], 5), None)
    assert isinstance(error, ValueError)
    assert list(effects.gather_outcomes([], 5)) == []


def test_the_vocabulary_is_what_the_drivers_answer() -> None:
    from zarrant.run import drivers

    requests = {cls.__name__ for cls in vars(effects).values() if inspect.isclass(cls) and cls.__module__ == effects.__name__} - {
        "Want",
        "New",
        "OnlyWhile",
    }
    assert {cls.__name__ for cls in drivers._ANSWERS} == requests
    tree = ast.parse(inspect.getsource(drivers._answer_async))
    assert {node.cls.id for node in ast.walk(tree) if isinstance(node, ast.MatchClass)} == requests
