"""Reading codec configurations strictly: known members only, typed values, the JSON path in every error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from zarrant.errors import MetadataError, shown
from zarrant.metadata.v3 import Named

T = TypeVar("T")


def check_members(document: Named, path: str, required: Sequence[str] = (), optional: Sequence[str] = ()) -> None:
    """Every required member is there and none that is not known."""
    for name in required:
        if name not in document.configuration:
            raise MetadataError(
                "missing member", path=f"{path}.configuration", expected=name, got=sorted(map(str, document.configuration))
            )
    for name in document.configuration:
        if name not in required and name not in optional:
            raise MetadataError(
                "unknown member",
                path=f"{path}.configuration.{name}",
                codec=document.name,
                expected=sorted((*required, *optional)),
                got=name,
            )


def configured(codec: Callable[..., T], document: Named, path: str) -> T:
    """The codec of a configuration; an error of a member, which has its place in the codec, gets that in the metadata."""
    try:
        return codec(**document.configuration)
    except MetadataError as error:
        error.path = path + (error.path or "$").removeprefix("$")
        raise


def integer(value: object, path: str, low: int, high: int) -> int:
    """A JSON integer in low..high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise MetadataError("wrong value", path=path, expected=f"an integer in {low}..{high}", got=shown(value))
    return value


def boolean(value: object, path: str) -> bool:
    """A JSON boolean."""
    if not isinstance(value, bool):
        raise MetadataError("wrong value", path=path, expected="true or false", got=shown(value))
    return value


def choice(value: object, path: str, choices: Sequence[str]) -> str:
    """One of some strings."""
    if not isinstance(value, str) or value not in choices:
        raise MetadataError("wrong value", path=path, expected=" | ".join(choices), got=shown(value))
    return value


def int_list(value: object, path: str, low: int = 0) -> list[int]:
    """A JSON list of integers."""
    if not isinstance(value, list | tuple):
        raise MetadataError("wrong value", path=path, expected="a list of integers", got=shown(value))
    return [integer(item, f"{path}[{i}]", low, 2**63 - 1) for i, item in enumerate(value)]
