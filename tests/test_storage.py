from __future__ import annotations

import pytest

from zarrant.storage import (
    AsyncGet,
    AsyncHold,
    AsyncPut,
    ByteRange,
    Capabilities,
    Erase,
    Get,
    Hold,
    List,
    Put,
    PutIf,
    Splice,
    capabilities,
)  # fmt: skip
from zarrant.stores.adapters import ReadOnly, WriteOnly
from zarrant.stores.filesystem import FilesystemStore
from zarrant.stores.memory import MemoryStore


@pytest.mark.parametrize(
    ("wanted", "size", "expected"),
    [
        (ByteRange(0), 0, (0, 0)), (ByteRange(0, 0), 0, (0, 0)), (ByteRange(2, 3), 5, (2, 5)), (ByteRange(5), 5, (5, 5)),
        (ByteRange.suffix(2), 5, (3, 5)), (ByteRange(-4, 2), 5, (1, 3)), (ByteRange.suffix(5), 5, (0, 5)),
    ],
)  # fmt: skip
def test_ranges(wanted: ByteRange, size: int, expected: tuple[int, int]) -> None:
    assert wanted.resolve(size) == expected


@pytest.mark.parametrize(
    "wanted", [ByteRange(0, 6), ByteRange(6), ByteRange(5, 1), ByteRange(-6), ByteRange(-1, 2), ByteRange(3, -1)]
)
def test_ranges_outside(wanted: ByteRange) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        wanted.resolve(5)


def test_capabilities_are_the_methods(tmp_path) -> None:
    everything = Capabilities(get=True, put=True, put_if=True, splice=True, erase=True, list=True, hold=True, native_async=False)
    memory = MemoryStore()
    assert capabilities(FilesystemStore(tmp_path)) == everything
    assert capabilities(memory) == everything._replace(hold=False)
    assert capabilities(ReadOnly(memory)) == everything._replace(put=False, put_if=False, splice=False, erase=False, hold=False)
    assert capabilities(WriteOnly(memory)) == everything._replace(get=False, put_if=False, splice=False, list=False, hold=False)
    assert not any(capabilities(object()))


def test_a_method_is_a_capability() -> None:
    class Half:
        async def get_async(self, key): ...
        async def get_ranges_async(self, key, ranges, if_version=None): ...
        def hold_async(self, keys): ...

    half = Half()
    assert isinstance(half, AsyncGet)
    assert isinstance(half, AsyncHold)
    assert not isinstance(half, AsyncPut | Get | Put | PutIf | Splice | Erase | List | Hold)
    assert capabilities(half) == Capabilities(True, False, False, False, False, False, True, True)
