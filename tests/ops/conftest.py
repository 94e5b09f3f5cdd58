"""Operations performed on a dict: nothing below the driver waits, locks or does I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from zarrant import requests
from zarrant.errors import MetadataChangedError, VersionChangedError
from zarrant.metadata.v3 import ArrayMetadata, dump
from zarrant.nodes.array_metadata import ArrayDescription
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.storage import Blob, ByteRange


class Dict(dict[str, bytes]):
    """Objects, and every request that was made of them. The version of an object is its bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Any] = []
        self.before: Callable[[Any], object] = lambda request: None

    def perform(self, op: requests.Op[Any]) -> Any:
        reply, error = None, None
        while True:
            try:
                request = op.throw(error) if error is not None else op.send(reply)
            except StopIteration as stop:
                return stop.value
            if isinstance(request, requests.Share):  # nobody else is there: what it runs makes the requests
                reply, error = _own(self.perform, request.op())
                continue
            self.log.append(request)
            self.before(request)
            try:
                reply, error = self.answer(request), None
            except Exception as raised:
                reply, error = None, raised

    def answer(self, request: Any) -> Any:
        match request:
            case requests.Fetch(items):
                return [_outcome(self.get_blob, want) for want in items]
            case requests.Put(items, condition):
                if condition is not None:
                    try:
                        condition.check(self.get(condition.key))
                    except MetadataChangedError as error:
                        return [error] * len(items)
                return [_outcome(self.store, item) for item in items]
            case requests.All(ops, _):
                return [_outcome(self.perform, op) for op in ops]
            case requests.Locked(_, op) | requests.BeforeChange(_, op):
                return self.perform(op)
            case requests.GroupCommit(_, _, item, lead):
                return self.perform(lead(Alone(item)))
            case requests.Share(_, op):
                return self.perform(op()), True
            case requests.Acknowledge():
                return None
            case requests.CheckUnchanged(key, version):
                return self.get(key) == version
            case requests.ErasePrefix(_, link_only=True):
                return False
            case requests.ErasePrefix(prefix):
                for key in [key for key in self if key.startswith(prefix)]:
                    del self[key]
            case requests.ListPrefix(prefix):
                return sorted(key for key in self if key.startswith(prefix))
            case requests.ListDir(prefix):
                tails = [key[len(prefix) :].partition("/") for key in sorted(self) if key.startswith(prefix)]
                return [prefix + a for a, s, _ in tails if not s], sorted({prefix + a + s for a, s, _ in tails if s})
        return None

    def get_blob(self, want: requests.ReadRequest) -> Blob | None:
        value = self.get(want.key)
        if want.if_version is not None and value != want.if_version:
            raise VersionChangedError("the object was replaced")
        if value is None:
            return None
        spans = [slice(None)] if want.ranges is None else [slice(*r.resolve(len(value))) for r in want.ranges]
        return Blob(tuple(memoryview(value)[span] for span in spans), value, len(value))

    def store(self, item: requests.WriteRequest) -> None:
        old = self.get(item.key)
        if item.if_version is not requests.ANY and old != item.if_version:
            raise VersionChangedError("the object was replaced")
        if item.parts is None:
            self.pop(item.key, None)
            return
        cut = [(old or b"")[slice(*p.resolve(len(old or b"")))] if isinstance(p, ByteRange) else bytes(p) for p in item.parts]
        self[item.key] = b"".join(cut)

    def kinds(self) -> list[str]:
        return [type(request).__name__ for request in self.log]


class Alone:
    """A group commit of one caller."""

    def __init__(self, item: Any) -> None:
        self.items = [item]

    def take(self) -> list[Any]:
        return self.items

    def resolve(self, number: int, error: Exception | None) -> None:
        if error is not None:
            raise error


def _own(perform: Callable[[Any], Any], op: Any) -> tuple[Any, Exception | None]:
    """The reply to one who shares with nobody, or the error."""
    try:
        return (perform(op), True), None
    except Exception as error:
        return None, error


def _outcome(act: Callable[[Any], Any], item: Any) -> Any:
    try:
        return act(item)
    except Exception as error:
        return error


@pytest.fixture
def objects() -> Dict:
    return Dict()


def make_state(options: OpOptions = OpOptions(), prefix: str = "a", **layout: Any) -> BoundArray:  # noqa: B008 - frozen
    document = ArrayDescription(**{"shape": (10, 9), "dtype": "int32", "chunks": (4, 3), "compressors": None, **layout}).metadata()
    assert isinstance(document, ArrayMetadata)
    return BoundArray.from_metadata(prefix, document, options)


@pytest.fixture
def state() -> Callable[..., BoundArray]:
    """Makes array states; keywords as in `create_array`."""
    return make_state


@pytest.fixture
def stored_state(objects: Dict) -> Callable[..., BoundArray]:
    """Makes states of arrays whose metadata is stored, as a handle's is."""

    def make(**layout: Any) -> BoundArray:
        made = make_state(**layout)
        objects["a/zarr.json"] = dump(made.metadata)
        return BoundArray.from_metadata("a", replace(made.metadata, version=objects["a/zarr.json"]), made.options)

    return make


@pytest.fixture
def numbers() -> Any:
    return np.arange(90, dtype="int32").reshape(10, 9) + 1
