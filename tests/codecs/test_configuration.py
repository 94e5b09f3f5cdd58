from __future__ import annotations

import pytest

from zarrant.codecs.configuration import boolean, check_members, choice, int_list, integer
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named


def test_what_fits() -> None:
    check_members(Named("x", {"a": 1, "b": 2}), "$", required=("a",), optional=("b", "c"))
    assert (integer(3, "$", 3, 3), boolean(False, "$"), choice("b", "$", "abc"), int_list((1, 2), "$")) == (3, False, "b", [1, 2])


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda: check_members(Named("x", {}), "$", required=("a",)), "$.configuration"),
        (lambda: check_members(Named("x", {"z": 1}), "$"), "$.configuration.z"),
        (lambda: integer(True, "$.n", 0, 9), "$.n"),
        (lambda: integer(1.0, "$.n", 0, 9), "$.n"),
        (lambda: integer(10, "$.n", 0, 9), "$.n"),
        (lambda: integer("1", "$.n", 0, 9), "$.n"),
        (lambda: boolean(1, "$.b"), "$.b"),
        (lambda: choice("d", "$.c", ("a", "b")), "$.c"),
        (lambda: choice(["a"], "$.c", ("a", "b")), "$.c"),
        (lambda: int_list({"a": 1}, "$.l"), "$.l"),
        (lambda: int_list([1, "2"], "$.l"), "$.l[1]"),
        (lambda: int_list([1, 0], "$.l", low=1), "$.l[1]"),
        (lambda: int_list([2**63], "$.l"), "$.l[0]"),
    ],
)
def test_what_does_not(call, path) -> None:
    with pytest.raises(MetadataError) as caught:
        call()
    assert caught.value.path == path
